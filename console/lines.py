"""Bytes into lines: what an output panel shows, from chunks in order of arrival.

Lines of both streams are numbered together, in the order in which they begin. A line that has
not ended is *open*: it is shown at once and shown again, whole, when more of it arrives. Text is
plain: the raw bytes are what ``log.txt`` serves.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from commands.outputs.store import Chunk

MAX_CHARS = 8_192
"""Characters of one shown line; what is longer goes on in the next, so no line is endless."""

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_CONTROLS[0x7F] = 0x2421


@dataclass(frozen=True, slots=True)
class Line:
    """One line to show. ``replaces`` says that its number was shown before, with less text."""

    number: int
    stream: str
    time: datetime
    text: str
    open: bool
    replaces: bool


@dataclass(slots=True)
class _Open:
    number: int
    time: datetime
    text: str


class Assembler:
    """Turns the chunks of one run into lines. Feed every chunk from the first, in order."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder("replace") for name in ("stdout", "stderr")}
        self._open: dict[str, _Open] = {}
        self.count = 0
        """Lines begun so far."""

    def feed(self, chunk: Chunk) -> list[Line]:
        """Lines that ``chunk`` begins or goes on with, in order of their numbers."""
        text = self._decoders[chunk.stream].decode(chunk.data)
        if not text:
            return []
        going_on = self._open.pop(chunk.stream, None)
        lines: list[Line] = []
        for piece, ended in _pieces(text, room=MAX_CHARS - len(going_on.text if going_on else "")):
            if going_on is None:
                self.count += 1
                current = _Open(self.count, chunk.arrived_at, piece)
            else:
                current = _Open(going_on.number, going_on.time, going_on.text + piece)
            replaces, going_on = going_on is not None, None
            if not ended:
                self._open[chunk.stream] = current
            lines.append(
                Line(
                    current.number,
                    chunk.stream,
                    current.time,
                    plain(current.text),
                    open=not ended,
                    replaces=replaces,
                )
            )
        return lines


def _pieces(text: str, *, room: int) -> Iterable[tuple[str, bool]]:
    """``(piece, ended)``: the text cut at line ends, and where a line gets too long."""
    start = 0
    while start < len(text):
        end = text.find("\n", start, start + room + 1)
        if end >= 0:
            yield text[start:end], True
            start = end + 1
        elif len(text) - start > room:
            yield text[start : start + room], True
            start += room
        else:
            yield text[start:], False
            return
        room = MAX_CHARS


def plain(text: str) -> str:
    r"""``text`` as a terminal would leave it on one line: no escapes, ``\r`` overwrites."""
    text = _ESCAPES.sub("", text).removesuffix("\r")
    return text.rpartition("\r")[2].translate(_CONTROLS)


def last_lines(chunks: Iterable[Chunk], most: int) -> tuple[list[Line], int]:
    """The last ``most`` lines of ``chunks``, and how many came before them."""
    assembler = Assembler()
    kept: deque[Line] = deque(maxlen=most)
    positions: dict[int, Line] = {}
    for chunk in chunks:
        for line in assembler.feed(chunk):
            if not line.replaces:
                kept.append(line)
            positions[line.number] = line
    shown = [positions[line.number] for line in kept]
    return shown, assembler.count - len(shown)
