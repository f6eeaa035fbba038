"""Characters that make a text read differently from what it is, and text with marks for them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

REORDERING: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters after which text reads in another order than it is stored in, and runs in."""

UNSEEN: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""These, and marks of direction, which nobody sees: two names could look the same."""

_SEEN: Final = frozenset("\n\t \u3000")
"""Line ends and spaces that read as what they are; the last is as wide as a Chinese character."""
_EMPTY: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and signs that show nothing."""
_UNSEEN_KINDS: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Zl", "Zp", "Zs"})
"""Kinds of characters, by Unicode, that show nothing, or look like a space or line end only."""


def marked(text: str) -> str:
    """``text`` with a mark, as U+000D, for each character that nobody sees, or takes for another.

    A browser begins a line where a script has a lone CR, which a shell reads as a part of it: what
    somebody reads there before they say yes to it would not be what runs.
    """
    return "".join(f"‹U+{ord(each):04X}›" if _is_unseen(each) else each for each in text)


def _is_unseen(char: str) -> bool:
    if char in _SEEN or " " < char < "\x7f":
        return False
    return char in _EMPTY or unicodedata.category(char) in _UNSEEN_KINDS
