r"""What is left of a line of output in which the cursor went back, as the output panel shows it.

As on a terminal, what follows ``\r`` or ``\b`` takes the place of as much as it is long, and the
rest of what was there stays; EL (``\x1b[K``) erases. Other escapes that move the cursor are left
out, colours stay with the text that was printed in them.

A line costs what its bytes cost, whatever is in them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from hashlib import sha256
from typing import Final

MOVES: Final = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-ln-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\-_])"
)
"""Escapes that move the cursor, or do anything else but change colours."""

_BACK = re.compile(rb"[\r\x08]|\x1b\[[12]K")
_TOKEN = re.compile(
    rb"(?P<erase>\x1b\[[012]?K)|(?P<style>\x1b\[[0-9;:]*m)|(?P<move>" + MOVES.pattern + rb")"
    rb"|[\r\x08\t]"
)
_RESET = b"\x1b[0m"
_AS_BEFORE = b"\x1b[:m"  # as the line began: no escape says that
_STYLE_BYTES = 64
_MARKS = 8  # that one letter may carry; more of them take places of their own
_TAB = 8


def has_gone_back(line: bytes) -> bool:
    """Whether the cursor goes back in ``line``, if only to its beginning before it ends."""
    return _BACK.search(line) is not None


def left_of(line: bytes) -> bytes:
    """What shows of ``line``."""
    row = _Row()
    at = 0
    for found in _TOKEN.finditer(line):
        row.write(line[at : found.start()])
        at = found.end()
        row.obey(found)
    row.write(line[at:])
    return row.printed()


class _Row:
    """The places of a line: the letter in each, and the escapes that gave it its looks."""

    def __init__(self) -> None:
        self._letters: list[str] = []  # "" is the right half of a wide one
        self._styles: list[bytes] = []
        self._style = b""
        self._column = 0
        self._blank = 0  # so many places at the beginning are erased already

    def write(self, data: bytes) -> None:
        """Print ``data`` where the cursor is."""
        text = data.decode(errors="backslashreplace")
        if text.isascii():
            self._put(list(text))
            return
        for letter in text:
            width = _width(letter)
            if width == 0 and self._column and self._mark(letter):
                continue
            self._put([letter, ""][: max(width, 1)])

    def obey(self, found: re.Match[bytes]) -> None:
        """Do what the control that was ``found`` says."""
        if found["style"]:
            self._style = _restyled(self._style, found["style"])
        elif found["erase"]:
            self._erase(found["erase"][2:-1])
        elif found[0] == b"\r":
            self._column = 0
        elif found[0] == b"\b":
            self._column = max(0, self._column - 1)
        elif found[0] == b"\t":
            self._column = (self._column // _TAB + 1) * _TAB
            if (missing := self._column - len(self._letters)) > 0:
                self._letters += [" "] * missing
                self._styles += [b""] * missing

    def printed(self) -> bytes:
        """All of it, with escapes where the looks change."""
        pieces: list[str] = []
        before = b""
        for letter, style in zip(self._letters, self._styles, strict=True):
            if style is not before:
                pieces.append(_change(before, style))
                before = style
            pieces.append(letter)
        pieces.append(_change(before, self._style))
        return "".join(pieces).encode()

    def _put(self, letters: list[str]) -> None:
        if not letters:
            return
        column, end = self._column, self._column + len(letters)
        self._blank = min(self._blank, max(column - 2, 0))
        here = self._letters
        if column < len(here) and not here[column]:
            here[column - 1] = " "
        if end < len(here) and not here[end]:
            here[end] = " "
        here[column:end] = letters
        self._styles[column:end] = [self._style] * len(letters)
        self._column = end

    def _mark(self, mark: str) -> bool:
        """Put an accent on the letter before the cursor; whether there is room for it."""
        base = self._column - 1
        if not self._letters[base] and base:
            base -= 1
        if len(self._letters[base]) > _MARKS:
            return False
        self._letters[base] += mark
        self._blank = min(self._blank, base)
        return True

    def _erase(self, what: bytes) -> None:
        column, here = self._column, self._letters
        if what not in {b"1", b"2"} or what == b"2":
            del here[column:], self._styles[column:]
            self._blank = min(self._blank, len(here))
        if what in {b"1", b"2"} and (end := min(column + 1, len(here))) > self._blank:
            here[self._blank : end] = [" "] * (end - self._blank)
            self._styles[self._blank : end] = [b""] * (end - self._blank)
            self._blank = end


def _restyled(style: bytes, change: bytes) -> bytes:
    """``style`` after one more escape; of many, a digest in the form of one."""
    if change in {b"\x1b[m", _RESET}:
        return _RESET
    style += change
    if len(style) <= _STYLE_BYTES:
        return style
    return b"\x1b[%dm" % int.from_bytes(sha256(style).digest()[:16])


def _change(before: bytes, style: bytes) -> str:
    """What has to be printed so that ``style`` follows ``before``."""
    if style.startswith(before):
        change = style[len(before) :]
    else:
        change = style if style.startswith(_RESET) else _AS_BEFORE + style
    return change.decode()


@lru_cache(maxsize=4096)
def _width(letter: str) -> int:
    """How many places ``letter`` takes."""
    if letter.isascii():
        return 1
    if unicodedata.category(letter) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
