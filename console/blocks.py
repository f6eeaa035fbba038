"""Blocks of stored output: so many lines from its end, before a line, or after one.

A block is what a page shows at once. Numbers say where it is, for they never change; a line that
goes on behind the block is whole in it. A gap comes behind the last line that began before it,
so whoever asks on from that line may be given the gap again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from commands.outputs.store import Chunk
from console.ansi import Span
from console.lines import Assembler, Line, gap_line

MOST_SPANS: Final = 50_000
"""Parts of a block's lines that may differ in colour; the lines before those are plain."""
_END: Final = 2**63


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines, how many come before them, and whether any come after them.

    ``sequence`` is that of the last chunk that was read: what comes after an end goes on there.
    """

    lines: list[Line]
    earlier: int
    later: bool
    sequence: int


class _Shown:
    """Lines that were read, by place: that of a gap is behind the line with its number."""

    def __init__(self, assembler: Assembler) -> None:
        self._assembler = assembler
        self.lines: dict[tuple[int, bool], Line] = {}

    def add(self, chunk: Chunk) -> None:
        if gap := gap_line(chunk):
            self.lines[self._assembler.count, True] = gap
        for line in self._assembler.feed(chunk):
            self.lines[line.number, False] = line

    def block(self, places: list[tuple[int, bool]], *, later: bool, sequence: int) -> Block:
        lines = _bounded([replace(self.lines[place], replaces=False) for place in places])
        if not places:
            return Block([], self._assembler.count, later, sequence)
        number, is_gap = places[0]
        return Block(lines, number if is_gap else number - 1, later, sequence)


def _bounded(lines: list[Line]) -> list[Line]:
    """``lines``, of which the last are in colour, as many as a page can bear."""
    left = MOST_SPANS
    for at in range(len(lines) - 1, -1, -1):
        left -= len(lines[at].spans)
        if left < 0:
            lines[at] = replace(lines[at], spans=(Span(lines[at].text),))
    return lines


def last_lines(chunks: Iterable[Chunk], most: int) -> Block:
    """The last ``most`` lines of ``chunks``. Holds little more than those in memory."""
    return lines_before(chunks, _END, most)


def lines_before(chunks: Iterable[Chunk], before: int, most: int) -> Block:
    """The last ``most`` lines with a number less than ``before``."""
    ahead, behind = Assembler(), Assembler()
    waiting: deque[tuple[Chunk, int]] = deque()
    ready, sequence = 0, -1
    for chunk in chunks:
        sequence = chunk.sequence
        ahead.reach(chunk)
        begun = ahead.count
        ahead.count_on(chunk)
        fresh = max(0, min(ahead.count, before - 1) - begun)
        waiting.append((chunk, fresh))
        ready += fresh
        # What is so far back that enough lines begin after it is counted, not shown.
        while ready - waiting[0][1] >= most:
            passed, fewer = waiting.popleft()
            behind.skip(passed)
            ready -= fewer
        if ahead.count >= before and not ahead.is_open(1, before - 1):
            break
    shown = _Shown(behind)
    for chunk, _fresh in waiting:
        shown.add(chunk)
    places = [place for place in sorted(shown.lines) if place < (before, False)][-most:]
    return shown.block(places, later=ahead.count >= before, sequence=sequence)


def lines_after(chunks: Iterable[Chunk], after: int, most: int) -> Block:
    """The first ``most`` lines with a number greater than ``after``."""
    ahead, behind = Assembler(), Assembler()
    shown = _Shown(behind)
    places: list[tuple[int, bool]] = []
    sequence = -1
    for chunk in chunks:
        sequence = chunk.sequence
        ahead.count_on(chunk)
        if ahead.count <= after:
            behind.skip(chunk)
            continue
        shown.add(chunk)
        places = sorted(place for place in shown.lines if place > (after, False))
        if len(places) > most and not behind.is_open(after + 1, places[most - 1][0]):
            break
    return shown.block(places[:most], later=len(places) > most, sequence=sequence)
