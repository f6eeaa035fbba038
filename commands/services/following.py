"""The follower: the threads of a worker process that wait on SSH, one for each run.

A Celery task hands a claimed run over and ends; the thread connects, starts the script,
follows its output, and reports to the recorder. It holds no Celery slot and no database
connection, so a thousand long runs delay nobody. A broken connection is attached again at
the offsets reached; how a run ends is decided here and nowhere else.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from commands import queue
from commands.errors import ConnectFailed, ConnectionLost, ExecutionError, RunLost, StartRefused
from commands.execution.executor import (
    Ending,
    Executor,
    Finished,
    Gap,
    Handle,
    Offsets,
    Output,
    Started,
)
from commands.rules.status import ErrorCode, Phase, RunStatus
from commands.services import endings
from commands.services.events import Changed, Dropped, Received
from commands.services.recorder import LeaseLost, Recorder
from commands.services.runs import Claimed
from commands.words import gettext_noop

log = logging.getLogger(__name__)

SLACK = timedelta(seconds=60)
"""How long after its timeout a run out of reach is given up: its end can't be known."""

ATTACH_AGAIN_S = (0.2, 0.5, 1.0, 2.0, 5.0)
START_AGAIN_S = (1.0, 3.0)
"""Pauses before a start is tried again that certainly began nothing and may work later."""
OVERDUE_S = 30.0
"""Seconds that ending a run takes that outlived its timeout."""

_PASSING = {
    ErrorCode.BANNER_TIMEOUT,
    ErrorCode.CONNECTION_DROPPED,
    ErrorCode.CONNECTION_REFUSED,
    ErrorCode.CONNECTION_TIMEOUT,
    ErrorCode.JUMP_HOST_BUSY,
    ErrorCode.NO_FREE_SESSION,
}
"""Reasons of ``ConnectFailed`` that may be gone in a few seconds: a restart, too much at once."""
_OF_THE_USER = {ErrorCode.ACCOUNT_NOT_EXISTS, ErrorCode.RUN_AS_REFUSED}
"""Refused at the door: nobody looked whether an earlier attempt has started the script."""


class _OutOfReach(RunLost):
    """Nobody knows how a run ended, as its instance did not answer in time."""


