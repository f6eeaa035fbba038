"""States of runs and tasks: the words, the transitions, the roll-up, the error codes.

Public statuses are Cloud Assistant's words; ``Phase`` is the engine's own column, which
may change between releases. A status that ``is_final`` never changes again: ``TRANSITIONS``
has no way out of it, the recorder asks ``may_become`` before it writes one, and database
constraints refuse rows that contradict themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class RunStatus(StrEnum):
    """Status of one run (InvocationStatus of one instance in Cloud Assistant)."""

    PENDING = "Pending"
    RUNNING = "Running"
    STOPPING = "Stopping"
    SUCCESS = "Success"
    FAILED = "Failed"
    ERROR = "Error"
    TIMEOUT = "Timeout"
    CANCELLED = "Cancelled"
    TERMINATED = "Terminated"
    INVALID = "Invalid"
    ABORTED = "Aborted"


class TaskStatus(StrEnum):
    """Status of a whole task (overall InvocationStatus in Cloud Assistant)."""

    PENDING = "Pending"
    RUNNING = "Running"
    STOPPING = "Stopping"
    SUCCESS = "Success"
    FAILED = "Failed"
    PARTIAL_FAILED = "PartialFailed"
    STOPPED = "Stopped"


class Phase(StrEnum):
    """Where the engine is with a run; finer than the public status, and internal."""

    QUEUED = "queued"
    CONNECTING = "connecting"
    FOLLOWING = "following"
    DETACHED = "detached"
    FINISHED = "finished"


class ErrorCode(StrEnum):
    """Why a run did not succeed. The first group are Cloud Assistant's own words."""

    EXIT_CODE_NONZERO = "ExitCodeNonzero"
    EXECUTION_TIMEOUT = "ExecutionTimeout"
    EXECUTION_EXCEPTION = "ExecutionException"
    EXECUTION_INTERRUPTED = "ExecutionInterrupted"
    DIRECTORY_NOT_EXISTS = "DirectoryNotExists"
    ACCOUNT_NOT_EXISTS = "AccountNotExists"
    INSTANCE_NOT_EXISTS = "InstanceNotExists"
    COMMAND_NOT_APPLICABLE = "CommandNotApplicable"
    # The console's own: an agentless console meets causes that an agent never sees.
    CONNECTION_REFUSED = "ConnectionRefused"
    INSTANCE_UNREACHABLE = "InstanceUnreachable"
    CONNECTION_TIMEOUT = "ConnectionTimeout"
    BANNER_TIMEOUT = "BannerTimeout"
    CONNECTION_DROPPED = "ConnectionDropped"
    PROTOCOL_ERROR = "SshProtocolError"
    SIGN_IN_REFUSED = "SignInRefused"
    HOST_KEY_CHANGED = "HostKeyChanged"
    HOST_KEY_UNKNOWN = "HostKeyUnknown"
    CREDENTIAL_UNUSABLE = "CredentialUnusable"
    NO_FREE_SESSION = "NoFreeSession"
    JUMP_HOST_REFUSED = "JumpHostRefused"
    JUMP_HOST_BUSY = "JumpHostBusy"
    INTERPRETER_NOT_FOUND = "InterpreterNotFound"
    LAUNCHER_NOT_FOUND = "LauncherNotFound"
    DISK_FULL = "DiskFull"
    RUN_AS_REFUSED = "RunAsRefused"
    STATE_DIRECTORY_UNUSABLE = "StateDirectoryUnusable"
    DISK_FULL = "DiskFull"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    NO_LONGER_ALLOWED = "NoLongerAllowed"
    TASK_ALTERED = "TaskAltered"


_RUN = RunStatus

TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    _RUN.PENDING: frozenset(
        {_RUN.RUNNING, _RUN.STOPPING, _RUN.CANCELLED, _RUN.INVALID, _RUN.ABORTED, _RUN.ERROR}
    ),
    _RUN.RUNNING: frozenset({_RUN.SUCCESS, _RUN.FAILED, _RUN.TIMEOUT, _RUN.ERROR, _RUN.STOPPING}),
    _RUN.STOPPING: frozenset(
        {
            _RUN.TERMINATED,
            _RUN.CANCELLED,
            _RUN.SUCCESS,
            _RUN.FAILED,
            _RUN.TIMEOUT,
            _RUN.ERROR,
        }
    ),
    _RUN.SUCCESS: frozenset(),
    _RUN.FAILED: frozenset(),
    _RUN.ERROR: frozenset(),
    _RUN.TIMEOUT: frozenset(),
    _RUN.CANCELLED: frozenset(),
    _RUN.TERMINATED: frozenset(),
    _RUN.INVALID: frozenset(),
    _RUN.ABORTED: frozenset(),
}

FINAL = frozenset(status for status, ways_out in TRANSITIONS.items() if not ways_out)
FAILURES = frozenset({_RUN.FAILED, _RUN.ERROR, _RUN.TIMEOUT, _RUN.INVALID, _RUN.ABORTED})
STOPS = frozenset({_RUN.CANCELLED, _RUN.TERMINATED})


def is_final(status: str) -> bool:
    """Whether a run in ``status`` has ended for good."""
    return status in FINAL


def may_become(before: str, after: str) -> bool:
    """Whether a run may go from ``before`` to ``after`` (staying as it is always may)."""
    return before == after or RunStatus(after) in TRANSITIONS[RunStatus(before)]


def roll_up(statuses: Iterable[str]) -> TaskStatus:
    """The status of a task whose runs have ``statuses``; a task without runs is Pending.

    While anything still moves, the busiest word wins (Stopping, Running, Pending), so that
    one slow instance does not show a running task as Pending.
    """
    present = frozenset(RunStatus(status) for status in statuses)
    if not present:
        return TaskStatus.PENDING
    if _RUN.STOPPING in present:
        return TaskStatus.STOPPING
    if _RUN.RUNNING in present:
        return TaskStatus.RUNNING
    if _RUN.PENDING in present:
        return TaskStatus.RUNNING if present & FINAL else TaskStatus.PENDING
    if present <= STOPS:
        return TaskStatus.STOPPED
    if not present & FAILURES:
        return TaskStatus.SUCCESS
    return TaskStatus.PARTIAL_FAILED if _RUN.SUCCESS in present else TaskStatus.FAILED
