"""Whether those who watch may still look, asked for all of them at once.

A stream outlives the request that opened it: meanwhile a session ends, a password changes,
somebody is disabled or leaves the team.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from commands import access
from commands.models import User
from commands.services import second_factor
from console import sessions


@dataclass(frozen=True, slots=True)
class Ticket:
    """By what somebody was let in: a session, the person's id, and that of the task's team."""

    session_key: str
    user_id: int
    team_id: int


def still_valid(tickets: Collection[Ticket]) -> set[Ticket]:
    """Those of ``tickets`` with which somebody would be let in again. Four queries in all."""
    users = User.objects.in_bulk({ticket.user_id for ticket in tickets})
    open_sessions = Session.objects.filter(
        session_key__in={ticket.session_key for ticket in tickets}, expire_date__gt=timezone.now()
    )
    signed_in = {(one.session_key, _signed_in(one, users)) for one in open_sessions}
    members = access.allowed(
        access.Permission.INVOCATION_READ, {(one.user_id, one.team_id) for one in tickets}
    )
    missing = second_factor.missing_for(users)
    return {
        ticket
        for ticket in tickets
        if (ticket.session_key, ticket.user_id) in signed_in
        and (ticket.user_id, ticket.team_id) in members
        and ticket.user_id not in missing
    }


def _signed_in(session: Session, users: dict[int, User]) -> int | None:
    """Which of ``users`` a session belongs to, if it is in time and bound to what is valid now."""
    data = session.get_decoded()
    user = users.get(int(data.get(SESSION_KEY, 0)))
    if user is None or sessions.is_over(data, time.time()):
        return None
    known = constant_time_compare(data.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
    return user.pk if known else None
