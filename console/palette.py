"""The colours of output: which they are, and which text can be read on which ground.

A terminal's 256 colours, with a palette of our own for the first 16. As text each is lightened
until it can be read (4.5:1, WCAG 2.2 AA) on every surface that a line of output may have, in
both themes. As a ground it stays as it is, and text that could not be read there turns black or
white. ``python -m console.palette`` prints ``static/css/ansi.css``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import product

Rgb = tuple[int, int, int]

LEGIBLE = 4.5
SURFACES = ("#141922", "#0a0d12", "#18243a", "#202938")
"""What may be behind a line: the terminal in both themes, a new line, one that is pointed at."""
INK = "#d9dfe8"
"""Colour of text that has none of its own."""

_TEXT = (
    "#8e9aab #ff8b83 #7fd6a0 #e9c46a #8ab8ff #d6a4f5 #76d3d8 #d9dfe8 "
    "#a3adbb #ffb3ad #a9e8c1 #f5dc9a #b4d1ff #e6c6fa #a5e6e9 #ffffff"
)
_GROUND = (
    "#000000 #b3302b #2c7a4b #8a6a12 #2a5db8 #84429f #1f7480 #c9d1dc "
    "#5a6472 #ff8b83 #7fd6a0 #e9c46a #8ab8ff #d6a4f5 #76d3d8 #ffffff"
)
_LEVELS = (0, 95, 135, 175, 215, 255)
_GREYS = range(8, 248, 10)


def rgb(colour: str) -> Rgb:
    """``#rrggbb`` as three numbers."""
    value = int(colour[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def contrast(one: Rgb, other: Rgb) -> float:
    """How well two colours can be told apart, from 1 to 21, as WCAG defines it."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@lru_cache(maxsize=1024)
def _luminance(colour: Rgb) -> float:
    parts = [part / 255 for part in colour]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _fixed() -> list[Rgb]:
    """The colours from number 16 on: a cube and greys, the same on every terminal."""
    return [*product(_LEVELS, _LEVELS, _LEVELS), *((grey, grey, grey) for grey in _GREYS)]


def _lighter(part: int, percent: int) -> int:
    return part + (255 - part) * percent // 100


def _legible(colour: Rgb) -> Rgb:
    """``colour``, as much lighter as it must be to be read on every surface."""
    surfaces = [rgb(surface) for surface in SURFACES]
    red, green, blue = colour
    for step in range(101):
        lighter = (_lighter(red, step), _lighter(green, step), _lighter(blue, step))
        if all(contrast(lighter, surface) >= LEGIBLE for surface in surfaces):
            return lighter
    raise ValueError(colour)


TEXT: tuple[Rgb, ...] = tuple(_legible(c) for c in [*map(rgb, _TEXT.split()), *_fixed()])
"""The 256 colours as text."""
GROUND: tuple[Rgb, ...] = (*map(rgb, _GROUND.split()), *_fixed())
"""The 256 colours behind text."""
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@lru_cache(maxsize=4096)
def nearest(red: int, green: int, blue: int) -> int:
    """The number of the fixed colour that is nearest to a 24-bit one."""
    wanted = red, green, blue

    def distance(number: int) -> int:
        return sum((a - b) ** 2 for a, b in zip(GROUND[number], wanted, strict=True))

    return min(range(16, 256), key=distance)


@lru_cache(maxsize=4096)
def classes(text: int | None, ground: int | None, *, reverse: bool) -> tuple[str, ...]:
    """CSS classes for two colours by number; None is what the terminal has of itself.

    ``f1`` and ``g1`` are text and ground, ``gi`` the ground in the colour of ink, ``fk`` and
    ``fw`` black and white text where another could not be read.
    """
    if reverse:
        behind = rgb(INK) if text is None else GROUND[text]
        name = "gi" if text is None else f"g{text}"
        wanted = BLACK if ground is None else TEXT[ground]
        written = "fk" if ground is None else f"f{ground}"
    elif ground is None:
        return () if text is None else (f"f{text}",)
    else:
        behind, name = GROUND[ground], f"g{ground}"
        wanted = rgb(INK) if text is None else TEXT[text]
        written = "" if text is None else f"f{text}"
    if contrast(wanted, behind) < LEGIBLE:
        written = "fk" if contrast(BLACK, behind) > contrast(WHITE, behind) else "fw"
    return (written, name) if written else (name,)


def css() -> str:
    """The style sheet that gives the classes their colours."""
    return "\n".join(_rules()) + "\n"


def _rules() -> Iterator[str]:
    yield "/* Colours of output. Made by `python -m console.palette`; change it there. */"
    for number, colour in enumerate(TEXT):
        yield f".f{number}{{color:{_hex(colour)}}}"
    for number, colour in enumerate(GROUND):
        yield f".g{number}{{background:{_hex(colour)}}}"
    yield f".gi{{background:{INK}}}"
    yield ".fk{color:#000}"
    yield ".fw{color:#fff}"


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


if __name__ == "__main__":
    sys.stdout.write(css())
