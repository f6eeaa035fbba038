r"""The places of one line on a terminal, and where its cursor is.

What follows ``\r`` or ``\b`` takes the place of as much as it is long, and the rest of what was
there stays; EL erases in the line. Wide letters take two places, accents none: they go with the
letter before them.

A line costs what its text costs, whatever is in it.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final, Generic, TypeVar

_TAB: Final = 8
_MARKS: Final = 8  # that one letter may carry; more of them take places of their own

Style = TypeVar("Style")


class Row(Generic[Style]):
    """The letter in each place, and the style it was printed in, whatever that is to the caller."""

    def __init__(self, plain: Style) -> None:
        """An empty row; what is erased, or passed over by a tab, is ``plain``."""
        self.letters: list[str] = []
        """"" is the right half of a wide one."""
        self.styles: list[Style] = []
        """As long as ``letters``."""
        self._plain = plain
        self._column = 0  # never behind the last letter
        self._blank = 0  # so many places at the beginning are erased already

    def write(self, text: str, style: Style) -> None:
        """Print ``text`` where the cursor is."""
        for number, part in enumerate(text.split("\t")):
            if number:
                self._tab()
            if part.isascii():
                self._put(list(part), style)
            else:
                self._write_wide(part, style)

    def home(self) -> None:
        r"""Go to the beginning: ``\r``."""
        self._column = 0

    def back(self) -> None:
        r"""Go one place back: ``\b``."""
        self._column = max(0, self._column - 1)

    def erase(self, what: bytes) -> None:
        """Do what EL says: from the cursor on (``0`` or nothing), up to it (``1``), all (``2``)."""
        column, here = self._column, self.letters
        if what != b"1":
            del here[column:], self.styles[column:]
            self._blank = min(self._blank, len(here))
        if what in {b"1", b"2"} and (end := min(column + 1, len(here))) > self._blank:
            here[self._blank : end] = [" "] * (end - self._blank)
            self.styles[self._blank : end] = [self._plain] * (end - self._blank)
            self._blank = end

    def _write_wide(self, text: str, style: Style) -> None:
        for letter in text:
            width = _width(letter)
            if width == 0 and self._column and self._mark(letter):
                continue
            self._put([letter, ""][: max(width, 1)], style)

    def _put(self, letters: list[str], style: Style) -> None:
        if not letters:
            return
        column, end = self._column, self._column + len(letters)
        self._blank = min(self._blank, max(column - 2, 0))
        here = self.letters
        if column < len(here) and not here[column]:
            here[column - 1] = " "
        if end < len(here) and not here[end]:
            here[end] = " "
        here[column:end] = letters
        self.styles[column:end] = [style] * len(letters)
        self._column = end

    def _tab(self) -> None:
        self._column = (self._column // _TAB + 1) * _TAB
        if (missing := self._column - len(self.letters)) > 0:
            self.letters += [" "] * missing
            self.styles += [self._plain] * missing

    def _mark(self, mark: str) -> bool:
        """Put an accent on the letter before the cursor; whether there is room for it."""
        base = self._column - 1
        if not self.letters[base] and base:
            base -= 1
        if len(self.letters[base]) > _MARKS:
            return False
        self.letters[base] += mark
        self._blank = min(self._blank, base)
        return True


@lru_cache(maxsize=4096)
def _width(letter: str) -> int:
    """How many places ``letter`` takes."""
    if letter.isascii():
        return 1
    if unicodedata.category(letter) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
