"""Bytes into lines: what an output panel shows, from chunks in order of arrival.

Lines of both streams are numbered together, in the order in which they begin. A line that has
not ended is *open*: it is shown at once and shown again, whole, when more of it arrives. Text is
plain: the raw bytes are what ``log.txt`` serves.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from commands.outputs.store import Chunk

MAX_CHARS = 8_192
"""Characters of one shown line; what is longer goes on in the next, so no line is endless."""

_STREAMS = ("stdout", "stderr")
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
        self._decoders = {name: decoder("replace") for name in _STREAMS}
        self._open: dict[str, _Open] = {}
        self.count = 0
        """Lines begun so far."""

    def feed(self, chunk: Chunk) -> list[Line]:
        """Lines that ``chunk`` begins or goes on with, in order of their numbers."""
        return [
            Line(line.number, chunk.stream, line.time, plain(line.text), not ended, replaces)
            for line, ended, replaces in self._take(
                chunk, self._decoders[chunk.stream].decode(chunk.data)
            )
        ]

    def skip(self, chunk: Chunk) -> None:
        """Go past ``chunk`` without showing its lines, which is many times as quick."""
        text = self._decoders[chunk.stream].decode(chunk.data)
        before = self._open.get(chunk.stream)
        lines = text.split("\n")
        if len(lines[0]) + len(before.text if before else "") > MAX_CHARS or (
            max(map(len, lines)) > MAX_CHARS
        ):
            for _ in self._take(chunk, text):
                pass
            return
        rest = lines.pop()
        if lines:
            self.count += len(lines) - (before is not None)
            self._open.pop(chunk.stream, None)
            before = None
        if rest and before is not None:
            before.text += rest
        elif rest:
            self.count += 1
            self._open[chunk.stream] = _Open(self.count, chunk.arrived_at, rest)

    def open_lines(self) -> list[Line]:
        """Lines that have begun and not ended, as they are now."""
        lines = [
            Line(line.number, stream, line.time, plain(line.text), open=True, replaces=False)
            for stream, line in self._open.items()
        ]
        return sorted(lines, key=lambda line: line.number)

    def _take(self, chunk: Chunk, text: str) -> Iterator[tuple[_Open, bool, bool]]:
        """``(line, ended, replaces)`` for each line that ``chunk``, decoded, has a part of."""
        if not text:
            return
        before = self._open.pop(chunk.stream, None)
        for piece, ended in _pieces(text, room=MAX_CHARS - len(before.text if before else "")):
            if before is None:
                self.count += 1
                line = _Open(self.count, chunk.arrived_at, piece)
            else:
                line = _Open(before.number, before.time, before.text + piece)
            if not ended:
                self._open[chunk.stream] = line
            yield line, ended, before is not None
            before = None


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


@dataclass(frozen=True, slots=True)
class Tail:
    """The last lines of an output, how many came before them, and the last chunk's sequence."""

    lines: list[Line]
    earlier: int
    sequence: int


def last_lines(chunks: Iterable[Chunk], most: int) -> Tail:
    """The last ``most`` lines of ``chunks``. Holds little more than those in memory."""
    assembler = Assembler()
    waiting: deque[tuple[Chunk, int]] = deque()
    ready = 0
    sequence = -1
    for chunk in chunks:
        sequence = chunk.sequence
        least = chunk.data.count(b"\n") + len(chunk.data) // (4 * MAX_CHARS)
        waiting.append((chunk, least))
        ready += least
        # What is so far back that enough lines begin after it is counted, not shown. The first
        # line end of each stream may belong to a line that began before.
        while ready - waiting[0][1] > most + len(_STREAMS):
            passed, fewer = waiting.popleft()
            assembler.skip(passed)
            ready -= fewer
    shown: dict[int, Line] = {}
    for chunk, _ in waiting:
        shown.update({line.number: line for line in assembler.feed(chunk)})
    numbers = sorted(shown)[-most:]
    lines = [replace(shown[number], replaces=False) for number in numbers]
    return Tail(lines, assembler.count - len(lines), sequence)
