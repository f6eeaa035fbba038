"""Telling of approvals: who may give one by e-mail, who asked for it, and webhooks of the team.

The messenger sends these notices like all others, and tries again what is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Q

from commands import queue
from commands.models import Approval, Invocation, Notice, NoticeRule
from commands.models.notice import NoticeAbout as About
from commands.services import approved


def asked(approval: Approval, now: datetime) -> None:
    """Tell that a task waits for another member."""
    invocation = approval.invocation
    members = approved.deciders(invocation)
    _make(invocation, About.ASKED, any(member.email for member in members), now)


def decided(approval: Approval, now: datetime) -> None:
    """Tell what became of it; who withdrew their own task knows."""
    invocation = approval.invocation
    creator = invocation.created_by
    told = creator is not None and bool(creator.email) and creator != approval.decided_by
    _make(invocation, About.DECIDED, told, now)


def _make(invocation: Invocation, about: About, person: bool, now: datetime) -> None:
    Notice.objects.bulk_create(
        Notice(
            team_id=invocation.team_id,
            rule=rule,
            invocation=invocation,
            about=about,
            made_at=now,
            next_at=now,
        )
        for rule in _of(invocation, person)
    )
    queue.enqueue(queue.Job.SEND_NOTICES)


def _of(invocation: Invocation, person: bool) -> Iterator[NoticeRule | None]:
    """The webhooks that want every task; None stands for the people who are concerned."""
    yield from NoticeRule.objects.filter(
        Q(region=None) | Q(region=invocation.region_id),
        team=invocation.team_id,
        enabled=True,
        kind=NoticeRule.Kind.WEBHOOK,
        when=NoticeRule.When.ALWAYS,
    ).defer("target", "secret")
    if person:
        yield None
