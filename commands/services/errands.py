"""Errands: what a worker process does on many instances at once, outside of Celery's slots.

A Celery task only rings (``ask``) and ends; one thread claims what is due, starts a thread for
each instance, and writes what they bring. Those never touch the database, and nothing waits for
one of them: a hundred dead hosts delay nobody. What can't be written is dropped, as what is due
is found again.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from django.db import Error, connection

log = logging.getLogger(__name__)

INTERVAL_S = 0.1
"""Least time between two transactions, so that results come together."""

Target = TypeVar("Target")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Ended(Generic[Result]):
    """The thread of a target is done; ``result`` is None where it could not tell."""

    key: int
    result: Result | None


class Errands(ABC, Generic[Target, Result]):
    """Runs errands whenever it is asked to, at most ``at_once`` at a time.

    ``name`` is that of its own thread, ``errand`` says in logs what one is about.
    """

    name: str
    errand: str

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._inbox: SimpleQueue[_Ended[Result] | None] = SimpleQueue()
        self._busy: set[int] = set()  # the thread of this object alone reads and writes it
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)

    @abstractmethod
    def claim(self, busy: AbstractSet[int], room: int) -> Sequence[tuple[int, Target]]:
        """Take at most ``room`` targets that are due, by their keys, none of them ``busy``."""

    @abstractmethod
    def run(self, target: Target) -> Result | None:
        """Do it, in a thread without a database; None if this process lets go of it."""

    @abstractmethod
    def record(self, results: Sequence[Result]) -> None:
        """Store what came of it."""

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def ask(self) -> None:
        """Have what is due done. Returns at once."""
        self._inbox.put(None)

    @property
    def stopping(self) -> bool:
        """Whether this process is on its way out: what fails now says nothing."""
        return self._stopping.is_set()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Write what came in and end; claims run out. Waits at most ``timeout_s``.

        Errands in progress end when the executor is closed, and nobody listens to them.
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

    def _ended(self) -> list[_Ended[Result]]:
        """Errands that have ended; blocks until one has, or somebody asks."""
        arrived = [self._inbox.get()]
        self._stopping.wait(INTERVAL_S)
        while not self._inbox.empty():
            arrived.append(self._inbox.get())
        return [each for each in arrived if each is not None]

    def _turn_safely(self, ended: list[_Ended[Result]]) -> None:
        """One turn. Nothing may end this thread."""
        try:
            self._record(ended)
            if not self._stopping.is_set():
                self._begin()
        except Error as error:
            log.warning("The database does not answer, the %s waits: %s", self.name, error)
        except Exception:
            log.exception("The %s met an error and goes on", self.name)

    def _record(self, ended: list[_Ended[Result]]) -> None:
        self._busy -= {each.key for each in ended}
        results = [each.result for each in ended if each.result is not None]
        if results:
            self.record(results)

    def _begin(self) -> None:
        """Begin everything that is due, as far as there is room."""
        room = self._at_once - len(self._busy)
        for key, target in self.claim(self._busy, room) if room else ():
            self._start(key, target)

    def _start(self, key: int, target: Target) -> None:
        thread = threading.Thread(
            target=self._run, args=(key, target), name=f"{self.errand} {key}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            log.error("No thread to %s %s: %s", self.errand, key, error)
        else:
            self._busy.add(key)

    def _run(self, key: int, target: Target) -> None:
        result = None
        try:
            result = self.run(target)
        except Exception:
            # The edge of an errand: whatever happens to one must be seen and must not spread.
            log.exception("It failed to %s %s", self.errand, key)
        self._inbox.put(_Ended(key, result))
