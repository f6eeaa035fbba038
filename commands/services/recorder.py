"""The recorder: the one thread of a worker process that writes what its runs report.

Threads that wait on SSH ``put`` events here and never touch the database. The recorder takes
what has gathered, writes it in one transaction, and tells listeners once it is committed; so
a worker uses one connection, and under load batches grow instead of queues. A run's row is
locked and its ``lease_owner`` compared in that transaction: what a worker without the lease
reports is dropped, and its next ``put`` raises ``LeaseLost``. What an event does to its run,
and how secrets are masked on the way, is in ``pages``.

While the database is away the recorder keeps the batch and tries again; once 8 MiB wait,
``put`` blocks, SSH windows fill, and the scripts' output waits on the instances.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from commands.models import OutputChunk, Run
from commands.outputs.wake import Waker
from commands.rules.redaction import Secrets
from commands.rules.status import ErrorCode, Phase, RunStatus, is_final
from commands.services import runs
from commands.services.events import Changed, Event, Receipt, Received
from commands.services.pages import Memory, Page, write
from commands.words import gettext_noop

log = logging.getLogger(__name__)

BATCH_BYTES = 4 * 1024 * 1024
"""Most output in one transaction. Of a flood, what a batch itself supersedes is never written."""
PENDING_BYTES = 8 * 1024 * 1024
INTERVAL_S = 0.02
"""Least time between two transactions: long enough to batch, too short to be seen."""
RENEW_S = 5.0
_UNSTORABLE = gettext_noop(
    "The console could not store what the instance reported, so nobody knows how the script "
    "ended. It is not run again; the server's log has the details."
)
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class LeaseLost(Exception):
    """Another worker owns the run now; whoever carries it here must let go."""


class Recorder:
    """Writes the events of one worker process. ``owner`` is the worker's name in leases.

    ``on_lost`` is told the ids of runs that another worker owns now, or that can't be written,
    ``on_ended`` those of runs of which the end is stored.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.on_lost: Callable[[set[int]], None] = _nothing
        self.on_ended: Callable[[set[int]], None] = _nothing
        self._waker = Waker()
        self._events: deque[Event] = deque()
        self._pending_bytes = 0
        self._held: dict[int, Memory] = {}
        self._lost: set[int] = set()
        self._stop_asked: set[int] = set()
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

    def hold(self, run_id: int, secrets: Iterable[bytes] = ()) -> None:
        """Renew the lease of a run from now on, and mask ``secrets`` in what it prints."""
        memory = Memory(Secrets(secrets))
        with self._changed:
            self._held[run_id] = memory
            self._lost.discard(run_id)

    def lost(self, run_id: int) -> bool:
        """Whether another worker is known to own a run that is held here."""
        with self._changed:
            return run_id in self._lost

    def stop_asked(self, run_id: int) -> bool:
        """Whether somebody wanted a held run stopped when something of it was last written."""
        with self._changed:
            return run_id in self._stop_asked

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
        """Renew it no longer, and write nothing more that it reported."""
        with self._changed:
            self._held.pop(run_id, None)
            self._lost.discard(run_id)
            self._stop_asked.discard(run_id)

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
        held = self._held_of(batch)
        receipts: list[tuple[Receipt, bool]] = []
        with transaction.atomic():
            owned = Run.objects.select_for_update().filter(pk__in=held, lease_owner=self.owner)
            pages = {run.pk: Page(run, held[run.pk]) for run in owned.order_by("pk")}
            for event in batch:
                page = pages.get(event.run_id)
                applied = page is not None and page.apply(event)
                if isinstance(event, Changed) and event.receipt is not None:
                    receipts.append((event.receipt, applied))
            for page in pages.values():
                page.settle()
            OutputChunk.objects.bulk_create(
                chunk for page in pages.values() for chunk in page.chunks
            )
            write(pages.values())
        self._keep(pages)
        self._lose(held.keys() - pages.keys())
        for receipt, applied in receipts:
            receipt.resolve(stored=applied)
        if ended := {page.run.pk for page in pages.values() if is_final(page.run.status)}:
            self.on_ended(ended)
        return {page.run.invocation_id for page in pages.values()}

    def _held_of(self, batch: list[Event]) -> dict[int, Memory]:
        """The runs of a batch that are held. Of others, nobody knows what must be masked."""
        with self._changed:
            return {one.run_id: self._held[one.run_id] for one in batch if one.run_id in self._held}

    def _keep(self, pages: Mapping[int, Page]) -> None:
        """Remember what was learned in a transaction that is committed."""
        with self._changed:
            for run_id in pages.keys() & self._held.keys():
                self._held[run_id] = pages[run_id].memory
                if pages[run_id].run.status == RunStatus.STOPPING:
                    self._stop_asked.add(run_id)

    def _lose(self, run_ids: Iterable[int]) -> None:
        with self._changed:
            lost = (self._held.keys() & set(run_ids)) - self._lost
            self._lost |= lost
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


def _nothing(_run_ids: set[int]) -> None:
    """Nobody wants to know."""


def _nobody() -> None:
    """The same."""


def _resolve(batch: list[Event], *, stored: bool) -> None:
    for event in batch:
        if isinstance(event, Changed) and event.receipt is not None:
            event.receipt.resolve(stored=stored)


def _by_run(batch: list[Event]) -> list[list[Event]]:
    parts: dict[int, list[Event]] = {}
    for event in batch:
        parts.setdefault(event.run_id, []).append(event)
    return list(parts.values())
