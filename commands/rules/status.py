"""States of runs and tasks: the words, the transitions, the roll-up, the error codes.

Public statuses are Cloud Assistant's words; ``Phase`` is the engine's own column, which
may change between releases. A status that ``is_final`` never changes again: ``TRANSITIONS``
has no way out of it, the recorder asks ``reached`` before it writes one, and database
constraints refuse rows that contradict themselves. ``docs/states.md`` is made from this module
(``rules.states_page``).
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


class LegacyStatus(StrEnum):
    """Cloud Assistant's older words (InvokeRecordStatus of a run, InvokeStatus of a task)."""

    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FINISHED = "Finished"
    FAILED = "Failed"
    PARTIAL_FAILED = "PartialFailed"


class Phase(StrEnum):
    """Where the engine is with a run; finer than the public status, and internal.

    A run that is ``UNAPPROVED`` waits for another member's word, one that is ``HELD`` until its
    task lets it begin; no worker takes either.
    """

    UNAPPROVED = "unapproved"
    HELD = "held"
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
    DELIVERY_TIMEOUT = "DeliveryTimeout"
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
    RUN_AS_REFUSED = "RunAsRefused"
    STATE_DIRECTORY_UNUSABLE = "StateDirectoryUnusable"
    DISK_FULL = "DiskFull"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    NO_LONGER_ALLOWED = "NoLongerAllowed"
    TASK_ALTERED = "TaskAltered"
    STOPPED_BEFORE_START = "StoppedBeforeStart"
    FAILURE_LIMIT_REACHED = "FailureLimitReached"
    APPROVAL_DECLINED = "ApprovalDeclined"
    APPROVAL_WITHDRAWN = "ApprovalWithdrawn"
    APPROVAL_EXPIRED = "ApprovalExpired"
    APPROVAL_OUTDATED = "ApprovalOutdated"


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

NOT_BEGUN = frozenset({Phase.UNAPPROVED, Phase.HELD, Phase.QUEUED})
"""Phases in which certainly nothing was sent to the instance."""

FINAL = frozenset(status for status, ways_out in TRANSITIONS.items() if not ways_out)
FAILURES = frozenset({_RUN.FAILED, _RUN.ERROR, _RUN.TIMEOUT, _RUN.INVALID, _RUN.ABORTED})
STOPS = frozenset({_RUN.CANCELLED, _RUN.TERMINATED})


def is_final(status: str) -> bool:
    """Whether a run in ``status`` has ended for good."""
    return status in FINAL


def may_become(before: str, after: str) -> bool:
    """Whether a run may go from ``before`` to ``after`` (staying as it is always may)."""
    return before == after or RunStatus(after) in TRANSITIONS[RunStatus(before)]


def reached(before: str, reported: str) -> RunStatus | None:
    """What a run becomes that is ``before`` and of which ``reported`` is told; None: nothing.

    Who tells it may not know that somebody wants it stopped. Then a start is no news, and what
    could not be started was cancelled. The other way round, what was ended on the instance
    without anybody wanting it here is an error.
    """
    wanted = RunStatus(reported)
    if before == _RUN.STOPPING and wanted in {_RUN.PENDING, _RUN.RUNNING}:
        return _RUN.STOPPING
    if before == _RUN.STOPPING and wanted in {_RUN.ABORTED, _RUN.INVALID}:
        return _RUN.CANCELLED
    if before != _RUN.STOPPING and wanted is _RUN.TERMINATED:
        wanted = _RUN.ERROR
    if is_final(before) or not may_become(before, wanted):
        return None
    return wanted


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


_LEGACY: Mapping[RunStatus, LegacyStatus] = {
    _RUN.PENDING: LegacyStatus.RUNNING,
    _RUN.RUNNING: LegacyStatus.RUNNING,
    _RUN.STOPPING: LegacyStatus.STOPPING,
    _RUN.SUCCESS: LegacyStatus.FINISHED,
    _RUN.FAILED: LegacyStatus.FINISHED,
    _RUN.ERROR: LegacyStatus.FAILED,
    _RUN.TIMEOUT: LegacyStatus.FAILED,
    _RUN.CANCELLED: LegacyStatus.STOPPED,
    _RUN.TERMINATED: LegacyStatus.STOPPED,
    _RUN.INVALID: LegacyStatus.FAILED,
    _RUN.ABORTED: LegacyStatus.FAILED,
}


