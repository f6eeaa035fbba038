"""``docs/states.md``, made from the tables of ``rules.status``: ``manage.py describe_states``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from commands.rules.status import (
    FAILURES,
    FINAL,
    MEANINGS,
    STOPS,
    TRANSITIONS,
    ErrorCode,
    LegacyStatus,
    RunStatus,
    TaskStatus,
    cloud_assistant_code,
    legacy,
    legacy_roll_up,
    roll_up,
)

_S = RunStatus
_EXAMPLES: Sequence[Sequence[RunStatus]] = (
    (_S.PENDING,),
    (_S.PENDING, _S.SUCCESS),
    (_S.PENDING, _S.RUNNING),
    (_S.RUNNING, _S.STOPPING),
    (_S.SUCCESS,),
    (_S.SUCCESS, _S.TERMINATED),
    (_S.CANCELLED, _S.TERMINATED),
    (_S.FAILED, _S.ABORTED),
    (_S.TIMEOUT, _S.CANCELLED),
    (_S.SUCCESS, _S.FAILED),
)

_HEAD = """# States

*Made from the code by `manage.py describe_states`; a test compares the two.*

A run is one task on one instance. Its status is public and, once final, never changes again. The
engine's own phases (`unapproved`, `held`, `queued`, `connecting`, `following`, `detached`,
`finished`) are another column and may change between releases. Codes and sentences:
[error codes](error-codes.md).
"""


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join(
        [
            _HEAD,
            "## Runs\n",
            "InvokeRecordStatus is Cloud Assistant's older word for the same run.\n",
            _table(("Status", "Ends as", "InvokeRecordStatus", "Meaning"), _runs()),
            "```mermaid",
            *_diagram(),
            "```\n",
            "## Tasks\n",
            "A task's status follows from those of its runs; InvokeStatus is the older word.\n",
            _table(("Runs", "Status", "InvokeStatus"), _tasks()),
            "A task is one of "
            + ", ".join(f"`{status.value}`" for status in TaskStatus)
            + "; in older words, "
            + ", ".join(f"`{status.value}`" for status in LegacyStatus)
            + ".\n",
            "## Codes in Cloud Assistant's words\n",
            "What it has no word for is `ExecutionException` there; what is no fault has none.\n",
            _table(("Code", "ErrorCode"), _codes()),
        ]
    )


def _runs() -> Iterable[Sequence[str]]:
    for status in RunStatus:
        yield f"`{status.value}`", _kind(status), f"`{legacy(status).value}`", MEANINGS[status]


def _kind(status: RunStatus) -> str:
    if status not in FINAL:
        return "goes on"
    if status in FAILURES:
        return "a failure"
    return "stopped" if status in STOPS else "a success"


def _diagram() -> Iterable[str]:
    yield "stateDiagram-v2"
    yield f"    [*] --> {RunStatus.PENDING.value}"
    for before in RunStatus:
        for after in RunStatus:
            if after in TRANSITIONS[before]:
                yield f"    {before.value} --> {after.value}"
    for status in RunStatus:
        if status in FINAL:
            yield f"    {status.value} --> [*]"


def _tasks() -> Iterable[Sequence[str]]:
    for statuses in _EXAMPLES:
        runs = " and ".join(f"`{status.value}`" for status in statuses)
        task, older = roll_up(statuses), legacy_roll_up(statuses)
        yield f"all {runs}" if len(statuses) == 1 else runs, f"`{task.value}`", f"`{older.value}`"


def _codes() -> Iterable[Sequence[str]]:
    for code in ErrorCode:
        theirs = cloud_assistant_code(code)
        if theirs != code.value:
            yield f"`{code.value}`", f"`{theirs}`" if theirs else "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
