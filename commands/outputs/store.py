"""Reading stored output: chunks in order of arrival, some or all of them.

Of much output only a head and a tail are there. The first chunk of the tail says what is missing
before it. While a run goes on, its tail moves: who reads in parts may meet that chunk again
later, with more missing. Appending and dropping are the recorder's business, which owns a run's
offsets while it has the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import F, Q

from commands.models import OutputChunk, Run

T = TypeVar("T")

STREAMS = {OutputChunk.Stream.STDOUT.value: "stdout", OutputChunk.Stream.STDERR.value: "stderr"}
"""Names of the streams by their number in the database."""

BATCH = 64
"""Chunks that are read at once; each has at most 64 KiB."""

TOGETHER = 100
"""Runs that are read in one query."""

WHOLE_BYTES = 8 * 1024 * 1024
"""Up to this much output of a run is read at once, so that it is of one moment."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What was dropped of a run's output, between the head and the tail that are kept.

    ``after`` is the sequence of the head's last chunk, -1 without any; ``head``, ``dropped`` and
    ``tail`` are bytes, ``lines`` the state of a ``Numbering`` that has counted all up to the tail.
    """

    after: int
    head: int
    dropped: int
    tail: int
    lines: tuple[int, ...] = ()

    @classmethod
    def of(cls, run: Run) -> Gap | None:
        """The gap in the output of ``run``; None while nothing was dropped."""
        return _gap([getattr(run, column) for column in _GAP])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive bytes of one stream. ``sequence`` counts from 0 in a run.

    ``gap`` is what is missing before it, for all who have not read it while it was there.
    """

    sequence: int
    stream: str
    offset: int
    data: bytes
    arrived_at: datetime
    gap: Gap | None = None


_CHUNK = ("sequence", "stream", "offset", "data", "arrived_at")
_GAP = (
    "head_chunks",
    "head_bytes",
    "dropped_bytes",
    "stdout_size",
    "stderr_size",
    "tail_from",
    "tail_lines",
)


def read(run_id: int, *, after: int = -1, limit: int | None = None) -> list[Chunk]:
    """Chunks of a run with a sequence greater than ``after``, in order of arrival."""
    # One statement, so that chunks and gap are of the same moment.
    rows = (
        OutputChunk.objects.filter(run_id=run_id, sequence__gt=after)
        .order_by("sequence")
        .values_list(*_CHUNK, *(F(f"run__{column}") for column in _GAP))
    )
    return [_chunk(row) for row in (rows if limit is None else rows[:limit])]


def read_each(after: Mapping[int, int]) -> dict[int, list[Chunk]]:
    """The same for many runs at once, by run: what comes after the sequence of each."""
    pairs = ((run_id, Q(run_id=run_id, sequence__gt=last)) for run_id, last in after.items())
    return _read_together(pairs, lambda found: Q(*found, _connector=Q.OR))


def read_all(run_ids: Collection[int]) -> dict[int, list[Chunk]]:
    """All chunks of many runs, by run, which together must fit into memory."""
    return _read_together(((run_id, run_id) for run_id in run_ids), lambda ids: Q(run_id__in=ids))


def _read_together(
    wanted: Iterable[tuple[int, T]], where: Callable[[list[T]], Q]
) -> dict[int, list[Chunk]]:
    """Chunks of the runs ``wanted``, a query for so many of them, which ``where`` makes."""
    pairs = list(wanted)
    found: dict[int, list[Chunk]] = {run_id: [] for run_id, _ in pairs}
    gap = [F(f"run__{column}") for column in _GAP]
    for first in range(0, len(pairs), TOGETHER):
        some = [each for _, each in pairs[first : first + TOGETHER]]
        rows = OutputChunk.objects.filter(where(some)).order_by("run_id", "sequence")
        for run_id, *row in rows.values_list("run_id", *_CHUNK, *gap):
            found[run_id].append(_chunk(tuple(row)))
    return found


def stream(run_id: int, *, after: int = -1) -> Iterator[Chunk]:
    """The same, in batches if it is more than fits into memory."""
    sizes = Run.objects.filter(pk=run_id).values_list("stdout_size", "stderr_size", "dropped_bytes")
    stdout, stderr, dropped = sizes.get()
    if stdout + stderr - dropped <= WHOLE_BYTES:
        yield from read(run_id, after=after)
        return
    while batch := read(run_id, after=after, limit=BATCH):
        yield from batch
        after = batch[-1].sequence


def before_last(run_id: int, *, lines: int, size: int, after: int = -1) -> int:
    """Sequence of the chunk before the last ``lines`` lines, or ``size`` bytes.

    It is ``after`` where no more than that comes after it.
    """
    rows = OutputChunk.objects.filter(run_id=run_id, sequence__gt=after).order_by("-sequence")
    counted = weighed = 0
    for sequence, data in rows.values_list("sequence", "data").iterator(chunk_size=8):
        if counted >= lines or weighed >= size:
            return int(sequence)
        counted += bytes(data).count(b"\n")
        weighed += len(data)
    return after


def _chunk(row: tuple[Any, ...]) -> Chunk:
    sequence, stream, offset, data, arrived_at, *columns = row
    *_, tail_from, _lines = columns
    gap = _gap(columns) if sequence == tail_from else None
    return Chunk(sequence, STREAMS[stream], offset, bytes(data), arrived_at, gap)


def _gap(columns: list[Any]) -> Gap | None:
    head_chunks, head, dropped, stdout, stderr, _, lines = columns
    if not dropped:
        return None
    return Gap(head_chunks - 1, head, dropped, stdout + stderr - head - dropped, tuple(lines))
