"""Names of instances in the order in which people count, and many of them in few words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LEAST_IN_A_RANGE = 3
"""Two that follow each other are named one by one."""

_DIGITS = re.compile(r"(\d+)")
_LAST_NUMBER = re.compile(r"(.*?)(\d{1,18})(\D*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Range:
    """Names from ``first`` to ``last`` that differ by a number that goes up by one; or just one."""

    first: str
    last: str
    count: int


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key to sort names by, in which web-9 stands before web-10."""
    return tuple(
        (0, int(part), part) if part.isascii() and part.isdecimal() else (1, 0, part.casefold())
        for part in _DIGITS.split(name)
        if part
    )


def ranges(names: Iterable[str]) -> list[Range]:
    """All of ``names``, in order, those that count up together."""
    found: list[Range] = []
    row: list[str] = []
    for name in sorted(names, key=natural):
        if row and not _follows(row[-1], name):
            found += _told(row)
            row = []
        row.append(name)
    return found + _told(row)


def _told(row: Sequence[str]) -> list[Range]:
    if len(row) >= LEAST_IN_A_RANGE:
        return [Range(row[0], row[-1], len(row))]
    return [Range(name, name, 1) for name in row]


def _follows(before: str, after: str) -> bool:
    """Whether ``after`` is the name with the next number: db-10 after db-09, not db-010."""
    left, right = _LAST_NUMBER.fullmatch(before), _LAST_NUMBER.fullmatch(after)
    if left is None or right is None:
        return False
    (head, number, tail), (other_head, other, other_tail) = left.groups(), right.groups()
    if (head, tail) != (other_head, other_tail) or int(number) + 1 != int(other):
        return False
    padded = number.startswith("0") or other.startswith("0")
    return not padded or len(number) == len(other)
