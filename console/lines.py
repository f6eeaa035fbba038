r"""Bytes into lines: what an output panel shows, from chunks in order of arrival.

Lines of both streams are numbered together, in the order in which they begin. A line that has
not ended is *open*: it is shown at once and shown again, whole, when more of it arrives. Text is
plain: the raw bytes are what ``log.txt`` serves. What is no UTF-8 is shown byte by byte, as
``\xe9``; a character of which the end has not arrived is not shown yet.

In place of what was dropped there is one line that says so. Those behind it have the numbers
that they would have anyway, and a character that was cut there is left out.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils import formats
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from commands.outputs.lines import LINE_BYTES, STREAMS, Numbering
from commands.outputs.store import Chunk, Gap

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_CONTROLS[0x7F] = 0x2421
_CONTINUATIONS = bytes(range(0x80, 0xC0))


@dataclass(frozen=True, slots=True)
class Line:
    """One line to show. ``replaces`` says that its number was shown before, with less text.

    With ``dropped`` it stands for the gap: its text is a sentence, ``dropped`` tells exactly how
    much is missing, and ``number`` is that of the last line that began before it ends.
    """

    number: int
    stream: str
    time: datetime
    text: str
    open: bool
    replaces: bool
    dropped: str = ""


@dataclass(slots=True)
class _Open:
    """A line that has not ended. ``time`` is None until something of it was shown."""

    time: datetime | None = None
    data: bytes = b""
    before: str = ""
    """Text of it before ``data``, where bytes between them were dropped."""
    cut: bool = False
    """Whether ``data`` may begin within a character."""

    def text(self, *, ended: bool) -> str:
        data = self.data
        if self.cut and len(data) - len(rest := data.lstrip(_CONTINUATIONS)) <= 3:
            data = rest
        text, _size = codecs.utf_8_decode(data, "backslashreplace", ended)
        return self.before + text


class Assembler:
    """Turns the chunks of one run into lines. Feed every chunk from the first, in order."""

    def __init__(self) -> None:
        self._numbering = Numbering()
        self._open: dict[str, _Open] = {}
        self._sequence = -1
        self._cut: set[str] = set()

    @property
    def count(self) -> int:
        """Lines begun so far, dropped ones included."""
        return self._numbering.count

    def feed(self, chunk: Chunk) -> list[Line]:
        """Lines that ``chunk`` begins or goes on with, in order of their numbers."""
        self.reach(chunk)
        lines = []
        for piece in self._numbering.take(chunk.stream, chunk.offset, chunk.data):
            line = self._open.pop(chunk.stream, None) or self._begin(chunk.stream, piece.start)
            replaces = line.time is not None
            line.time = line.time or chunk.arrived_at
            line.data += chunk.data[piece.start : piece.end]
            if not piece.ended:
                self._open[chunk.stream] = line
            text = plain(line.text(ended=piece.ended))
            lines.append(
                Line(piece.number, chunk.stream, line.time, text, not piece.ended, replaces)
            )
        self._pass(chunk)
        return lines

    def skip(self, chunk: Chunk) -> None:
        """Go past ``chunk`` without showing its lines, which is many times as quick."""
        self.reach(chunk)
        begun = self._numbering.skip(chunk.stream, chunk.offset, chunk.data)
        before = self._open.pop(chunk.stream, None)
        if self._numbering.open_number(chunk.stream):
            line = before if begun < 0 and before else self._begin(chunk.stream, begun)
            line.time = line.time or chunk.arrived_at
            line.data += chunk.data[max(begun, 0) :]
            self._open[chunk.stream] = line
        self._pass(chunk)

    def reach(self, chunk: Chunk) -> None:
        """Go past what is missing before ``chunk``, if anything is."""
        if chunk.gap is not None and (
            chunk.sequence != self._sequence + 1 or self._is_missed(chunk)
        ):
            self._jump(chunk.gap)
            self._sequence = chunk.sequence - 1
        if self._is_missed(chunk):
            self._open.pop(chunk.stream, None)
            self._cut.add(chunk.stream)

    def open_lines(self) -> list[Line]:
        """Lines that have begun and not ended, as they are now."""
        lines = [
            Line(
                self._numbering.open_number(stream),
                stream,
                line.time,
                plain(line.text(ended=False)),
                open=True,
                replaces=False,
            )
            for stream, line in self._open.items()
            if line.time is not None
        ]
        return sorted(lines, key=lambda line: line.number)

    def _begin(self, stream: str, at: int) -> _Open:
        """A line that begins ``at`` bytes into a chunk."""
        return _Open(cut=at == 0 and stream in self._cut)

    def _pass(self, chunk: Chunk) -> None:
        self._cut.discard(chunk.stream)
        self._sequence = chunk.sequence

    def _is_missed(self, chunk: Chunk) -> bool:
        """Whether bytes are missing before ``chunk`` in its stream."""
        return chunk.offset != self._numbering.offsets[chunk.stream]

    def _jump(self, gap: Gap) -> None:
        """Go on behind ``gap``, with the lines that are open there."""
        before, self._numbering = self._numbering, Numbering.restored(gap.lines)
        for stream in STREAMS:
            number = self._numbering.open_number(stream)
            line = self._open.pop(stream, None)
            if number and self._numbering.open_line(stream) == before.open_line(stream):
                self._open[stream] = line or _Open()  # nothing of it is missing
            elif number and line is not None and number == before.open_number(stream):
                self._open[stream] = _Open(line.time, before=f"{line.text(ended=False)}…", cut=True)
            elif number:
                self._open[stream] = _Open(cut=True)
            else:
                self._cut.add(stream)


def plain(text: str) -> str:
    r"""``text`` as a terminal would leave it on one line: no escapes, ``\r`` overwrites."""
    text = _ESCAPES.sub("", text).removesuffix("\r")
    return text.rpartition("\r")[2].translate(_CONTROLS)


def gap_line(chunk: Chunk) -> Line | None:
    """The line that stands before ``chunk`` for what was dropped there; None for nothing."""
    gap = chunk.gap
    if gap is None:
        return None
    number = Numbering.restored(gap.lines).count
    return Line(number, "", chunk.arrived_at, sentence(gap), False, False, exactly(gap))


def gap_bytes(gap: Gap, before: bytes) -> bytes:
    """What stands for ``gap`` among raw bytes that end with ``before``: a line of its own."""
    start = b"" if not before or before.endswith(b"\n") else b"\n"
    return start + f"[{sentence(gap)} ({exactly(gap)})]\n".encode()


def sentence(gap: Gap) -> str:
    """What is kept and what was dropped, for people: "The first and last 1 MB are kept. …"."""
    head, tail, dropped = size(gap.head), size(gap.tail), size(gap.dropped)
    words = {"head": head, "tail": tail, "dropped": dropped}
    if head == tail:
        kept = _("The first and last %(head)s are kept.") % words
    else:
        kept = _("The first %(head)s and the last %(tail)s are kept.") % words
    return f"{kept} " + _("%(dropped)s between them was dropped.") % words


def exactly(gap: Gap) -> str:
    """How much was dropped, to the byte: "18,902,848 bytes"."""
    return _bytes(gap.dropped)


def lost_sentence(lost: int) -> str:
    """What is said of the end of an output that found no room on the instance's disk."""
    words = {"lost": size(lost)}
    return _("The instance's disk was full: the last %(lost)s of output found no room.") % words


