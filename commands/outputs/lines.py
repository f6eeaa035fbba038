"""Where lines begin in output: the numbers that pages show, from bytes in order of arrival.

Lines of both streams are numbered together, in the order in which they begin. A line ends at a
line feed; one that gets longer than ``LINE_BYTES`` goes on in the next, so none is endless, and
no UTF-8 character is cut for it. Where a line ends depends on the bytes of its stream only, not
on how they were cut into chunks; bytes that never came end it, too. So whoever counts what is
dropped and whoever shows what is kept come to the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LINE_BYTES: Final = 8_192
"""Bytes of one line; up to three more where a UTF-8 character would be cut."""

STREAMS: Final = ("stdout", "stderr")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes ``start`` to ``end`` of some data: a line that begins or goes on there.

    ``fresh`` says that it begins, ``ended`` that nothing more comes to it.
    """

    number: int
    start: int
    end: int
    fresh: bool
    ended: bool


class Numbering:
    """Counts the lines of one run. Give it all bytes from the first, in order of arrival."""

    def __init__(self) -> None:
        self.count = 0
        """Lines begun so far."""
        self.offsets = dict.fromkeys(STREAMS, 0)
        """For both streams, which byte comes next if none is missing."""
        self._open: dict[str, tuple[int, int]] = {}

    @classmethod
    def restored(cls, saved: Sequence[int]) -> Numbering:
        """One that goes on where another stood when ``saved`` was its ``state``."""
        numbering = cls()
        if saved:
            numbering.count = saved[0]
            for stream, place in zip(STREAMS, (saved[1:4], saved[4:7]), strict=True):
                numbering.offsets[stream], number, size = place
                if number:
                    numbering._open[stream] = number, size
        return numbering

    def state(self) -> list[int]:
        """The count; for both streams its offset, number and bytes of its open line."""
        places = ((self.offsets[stream], *self.open_line(stream)) for stream in STREAMS)
        return [self.count, *(number for place in places for number in place)]

    def open_number(self, stream: str) -> int:
        """Number of the line of ``stream`` that has begun and not ended; 0 for none."""
        return self.open_line(stream)[0]

    def open_line(self, stream: str) -> tuple[int, int]:
        """The same with the bytes that it has so far."""
        return self._open.get(stream, (0, 0))

    def take(self, stream: str, offset: int, data: bytes) -> Iterator[Piece]:
        """The pieces of lines in ``data``, counted as they are asked for."""
        self._go_on(stream, offset, len(data))
        number, size = self._open.pop(stream, (0, 0)) if data else (0, 0)
        for start, end, ended in _pieces(data, size):
            fresh = number == 0
            if fresh:
                self.count += 1
                number = self.count
            if not ended:
                self._open[stream] = number, size + end - start
            yield Piece(number, start, end, fresh, ended)
            number = size = 0

    def skip(self, stream: str, offset: int, data: bytes) -> int:
        """Count ``data``, many times as quickly; where in it the line begins that is open then.

        That is -1 for a line that was open before, and the end if none is open.
        """
        self._go_on(stream, offset, 0)
        number, size = self.open_line(stream)
        lines = data.split(b"\n")
        if size + len(lines[0]) > LINE_BYTES or max(map(len, lines)) > LINE_BYTES:
            begun = len(data)
            for piece in self.take(stream, offset, data):
                if not piece.ended:
                    begun = piece.start if piece.fresh else -1
            return begun
        self._go_on(stream, offset, len(data))
        rest = len(lines.pop())
        if lines:
            self.count += len(lines) - (number > 0)
            self._open.pop(stream, None)
            number = size = 0
        if rest:
            self.count += number == 0
            self._open[stream] = number or self.count, size + rest
        return -1 if number else len(data) - rest

    def _go_on(self, stream: str, offset: int, size: int) -> None:
        if offset != self.offsets[stream]:
            self._open.pop(stream, None)
        self.offsets[stream] = offset + size


def _pieces(data: bytes, size: int) -> Iterator[tuple[int, int, bool]]:
    """``(start, end, ended)`` for each line in ``data``, the first of which has ``size`` bytes."""
    start = 0
    while start < len(data):
        cut = _cut(data, start, start + LINE_BYTES - size)
        end = data.find(b"\n", start, cut + 1)
        if end >= 0:
            yield start, end, True
            start = end + 1
        elif cut < len(data):
            yield start, cut, True
            start = cut
        else:
            yield start, len(data), False
            return
        size = 0


def _cut(data: bytes, start: int, limit: int) -> int:
    """Where a line is cut that may be ``limit`` long: before a byte that begins a character."""
    cut = max(start, limit)
    while cut < min(len(data), limit + 3) and data[cut] & 0xC0 == 0x80:
        cut += 1
    return cut
