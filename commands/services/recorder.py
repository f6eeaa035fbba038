"""The recorder: the one thread of a worker process that writes what its runs report.

Threads that wait on SSH ``put`` events here and never touch the database. The recorder takes
what has gathered, writes it in one transaction, and tells listeners once it is committed; so
a worker uses one connection, and under load batches grow instead of queues. A run's row is
locked and its ``lease_owner`` compared in that transaction: what a worker without the lease
reports is dropped, and its next ``put`` raises ``LeaseLost``.

While the database is away the recorder keeps the batch and tries again; once 8 MiB wait,
``put`` blocks, SSH windows fill, and the scripts' output waits on the instances.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from commands.execution.executor import Stream
from commands.models import OutputChunk, Run
from commands.outputs.lastline import LastLine
from commands.outputs.wake import Waker
from commands.rules.status import is_final, may_become
from commands.services import runs

log = logging.getLogger(__name__)

BATCH_BYTES = 1024 * 1024
PENDING_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
INTERVAL_S = 0.02
"""Least time between two transactions: long enough to batch, too short to be seen."""
RENEW_S = 5.0
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

_STREAM_NUMBERS: dict[Stream, OutputChunk.Stream] = {
    "stdout": OutputChunk.Stream.STDOUT,
    "stderr": OutputChunk.Stream.STDERR,
}


class LeaseLost(Exception):
    """Another worker owns the run now; whoever carries it here must let go."""


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that a run printed, from ``offset`` in their stream."""

    run_id: int
    stream: Stream
    offset: int
    data: bytes = field(repr=False)
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class Changed:
    """New values for columns of a run; ``committed`` is set once they are stored."""

    run_id: int
    values: dict[str, Any]
    committed: threading.Event | None = None


Event = Received | Changed


