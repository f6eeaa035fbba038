"""Stopping: what is not begun never begins, and for the rest the instance is asked to end it.

A run that no worker has taken is Cancelled at once, by compare-and-set, so that it certainly
never starts. Any other is Stopping from now on, and ``stop_due`` says when a worker, any worker,
asks the instance: at once, and again until the instance has confirmed it. How the run ended is
then learned as always, by following it; if the instance can't be reached any more, the
confirmation is what is known.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from commands import queue
from commands.execution.executor import Endpoint, Handle
from commands.models import Invocation, Run
from commands.models.invocation import RunQuerySet
from commands.rules.status import NOT_BEGUN, Phase, RunStatus
from commands.services import approved, endings, pacing, runs

log = logging.getLogger(__name__)

CLAIM = timedelta(seconds=20)
"""How long a worker that asks an instance is left alone with it; then another may ask too."""
ASK_AGAIN = timedelta(seconds=5)
"""How soon an instance is asked again that could not be reached."""


@dataclass(frozen=True, slots=True)
class Stop:
    """What a stop did: runs that never start, and runs whose instances are asked to end them."""

    cancelled: int
    stopping: int

    @property
    def nothing(self) -> bool:
        """Whether there was nothing left to stop."""
        return not (self.cancelled or self.stopping)


@dataclass(frozen=True, slots=True)
class Order:
    """A run that its instance is to end."""

    run_id: int
    endpoint: Endpoint
    handle: Handle


@dataclass(frozen=True, slots=True)
class Answer:
    """What an instance said to an order. ``left`` as in the executor's ``Cancelled``.

    Not ``confirmed``: it could not be asked.
    """

    run_id: int
    confirmed: bool
    left: int | None = None


def stop(
    *, invocation: Invocation, instance_uids: Collection[str] | None, by: str, now: datetime
) -> Stop:
    """Stop runs of a task: all of them, or those on some instances. Ended runs stay as they are.

    ``by`` is the name of who wants it. Twice is harmless.
    """
    with transaction.atomic():
        of_task = invocation.runs.all()
        if instance_uids is not None:
            of_task = of_task.filter(instance_uid__in=instance_uids)
        of_task.unfinished().locked()
        asked = {"stop_asked_at": now, "stop_by": by}
        cancelled = _never_sent(of_task).update(
            **endings.never_started(by), **asked, phase=Phase.FINISHED.value, finished_at=now
        )
        # Whatever was taken in this moment is found here: the row tells, not what we read before.
        begun = of_task.filter(status__in=[RunStatus.PENDING.value, RunStatus.RUNNING.value])
        stopping = begun.released().update(**asked, status=RunStatus.STOPPING.value, stop_due=now)
        queue.enqueue(queue.Job.STOP_RUNS)
        pacing.ask_to_advance(invocation)
    return Stop(cancelled, stopping)


def is_due(*, now: datetime) -> bool:
    """Whether an instance is to be asked to end a run."""
    return _due(now).exists()


def claim(*, busy: Collection[int], limit: int, now: datetime) -> list[Order]:
    """Take at most ``limit`` orders that are due; others leave them alone for a while.

    Runs whose instance is gone, can't be signed in to, or is another place now than where they
    may have begun, give no order: they end in time.
    """
    with transaction.atomic():
        rows = list(
            _due(now)
            .exclude(pk__in=busy)
            .select_for_update(of=("self",), skip_locked=True)
            .select_related("invocation", "instance")
            .defer("invocation__values", "invocation__content")
            .order_by("stop_due", "pk")[:limit]
        )
        Run.objects.filter(pk__in=[row.pk for row in rows]).update(stop_due=now + CLAIM)
    credentials = runs.credentials(rows)
    return [
        Order(row.pk, endpoint, Handle(row.execution_id, row.base, row.invocation.run_as))
        for row in rows
        if (endpoint := _endpoint(row, credentials)) is not None
    ]


def record(*, answers: Sequence[Answer], now: datetime) -> None:
    """Store which instances have confirmed; the others are asked again."""
    with transaction.atomic():
        for answer in sorted(answers, key=lambda one: one.run_id):
            row = Run.objects.filter(pk=answer.run_id, status=RunStatus.STOPPING.value)
            if answer.confirmed:
                row.update(stop_due=None, stop_confirmed_at=now, processes_left=answer.left)
            else:
                row.update(stop_due=now + ASK_AGAIN)


def _due(now: datetime) -> RunQuerySet:
    return Run.objects.filter(status=RunStatus.STOPPING.value, stop_due__lte=now)


def _never_sent(of_task: RunQuerySet) -> RunQuerySet:
    phases = Q(phase__in=[phase.value for phase in NOT_BEGUN])
    return of_task.filter(phases, status=RunStatus.PENDING.value, lease_owner="")


def _endpoint(row: Run, credentials: runs.Credentials) -> Endpoint | None:
    if row.instance is None or row.instance.credential_id not in credentials:
        return None
    if not row.base and approved.leads_elsewhere(row):
        return None  # what is there now never heard of it, and would confirm that it never starts
    row.instance.credential = credentials[row.instance.credential_id]
    return runs.endpoint_or_none(row.instance)
