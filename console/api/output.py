"""Output in answers: both streams as they came, of much of it the beginning and the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter

from django.db.models import F, Q
from django.db.models.functions import Length

from commands.models import OutputChunk, Run
from commands.rules import limits

Printed = tuple[bytes, int]
"""What a run printed, as far as it fits into an answer, and how many bytes do not."""
RUNS = limits.API_PAGE_MAX
"""Most runs whose output is in one answer; of others the bytes are only counted."""
_HEAD = limits.API_OUTPUT_HEAD_BYTES
_TAIL = limits.API_OUTPUT_BYTES - _HEAD
_SIZES = {
    OutputChunk.Stream.STDOUT: "run__stdout_size",
    OutputChunk.Stream.STDERR: "run__stderr_size",
}


def of(runs: Iterable[Run]) -> Mapping[int, Printed]:
    """What each of ``runs`` printed, by its key, read in one query.

    Only the first ``RUNS`` come with output.
    """
    rows = list(runs)
    found = {run.pk: (b"", run.stdout_size + run.stderr_size) for run in rows}
    for pk, chunks in groupby(_chunks([run.pk for run in rows[:RUNS]]), itemgetter(0)):
        text, printed = b"", 0
        for _pk, data, stdout, stderr in chunks:
            text, printed = text + bytes(data), stdout + stderr
        kept = text if len(text) <= limits.API_OUTPUT_BYTES else text[:_HEAD] + text[-_TAIL:]
        found[pk] = kept, max(printed - len(kept), 0)
    return found


def _chunks(run_ids: list[int]) -> Iterable[tuple[int, bytes, int, int]]:
    """Chunks that the beginning and the end are made of, each with the sizes of its run.

    They come in the order of runs and of arrival. What is among the first bytes of a run is among
    the first bytes of its stream, too, and so is what is among the last: no other chunk is read.
    """
    # Sizes and chunks are of the same moment: while a run goes on, both grow.
    wanted = Q(offset__lt=_HEAD)
    for stream, size in _SIZES.items():
        wanted |= Q(stream=stream, end__gt=F(size) - _TAIL)
    rows = OutputChunk.objects.filter(run__in=run_ids).alias(end=F("offset") + Length("data"))
    rows = rows.filter(wanted).order_by("run_id", "sequence")
    return rows.values_list("run_id", "data", *_SIZES.values()).iterator(chunk_size=16)
