"""The last line that lists show beside a run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from commands.outputs.lastline import LastLine
from commands.rules import limits


def test_a_line_that_arrives_in_pieces():
    last = LastLine()
    assert last.feed(b"one\ntw") == "tw"
    assert last.feed(b"o\n") == "two"
    assert last.feed(b"\n\n") == ""


def test_no_character_is_cut_at_the_beginning():
    last = LastLine()
    for size in (265, 266, 267, 2_134, 3):
        text = last.feed("€".encode() * size)
        assert text == "€" * limits.LAST_LINE_CHARS


def test_escapes_and_controls_are_gone():
    assert LastLine().feed(b"\x1b[31mred\x1b[0m\x00\x07 \xff") == "red \\xff"


@given(st.lists(st.binary(max_size=3_000), max_size=6))
def test_anything_becomes_one_short_line_that_every_database_takes(pieces):
    last = LastLine()
    for piece in pieces:
        text = last.feed(piece)
        assert len(text) <= limits.LAST_LINE_CHARS
        assert "\x00" not in text
        assert "\n" not in text
        text.encode()
