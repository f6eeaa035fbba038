"""Tasks as lists show them: counted in the database, however many instances each ran on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count as CountOf
from django.db.models import Max, Q
from django.urls import reverse

from commands.models import Invocation, Run
from commands.rules.status import FAILURES, RunStatus, is_final, roll_up
from console.presentation import Progress, progress

_STALLED = Q(status=RunStatus.RUNNING.value) & ~Q(stall_info="")


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in a list. Times are aware datetimes, durations seconds."""

    pk: int
    uid: str
    url: str
    name: str
    status: str
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


def task_rows(tasks: Iterable[Invocation], now: datetime) -> list[TaskRow]:
    """``tasks`` as lists show them, with one query for the states of all their runs."""
    found = list(tasks)
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    ends: dict[int, list[datetime]] = defaultdict(list)
    stalled: Counter[int] = Counter()
    grouped = Run.objects.filter(invocation__in=[task.pk for task in found]).order_by()
    rows = grouped.values_list("invocation", "status")
    counted = {
        "n": CountOf("pk"),
        "end": Max("finished_at"),
        "waits": CountOf("pk", filter=_STALLED),
    }
    for task, status, number, end, waiting in rows.annotate(**counted):
        counts[task][status] = number
        ends[task] += [end] if end else []
        stalled[task] += waiting
    return [_row(task, counts[task.pk], ends[task.pk], stalled[task.pk], now) for task in found]


def _row(
    task: Invocation, counts: Counter[str], ends: list[datetime], stalled: int, now: datetime
) -> TaskRow:
    active = any(not is_final(status) for status in counts)
    end = now if active else max(ends, default=now)
    return TaskRow(
        pk=task.pk,
        uid=task.uid,
        url=reverse("task", args=[task.uid]),
        name=task.name,
        status=roll_up(counts).value,
        type_label=task.get_type_display(),
        by=task.created_by_name,
        created_at=task.created_at,
        active=active,
        failed=sum(counts[status] for status in FAILURES),
        stalled=stalled,
        elapsed_seconds=(end - task.created_at).total_seconds(),
        progress=progress(counts.elements()),
    )
