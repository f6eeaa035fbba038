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
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from commands.execution.executor import Stream
from commands.models import OutputChunk, Run
from commands.outputs.lastline import LastLine
from commands.outputs.wake import Waker
from commands.rules.status import ErrorCode, Phase, RunStatus, is_final, may_become
from commands.services import runs

log = logging.getLogger(__name__)

BATCH_BYTES = 1024 * 1024
PENDING_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
INTERVAL_S = 0.02
"""Least time between two transactions: long enough to batch, too short to be seen."""
RENEW_S = 5.0
_UNSTORABLE = (
    "The console could not store what the instance reported, so nobody knows how the script "
    "ended. It is not run again; the server's log has the details."
)
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)

_STREAM_NUMBERS: dict[Stream, OutputChunk.Stream] = {
    "stdout": OutputChunk.Stream.STDOUT,
    "stderr": OutputChunk.Stream.STDERR,
}


class Receipt:
    """Tells a waiting thread what became of an event. ``stored`` is None until it is known."""

    def __init__(self) -> None:
        self.stored: bool | None = None
        self._known = threading.Event()

    def resolve(self, *, stored: bool) -> None:
        """Say whether it was stored. The first word counts."""
        if not self._known.is_set():
            self.stored = stored
            self._known.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is known by now, after at most ``timeout_s``."""
        return self._known.wait(timeout_s)


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
    """New values for columns of a run; ``receipt`` learns whether they were stored."""

    run_id: int
    values: dict[str, Any]
    receipt: Receipt | None = None


Event = Received | Changed


class Recorder:
    """Writes the events of one worker process. ``owner`` is the worker's name in leases.

    ``on_lost`` is told the ids of runs that another worker owns now, or that can't be written.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.on_lost: Callable[[set[int]], None] = _nothing
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

    def lost(self, run_id: int) -> bool:
        """Whether another worker is known to own a run that is held here."""
        with self._changed:
            return run_id in self._lost

    def record(self, run_id: int, values: dict[str, Any]) -> None:
        """Have values written and wait until they are. Raises LeaseLost if they are not."""
        receipt = Receipt()
        self.put(Changed(run_id, values, receipt))
        while not receipt.wait(1.0):
            if not self._thread.is_alive():
                raise LeaseLost(run_id)
        if not receipt.stored:
            raise LeaseLost(run_id)

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
        self._renew_at = time.monotonic() + RENEW_S
        while not self._turn_safely():
            pass
        self._release()
        self._waker.close()
        connection.close()

    def _turn_safely(self) -> bool:
        """One turn; whether it was the last. Nothing may end this thread: all depends on it."""
        try:
            return self._turn()
        except Exception:
            log.exception("The recorder met an error and goes on")
            connection.close()
            time.sleep(RETRY_S[0])
            return False

    def _turn(self) -> bool:
        batch = self._take(self._renew_at)
        if batch:
            self._insist(batch)
            time.sleep(INTERVAL_S)
        elif self._stopping:
            return True
        if time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + RENEW_S
            self._renew()
        return False

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
                news = self._write(batch)
            except (OperationalError, InterfaceError) as error:
                connection.close()
                if self._stopping and attempt >= len(RETRY_S):
                    log.error("Output was not stored, the database is away: %s", error)
                    _resolve(batch, stored=False)
                    return
                log.warning("The database does not answer, trying again: %s", error)
                time.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
            except Exception:
                log.exception("%s events can't be stored together", len(batch))
                self._insist_on_parts(batch)
                return
            else:
                self._waker.announce(news)
                return

    def _insist_on_parts(self, batch: list[Event]) -> None:
        """Write the runs of a batch one by one: what is wrong with one must not stop others."""
        parts = _by_run(batch)
        if len(parts) > 1:
            for part in parts:
                self._insist(part)
            return
        run_id = batch[0].run_id
        log.error("What run %s reports can't be stored", run_id)
        _resolve(batch, stored=False)
        self._lose({run_id})
        Run.objects.filter(pk=run_id, lease_owner=self.owner).unfinished().update(
            status=RunStatus.ERROR.value,
            phase=Phase.FINISHED.value,
            error_code=ErrorCode.OUTCOME_UNKNOWN.value,
            error_info=_UNSTORABLE,
            finished_at=timezone.now(),
        )

    def _write(self, batch: list[Event]) -> set[int]:
        """Write a batch in one transaction; the invocations that have news."""
        ids = {event.run_id for event in batch}
        receipts: list[tuple[Receipt, bool]] = []
        with transaction.atomic():
            owned = Run.objects.select_for_update().filter(pk__in=ids, lease_owner=self.owner)
            pages = {run.pk: _Page(run) for run in owned.order_by("pk")}
            for event in batch:
                page = pages.get(event.run_id)
                applied = page is not None and page.apply(event)
                if isinstance(event, Changed) and event.receipt is not None:
                    receipts.append((event.receipt, applied))
            OutputChunk.objects.bulk_create(
                chunk for page in pages.values() for chunk in page.chunks
            )
            for page in pages.values():
                page.last_line = self._last_line(page)
                page.save()
        for page in pages.values():
            self._keep_last_line(page)
        self._lose(ids - pages.keys())
        for receipt, applied in receipts:
            receipt.resolve(stored=applied)
        return {page.run.invocation_id for page in pages.values()}

    def _last_line(self, page: _Page) -> LastLine:
        """The last line after a page's chunks, as a copy: a transaction may be tried again."""
        line = copy(self._last_lines.get(page.run.pk) or LastLine())
        for chunk in page.chunks:
            page.show(line.feed(bytes(chunk.data)))
        return line

    def _keep_last_line(self, page: _Page) -> None:
        if is_final(page.run.status) or page.last_line is None:
            self._last_lines.pop(page.run.pk, None)
        else:
            self._last_lines[page.run.pk] = page.last_line

    def _lose(self, run_ids: Iterable[int]) -> None:
        with self._changed:
            lost = (self._held & set(run_ids)) - self._lost
            self._lost |= lost
        for run_id in lost:
            self._last_lines.pop(run_id, None)
        if lost:
            self.on_lost(lost)

    def _renew(self) -> None:
        with self._changed:
            held = set(self._held)
        if not held:
            return
        try:
            kept = runs.renew(run_ids=held, owner=self.owner, now=timezone.now())
        except Error as error:
            connection.close()
            log.warning("Leases were not renewed: %s", error)
            return
        self._lose(held - kept)

    def _release(self) -> None:
        with self._changed:
            held = set(self._held)
        try:
            runs.release(run_ids=held, owner=self.owner, now=timezone.now())
        except Error as error:
            log.warning("Leases were not given back and will run out: %s", error)


