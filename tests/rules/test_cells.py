"""One line on a terminal: where letters go, and what takes their place."""

from __future__ import annotations

import pytest

from commands.rules.cells import Row


def shown(*steps: object) -> str:
    """What a row shows after ``steps``: text to print, or a call of one of its methods."""
    row: Row[int] = Row(0)
    for number, step in enumerate(steps, 1):
        if isinstance(step, str):
            row.write(step, number)
        else:
            name, *given = step if isinstance(step, tuple) else (step,)
            getattr(row, name.decode())(*given)
    assert len(row.letters) == len(row.styles)
    return "".join(row.letters)


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        (("100 %", b"home", "99"), "990 %"),
        (("ab", b"back", "c"), "ac"),
        (("a", b"back", b"back", "b"), "b"),
        (("a\tb", b"home", "\tc"), "a       c"),
        (("a", b"home", "\tb"), "a       b"),
        (("中文", b"home", "a"), "a 文"),
        (("中文", b"back", "a"), "中 a"),
        (("ab文", b"home", "a中"), "a中 "),
        (("e\u0301x", b"home", "a"), "ax"),
        (("中\u0301x", b"home"), "中\u0301x"),
        (("\u0301a",), "\u0301a"),
        (("abc", b"back", (b"erase", b"")), "ab"),
        (("abc", b"home", (b"erase", b"0")), ""),
        (("abc", b"back", b"back", (b"erase", b"1")), "  c"),
        (("abc", b"back", (b"erase", b"2")), "  "),
        (("abc", (b"erase", b"1"), "d"), "   d"),
    ],
)
def test_what_is_left(steps, left):
    assert shown(*steps) == left


def test_many_accents_take_places_of_their_own():
    """One letter must not grow without bound, as each mark would copy it."""
    row: Row[int] = Row(0)
    row.write("e" + "\u0301" * 100, 1)
    assert max(map(len, row.letters)) <= 9
    assert "".join(row.letters) == "e" + "\u0301" * 100


def test_each_letter_keeps_its_style():
    row: Row[str] = Row("plain")
    row.write("ab", "red")
    row.home()
    row.write("c\t", "blue")
    assert row.styles == ["blue", "red", *["plain"] * 6]
    row.home()
    row.erase(b"1")
    assert row.styles[0] == "plain"
