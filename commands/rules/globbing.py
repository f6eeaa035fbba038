"""Names with ``*`` and ``?``, as OpenSSH's files have them, matched in bounded time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 253
"""Characters of a pattern that is looked at; no host name is longer."""


def is_pattern(text: str) -> bool:
    """Whether it means more than one name, or what is not meant."""
    return text.startswith("!") or "*" in text or "?" in text


def matches(pattern: str, name: str) -> bool:
    """Whether ``pattern`` fits all of ``name``.

    Not a regular expression: several stars in one would let a file keep the console busy.
    """
    at = star = back = 0
    starred = False
    place = 0
    while place < len(name):
        sign = pattern[at] if at < len(pattern) else ""
        if sign == "*":
            starred, star, back = True, at, place
            at += 1
        elif sign and sign in ("?", name[place]):
            at, place = at + 1, place + 1
        elif starred:
            at, back = star + 1, back + 1
            place = back
        else:
            return False
    return not pattern[at:].strip("*")


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns of one line: it is about a name that one fits, unless one with ``!`` does."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]

    @classmethod
    def of(cls, parts: Sequence[str]) -> Patterns:
        """The patterns in the words of a line."""
        kept = [part for part in parts if len(part) <= LONGEST]
        return cls(
            tuple(part for part in kept if not part.startswith("!")),
            tuple(part[1:] for part in kept if part.startswith("!")),
        )

    def is_of(self, name: str) -> bool:
        """Whether the line is about ``name``."""
        return any(matches(each, name) for each in self.wanted) and not any(
            matches(each, name) for each in self.unwanted
        )
