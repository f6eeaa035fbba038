"""Reading stored output: chunks in order of arrival, some or all of them.

Appending is the recorder's business, which owns a run's offsets while it has the lease.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from commands.models import OutputChunk

STREAMS = {OutputChunk.Stream.STDOUT.value: "stdout", OutputChunk.Stream.STDERR.value: "stderr"}
"""Names of the streams by their number in the database."""

BATCH = 64
"""Chunks that are read at once; each has at most 64 KiB."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive bytes of one stream. ``sequence`` counts from 0 in a run."""

    sequence: int
    stream: str
    offset: int
    data: bytes
    arrived_at: datetime


def read(run_id: int, *, after: int = -1, limit: int | None = None) -> list[Chunk]:
    """Chunks of a run with a sequence greater than ``after``, in order of arrival."""
    rows = (
        OutputChunk.objects.filter(run_id=run_id, sequence__gt=after)
        .order_by("sequence")
        .values_list("sequence", "stream", "offset", "data", "arrived_at")
    )
    return [_chunk(row) for row in (rows if limit is None else rows[:limit])]


def stream(run_id: int, *, after: int = -1) -> Iterator[Chunk]:
    """The same, a batch at a time, so that any amount of output fits into memory."""
    while batch := read(run_id, after=after, limit=BATCH):
        yield from batch
        after = batch[-1].sequence


def before_last(run_id: int, *, lines: int, size: int) -> int:
    """Sequence of the chunk before the last ``lines`` lines, or ``size`` bytes; -1 for none."""
    rows = OutputChunk.objects.filter(run_id=run_id).order_by("-sequence")
    counted = weighed = 0
    for sequence, data in rows.values_list("sequence", "data").iterator(chunk_size=8):
        if counted >= lines or weighed >= size:
            return int(sequence)
        counted += bytes(data).count(b"\n")
        weighed += len(data)
    return -1


def _chunk(row: tuple[int, int, int, bytes | memoryview, datetime]) -> Chunk:
    sequence, stream, offset, data, arrived_at = row
    return Chunk(sequence, STREAMS[stream], offset, bytes(data), arrived_at)
