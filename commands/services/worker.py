"""What a worker process is made of: an executor, and threads that use it or follow after it.

They are made at the first task, after Celery has forked or started its threads, and live as
long as the process.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime

from commands.execution.executor import Executor
from commands.execution.ssh import SshExecutor
from commands.services import runs
from commands.services.checking import Checker
from commands.services.comparer import Comparer
from commands.services.examiner import Examiner
from commands.services.following import Follower
from commands.services.keyreading import KeyReader
from commands.services.lookout import Lookout
from commands.services.messenger import Messenger
from commands.services.recorder import Recorder
from commands.services.stopper import Stopper


class Worker:
    """Takes runs over and carries them to their end; checks, stops and compares meanwhile."""

    def __init__(self, executor: Executor) -> None:
        host = socket.gethostname()[:32]
        self.owner = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
        self.recorder = Recorder(self.owner)
        self.follower = Follower(executor, self.recorder)
        self.recorder.on_lost = self.follower.abandon
        self.comparer = Comparer()
        self.recorder.on_ended = self._ended
        self.checker = Checker(executor)
        self.stopper = Stopper(executor)
        self.examiner = Examiner(executor)
        self.key_reader = KeyReader()
        self.lookout = Lookout(executor)
        self.messenger = Messenger()
        self.recorder.start()
        self.checker.start()
        self.stopper.start()
        self.comparer.start()
        self.examiner.start()
        self.key_reader.start()
        self.lookout.start()
        self.messenger.start()

    def _ended(self, run_ids: set[int]) -> None:
        self.comparer.ask(run_ids)
        self.messenger.ask()

    def take(self, run_ids: Sequence[int], *, now: datetime) -> int:
        """Carry those of ``run_ids`` that nobody has; how many those were."""
        claimed = runs.claim(run_ids=run_ids, owner=self.owner, now=now)
        refused = [run.run_id for run in claimed if not self.follower.adopt(run)]
        if refused:
            runs.release(run_ids=refused, owner=self.owner, now=now)
        return len(claimed) - len(refused)

    def stop(self) -> None:
        """Let go of everything: scripts go on, other workers take the runs over."""
        with ExitStack() as last_first:
            last_first.callback(self.comparer.stop)
            last_first.callback(self.recorder.stop)
            last_first.callback(self.follower.stop)
            last_first.callback(self.checker.stop)
            last_first.callback(self.stopper.stop)
            last_first.callback(self.examiner.stop)
            last_first.callback(self.key_reader.stop)
            last_first.callback(self.lookout.stop)
            last_first.callback(self.messenger.stop)


class Ending(Exception):
    """The process is on its way out and takes no more runs."""


_lock = threading.Lock()
_current: Worker | None = None
_ending = False


def current() -> Worker:
    """The worker of this process, made at the first call. Raises Ending after ``end``."""
    global _current
    with _lock:
        if _ending:
            raise Ending
        if _current is None:
            _current = Worker(SshExecutor())
        return _current


def end() -> None:
    """Stop the worker of this process for good, if it was ever needed."""
    global _current, _ending
    with _lock:
        worker, _current, _ending = _current, None, True
    if worker is not None:
        worker.stop()
