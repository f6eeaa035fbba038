"""Marks for what nobody sees in a text that somebody says yes to."""

from __future__ import annotations

import pytest

from commands.rules.text import marked

UNSEEN = (
    *("\r", "\0", "\x0b", "\x1b", "\x7f", "\x85", "\xa0", "\xad", "\u034f", "\u115f", "\u200b"),
    *("\u202e", "\u2028", "\u2060", "\u2800", "\u3164", "\ufeff", "\ue000", "\U000e0041"),
)


@pytest.mark.parametrize("char", UNSEEN)
def test_what_shows_nothing_is_marked(char: str) -> None:
    assert marked(f"a{char}b") == f"a‹U+{ord(char):04X}›b"


@pytest.mark.parametrize(
    "text", ["", "echo 'a'\n\tif [ 1 ]; then", "# 检查磁盘　两次", "é ü ⟨→⟩ 💾"]
)
def test_what_people_read_stays(text: str) -> None:
    assert marked(text) == text
