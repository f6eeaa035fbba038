"""The comparer: the thread of a worker process that stores how the output of ended runs compares.

It comes behind the recorder, in transactions of its own, so that no end waits for it. What is
lost with a worker is computed by whoever looks at the groups (``sameness.compare``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from queue import SimpleQueue

from django.db import Error, connection

from commands.outputs.wake import Waker
from commands.services import sameness

log = logging.getLogger(__name__)

INTERVAL_S = 0.2
"""Least time between two turns, so that runs that end together are compared together."""


class Comparer:
    """Compares runs that it is told of."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Iterable[int]] = SimpleQueue()
        self._waker = Waker()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="comparer", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def ask(self, run_ids: Iterable[int]) -> None:
        """Have runs that have ended compared. Returns at once."""
        self._inbox.put(run_ids)

    def stop(self, timeout_s: float = 2.0) -> None:
        """End after the present turn; waits at most ``timeout_s`` for it."""
        self._stopping.set()
        self._inbox.put(())
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while not self._stopping.is_set():
            run_ids = set(self._inbox.get())
            self._stopping.wait(INTERVAL_S)
            while not self._inbox.empty():
                run_ids.update(self._inbox.get())
            if run_ids and not self._stopping.is_set():
                self._turn_safely(run_ids)
                connection.close()
        self._waker.close()

    def _turn_safely(self, run_ids: set[int]) -> None:
        """One turn. Nothing may end this thread; what fails is computed when somebody looks."""
        try:
            while run_ids and not self._stopping.is_set():
                tasks, run_ids = sameness.compare_runs(run_ids)
                self._waker.announce(tasks)
        except Error as error:
            log.warning("The database does not answer, runs are compared later: %s", error)
        except Exception:
            log.exception("The comparer met an error and goes on")
