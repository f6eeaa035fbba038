"""What differs between two texts: line by line, and by words where a line was reworded.

Texts can be made so that looking for what they share takes long. So a comparison has a number of
steps: when they are used up, what was not matched yet counts as changed, lines and words alike.
Every line is still shown; only that some are the same may not show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from enum import StrEnum
from itertools import zip_longest
from typing import Final, TypeAlias

CONTEXT: Final = 3
"""Lines shown around a change."""

_WORDS_OF_A_LINE: Final = 400  # reading longer ones word by word takes long and shows little
_ALIKE: Final = 0.4  # lines that share less are other lines, not reworded ones
_STEPS: Final = 1_000_000  # under a tenth of a second; a thousand lines that all changed take fewer


class _Steps:
    """So many steps are left to one comparison."""

    def __init__(self, left: int) -> None:
        self._left = left

    @property
    def used_up(self) -> bool:
        """Whether something was refused."""
        return self._left < 0

    def take(self, number: int) -> bool:
        """Whether there are that many; they are used then. After a refusal there are none."""
        self._left = self._left - number if self._left >= number else -1
        return not self.used_up


class _Matcher(SequenceMatcher[str]):
    """Looks for what two sequences share as long as there are steps."""

    a: Sequence[str]
    b2j: dict[str, list[int]]
    """Where in ``b`` each of its elements stands."""

    def __init__(
        self, a: Sequence[str], b: Sequence[str], steps: _Steps, *, autojunk: bool
    ) -> None:
        super().__init__(None, a, b, autojunk)
        self._steps = steps

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> Match:
        """The same, or nothing when its steps would be too many."""
        upper = len(self.a) if ahi is None else ahi
        places = (len(self.b2j.get(self.a[index], ())) for index in range(alo, upper))
        if not self._steps.take(upper - alo + sum(places)):
            return Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


_Parts: TypeAlias = "tuple[Part, ...] | None"


class Kind(StrEnum):
    """What became of a line."""

    SAME = "same"
    OLD = "old"
    NEW = "new"
    GAP = "gap"
    """Stands for lines that are left out, as nothing near them changed."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a line; ``changed`` if the other text has other words there."""

    text: str
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with its numbers in the old and in the new text, from 1.

    ``ended`` is False for a last line that no line break follows.
    """

    kind: Kind
    old: int | None = None
    new: int | None = None
    parts: tuple[Part, ...] = ()
    ended: bool = True


_GAP = Line(Kind.GAP)


def differences(old: str, new: str) -> list[Line]:
    """Changed lines with some context, as a unified diff; [] if the texts are the same."""
    if old == new:
        return []
    before, after, steps = _lines(old), _lines(new), _Steps(_STEPS)
    found: list[Line] = []
    reached = 0
    lines = _Matcher(before, after, steps, autojunk=True)
    for group in lines.get_grouped_opcodes(CONTEXT):
        if group[0][1] > reached:
            found.append(_GAP)
        for tag, *span in group:
            found += _block(tag, before, after, steps, *span)
        reached = group[-1][2]
    if found and reached < len(before):
        found.append(_GAP)
    return found


def _lines(text: str) -> list[str]:
    """The lines with their ends: that the last one has none is a difference."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _block(
    tag: str,
    before: Sequence[str],
    after: Sequence[str],
    steps: _Steps,
    old_from: int,
    old_to: int,
    new_from: int,
    new_to: int,
) -> Iterator[Line]:
    gone, come = before[old_from:old_to], after[new_from:new_to]
    if tag == "equal":
        for offset, text in enumerate(gone, 1):
            yield _line(Kind.SAME, text, None, old=old_from + offset, new=new_from + offset)
        return
    pairs = [_reworded(*pair, steps) for pair in zip(gone, come, strict=False)]
    left, right = ([pair[side] for pair in pairs] for side in (0, 1))
    for number, (text, parts) in enumerate(zip_longest(gone, left), old_from + 1):
        yield _line(Kind.OLD, text, parts, old=number)
    for number, (text, parts) in enumerate(zip_longest(come, right), new_from + 1):
        yield _line(Kind.NEW, text, parts, new=number)


def _line(
    kind: Kind,
    text: str,
    parts: _Parts,
    *,
    old: int | None = None,
    new: int | None = None,
) -> Line:
    whole = (Part(text.removesuffix("\n")),)
    return Line(kind, old, new, parts or whole, text.endswith("\n"))


def _reworded(old: str, new: str, steps: _Steps) -> tuple[_Parts, _Parts]:
    """Both lines in pieces, if they are alike enough for that to help; else None for both."""
    gone, come = _words(old), _words(new)
    if steps.used_up or max(len(gone), len(come)) > _WORDS_OF_A_LINE:
        return None, None
    matcher = _Matcher(gone, come, steps, autojunk=False)
    if matcher.ratio() < _ALIKE or steps.used_up:
        return None, None
    left, right = [], []
    for tag, a, b, c, d in matcher.get_opcodes():
        left.append(Part("".join(gone[a:b]), tag != "equal"))
        right.append(Part("".join(come[c:d]), tag != "equal"))
    return tuple(part for part in left if part.text), tuple(part for part in right if part.text)


def _words(line: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", line.removesuffix("\n"))
