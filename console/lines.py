r"""Bytes into lines: what an output panel shows, from chunks in order of arrival.

Lines of both streams are numbered together, in the order in which they begin. A line that has
not ended is *open*: it is shown at once and shown again, whole, when more of it arrives. Each
looks as a terminal would leave it (``console.ansi``); the raw bytes are what ``log.txt`` serves.
A character of which the end has not arrived is not shown yet.

Colours go on from line to line of a stream, whoever reads, and from wherever: what is passed
over is read for its colours too. Only behind bytes that are not there (a gap) nobody can know
them: there the stream begins plain. Who watched while those bytes were there saw more.

In place of what was dropped there is one line that says so. Those behind it have the numbers
that they would have anyway, and a character that was cut there is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.utils import formats
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from commands.outputs.lines import STREAMS, Numbering, Piece
from commands.outputs.store import Chunk, Gap
from console import ansi
from console.ansi import PLAIN, Pen, Span, Style

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
    spans: tuple[Span, ...]
    open: bool
    replaces: bool
    dropped: str = ""

    @property
    def text(self) -> str:
        """What it says, without colours."""
        return ansi.text_of(self.spans)

    @property
    def markup(self) -> SafeString:
        """What it says, as HTML."""
        return ansi.markup(self.spans)


@dataclass(slots=True)
class _Open:
    """A line that has not ended. ``time`` is None until something of it was shown."""

    style: Style = PLAIN
    """How text looks where it begins."""
    time: datetime | None = None
    data: bytes = b""
    before: bytes = b""
    """What came of it before ``data``, where bytes between them were dropped."""
    cut: bool = False
    """Whether ``data`` may begin within a character."""

    def spans(self, *, ended: bool) -> tuple[Span, ...]:
        return ansi.spans(self._all(), self.style, ended=ended)

    def pen(self, *, cut: bool) -> Pen:
        """What it leaves to the next line of its stream."""
        return ansi.after(self._all(), self.style, cut=cut)

    def broken(self) -> _Open:
        """The same line behind bytes that are missing: what comes of it then is plain."""
        before = ansi.whole(self._all()) + "\x1b[m…".encode()
        return _Open(self.style, self.time, before=before, cut=True)

    def _all(self) -> bytes:
        data = self.data
        if self.cut and len(data) - len(rest := data.lstrip(_CONTINUATIONS)) <= 3:
            data = rest
        return self.before + data


class Assembler:
    """Turns the chunks of one run into lines. Feed every chunk from the first, in order."""

    def __init__(self) -> None:
        self._numbering = Numbering()
        self._open: dict[str, _Open] = {}
        self._pens = dict.fromkeys(STREAMS, Pen())
        self._sequence = -1
        self._cut: set[str] = set()

    @property
    def count(self) -> int:
        """Lines begun so far, dropped ones included."""
        return self._numbering.count

    def feed(self, chunk: Chunk) -> list[Line]:
        """Lines that ``chunk`` begins or goes on with, in order of their numbers."""
        self.reach(chunk)
        lines = [
            Line(
                piece.number,
                chunk.stream,
                line.time or chunk.arrived_at,
                line.spans(ended=piece.ended),
                not piece.ended,
                replaces,
            )
            for piece, line, replaces in self._take(chunk)
        ]
        self._pass(chunk)
        return lines

    def count_on(self, chunk: Chunk) -> None:
        """Count the lines of ``chunk``, for who wants to know no colours behind it."""
        self.reach(chunk)
        self._count(chunk)
        self._pass(chunk)

    def skip(self, chunk: Chunk) -> None:
        """Go past ``chunk`` without showing its lines, which is many times as quick."""
        self.reach(chunk)
        before = self._open.get(chunk.stream)
        if b"\x1b" in chunk.data or (b"\x1b" in before.data if before else self._begun(chunk)):
            for _taken in self._take(chunk):
                pass
        else:
            self._count(chunk)
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
            self._lose(chunk.stream)

    def open_lines(self) -> list[Line]:
        """Lines that have begun and not ended, as they are now."""
        lines = [
            Line(
                self._numbering.open_number(stream),
                stream,
                line.time,
                line.spans(ended=False),
                open=True,
                replaces=False,
            )
            for stream, line in self._open.items()
            if line.time is not None
        ]
        return sorted(lines, key=lambda line: line.number)

    def is_open(self, first: int, last: int) -> bool:
        """Whether a line with a number from ``first`` to ``last`` has begun and not ended."""
        numbers = (self._numbering.open_number(stream) for stream in STREAMS)
        return any(first <= number <= last for number in numbers if number)

    def _take(self, chunk: Chunk) -> Iterator[tuple[Piece, _Open, bool]]:
        """Each line in ``chunk`` as it is then, and whether something of it was shown before."""
        for piece in self._numbering.take(chunk.stream, chunk.offset, chunk.data):
            line = self._open.pop(chunk.stream, None) or self._begin(chunk.stream, piece.start)
            replaces = line.time is not None
            line.time = line.time or chunk.arrived_at
            line.data += chunk.data[piece.start : piece.end]
            if piece.ended:
                cut = chunk.data[piece.end : piece.end + 1] != b"\n"
                self._pens[chunk.stream] = line.pen(cut=cut)
            else:
                self._open[chunk.stream] = line
            yield piece, line, replaces

    def _count(self, chunk: Chunk) -> None:
        """Go past ``chunk`` as if nothing in it changed colours."""
        begun = self._numbering.skip(chunk.stream, chunk.offset, chunk.data)
        before = self._open.pop(chunk.stream, None)
        if self._numbering.open_number(chunk.stream):
            line = before if begun < 0 and before else self._begin(chunk.stream, begun)
            line.time = line.time or chunk.arrived_at
            line.data += chunk.data[max(begun, 0) :]
            self._open[chunk.stream] = line

    def _begin(self, stream: str, at: int) -> _Open:
        """A line that begins ``at`` bytes into a chunk."""
        pen = self._pens[stream]
        return _Open(pen.style, data=pen.begun, cut=at == 0 and stream in self._cut)

    def _begun(self, chunk: Chunk) -> bool:
        return bool(self._pens[chunk.stream].begun)

    def _pass(self, chunk: Chunk) -> None:
        self._cut.discard(chunk.stream)
        self._sequence = chunk.sequence

    def _is_missed(self, chunk: Chunk) -> bool:
        """Whether bytes are missing before ``chunk`` in its stream."""
        return chunk.offset != self._numbering.offsets[chunk.stream]

    def _lose(self, stream: str) -> None:
        """Bytes of ``stream`` are missing: one may be cut there, and its colours are not known."""
        self._cut.add(stream)
        self._pens[stream] = Pen()

    def _jump(self, gap: Gap) -> None:
        """Go on behind ``gap``, with the lines that are open there."""
        before, self._numbering = self._numbering, Numbering.restored(gap.lines)
        for stream in STREAMS:
            number = self._numbering.open_number(stream)
            line = self._open.pop(stream, None)
            if self._numbering.offsets[stream] == before.offsets[stream]:
                if number:  # nothing of it is missing
                    self._open[stream] = line or _Open()
                continue
            self._lose(stream)
            if number and line is not None and number == before.open_number(stream):
                self._open[stream] = line.broken()
            elif number:
                self._open[stream] = _Open(cut=True)


def gap_line(chunk: Chunk) -> Line | None:
    """The line that stands before ``chunk`` for what was dropped there; None for nothing."""
    gap = chunk.gap
    if gap is None:
        return None
    number = Numbering.restored(gap.lines).count
    said = (Span(sentence(gap)),)
    return Line(number, "", chunk.arrived_at, said, False, False, exactly(gap))


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


def lost_sentence(lost: int | None) -> str:
    """What is said of the end of an output that found no room on the instance's disk.

    None: maybe some did not. "" where nothing is missing.
    """
    if lost is None:
        return _("Maybe some output found no room on the instance: how much is not known.")
    if not lost:
        return ""
    words = {"lost": size(lost)}
    return _("The instance's disk was full: the last %(lost)s of output found no room.") % words


def lost_bytes(lost: int | None, before: bytes) -> bytes:
    """The same behind raw bytes that end with ``before``: a line of its own."""
    start = b"" if not before or before.endswith(b"\n") else b"\n"
    exact = "" if lost is None else f" ({_bytes(lost)})"
    return start + f"[{lost_sentence(lost)}{exact}]\n".encode()


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
