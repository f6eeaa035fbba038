"""Positions in event streams."""

from __future__ import annotations

import pytest

from console.cursor import Cursor


def test_a_cursor_survives_the_round_trip():
    for cursor in (Cursor("i-1", -1), Cursor("i-1", 12)):
        assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text", ["", "i-1", "i-1:", ":3", "i-1:-2", "i-1:x", "i-1:٣", "i-1:" + "9" * 19]
)
def test_other_texts_are_none(text):
    assert Cursor.parse(text) is None
