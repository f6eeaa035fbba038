"""How much of a run's output is kept: a head and a tail, of half of the setting each.

Chunks are stored in order of arrival. Once the head is full, the others are the tail, which
drops its oldest as new ones come. So there is one gap, and the run's row knows exactly how many
bytes are missing there, and where the numbers of lines go on behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.conf import settings

from commands.models import OutputChunk, Run
from commands.outputs.lines import Numbering
from commands.outputs.store import STREAMS
from commands.rules.status import is_final

SLACK_BYTES = 64 * 1024
"""How much more the tail of a run that goes on may have: small chunks are dropped in batches."""


def head_bytes() -> int:
    """Bytes of a full head."""
    return int(settings.CONSOLE_OUTPUT_KEPT) // 2


def tail_bytes() -> int:
    """Bytes of a tail that is as long as it may be, once the run has ended."""
    return int(settings.CONSOLE_OUTPUT_KEPT) - head_bytes()


def trim(
    run: Run, fresh: list[OutputChunk], *, lost_before: int = 0
) -> tuple[dict[str, Any], list[OutputChunk]]:
    """Drop the oldest of the tail, where it is too long: the run's new columns, what is left.

    ``fresh`` are the chunks of ``run`` that are not stored yet. All before chunk number
    ``lost_before`` go: bytes that never came belong there, and there is one gap only. Of a run
    that has ended exactly as much is left as is kept; before that, up to ``SLACK_BYTES`` more.
    """
    tail = run.stdout_size + run.stderr_size - run.dropped_bytes - run.head_bytes
    excess = tail - tail_bytes()
    enough = excess <= (0 if is_final(run.status) else SLACK_BYTES)
    if run.head_chunks is None or (enough and not lost_before):
        return {}, fresh
    return _Trimming(run, fresh, lost_before).do(tail)


class _Trimming:
    """Drops the oldest chunks of one run's tail, and counts the lines in them."""

    def __init__(self, run: Run, fresh: list[OutputChunk], lost_before: int) -> None:
        self.run = run
        self.fresh = fresh
        self.lost_before = lost_before
        self.dropped = 0
        if run.tail_lines:
            self.numbering = Numbering.restored(run.tail_lines)
        else:
            self.numbering = Numbering()
            for chunk in self._chunks(0, run.head_chunks):
                self._count(chunk, bytes(chunk.data))

    def do(self, tail: int) -> tuple[dict[str, Any], list[OutputChunk]]:
        first = self._drop_to(tail)
        OutputChunk.objects.filter(
            run=self.run, sequence__gte=self.run.tail_from, sequence__lt=first
        ).delete()
        values = {
            "dropped_bytes": self.run.dropped_bytes + self.dropped,
            "tail_from": first,
            "tail_lines": self.numbering.state(),
        }
        return values, [chunk for chunk in self.fresh if not self._is_dropped(chunk, first)]

    def _drop_to(self, tail: int) -> int:
        """Drop chunks until the ``tail`` is short enough; the sequence of the first that stays."""
        for chunk in self._chunks(self.run.tail_from, self.run.next_sequence):
            excess = tail - self.dropped - tail_bytes()
            if chunk.sequence >= self.lost_before and excess < len(chunk.data):
                if excess > 0 and is_final(self.run.status):
                    self._cut(chunk, excess)
                return chunk.sequence
            self._count(chunk, bytes(chunk.data))
            self.dropped += len(chunk.data)
        return self.run.next_sequence

    def _chunks(self, first: int, until: int | None) -> Iterator[OutputChunk]:
        """Chunks from number ``first`` on, before ``until``: stored ones, then fresh ones."""
        numbers = {"sequence__gte": first, "sequence__lt": until}
        stored = OutputChunk.objects.filter(run=self.run, **numbers).order_by("sequence")
        fresh = (c for c in self.fresh if first <= c.sequence and (until or 0) > c.sequence)
        return chain(stored.iterator(chunk_size=16), fresh)

    def _count(self, chunk: OutputChunk, data: bytes) -> None:
        self.numbering.skip(STREAMS[chunk.stream], chunk.offset, data)

    def _cut(self, chunk: OutputChunk, size: int) -> None:
        """Drop the first ``size`` bytes of a chunk."""
        data = bytes(chunk.data)
        self._count(chunk, data[:size])
        self.dropped += size
        chunk.data, chunk.offset = data[size:], chunk.offset + size
        if chunk.pk is not None:
            chunk.save(update_fields=["data", "offset"])

    def _is_dropped(self, chunk: OutputChunk, first: int) -> bool:
        return (self.run.head_chunks or 0) <= chunk.sequence < first
