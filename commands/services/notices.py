"""Notices: that tasks end is told to those who want to know, at least once.

Whoever stores the end of a run only rings; ``settle`` finds every task that has ended since, marks
it, and makes its notices in the same transaction, so that each task is told once to each. A bell
that was lost is made up for by the next (``Job.SEND_NOTICES``), a few seconds later.
``claim`` and ``record`` belong to the messenger, which sends: what fails is tried again later and
later, and given up at last. No run ever waits for any of it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from commands.models import Invocation, Notice, NoticeRule, Run
from commands.rules.status import FAILURES
from commands.services import messages, refusals
from commands.services.messages import Message, Unsendable

log = logging.getLogger(__name__)

AGAIN = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
)
"""How long after each failed attempt the next one begins; after the last there is none."""
CLAIM = timedelta(seconds=60)
"""How long whoever sends a notice is left alone with it; then it counts as a failed attempt."""
TESTS_KEPT = timedelta(days=7)
ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one attempt: ``error`` is a sentence, "" if it was taken."""

    notice_id: int
    attempt: int
    error: str = ""
    final: bool = False
    """Whether another attempt would be of no use."""


def settle(*, now: datetime, limit: int = 200) -> int:
    """Make the notices of tasks that have ended since it was last looked; how many tasks."""
    runs = Run.objects.filter(invocation=OuterRef("pk"))
    ended = Invocation.objects.filter(Exists(runs), settled_at=None).exclude(
        Exists(runs.unfinished())
    )
    found = ended.select_related("created_by").defer("values", "content").order_by("created_at")
    return sum(_settle(invocation, now) for invocation in found[:limit])


def _settle(invocation: Invocation, now: datetime) -> bool:
    with transaction.atomic():
        unsettled = Invocation.objects.filter(pk=invocation.pk, settled_at=None)
        if not unsettled.update(settled_at=now):
            return False  # another worker was quicker
        Notice.objects.bulk_create(
            Notice(
                team_id=invocation.team_id,
                rule=rule,
                invocation=invocation,
                made_at=now,
                next_at=now,
            )
            for rule in _of(invocation)
        )
    return True


def _of(invocation: Invocation) -> Iterator[NoticeRule | None]:
    """The rules that a task falls under; None stands for the person who created it."""
    rules = NoticeRule.objects.filter(
        Q(region=None) | Q(region=invocation.region_id), team=invocation.team_id, enabled=True
    ).defer("target", "secret")
    if not invocation.runs.filter(status__in=[status.value for status in FAILURES]).exists():
        rules = rules.exclude(when=NoticeRule.When.PROBLEMS)
    yield from rules
    if invocation.tell_me:
        yield None


def claim(*, busy: Collection[int], limit: int, now: datetime) -> list[tuple[Notice, Message]]:
    """Take at most ``limit`` notices that are due; others leave them alone for a while.

    What can't be sent at all is given up here.
    """
    if not Notice.objects.due(now).exclude(pk__in=busy).exists():
        return []  # most of the time; nothing was locked to know that
    with transaction.atomic():
        rows = list(
            Notice.objects.due(now)
            .exclude(pk__in=busy)
            .select_for_update(of=("self",), skip_locked=True)
            .order_by("next_at", "pk")[:limit]
        )
        for row in rows:
            row.attempts, row.next_at = row.attempts + 1, now + CLAIM
            row.save(update_fields=["attempts", "next_at"])
    claimed = []
    for row in rows:
        if row.attempts > len(AGAIN) + 1:
            _store(Delivery(row.pk, row.attempts, refusals.UNHEARD, final=True), now)
            continue
        try:
            claimed.append((row, messages.of(row)))
        except ImproperlyConfigured as error:
            log.error("Notice %s can't be sent: %s", row.uid, error)
            _store(Delivery(row.pk, row.attempts, refusals.UNREADABLE), now)
        except Unsendable as error:
            _store(Delivery(row.pk, row.attempts, str(error), final=True), now)
    return claimed


def record(*, deliveries: Sequence[Delivery], now: datetime) -> None:
    """Store what became of attempts."""
    for delivery in sorted(deliveries, key=lambda one: one.notice_id):
        _store(delivery, now)


def _store(delivery: Delivery, now: datetime) -> None:
    # Who was slower than its claim has nothing to say any more, unless it was taken after all.
    row = Notice.objects.filter(pk=delivery.notice_id, state=Notice.State.WAITING)
    if not delivery.error:
        row.update(state=Notice.State.SENT, next_at=None, ended_at=now, last_error="")
        return
    row = row.filter(attempts=delivery.attempt)
    error = delivery.error.replace("\0", "")[:ERROR_CHARS]
    tests = row.filter(invocation=None)
    if delivery.final or delivery.attempt > len(AGAIN) or tests.exists():
        row.update(state=Notice.State.GIVEN_UP, next_at=None, ended_at=now, last_error=error)
    else:
        row.update(next_at=now + AGAIN[delivery.attempt - 1], last_error=error)


def forget_tests(*, now: datetime) -> None:
    """Delete old tests; other notices go with their tasks."""
    old = Notice.objects.filter(invocation=None, made_at__lt=now - TESTS_KEPT)
    old.exclude(state=Notice.State.WAITING).delete()