class Follower:
    """Carries claimed runs to their end."""

    def __init__(self, executor: Executor, recorder: Recorder) -> None:
        self._executor = executor
        self._recorder = recorder
        self._stopping = threading.Event()
        self._carried: dict[int, tuple[threading.Thread, str]] = {}
        self._lock = threading.Lock()

    def adopt(self, claimed: Claimed) -> bool:
        """Carry a run from where it is, in a thread of its own. Returns at once.

        False if that can't be done now; the run's lease should then be given back.
        """
        with self._lock:
            if self._stopping.is_set():
                return False
            if claimed.run_id in self._carried:
                # Carried already; but one that another worker had meanwhile must end first.
                return not self._recorder.lost(claimed.run_id)
            thread = threading.Thread(
                target=self._carry, args=(claimed,), name=claimed.spec.run_id, daemon=True
            )
            self._recorder.hold(claimed.run_id, claimed.secrets)
            try:
                thread.start()
            except RuntimeError as error:
                self._recorder.drop(claimed.run_id)
                log.error("No thread for run %s: %s", claimed.spec.run_id, error)
                return False
            self._carried[claimed.run_id] = (thread, claimed.spec.run_id)
            return True

    def abandon(self, run_ids: Iterable[int]) -> None:
        """Let go of runs that other workers own now, also where nothing arrives from them."""
        with self._lock:
            found = [self._carried[key][1] for key in run_ids if key in self._carried]
        for execution_id in found:
            self._executor.abandon(execution_id)

    def carrying(self) -> int:
        """How many runs are being carried."""
        with self._lock:
            return len(self._carried)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Let go of all runs; the scripts go on. Threads get ``timeout_s`` in all to end."""
        self._stopping.set()
        self._executor.close()
        with self._lock:
            threads = [thread for thread, _ in self._carried.values()]
        until = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _carry(self, claimed: Claimed) -> None:
        try:
            self._carry_to_end(claimed)
        except LeaseLost:
            log.info("Run %s is carried by another worker now", claimed.spec.run_id)
        except Exception:
            # The edge of a run: whatever happens to one must be seen and must not spread.
            if not self._stopping.is_set():
                log.exception("Run %s can't be carried on", claimed.spec.run_id)
                self._give_up(claimed)
        finally:
            with self._lock:
                # While the worker stops, the recorder still holds it, to give the lease back.
                if not self._stopping.is_set():
                    self._recorder.drop(claimed.run_id)
                self._carried.pop(claimed.run_id, None)

    def _carry_to_end(self, claimed: Claimed) -> None:
        base, deadline, begun = claimed.base, claimed.deadline, True
        try:
            if not base:
                attached = self._start(claimed)
                if attached is None:
                    return
                base, deadline, begun = attached.base, attached.deadline, attached.begun
            handle = replace(claimed.handle, base=base)
            finished = self._follow(claimed, handle, deadline)
        except (ConnectFailed, StartRefused, RunLost) as error:
            if not self._stopping.is_set():
                self._end(claimed, endings.of_error(error))
                if base and not isinstance(error, _OutOfReach):
                    # It has answered. What it still has of the run is the script, with its values.
                    self._acknowledge(claimed, replace(claimed.handle, base=base))
            return
        if finished is not None:
            self._end(claimed, self._values(claimed, finished, begun=begun))
            self._acknowledge(claimed, handle)

    def _values(self, claimed: Claimed, finished: Finished, *, begun: bool) -> dict[str, Any]:
        """Columns of a run that has ended. Raises LeaseLost."""
        cut = claimed.too_late and finished.ending is Ending.CANCEL
        if cut and not self._stop_was_asked(claimed):
            return endings.of_error(RunLost(_TOO_LATE))
        return endings.of_end(finished, begun=begun)

    def _start(self, claimed: Claimed) -> _Attached | None:
        """Start the script; None if this worker is stopping.

        Raises ConnectFailed and StartRefused only where it is certain that nothing was started,
        after a few tries where the reason may pass; where it may have begun, being unreachable
        is no proof, and it is asked again. Starting is idempotent on the instance, so asking
        again can't run it twice; and RunLost where it was restarted meanwhile and can't tell.
        """
        deadline, lasts = claimed.deadline, timedelta(seconds=claimed.spec.timeout)
        may_have_begun = claimed.may_have_begun
        asked_at = claimed.asked_at or timezone.now()
        attempt = tried = 0
        while not self._stopping.is_set():
            if attempt or tried:  # time has passed: does anybody still want it started?
                if not may_have_begun:  # nor does its time run yet
                    deadline = timezone.now() + lasts
                values = {"phase": Phase.CONNECTING.value, "deadline": deadline}
                self._recorder.record(claimed.run_id, values)
            try:
                started = self._ask_to_start(
                    claimed, asked_s=_seconds_since(asked_at) if may_have_begun else 0
                )
            except (ConnectFailed, ConnectionLost, StartRefused) as error:
                may_have_begun |= isinstance(error, ConnectionLost)
                if not may_have_begun and self._start_again(claimed, error, tried):
                    tried += 1
                    continue
                if not may_have_begun or _denies(error):
                    raise
                if timezone.now() > _patience(claimed, deadline):
                    raise _OutOfReach(_OUT_OF_REACH) from error
                attempt = self._pause(attempt)
                continue
            # Nobody began it before and it is not new there: a stop came first.
            begun, now = started.fresh or may_have_begun, timezone.now()
            if started.fresh:  # else it runs since the instance was first asked
                deadline = now + lasts
            self._note(claimed, started, deadline, now if begun else None)
            return _Attached(started.base, deadline, begun=begun)
        if not may_have_begun:
            # Whoever takes it next need not wonder.
            self._change(claimed, phase=Phase.QUEUED.value, deadline=claimed.deliver_by)
        return None

    def _ask_to_start(self, claimed: Claimed, *, asked_s: int) -> Started:
        wanted = not (claimed.stop_asked or self._recorder.stop_asked(claimed.run_id))
        if claimed.too_late or not wanted:
            self._executor.cancel(claimed.endpoint, claimed.handle)
        return self._executor.start(claimed.endpoint, replace(claimed.spec, asked_s=asked_s))

    def _note(
        self, claimed: Claimed, started: Started, deadline: datetime, begun: datetime | None
    ) -> None:
        """Have it stored where the run is on its instance, and by when it must have ended."""
        self._change(
            claimed,
            **({"status": RunStatus.RUNNING.value, "started_at": begun} if begun else {}),
            phase=Phase.FOLLOWING.value,
            deadline=deadline,
            base=started.base,
            boot_id=started.boot_id,
            machine_id=started.machine_id,
            hostname=started.hostname,
            host_key_fingerprint=started.host_key_fingerprint,
        )

    def _start_again(self, claimed: Claimed, error: ExecutionError, tried: int) -> bool:
        """Whether to try once more to start what was not started; waits before it says so."""
        passing = isinstance(error, ConnectFailed) and error.code in _PASSING
        if not passing or tried >= len(START_AGAIN_S):
            return False
        log.info("Run %s is tried again soon: %s", claimed.spec.run_id, error.message)
        self._stopping.wait(START_AGAIN_S[tried] * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        return True

    def _follow(self, claimed: Claimed, handle: Handle, deadline: datetime) -> Finished | None:
        """Follow to the end, attaching as often as it takes; None if this worker is stopping."""
        position = _Position(claimed.offsets)

        def receive(output: Output | Gap) -> None:
            self._recorder.put(_event_of(claimed.run_id, output))
            position.advance(output)

        attempt = 0
        while not self._stopping.is_set():
            before = position.offsets
            left = (deadline + SLACK - timezone.now()).total_seconds()
            try:
                return self._executor.follow(
                    claimed.endpoint, handle, before, receive, limit=max(left, 1.0)
                )
            except (ConnectionLost, ConnectFailed):
                if self._stopping.is_set():
                    break
                if timezone.now() > deadline + SLACK and (
                    finished := self._end_overdue(claimed, handle, deadline, position, receive)
                ):
                    return finished
                if position.offsets != before:
                    attempt = 0
                self._change(claimed, phase=Phase.DETACHED.value)
                attempt = self._pause(attempt)
                self._change(claimed, phase=Phase.FOLLOWING.value)
        return None

    def _end_overdue(
        self,
        claimed: Claimed,
        handle: Handle,
        deadline: datetime,
        position: _Position,
        receive: Callable[[Output | Gap], None],
    ) -> Finished | None:
        """End a run that outlived its timeout: nobody on the instance did. Raises RunLost.

        None if it was not reached and there is patience yet.
        """
        try:
            self._executor.cancel(claimed.endpoint, handle)
            finished = self._executor.follow(
                claimed.endpoint, handle, position.offsets, receive, limit=OVERDUE_S
            )
        except (ConnectionLost, ConnectFailed) as error:
            if timezone.now() <= _patience(claimed, deadline):
                return None
            raise _OutOfReach(_OUT_OF_REACH) from error
        if finished.ending is not Ending.CANCEL or claimed.too_late:
            return finished
        return (
            finished if self._stop_was_asked(claimed) else replace(finished, ending=Ending.TIMEOUT)
        )

    def _stop_was_asked(self, claimed: Claimed) -> bool:
        """Whether somebody wanted it stopped, as its row says now. Raises LeaseLost."""
        self._recorder.record(claimed.run_id, {"phase": Phase.FOLLOWING.value})
        return self._recorder.stop_asked(claimed.run_id)

    def _end(self, claimed: Claimed, values: dict[str, Any]) -> None:
        """Record the end of a run and wait until it is stored. Raises LeaseLost if it isn't."""
        ended = {
            **values,
            "phase": Phase.FINISHED.value,
            "finished_at": timezone.now(),
            "stop_due": None,
        }
        self._recorder.record(claimed.run_id, ended)
        if claimed.decides_on_others:
            queue.hint(queue.Job.ADVANCE, invocation_id=claimed.invocation_id)

    def _acknowledge(self, claimed: Claimed, handle: Handle) -> None:
        try:
            self._executor.acknowledge(claimed.endpoint, handle)
        except ExecutionError as error:
            log.info("Run %s was not cleared up on its instance: %s", handle.run_id, error)

    def _give_up(self, claimed: Claimed) -> None:
        try:
            self._end(claimed, endings.of_error(RunLost(_CONSOLE_FAILED)))
        except LeaseLost:
            log.info("Run %s is carried by another worker now", claimed.spec.run_id)

    def _change(self, claimed: Claimed, **values: Any) -> None:
        self._recorder.put(Changed(claimed.run_id, values))

    def _pause(self, attempt: int) -> int:
        """Wait before the next attempt, a little longer each time; its number."""
        pause = ATTACH_AGAIN_S[min(attempt, len(ATTACH_AGAIN_S) - 1)]
        self._stopping.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
        return attempt + 1


