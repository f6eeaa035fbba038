"""What events do to a run: its row, the chunks that come to it, and the masking in between.

Secret values never reach the database. Each stream goes through a masker, and a run's sizes
count the bytes that it released; those it holds back, as they could begin a secret, are only
in memory. A worker that takes over attaches behind the released bytes and gets the others
again; ``stdout_masked`` and ``stderr_masked`` tell its maskers what to go on masking.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from copy import copy
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Field

from commands.execution.executor import Stream
from commands.models import OutputChunk, Run
from commands.outputs.lastline import LastLine
from commands.rules.redaction import Masker, Secrets
from commands.rules.status import is_final
from commands.services import endings, keeping
from commands.services.events import Dropped, Event, Received

log = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
"""Most bytes of a stored chunk."""

_STREAM_NUMBERS: dict[Stream, OutputChunk.Stream] = {
    "stdout": OutputChunk.Stream.STDOUT,
    "stderr": OutputChunk.Stream.STDERR,
}
_READ_BY_PEOPLE = {"error_info", "hostname", "last_line", "survivors"}
"""Columns in which secrets are hidden; the others hold what the console itself goes by."""


class Memory:
    """What is known of a run from one transaction to the next, besides its row.

    A copy is independent of it: a transaction may fail and be tried again.
    """

    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets
        self.last_line = LastLine()
        self._maskers: dict[Stream, tuple[int, Masker]] = {}

    def __copy__(self) -> Memory:
        other = Memory(self.secrets)
        other.last_line = copy(self.last_line)
        other._maskers = {key: (at, copy(one)) for key, (at, one) in self._maskers.items()}
        return other

    def masker(self, stream: Stream, size: int, masked: int) -> Masker:
        """The masker of a stream of which ``size`` bytes are stored, by whomever."""
        at, masker = self._maskers.get(stream) or (0, Masker(self.secrets))
        if at != size:
            masker.skip(size - at, masked)
            self.keep(stream, size, masker)
        return masker

    def keep(self, stream: Stream, size: int, masker: Masker) -> None:
        """Remember the masker of a stream of which it released all up to ``size``."""
        self._maskers[stream] = size, masker


def write(pages: Iterable[Page]) -> None:
    """Write the columns that changed; the chunks are the caller's to write.

    Runs of a task change alike, and one statement for many rows costs a fraction of many: it is
    compiled once, and PostgreSQL answers it in one round trip.
    """
    alike: dict[tuple[str, ...], list[Run]] = {}
    for page in pages:
        alike.setdefault(page.changed(), []).append(page.run)
    for columns, rows in alike.items():
        if columns:
            _update(columns, rows)


def _update(columns: tuple[str, ...], rows: list[Run]) -> None:
    fields = [each for each in Run._meta.concrete_fields if each.name in columns]
    quote = connection.ops.quote_name
    assignments = ", ".join(f"{quote(str(each.column))} = %s" for each in fields)
    table = quote(Run._meta.db_table)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {table} SET {assignments} WHERE id = %s",  # noqa: S608 - names of our own
            [(*(_stored(run, each) for each in fields), run.pk) for run in rows],
        )


def _stored(run: Run, field: Field[Any, Any]) -> Any:
    """The value of a column as the database takes it."""
    return field.get_db_prep_save(getattr(run, field.attname), connection)


class Page:
    """One run within a transaction: its locked row, and the chunks that come to it.

    ``memory`` is a copy of what was given, to be kept once the transaction is committed.
    """

    def __init__(self, run: Run, memory: Memory) -> None:
        self.run = run
        self.memory = copy(memory)
        self.chunks: list[OutputChunk] = []
        self._dirty: set[str] = set()
        self._lost_before = 0

    def apply(self, event: Event) -> bool:
        """Take an event in; False for a change that the run's state does not allow.

        Raises ValueError if bytes before it are missing.
        """
        if isinstance(event, Received):
            self._append(event)
            return True
        if isinstance(event, Dropped):
            self._leave_out(event)
            return True
        return self._change(event.values)

    def settle(self) -> None:
        """Drop what is more than is kept: stored chunks at once, new ones from ``chunks``."""
        self._show_last_line()
        values, self.chunks = keeping.trim(self.run, self.chunks, lost_before=self._lost_before)
        for name, value in values.items():
            self._set(name, value)

    def changed(self) -> tuple[str, ...]:
        """The columns to be written, once every event is taken in and settled."""
        return tuple(sorted(self._dirty))

    def _change(self, values: Mapping[str, Any]) -> bool:
        settled = endings.settled(self.run, values)
        if settled is None:
            log.warning("Run %s stays %s", self.run.pk, self.run.status)
            return False
        if is_final(settled.get("status", self.run.status)):
            self._finish(settled["finished_at"])
        for name, value in settled.items():
            self._set(name, self._storable(name, value))
        return True

    def _append(self, event: Received) -> None:
        masker = self._masker(event.stream)
        reached = self._size(event.stream) + masker.held
        if event.offset > reached:
            raise ValueError(f"Run {self.run.pk}: bytes {reached}..{event.offset} are missing")
        data = event.data[reached - event.offset :]  # a follower may repeat, never skip
        if data:
            self._no_longer_stalled()
            self._store(event.stream, masker, masker.feed(data), event.arrived_at)

    def _leave_out(self, event: Dropped) -> None:
        """Go on behind bytes that never come. What the tail has before them is dropped, too."""
        masker = self._masker(event.stream)
        reached = self._size(event.stream) + masker.held
        if event.start > reached:
            raise ValueError(f"Run {self.run.pk}: bytes {reached}..{event.start} are missing")
        if event.end <= reached:
            return
        self._store(event.stream, masker, masker.cut(), event.arrived_at)
        if self.run.head_chunks is None:
            self._close_head()
        missing = event.end - self._size(event.stream)
        self._set("dropped_bytes", self.run.dropped_bytes + missing)
        self._set(f"{event.stream}_size", event.end)
        self.memory.keep(event.stream, event.end, masker)
        self._lost_before = self.run.next_sequence

    def _no_longer_stalled(self) -> None:
        self._set("stalled_since", None)
        self._set("stall_info", "")

    def _finish(self, now: datetime) -> None:
        """Store what is held back: no more comes."""
        self._no_longer_stalled()
        for stream in _STREAM_NUMBERS:
            masker = self._masker(stream)
            self._store(stream, masker, masker.finish(), now)

    def _masker(self, stream: Stream) -> Masker:
        masked: int = getattr(self.run, f"{stream}_masked")
        return self.memory.masker(stream, self._size(stream), masked)

    def _size(self, stream: Stream) -> int:
        size: int = getattr(self.run, f"{stream}_size")
        return size

    def _store(self, stream: Stream, masker: Masker, released: bytes, arrived_at: datetime) -> None:
        start = 0
        while start < len(released):
            data = released[start : start + self._room()]
            size = self._size(stream)
            self._extend(stream, size, data, arrived_at)
            self._set(f"{stream}_size", size + len(data))
            start += len(data)
        self._set(f"{stream}_masked", masker.masked)
        self.memory.keep(stream, self._size(stream), masker)

    def _room(self) -> int:
        """How many bytes the next chunk may have: the head ends where half is full."""
        if self.run.head_chunks is None:
            left = keeping.head_bytes() - self.run.stdout_size - self.run.stderr_size
            if left > 0:
                return min(left, CHUNK_BYTES)
            self._close_head()
        return CHUNK_BYTES

    def _close_head(self) -> None:
        """What comes from now on is the tail."""
        self._set("head_chunks", self.run.next_sequence)
        self._set("tail_from", self.run.next_sequence)
        self._set("head_bytes", self.run.stdout_size + self.run.stderr_size)

    def _extend(self, stream: Stream, offset: int, data: bytes, arrived_at: datetime) -> None:
        number = _STREAM_NUMBERS[stream]
        last = self.chunks[-1] if self.chunks else None
        if last and last.sequence < max(self.run.head_chunks or 0, self._lost_before):
            last = None  # nothing is joined over the end of the head, or over a gap
        if last and last.stream == number and len(last.data) + len(data) <= CHUNK_BYTES:
            last.data = bytes(last.data) + data
            return
        self.chunks.append(
            OutputChunk(
                run=self.run,
                sequence=self.run.next_sequence,
                stream=number,
                offset=offset,
                data=data,
                arrived_at=arrived_at,
            )
        )
        self._set("next_sequence", self.run.next_sequence + 1)

    def _show_last_line(self) -> None:
        text = ""
        for chunk in self.chunks:
            text = self.memory.last_line.feed(bytes(chunk.data)) or text
        if text:
            self._set("last_line", self._storable("last_line", text))

    def _set(self, name: str, value: Any) -> None:
        if getattr(self.run, name) != value:
            setattr(self.run, name, value)
            self._dirty.add(name)

    def _storable(self, name: str, value: Any) -> Any:
        """Text as every database takes it, without secrets where people read it.

        No NUL, no lone surrogate, not longer than its column.
        """
        if not isinstance(value, str):
            return value
        text = value.replace("\x00", "").encode(errors="replace").decode()
        if name in _READ_BY_PEOPLE:
            text = self.memory.secrets.hide_in(text)
        return text[: getattr(Run._meta.get_field(name), "max_length", None)]
