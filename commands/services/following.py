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
from datetime import timedelta
from typing import Any

from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost, ExecutionError, RunLost, StartRefused
from commands.execution.executor import Ending, Executor, Finished, Handle, Offsets, Output, Started
from commands.rules.status import ErrorCode, Phase, RunStatus
from commands.services.recorder import Changed, LeaseLost, Received, Recorder
from commands.services.runs import Claimed

log = logging.getLogger(__name__)

SLACK = timedelta(seconds=60)
"""How long after its timeout a run out of reach is given up: its end can't be known."""

ATTACH_AGAIN_S = (0.2, 0.5, 1.0, 2.0, 5.0)
COMMIT_S = 60.0

_INVALID_CODES = {
    ErrorCode.DIRECTORY_NOT_EXISTS,
    ErrorCode.INTERPRETER_NOT_FOUND,
    ErrorCode.COMMAND_NOT_APPLICABLE,
}


class Follower:
    """Carries claimed runs to their end."""

    def __init__(self, executor: Executor, recorder: Recorder) -> None:
        self._executor = executor
        self._recorder = recorder
        self._stopping = threading.Event()
        self._carried: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()

    def adopt(self, claimed: Claimed) -> None:
        """Carry a run from where it is, in a thread of its own. Returns at once."""
        with self._lock:
            if claimed.run_id in self._carried or self._stopping.is_set():
                return
            thread = threading.Thread(
                target=self._carry, args=(claimed,), name=claimed.spec.run_id, daemon=True
            )
            self._carried[claimed.run_id] = thread
            self._recorder.hold(claimed.run_id)
        thread.start()

    def carrying(self) -> int:
        """How many runs are being carried."""
        with self._lock:
            return len(self._carried)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Let go of all runs; the scripts go on. Threads get ``timeout_s`` in all to end."""
        self._stopping.set()
        self._executor.close()
        with self._lock:
            threads = list(self._carried.values())
        for thread in threads:
            thread.join(timeout_s / max(1, len(threads)))

    def _carry(self, claimed: Claimed) -> None:
        try:
            self._carry_to_end(claimed)
        except LeaseLost:
            log.info("Run %s is carried by another worker now", claimed.spec.run_id)
        except Exception:
            # The edge of a run: whatever happens to one must be seen and must not spread.
            log.exception("Run %s can't be carried on", claimed.spec.run_id)
            self._give_up(claimed)
        finally:
            with self._lock:
                self._carried.pop(claimed.run_id, None)
            if not self._stopping.is_set():
                self._recorder.drop(claimed.run_id)

    def _carry_to_end(self, claimed: Claimed) -> None:
        base = claimed.base
        if not base:
            try:
                started = self._start(claimed)
            except (ConnectFailed, StartRefused, RunLost) as error:
                if not self._stopping.is_set():
                    self._end(claimed, _values_of_refusal(error))
                return
            if started is None:
                return
            base = started.base
        handle = Handle(claimed.spec.run_id, base)
        try:
            finished = self._follow(claimed, handle)
        except RunLost as error:
            self._end(claimed, _values_of_unknown(error))
            return
        if finished is None:
            return
        self._end(claimed, _values_of_end(finished))
        self._acknowledge(claimed, handle)

    def _start(self, claimed: Claimed) -> Started | None:
        """Start the script; None if this worker is stopping."""
        self._change(claimed, phase=Phase.CONNECTING.value)
        attempt = 0
        while not self._stopping.is_set():
            try:
                started = self._executor.start(claimed.endpoint, claimed.spec)
            except ConnectionLost as error:
                # Starting is idempotent on the instance, so asking again can't run it twice.
                if timezone.now() > claimed.deadline + SLACK:
                    raise RunLost(_OUT_OF_REACH) from error
                attempt = self._pause(attempt)
                continue
            self._change(
                claimed,
                status=RunStatus.RUNNING.value,
                phase=Phase.FOLLOWING.value,
                started_at=timezone.now(),
                base=started.base,
                boot_id=started.boot_id,
                machine_id=started.machine_id,
                hostname=started.hostname[:255],
            )
            return started
        return None

    def _follow(self, claimed: Claimed, handle: Handle) -> Finished | None:
        """Follow to the end, attaching as often as it takes; None if this worker is stopping."""
        position = _Position(claimed.offsets)

        def receive(output: Output) -> None:
            self._recorder.put(
                Received(claimed.run_id, output.stream, output.offset, output.data, timezone.now())
            )
            position.advance(output)

        attempt = 0
        while not self._stopping.is_set():
            before = position.offsets
            try:
                return self._executor.follow(claimed.endpoint, handle, before, receive)
            except (ConnectionLost, ConnectFailed) as error:
                if self._stopping.is_set():
                    break
                if timezone.now() > claimed.deadline + SLACK:
                    raise RunLost(_OUT_OF_REACH) from error
                if position.offsets != before:
                    attempt = 0
                self._change(claimed, phase=Phase.DETACHED.value)
                attempt = self._pause(attempt)
                self._change(claimed, phase=Phase.FOLLOWING.value)
        return None

    def _end(self, claimed: Claimed, values: dict[str, Any]) -> None:
        """Record the end of a run and wait until it is committed."""
        committed = threading.Event()
        ended = {**values, "phase": Phase.FINISHED.value, "finished_at": timezone.now()}
        self._recorder.put(Changed(claimed.run_id, ended, committed))
        if not committed.wait(COMMIT_S):
            raise LeaseLost(claimed.run_id)

    def _acknowledge(self, claimed: Claimed, handle: Handle) -> None:
        try:
            self._executor.acknowledge(claimed.endpoint, handle)
        except ExecutionError as error:
            log.info("Run %s was not cleared up on its instance: %s", handle.run_id, error)

    def _give_up(self, claimed: Claimed) -> None:
        try:
            self._end(claimed, _values_of_unknown(RunLost(_CONSOLE_FAILED)))
        except LeaseLost:
            log.info("Run %s is carried by another worker now", claimed.spec.run_id)

    def _change(self, claimed: Claimed, **values: Any) -> None:
        self._recorder.put(Changed(claimed.run_id, values))

    def _pause(self, attempt: int) -> int:
        """Wait before the next attempt, a little longer each time; its number."""
        pause = ATTACH_AGAIN_S[min(attempt, len(ATTACH_AGAIN_S) - 1)]
        self._stopping.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret
        return attempt + 1


class _Position:
    """Offsets reached so far."""

    def __init__(self, offsets: Offsets) -> None:
        self.offsets = offsets

    def advance(self, output: Output) -> None:
        end = output.offset + len(output.data)
        if output.stream == "stdout":
            self.offsets = Offsets(max(end, self.offsets.stdout), self.offsets.stderr)
        else:
            self.offsets = Offsets(self.offsets.stdout, max(end, self.offsets.stderr))


_OUT_OF_REACH = (
    "The instance could not be reached until after the timeout, so nobody knows how the script "
    "ended. It is not run again."
)
_CONSOLE_FAILED = (
    "The console met an error of its own, so nobody knows how the script ended. It is not run "
    "again; the server's log has the details."
)


def _values_of_refusal(error: ExecutionError) -> dict[str, Any]:
    """Columns of a run that was never started."""
    if isinstance(error, RunLost):
        return _values_of_unknown(error)
    status = RunStatus.INVALID if error.code in _INVALID_CODES else RunStatus.ABORTED
    return {"status": status.value, "error_code": error.code, "error_info": error.message}


def _values_of_unknown(error: ExecutionError) -> dict[str, Any]:
    """Columns of a run whose end can't be known."""
    return {
        "status": RunStatus.ERROR.value,
        "error_code": error.code,
        "error_info": error.message,
    }


def _values_of_end(finished: Finished) -> dict[str, Any]:
    """Columns of a run that has ended."""
    if finished.ending is Ending.TIMEOUT:
        return {
            "status": RunStatus.TIMEOUT.value,
            "error_code": ErrorCode.EXECUTION_TIMEOUT.value,
            "error_info": "The script ran longer than its timeout and was stopped.",
        }
    if finished.ending is Ending.CANCEL:
        return {
            "status": RunStatus.ERROR.value,
            "error_code": ErrorCode.EXECUTION_INTERRUPTED.value,
            "error_info": "The script was stopped on the instance.",
        }
    if finished.exit_code == 0:
        return {"status": RunStatus.SUCCESS.value, "exit_code": 0}
    return {
        "status": RunStatus.FAILED.value,
        "exit_code": finished.exit_code,
        "error_code": ErrorCode.EXIT_CODE_NONZERO.value,
        "error_info": f"The script ended with exit code {finished.exit_code}.",
    }