class _Page:
    """One run within a transaction: its locked row, and the chunks that come to it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.chunks: list[OutputChunk] = []
        self.last_line: LastLine | None = None
        self._dirty: set[str] = set()

    def apply(self, event: Event) -> bool:
        """Take an event in; False for a change that the run's state does not allow."""
        if isinstance(event, Received):
            self._append(event)
            return True
        return self._change(event.values)

    def show(self, last_line: str) -> None:
        """Have lists show another last line; "" changes nothing."""
        if last_line:
            self.run.last_line = last_line
            self._dirty.add("last_line")

    def save(self) -> None:
        """Write the columns that changed."""
        if self._dirty:
            self.run.save(update_fields=sorted(self._dirty))

    def _change(self, values: dict[str, Any]) -> bool:
        status = values.get("status", self.run.status)
        if is_final(self.run.status) or not may_become(self.run.status, status):
            log.warning("Run %s stays %s, not %s", self.run.pk, self.run.status, status)
            return False
        for name, value in values.items():
            setattr(self.run, name, _storable(name, value))
            self._dirty.add(name)
        return True

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
        self._dirty.update({size_column, "next_sequence"})

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


def _nothing(_run_ids: set[int]) -> None:
    """Nobody wants to know."""


def _storable(name: str, value: Any) -> Any:
    """Text as every database takes it: no NUL, no lone surrogate, not longer than its column."""
    if not isinstance(value, str):
        return value
    text = value.replace("\x00", "").encode(errors="replace").decode()
    return text[: getattr(Run._meta.get_field(name), "max_length", None)]


def _resolve(batch: list[Event], *, stored: bool) -> None:
    for event in batch:
        if isinstance(event, Changed) and event.receipt is not None:
            event.receipt.resolve(stored=stored)


def _by_run(batch: list[Event]) -> list[list[Event]]:
    parts: dict[int, list[Event]] = {}
    for event in batch:
        parts.setdefault(event.run_id, []).append(event)
    return list(parts.values())