class Recorder:
    """Writes the events of one worker process. ``owner`` is the worker's name in leases."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._waker = Waker()
        self._events: deque[Event] = deque()
        self._pending_bytes = 0
        self._held: set[int] = set()
        self._lost: set[int] = set()
        self._last_lines: dict[int, LastLine] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what waits, give all leases back, and end. Waits at most ``timeout_s``."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def hold(self, run_id: int) -> None:
        """Renew the lease of a run from now on."""
        with self._changed:
            self._held.add(run_id)
            self._lost.discard(run_id)

    def drop(self, run_id: int) -> None:
        """Renew it no longer."""
        with self._changed:
            self._held.discard(run_id)
            self._lost.discard(run_id)

    def put(self, event: Event) -> None:
        """Have ``event`` written; blocks while too much waits. Raises LeaseLost.

        After ``stop`` every run is lost to this worker.
        """
        size = len(event.data) if isinstance(event, Received) else 0
        with self._changed:
            while size and self._pending_bytes > PENDING_BYTES and not self._stopping:
                self._changed.wait()
            if self._stopping or event.run_id in self._lost or event.run_id not in self._held:
                raise LeaseLost(event.run_id)
            self._events.append(event)
            self._pending_bytes += size
            self._changed.notify_all()

    def _work(self) -> None:
        renew_at = time.monotonic() + RENEW_S
        try:
            while True:
                batch = self._take(renew_at)
                if batch:
                    self._insist(batch)
                    time.sleep(INTERVAL_S)
                elif self._stopping:
                    break
                if time.monotonic() >= renew_at:
                    self._renew()
                    renew_at = time.monotonic() + RENEW_S
            self._release()
        finally:
            self._waker.close()
            connection.close()

    def _take(self, until: float) -> list[Event]:
        """Up to a batch of events, in order; waits for the first until ``until``."""
        with self._changed:
            while not self._events and not self._stopping:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return []
            batch: list[Event] = []
            size = 0
            while self._events and size < BATCH_BYTES:
                event = self._events.popleft()
                batch.append(event)
                size += len(event.data) if isinstance(event, Received) else 0
            self._pending_bytes -= size
            self._changed.notify_all()
            return batch

    def _insist(self, batch: list[Event]) -> None:
        """Write a batch, however long the database is away."""
        attempt = 0
        while True:
            try:
                self._write(batch)
                return
            except (OperationalError, InterfaceError) as error:
                connection.close()
                if self._stopping and attempt >= len(RETRY_S):
                    log.error("Output was not stored, the database is away: %s", error)
                    return
                log.warning("The database does not answer, trying again: %s", error)
                time.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
            except (DatabaseError, ValueError):
                # A row that can't be written must not hold up all the others.
                if len({event.run_id for event in batch}) == 1:
                    log.exception("Run %s can't be recorded", batch[0].run_id)
                    self._lose({batch[0].run_id})
                    return
                for part in _by_run(batch):
                    self._insist(part)
                return

    def _write(self, batch: list[Event]) -> None:
        ids = {event.run_id for event in batch}
        with transaction.atomic():
            owned = Run.objects.select_for_update().filter(pk__in=ids, lease_owner=self.owner)
            pages = {run.pk: _Page(run, self._last_line(run.pk)) for run in owned.order_by("pk")}
            for event in batch:
                if page := pages.get(event.run_id):
                    page.apply(event)
            OutputChunk.objects.bulk_create(
                chunk for page in pages.values() for chunk in page.chunks
            )
            for page in pages.values():
                page.save()
        self._lose(ids - pages.keys())
        for event in batch:
            if isinstance(event, Changed) and event.committed is not None:
                event.committed.set()
        self._forget_ended(pages.values())
        self._waker.announce({page.run.invocation_id for page in pages.values()})

    def _last_line(self, run_id: int) -> LastLine:
        return self._last_lines.setdefault(run_id, LastLine())

    def _forget_ended(self, pages: Iterable[_Page]) -> None:
        for page in pages:
            if is_final(page.run.status):
                self._last_lines.pop(page.run.pk, None)

    def _lose(self, run_ids: Iterable[int]) -> None:
        with self._changed:
            self._lost.update(self._held & set(run_ids))

    def _renew(self) -> None:
        with self._changed:
            held = set(self._held)
        if not held:
            return
        try:
            kept = runs.renew(run_ids=held, owner=self.owner, now=timezone.now())
        except DatabaseError as error:
            connection.close()
            log.warning("Leases were not renewed: %s", error)
            return
        self._lose(held - kept)

    def _release(self) -> None:
        with self._changed:
            held = set(self._held)
        try:
            runs.release(run_ids=held, owner=self.owner, now=timezone.now())
        except DatabaseError as error:
            log.warning("Leases were not given back and will run out: %s", error)


class _Page:
    """One run within a transaction: its locked row, and the chunks that come to it."""

    def __init__(self, run: Run, last_line: LastLine) -> None:
        self.run = run
        self.chunks: list[OutputChunk] = []
        self._last_line = last_line
        self._dirty: set[str] = set()

    def apply(self, event: Event) -> None:
        if isinstance(event, Received):
            self._append(event)
        else:
            self._change(event.values)

    def save(self) -> None:
        if self._dirty:
            self.run.save(update_fields=sorted(self._dirty))

    def _change(self, values: dict[str, Any]) -> None:
        status = values.get("status", self.run.status)
        if is_final(self.run.status) or not may_become(self.run.status, status):
            log.warning("Run %s stays %s, not %s", self.run.pk, self.run.status, status)
            return
        for name, value in values.items():
            setattr(self.run, name, value)
            self._dirty.add(name)

    def _append(self, event: Received) -> None:
        size_column = f"{event.stream}_size"
        size: int = getattr(self.run, size_column)
        if event.offset > size:
            raise ValueError(f"Run {self.run.pk}: bytes {size}..{event.offset} are missing")
        data = event.data[size - event.offset :]  # a follower may repeat, never skip
        if not data:
            return
        self._extend(_STREAM_NUMBERS[event.stream], size, data, event.arrived_at)
        setattr(self.run, size_column, size + len(data))
        self.run.last_line = self._last_line.feed(data) or self.run.last_line
        self._dirty.update({size_column, "next_sequence", "last_line"})

    def _extend(
        self, stream: OutputChunk.Stream, offset: int, data: bytes, arrived_at: datetime
    ) -> None:
        last = self.chunks[-1] if self.chunks else None
        if last and last.stream == stream and len(last.data) + len(data) <= CHUNK_BYTES:
            last.data = bytes(last.data) + data
            return
        self.chunks.append(
            OutputChunk(
                run=self.run,
                sequence=self.run.next_sequence,
                stream=stream,
                offset=offset,
                data=data,
                arrived_at=arrived_at,
            )
        )
        self.run.next_sequence += 1


def _by_run(batch: list[Event]) -> list[list[Event]]:
    parts: dict[int, list[Event]] = {}
    for event in batch:
        parts.setdefault(event.run_id, []).append(event)
    return list(parts.values())