def lost_bytes(lost: int, before: bytes) -> bytes:
    """The same behind raw bytes that end with ``before``: a line of its own."""
    start = b"" if not before or before.endswith(b"\n") else b"\n"
    return start + f"[{lost_sentence(lost)} ({_bytes(lost)})]\n".encode()


def size(count: int) -> str:
    """``count`` bytes in the largest unit of 1,024 that fits, rounded down: "1.9 MB"."""
    if count < 1024:
        return _bytes(count)
    unit, power = next((u, p) for u, p in (("GB", 30), ("MB", 20), ("kB", 10)) if count >> p)
    tenths = count * 10 >> power
    text = formats.number_format(tenths / 10, decimal_pos=1 if tenths % 10 else 0)
    return f"{text} {unit}"


def _bytes(count: int) -> str:
    number = formats.number_format(count, force_grouping=True)
    return ngettext("%(n)s byte", "%(n)s bytes", count) % {"n": number}


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
        least = chunk.data.count(b"\n") + len(chunk.data) // (4 * LINE_BYTES)
        waiting.append((chunk, least))
        ready += least
        # What is so far back that enough lines begin after it is counted, not shown. The first
        # line end of each stream may belong to a line that began before.
        while ready - waiting[0][1] > most + len(STREAMS):
            passed, fewer = waiting.popleft()
            assembler.skip(passed)
            ready -= fewer
    shown: dict[tuple[int, bool], Line] = {}
    for chunk, _least in waiting:
        if gap := gap_line(chunk):
            shown[assembler.count, True] = gap
        shown.update({(line.number, False): line for line in assembler.feed(chunk)})
    places = sorted(shown)[-most:]
    lines = [replace(shown[place], replaces=False) for place in places]
    return Tail(lines, _before(places[0]) if places else assembler.count, sequence)


def _before(place: tuple[int, bool]) -> int:
    """How many lines come before a line of that number, or before a gap behind that line."""
    number, is_gap = place
    return number if is_gap else number - 1
