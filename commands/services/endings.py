"""How runs end: columns for what the engine reports, and what becomes of it in the row.

Whoever carries a run knows what the instance says; only the row knows whether somebody wanted it
stopped. ``of_end`` and ``of_error`` tell the first, ``settled`` brings both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from commands.errors import ExecutionError, RunLost
from commands.execution.executor import Ending, Finished
from commands.models import Run
from commands.rules.status import ErrorCode, Phase, RunStatus, is_final, reached
from commands.words import gettext_noop, kept

_INVALID_CODES = {
    ErrorCode.ACCOUNT_NOT_EXISTS,
    ErrorCode.DIRECTORY_NOT_EXISTS,
    ErrorCode.INTERPRETER_NOT_FOUND,
    ErrorCode.LAUNCHER_NOT_FOUND,
    ErrorCode.COMMAND_NOT_APPLICABLE,
}
_TIMED_OUT = gettext_noop("The script ran longer than its timeout and was stopped")
_STOPPED_THERE = gettext_noop("The script was stopped on the instance.")
_ENDED = kept("The script ended with exit code %(code)s.")
_STOPPED, _STOPPED_BY = gettext_noop("Stopped"), kept("Stopped by %(by)s")
_NOT_STARTED = kept("%(what)s before it started. Nothing ran.")
_NOT_VERIFIED = kept("%(what)s; that no process is left was not verified.")
_NONE_LEFT = kept("%(what)s, 0 processes left.")
_ONE_LEFT = kept("%(what)s, but 1 process is still running%(names)s.")
_SOME_LEFT = kept("%(what)s, but %(n)s processes are still running%(names)s.")
COLUMNS = (
    "status",
    "phase",
    "exit_code",
    "error_code",
    "error_info",
    "finished_at",
    "processes_left",
    "survivors",
    "lease_owner",
    "stop_due",
)
"""Columns that ending a run may change."""


def of_error(error: ExecutionError) -> dict[str, Any]:
    """Columns of a run that was never started, or (RunLost) whose end can't be known."""
    if isinstance(error, RunLost):
        status = RunStatus.ERROR
    else:
        status = RunStatus.INVALID if error.code in _INVALID_CODES else RunStatus.ABORTED
    return {"status": status.value, "error_code": error.code, "error_info": error.message}


def of_end(finished: Finished, *, begun: bool = True) -> dict[str, Any]:
    """Columns of a run that has ended. Not ``begun``: it certainly never started."""
    values = _of_ending(finished, begun=begun)
    return {**values, "lost_bytes": finished.lost} if finished.lost != 0 else values


def _of_ending(finished: Finished, *, begun: bool) -> dict[str, Any]:
    if finished.ending is Ending.TIMEOUT:
        return {
            "status": RunStatus.TIMEOUT.value,
            "error_code": ErrorCode.EXECUTION_TIMEOUT.value,
            "error_info": left_sentence(_TIMED_OUT, finished.left, finished.survivors),
            "processes_left": finished.left,
            "survivors": finished.survivors,
        }
    if finished.ending is Ending.CANCEL and not begun:
        return never_started("")
    if finished.ending is Ending.CANCEL:
        return {
            "status": RunStatus.TERMINATED.value,
            "error_code": ErrorCode.EXECUTION_INTERRUPTED.value,
            "error_info": _STOPPED_THERE,
            "processes_left": finished.left,
            "survivors": finished.survivors,
        }
    if finished.exit_code == 0:
        return {"status": RunStatus.SUCCESS.value, "exit_code": 0}
    return {
        "status": RunStatus.FAILED.value,
        "exit_code": finished.exit_code,
        "error_code": ErrorCode.EXIT_CODE_NONZERO.value,
        "error_info": _ENDED % {"code": finished.exit_code},
    }


def never_started(by: str) -> dict[str, Any]:
    """Columns of a run that was stopped before it started; ``by`` names who wanted that."""
    return {
        "status": RunStatus.CANCELLED.value,
        "error_code": ErrorCode.STOPPED_BEFORE_START.value,
        "error_info": _NOT_STARTED % {"what": _stopped(by)},
    }


def settled(run: Run, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """What of ``values`` is to be written to ``run``, a locked row; None for nothing.

    A run that somebody wants stopped stays Stopping until it ends; then it is Terminated,
    Cancelled where it never started, or what it was when it ended by itself before that.
    """
    if is_final(run.status):
        return None
    if "status" not in values:
        return dict(values)
    reported = values["status"]
    status = reached(run.status, reported)
    if status is None:
        return None
    if _is_proven(run, values):
        status, values = RunStatus.TERMINATED, {**values, "processes_left": run.processes_left}
    changed = {**values, "status": status.value}
    if status is RunStatus.TERMINATED:
        changed["error_code"] = ErrorCode.EXECUTION_INTERRUPTED.value
        changed["error_info"] = left_sentence(
            _stopped(run.stop_by), changed["processes_left"], changed.get("survivors", "")
        )
    elif status is RunStatus.CANCELLED:
        changed |= never_started(run.stop_by)
    return changed


def end(run: Run, values: Mapping[str, Any], now: datetime) -> bool:
    """Write the end of a run whose row the caller has locked, if it has not ended already."""
    changed = settled(run, values)
    if changed is None:
        return False
    changed |= {
        "phase": Phase.FINISHED.value,
        "finished_at": now,
        "lease_owner": "",
        "stop_due": None,
    }
    for name, value in changed.items():
        setattr(run, name, value)
    run.save(update_fields=COLUMNS)
    return True


def left_sentence(what: str, left: int | None, survivors: str = "") -> str:
    """``what`` happened, and how many processes are left: a number proven by a scan, or None.

    ``survivors`` names some of them.
    """
    if left is None:
        return _NOT_VERIFIED % {"what": what}
    if left == 0:
        return _NONE_LEFT % {"what": what}
    names = f": {survivors}" if survivors else ""
    text = _ONE_LEFT if left == 1 else _SOME_LEFT
    return text % {"what": what, "n": f"{left:,}", "names": names}


def _is_proven(run: Run, values: Mapping[str, Any]) -> bool:
    """Whether a run of which no more can be learned has ended all the same: it was stopped."""
    return (
        values.get("error_code") == ErrorCode.OUTCOME_UNKNOWN
        and run.status == RunStatus.STOPPING
        and run.stop_confirmed_at is not None
    )


def _stopped(by: str) -> str:
    return _STOPPED_BY % {"by": by} if by else _STOPPED