def _seconds_since(moment: datetime) -> int:
    """How long ago, rounded up; at least one, also where the clock was put back."""
    return max(0, int((timezone.now() - moment).total_seconds())) + 1


def _patience(claimed: Claimed, deadline: datetime) -> datetime:
    """Until when an instance is asked for a run: one that was taken over late has some time too."""
    return max(deadline, claimed.taken_at or deadline) + SLACK


def _denies(error: ExecutionError) -> bool:
    """Whether the instance has looked and says that nothing was started."""
    return isinstance(error, StartRefused) and error.code not in _OF_THE_USER


@dataclass(frozen=True, slots=True)
class _Attached:
    """A script that was started, now or before, unless ``begun`` is False: then it never is."""

    base: str
    deadline: datetime
    begun: bool


class _Position:
    """Offsets reached so far."""

    def __init__(self, offsets: Offsets) -> None:
        self.offsets = offsets

    def advance(self, output: Output | Gap) -> None:
        end = output.end if isinstance(output, Gap) else output.offset + len(output.data)
        if output.stream == "stdout":
            self.offsets = Offsets(max(end, self.offsets.stdout), self.offsets.stderr)
        else:
            self.offsets = Offsets(self.offsets.stdout, max(end, self.offsets.stderr))


def _event_of(run_id: int, output: Output | Gap) -> Received | Dropped:
    now = timezone.now()
    if isinstance(output, Gap):
        return Dropped(run_id, output.stream, output.start, output.end, now)
    return Received(run_id, output.stream, output.offset, output.data, now)


_OUT_OF_REACH = gettext_noop(
    "The instance could not be reached until after the timeout, so nobody knows how the script "
    "ended. It is not run again."
)
_TOO_LATE = gettext_noop(
    "A worker was lost while it started this, and the next one came long after its timeout. What "
    "may have been left of it was ended, and nobody knows whether the script began. It is not run "
    "again."
)
_CONSOLE_FAILED = gettext_noop(
    "The console met an error of its own, so nobody knows how the script ended. It is not run "
    "again; the server's log has the details."
)
