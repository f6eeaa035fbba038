"""The checker: the threads of a worker process that ask instances whether they answer.

A Celery task only rings (``ask``) and ends; one thread, the checker's own, claims what is due,
starts a thread for each instance, and writes what they bring. They never touch the database,
and the checker never waits for one of them: a hundred dead hosts delay no start of a run.
What can't be written is dropped, as the next check finds it again.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from queue import SimpleQueue

from django.db import Error, connection
from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Executor
from commands.rules.connection import Connection, of_error
from commands.services import connections
from commands.services.connections import Finding, Target

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Instances that one worker process checks at the same time."""
INTERVAL_S = 0.1
"""Least time between two transactions, so that results come together."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """The thread of an instance is done; ``finding`` is None where it could not tell."""

    instance_id: int
    finding: Finding | None


class Checker:
    """Checks instances that are due, whenever it is asked to."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._inbox: SimpleQueue[_Ended | None] = SimpleQueue()
        self._probing: set[int] = set()  # the checker's own thread alone reads and writes it
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="checker", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def ask(self) -> None:
        """Have what is due checked. Returns at once."""
        self._inbox.put(None)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Write what was found and end; claims run out. Waits at most ``timeout_s``.

        Probes in progress end when the executor is closed, and nobody listens to them.
        """
        self._stopping.set()
        self._inbox.put(None)
        self._thread.join(timeout_s)

    def _work(self) -> None:
        over = False
        while not over:
            ended, over = self._ended(), self._stopping.is_set()
            self._turn_safely(ended)
            connection.close()  # a turn is short and the next one far away

    def _ended(self) -> list[_Ended]:
        """Probes that have ended; blocks until one has, or somebody asks."""
        arrived = [self._inbox.get()]
        self._stopping.wait(INTERVAL_S)
        while not self._inbox.empty():
            arrived.append(self._inbox.get())
        return [each for each in arrived if each is not None]

    def _turn_safely(self, ended: list[_Ended]) -> None:
        """One turn. Nothing may end this thread."""
        try:
            self._record(ended)
            if not self._stopping.is_set():
                self._begin()
        except Error as error:
            log.warning("Connections were not checked, the database does not answer: %s", error)
        except Exception:
            log.exception("The checker met an error and goes on")

    def _record(self, ended: list[_Ended]) -> None:
        self._probing -= {each.instance_id for each in ended}
        findings = [each.finding for each in ended if each.finding is not None]
        if findings:
            connections.record(findings=findings)

    def _begin(self) -> None:
        """Start a probe of everything that is due, as far as there is room."""
        room = AT_ONCE - len(self._probing)
        if not room:
            return
        now = timezone.now()
        # A claim may run out while its probe goes on here, so more are read than are needed.
        waiting = connections.due(now=now, limit=AT_ONCE)
        fresh = [key for key in waiting if key not in self._probing][:room]
        for target in connections.claim(instance_ids=fresh, now=now) if fresh else []:
            self._probe_in_thread(target)

    def _probe_in_thread(self, target: Target) -> None:
        name = f"check-{target.instance_id}"
        thread = threading.Thread(target=self._probe, args=(target,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.error("No thread to check instance %s: %s", target.instance_id, error)
        else:
            self._probing.add(target.instance_id)

    def _probe(self, target: Target) -> None:
        finding = None
        try:
            finding = _find(self._executor, target)
        except Exception:
            # The edge of a check: whatever happens to one must be seen and must not spread.
            log.exception("Instance %s can't be checked", target.instance_id)
        self._inbox.put(_Ended(target.instance_id, finding))


def _find(executor: Executor, target: Target) -> Finding | None:
    """What a probe finds; None if this process lets go of it."""
    if target.endpoint is None:
        return Finding(target, target.state, timezone.now(), info=target.obstacle)
    try:
        system = executor.probe(target.endpoint)
    except ConnectFailed as error:
        return Finding(target, of_error(error.code), timezone.now(), info=error.message)
    except ConnectionLost:
        return None  # the executor was closed: that is no word on the instance
    return Finding(target, Connection.REACHABLE, timezone.now(), system=system)
