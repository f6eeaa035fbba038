"""Every colour of output can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console import palette
from console.palette import GROUND, INK, LEGIBLE, SURFACES, TEXT, classes, contrast, rgb

STYLES = Path(__file__).resolve().parent.parent.parent / "static" / "css"
NUMBERS = [None, *range(256)]
RULE = re.compile(r"\.(\w+)\{(color|background):(#[0-9a-f]{3,6})\}")


def colours() -> dict[str, palette.Rgb]:
    """What the style sheet gives each class."""
    found = RULE.findall((STYLES / "ansi.css").read_text())
    return {
        name: rgb(c if len(c) == 7 else "#" + "".join(2 * d for d in c[1:])) for name, _, c in found
    }


def test_the_style_sheet_is_the_palette():
    assert (STYLES / "ansi.css").read_text() == palette.css()


def test_the_surfaces_are_those_of_the_style_sheet():
    rules = re.findall(r"--term(?:-new|-hover)?: (.*);", (STYLES / "output.css").read_text())
    assert sorted(re.findall("#[0-9a-f]{6}", " ".join(rules))) == sorted(SURFACES)
    [ink] = re.findall("--term-ink: (.*);", (STYLES / "output.css").read_text())
    assert ink == INK


@pytest.mark.parametrize("surface", SURFACES)
def test_text_of_every_colour_can_be_read_on_every_surface(surface):
    for colour in (*TEXT, rgb(INK)):
        assert contrast(colour, rgb(surface)) >= LEGIBLE


@pytest.mark.parametrize("reverse", [False, True])
def test_text_of_every_colour_can_be_read_on_every_ground(reverse):
    shown = colours()
    for text in NUMBERS:
        for ground in NUMBERS:
            names = classes(text, ground, reverse=reverse)
            behind = [shown[name] for name in names if name[0] == "g"]
            written = [shown[name] for name in names if name[0] == "f"] or [rgb(INK)]
            for surface in behind or map(rgb, SURFACES):
                assert contrast(written[0], surface) >= LEGIBLE, names


def test_the_nearest_of_the_fixed_colours():
    assert GROUND[palette.nearest(255, 0, 0)] == (255, 0, 0)
    assert GROUND[palette.nearest(254, 1, 3)] == (255, 0, 0)
    assert GROUND[palette.nearest(9, 9, 9)] == (8, 8, 8)


def test_contrast_is_what_wcag_says():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast(rgb("#767676"), rgb("#ffffff")) == pytest.approx(4.54, abs=0.01)
