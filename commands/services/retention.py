"""Retention: a task and its output are kept as long as its team says, then deleted.

The time counts from when the last of its runs ended; what has not ended stays. Output goes first,
in batches with a transaction of their own, so that nobody waits long for a lock, and a purge that
is cut short has deleted whole batches and goes on the next time. Quotas count what was begun, not
what is still there (``services.quotas``), so nothing is given back. The audit trail says of each
purge how much of which team went.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from commands import access
from commands.errors import Invalid
from commands.models import Command, Invocation, OutputChunk, Run, Team, User
from commands.rules import limits
from commands.services import audit
from commands.words import gettext as _

TASKS_AT_ONCE = 100
"""Tasks that are looked up at once."""
CHUNKS_AT_ONCE = 500
"""Stored chunks, of up to 64 kB each, that one transaction deletes."""
PATIENCE_S = 20.0
"""Seconds after which a purge leaves the rest to the next one, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge deleted, and whether it came to the end."""

    tasks: int
    chunks: int
    complete: bool


@transaction.atomic
def set_days(*, actor: User, team: Team, days: int) -> Team:
    """Keep the tasks of ``team`` for ``days`` after they have ended, from now on.

    Raises Denied; Invalid if ``days`` is out of range.
    """
    access.require(actor, access.Permission.TEAM_MANAGE, team)
    if not limits.KEEP_DAYS_MIN <= days <= limits.KEEP_DAYS_MAX:
        raise Invalid(
            _("Tasks are kept between %(least)d and %(most)s days.")
            % {"least": limits.KEEP_DAYS_MIN, "most": f"{limits.KEEP_DAYS_MAX:,}"},
            field="keep_days",
        )
    # A form may have set ``team`` already, so the row says what it was.
    held = Team.objects.select_for_update().filter(pk=team.pk)
    before = held.values_list("keep_days", flat=True).get()
    access.require(actor, access.Permission.TEAM_MANAGE, team)  # it may be taken away by now
    team.keep_days = days
    team.save(update_fields=["keep_days"])
    audit.record(
        actor=actor,
        action="team:retention",
        team=team,
        target=team,
        details={"from": before, "days": days},
    )
    return team


def expired(*, team: Team, now: datetime) -> QuerySet[Invocation]:
    """Tasks of ``team`` whose time is over, oldest first."""
    over = now - timedelta(days=team.keep_days)
    runs = Run.objects.filter(invocation=OuterRef("pk"))
    # Created later it can't have ended before; that is what the index finds.
    return (
        Invocation.objects.filter(team=team, created_at__lt=over)
        .exclude(Exists(runs.unfinished()))
        .exclude(Exists(runs.filter(finished_at__gte=over)))
        .order_by("created_at", "pk")
    )


def purge(*, now: datetime, patience_s: float = PATIENCE_S) -> Purged:
    """Delete what is kept no longer, for at most about ``patience_s`` seconds."""
    until = time.monotonic() + patience_s
    tasks = chunks = 0
    for team in Team.objects.all():
        done = _purge(team, now, until)
        tasks, chunks = tasks + done.tasks, chunks + done.chunks
        if not done.complete:
            return Purged(tasks, chunks, complete=False)
    return Purged(tasks, chunks, complete=True)


def _purge(team: Team, now: datetime, until: float) -> Purged:
    tasks = chunks = 0
    try:
        for task in _all_expired(team, now):
            for deleted in _delete_output(task, now):
                chunks += deleted
                if time.monotonic() >= until:
                    return Purged(tasks, chunks, complete=False)
            tasks += _delete_task(task, now)
        return Purged(tasks, chunks, complete=True)
    finally:  # also of what went before something failed
        if tasks or chunks:
            _note(team, tasks, chunks, now)


def _note(team: Team, tasks: int, chunks: int, now: datetime) -> None:
    over = now - timedelta(days=team.keep_days)
    audit.record(
        actor=None,
        action="task:purge",
        team=team,
        details={
            "tasks": tasks,
            "output_pieces": chunks,
            "ended_before": over.isoformat(timespec="seconds"),
        },
    )


def _all_expired(team: Team, now: datetime) -> Iterator[int]:
    """Keys of tasks whose time is over. What the caller does not delete comes once all the same."""
    seen: set[int] = set()
    while found := [key for key in _some(team, now) if key not in seen]:
        seen.update(found)
        yield from found


def _some(team: Team, now: datetime) -> list[int]:
    return list(expired(team=team, now=now).values_list("pk", flat=True)[:TASKS_AT_ONCE])


def _is_expired(task: int, now: datetime) -> bool:
    """Whether its time is over still: its team may want to keep it longer since."""
    team = Team.objects.filter(invocations=task).first()
    return team is not None and expired(team=team, now=now).filter(pk=task).exists()


def _delete_output(task: int, now: datetime) -> Iterator[int]:
    """Delete the output of a task; after each batch, how many chunks went."""
    chunks = OutputChunk.objects.filter(run__invocation=task).order_by("pk")
    while batch := list(chunks.values_list("pk", flat=True)[:CHUNKS_AT_ONCE]):
        if not _is_expired(task, now):
            return
        deleted, _ = OutputChunk.objects.filter(pk__in=batch).delete()
        yield deleted


@transaction.atomic
def _delete_task(task: int, now: datetime) -> bool:
    """Delete a task with its runs, and the command that was made for it alone."""
    invocation = Invocation.objects.select_for_update().filter(pk=task).defer("values").first()
    if invocation is None or not _is_expired(task, now):
        return False  # another purge was quicker, or it is to be kept longer
    command = invocation.command_id
    invocation.delete()
    if command is not None:
        Command.objects.filter(pk=command, kept=False, invocations=None).delete()
    return True
