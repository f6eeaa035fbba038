"""Pacing: which runs of a task may begin, and when the others never do.

``rules.rate.step`` decides; here its word is carried out with the task's row locked, so that
two workers never release more than the task allows. Whoever ends a run of such a task asks for
``advance``; the reconciler does so too, for words that were lost and pauses that are over.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from commands import queue
from commands.models import Invocation, Run
from commands.rules.rate import Rate, Standing, Step, limit_sentence, step
from commands.rules.status import FAILURES, NOT_BEGUN, ErrorCode, Phase, RunStatus, is_final
from commands.services import runs


def hold_back(rate: Rate, made: Sequence[Run], now: datetime) -> None:
    """Let the first of a new task's runs begin, and hold the others. They are not stored yet."""
    end = rate.first_batch(len(made))
    begin = min(end, rate.concurrency or end)
    for number, run in enumerate(made):
        run.phase = Phase.HELD.value
        if number < begin:
            for name, value in runs.queued(now).items():
                setattr(run, name, value)


def hold_unapproved(made: Sequence[Run]) -> None:
    """Hold all of a new task's runs until another member approves it. They are not stored yet."""
    for run in made:
        run.phase = Phase.UNAPPROVED.value


def advance(*, invocation_id: int, now: datetime) -> None:
    """Release, or cancel for good, held runs of a task whose turn has come. Harmless twice."""
    with transaction.atomic():
        if invocation := _locked(invocation_id):
            _carry_out(invocation, step(invocation.rate, standing(invocation), now), now)


def advance_all(*, now: datetime, limit: int = 500) -> None:
    """The same for every task in which something is due.

    Of more than ``limit`` that have runs to release, it looks at some by lot: those that wait for a
    person may do so for ever, and must not stand before the others each time.
    """
    waiting = Run.objects.unfinished().filter(
        Q(phase=Phase.HELD.value) | ~Q(invocation__max_failures="")
    )
    task_ids = list(waiting.order_by().values_list("invocation", flat=True).distinct())
    if len(task_ids) > limit:
        task_ids = random.sample(task_ids, limit)
    found = Invocation.objects.filter(pk__in=task_ids).order_by("pk")
    for invocation in found.defer("values", "content"):
        what = step(invocation.rate, standing(invocation), now)
        if what.release or what.cancel:
            advance(invocation_id=invocation.pk, now=now)


def next_batch(*, invocation_id: int, after: int | None, now: datetime) -> bool:
    """Release the next batch of a task that waits between two; whether it did wait.

    ``after`` is how many of its runs were released when somebody decided so.
    """
    with transaction.atomic():
        invocation = _locked(invocation_id)
        if invocation is None:
            return False
        at = standing(invocation)
        if at.active or not at.held or after not in (None, at.released):
            return False
        _carry_out(invocation, step(invocation.rate, at, now, confirmed=True), now)
        return True


def standing(invocation: Invocation, found: Sequence[Run] | None = None) -> Standing:
    """Where a task is; ``found`` are its runs, read here if they are not given."""
    columns = ("status", "phase", "finished_at")
    each = list(invocation.runs.only(*columns)) if found is None else found
    ends = [run.finished_at for run in each if run.finished_at is not None]
    unfinished = [run for run in each if not is_final(run.status)]
    held = sum(run.phase == Phase.HELD for run in unfinished)
    return Standing(
        total=len(each),
        held=held,
        active=len(unfinished) - held,
        failed=sum(run.status in FAILURES for run in each),
        batch_end=invocation.batch_end,
        last_end=max(ends, default=None),
    )


def _locked(invocation_id: int) -> Invocation | None:
    found = Invocation.objects.select_for_update(no_key=True).defer("values", "content")
    return found.filter(pk=invocation_id).first()


def _carry_out(invocation: Invocation, what: Step, now: datetime) -> None:
    if what.cancel:
        _cancel(invocation, now)
        return
    if what.batch_end != invocation.batch_end:
        Invocation.objects.filter(pk=invocation.pk).update(batch_end=what.batch_end)
    if not what.release:
        return
    # Locked: somebody may stop them at this moment.
    chosen = invocation.runs.held().locked()[: what.release]
    Run.objects.filter(pk__in=chosen).update(**runs.queued(now))
    runs.ask_to_start(chosen)


def _cancel(invocation: Invocation, now: datetime) -> None:
    invocation.runs.unfinished().locked()
    at = standing(invocation)
    never_sent = Q(phase__in=[phase.value for phase in NOT_BEGUN], lease_owner="")
    invocation.runs.filter(never_sent, status=RunStatus.PENDING.value).update(
        status=RunStatus.CANCELLED.value,
        phase=Phase.FINISHED.value,
        error_code=ErrorCode.FAILURE_LIMIT_REACHED.value,
        error_info=limit_sentence(at.failed, at.total),
        finished_at=now,
    )


def ask_to_advance(invocation: Invocation) -> None:
    """Have it looked whether others may begin, once the present transaction is committed."""
    if invocation.rate.limited:
        queue.enqueue(queue.Job.ADVANCE, invocation_id=invocation.pk)
