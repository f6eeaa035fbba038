"""Stalls: runs that print nothing, and whether that is because one waits for input.

Scripts have no terminal and nothing on their standard input, so that only what makes a terminal
of its own (``script``, ``expect``, ``ssh -tt``) can wait for somebody to type. The instance is
asked whether something does, once a minute at most for each run that has been silent for one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from commands.execution.executor import Endpoint, Handle
from commands.models import OutputChunk, Run
from commands.models.invocation import RunQuerySet
from commands.rules.content import OsType
from commands.rules.status import Phase, RunStatus
from commands.services import runs

SILENCE = timedelta(seconds=60)
"""How long a run has printed nothing before it is looked at, and again."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A run that prints nothing; ``sequence`` says how far its output was then."""

    run_id: int
    sequence: int
    endpoint: Endpoint
    handle: Handle


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of it: a process that waits for input, or "" for none."""

    silent: Silent
    process: str


def claim(*, busy: Collection[int], limit: int, now: datetime) -> list[Silent]:
    """Take at most ``limit`` silent runs; nobody else looks at them for a while."""
    if not _silent(now).exclude(pk__in=busy).exists():
        return []  # most of the time; nothing was locked to know that
    with transaction.atomic():
        rows = list(
            _silent(now)
            .exclude(pk__in=busy)
            .select_for_update(of=("self",), skip_locked=True)
            .select_related("invocation", "instance")
            .defer("invocation__values", "invocation__content")
            .order_by("pk")[:limit]
        )
        Run.objects.filter(pk__in=[row.pk for row in rows]).update(stall_asked_at=now)
    credentials = runs.credentials(rows)
    return [
        Silent(
            row.pk,
            row.next_sequence,
            endpoint,
            Handle(row.execution_id, row.base, row.invocation.run_as),
        )
        for row in rows
        if (endpoint := _endpoint(row, credentials)) is not None
    ]


def record(*, looks: Sequence[Look], now: datetime) -> None:
    """Store what was seen, unless the run has ended or printed something meanwhile."""
    for look in sorted(looks, key=lambda one: one.silent.run_id):
        same = Run.objects.filter(
            pk=look.silent.run_id,
            status=RunStatus.RUNNING.value,
            next_sequence=look.silent.sequence,
        )
        if look.process:
            same.exclude(stall_info=look.process).update(stalled_since=now, stall_info=look.process)
        else:
            same.exclude(stalled_since=None).update(stalled_since=None, stall_info="")


def last_output_at(run: Run) -> datetime | None:
    """When a run printed last, or else began."""
    found = OutputChunk.objects.filter(run=run).order_by("-sequence")
    return found.values_list("arrived_at", flat=True).first() or run.started_at


def _silent(now: datetime) -> RunQuerySet:
    newest = OutputChunk.objects.filter(run=OuterRef("pk")).order_by("-sequence")
    return (
        Run.objects.filter(
            Q(stall_asked_at=None) | Q(stall_asked_at__lte=now - SILENCE),
            status=RunStatus.RUNNING.value,
            phase=Phase.FOLLOWING.value,
            started_at__lte=now - SILENCE,
        )
        .exclude(instance__os_type=OsType.WINDOWS.value)
        .annotate(heard_at=Coalesce(Subquery(newest.values("arrived_at")[:1]), "started_at"))
        .filter(heard_at__lte=now - SILENCE)
    )


def _endpoint(row: Run, credentials: runs.Credentials) -> Endpoint | None:
    if row.instance is None or row.instance.credential_id not in credentials:
        return None
    row.instance.credential = credentials[row.instance.credential_id]
    return runs.endpoint_or_none(row.instance)
