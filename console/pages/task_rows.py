"""Tasks as lists show them: counted in the database, however many instances each ran on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count as CountOf
from django.db.models import Max, Q
from django.urls import reverse

from commands.models import Invocation, Run
from commands.rules.status import FAILURES, Phase, RunStatus, is_final, roll_up
from console.presentation import Progress, progress, state_word

_UNAPPROVED = Q(phase=Phase.UNAPPROVED.value)
_STALLED = Q(status=RunStatus.RUNNING.value) & ~Q(stall_info="")


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in a list. Times are aware datetimes, durations seconds."""

    pk: int
    uid: str
    url: str
    name: str
    status: str
    word: str
    """Its state in words (``presentation.state_word``)."""
    type_label: str
    by: str
    created_at: datetime
    active: bool
    failed: int
    """How many of its runs failed."""
    stalled: int
    """How many of its runs wait for input that nobody can type."""
    elapsed_seconds: float
    progress: Progress

    @property
    def took_seconds(self) -> float | None:
        """How long it took in all, once it has ended."""
        return None if self.active else self.elapsed_seconds


@dataclass(slots=True)
class _Runs:
    """What the database counts of the runs of one task."""

    states: Counter[str] = field(default_factory=Counter)
    ends: list[datetime] = field(default_factory=list)
    stalled: int = 0
    unapproved: int = 0


def task_rows(tasks: Iterable[Invocation], now: datetime) -> list[TaskRow]:
    """``tasks`` as lists show them, with one query for the states of all their runs."""
    found = list(tasks)
    runs: dict[int, _Runs] = defaultdict(_Runs)
    grouped = Run.objects.filter(invocation__in=[task.pk for task in found]).order_by()
    rows = grouped.values_list("invocation", "status")
    counted = {
        "n": CountOf("pk"),
        "end": Max("finished_at"),
        "waits": CountOf("pk", filter=_STALLED),
        "unread": CountOf("pk", filter=_UNAPPROVED),
    }
    for task, status, number, end, stalled, unapproved in rows.annotate(**counted):
        of_task = runs[task]
        of_task.states[status] = number
        of_task.ends += [end] if end else []
        of_task.stalled += stalled
        of_task.unapproved += unapproved
    return [_row(task, runs[task.pk], now) for task in found]


def _row(task: Invocation, runs: _Runs, now: datetime) -> TaskRow:
    active = any(not is_final(status) for status in runs.states)
    end = now if active else max(runs.ends, default=now)
    status = roll_up(runs.states).value
    return TaskRow(
        pk=task.pk,
        uid=task.uid,
        url=reverse("task", args=[task.uid]),
        name=task.name,
        status=status,
        word=state_word(status, unapproved=runs.unapproved > 0),
        type_label=task.get_type_display(),
        by=task.created_by_name,
        created_at=task.created_at,
        active=active,
        failed=sum(runs.states[status] for status in FAILURES),
        stalled=runs.stalled,
        elapsed_seconds=(end - task.created_at).total_seconds(),
        progress=progress(runs.states.elements()),
    )