def legacy(status: str) -> LegacyStatus:
    """InvokeRecordStatus of a run in ``status``.

    A script that ended by itself is Finished, whatever its exit code; after a timeout, Failed.
    """
    return _LEGACY[RunStatus(status)]


def legacy_roll_up(statuses: Iterable[str]) -> LegacyStatus:
    """InvokeStatus of a task whose runs have ``statuses``; a task without runs is Running."""
    present = frozenset(legacy(status) for status in statuses)
    for moving in (LegacyStatus.RUNNING, LegacyStatus.STOPPING):
        if moving in present or not present:
            return moving
    if len(present) == 1:
        return next(iter(present))
    if LegacyStatus.FAILED not in present:
        return LegacyStatus.FINISHED
    return LegacyStatus.PARTIAL_FAILED


CLOUD_ASSISTANT_CODES: Mapping[ErrorCode, str] = {
    ErrorCode.CONNECTION_REFUSED: "ClientNotRunning",
    ErrorCode.INSTANCE_UNREACHABLE: "ClientNotResponse",
    ErrorCode.CONNECTION_TIMEOUT: "ClientNotResponse",
    ErrorCode.PROTOCOL_ERROR: "ClientNotResponse",
    ErrorCode.NO_FREE_SESSION: "TaskConcurrencyLimit",
}
"""Cloud Assistant's word for a cause that the console tells more exactly."""

_NO_FAULTS = frozenset(
    {
        ErrorCode.STOPPED_BEFORE_START,
        ErrorCode.FAILURE_LIMIT_REACHED,
        ErrorCode.APPROVAL_DECLINED,
        ErrorCode.APPROVAL_WITHDRAWN,
        ErrorCode.APPROVAL_EXPIRED,
    }
)
_OWN_WORDS = frozenset(
    {
        ErrorCode.EXIT_CODE_NONZERO,
        ErrorCode.EXECUTION_TIMEOUT,
        ErrorCode.EXECUTION_EXCEPTION,
        ErrorCode.EXECUTION_INTERRUPTED,
        ErrorCode.DIRECTORY_NOT_EXISTS,
        ErrorCode.ACCOUNT_NOT_EXISTS,
        ErrorCode.INSTANCE_NOT_EXISTS,
        ErrorCode.COMMAND_NOT_APPLICABLE,
        ErrorCode.DELIVERY_TIMEOUT,
    }
)


def cloud_assistant_code(code: str) -> str:
    """The nearest ErrorCode of Cloud Assistant: the code itself where it is one, "" for none.

    What it has no word for went wrong before (ExecutionException) or is no fault at all ("").
    """
    if not code:
        return ""
    known = ErrorCode(code)
    if known in _NO_FAULTS:
        return ""
    if known in _OWN_WORDS:
        return known.value
    return CLOUD_ASSISTANT_CODES.get(known, ErrorCode.EXECUTION_EXCEPTION.value)


MEANINGS: Mapping[RunStatus, str] = {
    _RUN.PENDING: "It waits: for approval, for its turn, for a worker, or for the connection.",
    _RUN.RUNNING: "The script runs on the instance.",
    _RUN.STOPPING: "Somebody asked to stop it, and the instance has not yet said that it ended.",
    _RUN.SUCCESS: "The script ended with exit code 0.",
    _RUN.FAILED: "The script ended with another exit code.",
    _RUN.ERROR: "Something else ended it, or nobody can say how it ended.",
    _RUN.TIMEOUT: "The script ran longer than its timeout and was ended on the instance.",
    _RUN.CANCELLED: "It was stopped before it started. Nothing ran.",
    _RUN.TERMINATED: "It was stopped while it ran.",
    _RUN.INVALID: "The instance can't run such a command. Nothing ran.",
    _RUN.ABORTED: "It could not be delivered to the instance. Nothing ran.",
}
"""What each status of a run says, in a sentence."""
