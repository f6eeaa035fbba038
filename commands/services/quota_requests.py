"""Asking for a higher limit, and deciding on it. One request of a quota waits at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from commands import access
from commands.errors import Conflict, Denied, Invalid, InvalidFields
from commands.models import QuotaRequest, Region, Team, User
from commands.rules import limits
from commands.rules import quotas as rules
from commands.rules.quotas import Quota
from commands.services import audit, mail, quotas
from commands.words import gettext as _

State = QuotaRequest.State


def ask(
    *, actor: User, team: Team, region: Region, key: Quota, wanted: int, reason: str, now: datetime
) -> QuotaRequest:
    """Ask for a limit of ``wanted``, and say why.

    Raises Denied; InvalidFields with a sentence for every field that is wrong; Conflict if a
    request for the same quota waits already.
    """
    access.require(actor, access.Permission.QUOTA_REQUEST, team)
    words = " ".join(reason.replace("\0", "").split())
    if errors := _errors(team, region, key, wanted, words):
        raise InvalidFields(errors)
    try:
        with transaction.atomic():
            made = QuotaRequest.objects.create(
                team=team,
                region=region,
                key=key.value,
                wanted=wanted,
                reason=reason.replace("\0", "").strip(),
                asked_by=actor,
                asked_by_name=actor.shown_name,
                asked_at=now,
            )
            _record(actor, "quota:request", made)
            return made
    except IntegrityError:
        raise Conflict(
            _("A request for this quota waits already. Withdraw it before you ask again.")
        ) from None


def withdraw(*, actor: User, request: QuotaRequest, now: datetime) -> QuotaRequest:
    """Take a request back that waits: who asked may, and the team's admins.

    Raises Denied; Conflict if it was decided meanwhile.
    """
    _require_withdrawer(actor, request)
    with transaction.atomic():
        # Who asked knows without being told.
        settled = _settle(actor, request, now, state=State.WITHDRAWN, told_at=now)
        _require_withdrawer(actor, request)  # as it is now: that may have waited for the row
        _record(actor, "quota:withdraw", settled)
    return settled


def approve(
    *, actor: User, request: QuotaRequest, granted: int, comment: str = "", now: datetime
) -> QuotaRequest:
    """Give the team ``granted``, in force at once.

    Raises Denied unless ``actor`` is staff; Invalid if it is out of range; Conflict if somebody
    decided, or withdrew it, meanwhile, or the limit is no lower already.
    """
    _require_staff(actor)
    with transaction.atomic():
        settled = _settle(
            actor, request, now, state=State.APPROVED, granted=granted, comment=_words(comment)
        )
        quotas.set_limit(
            actor=actor,
            team=request.team,
            region=request.region,
            key=Quota(request.key),
            limit=granted,
            only_up=True,
        )
        _record(actor, "quota:approve", settled)
        _mail(settled)
    return settled


def decline(*, actor: User, request: QuotaRequest, comment: str, now: datetime) -> QuotaRequest:
    """Decline a request, and say why.

    Raises Denied unless ``actor`` is staff; Invalid without a comment; Conflict as ``approve``.
    """
    _require_staff(actor)
    words = _words(comment)
    if not words:
        raise Invalid(_("Say why it is declined: who asked reads it."), field="comment")
    with transaction.atomic():
        settled = _settle(actor, request, now, state=State.DECLINED, comment=words)
        _record(actor, "quota:decline", settled)
        _mail(settled)
    return settled


def news_for(user: User) -> list[QuotaRequest]:
    """Decisions on requests of ``user`` that were not shown yet, oldest first."""
    found = QuotaRequest.objects.filter(asked_by=user, told_at=None).exclude(state=State.PENDING)
    return list(found.select_related("team", "region").order_by("decided_at"))


def told(*, actor: User, request: QuotaRequest, now: datetime) -> None:
    """Note that ``actor`` has read the decision on a request of theirs. Raises Denied."""
    if request.asked_by_id != actor.pk:
        raise Denied(_("This request is somebody else's."))
    QuotaRequest.objects.filter(pk=request.pk, told_at=None).update(told_at=now)


def _errors(
    team: Team, region: Region, key: Quota, wanted: int, words: str
) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    limit = quotas.limit(team=team, region=region, key=key)
    if wanted <= limit:
        errors["wanted"] = [_("Enter a number above %(limit)s.") % {"limit": f"{limit:,}"}]
    else:
        try:
            rules.check_limit(key, wanted)
        except Invalid as error:
            errors["wanted"] = [error.message]
    if not limits.REASON_CHARS_MIN <= len(words) <= limits.REASON_CHARS_MAX:
        errors["reason"] = [
            _("Say in %(least)d to %(most)s characters what it will be used for, and for how long.")
            % {"least": limits.REASON_CHARS_MIN, "most": f"{limits.REASON_CHARS_MAX:,}"}
        ]
    return errors


def _settle(actor: User, request: QuotaRequest, now: datetime, **columns: Any) -> QuotaRequest:
    """Decide on a request that still waits: of several who do so at once, one does."""
    waiting = QuotaRequest.objects.filter(pk=request.pk, state=State.PENDING)
    settled = waiting.update(
        decided_by=actor, decided_by_name=actor.shown_name, decided_at=now, **columns
    )
    request.refresh_from_db()
    if not settled:
        raise Conflict(
            _("This request is %(state)s already.") % {"state": request.get_state_display().lower()}
        )
    return request


def _record(actor: User, action: str, request: QuotaRequest) -> None:
    numbers = {"wanted": request.wanted, "granted": request.granted}
    audit.record(
        actor=actor,
        action=action,
        team=request.team,
        target_name=rules.DEFINITIONS[Quota(request.key)].label,
        details={"region": request.region.uid, **numbers},
    )


def _mail(request: QuotaRequest) -> None:
    """Tell who asked, if they have an address, once the decision is committed."""
    said = request.verdict
    if request.state == State.APPROVED and request.comment:
        said += f"\n\n{request.comment}"
    mail.send_later(
        to=request.asked_by.email if request.asked_by else "",
        subject=_("%(team)s: your request for a higher limit") % {"team": request.team.name},
        body=f"{said}\n\n{request.team.name}, {request.region.name}\n",
    )


def _require_withdrawer(actor: User, request: QuotaRequest) -> None:
    own = request.asked_by_id == actor.pk
    asks = own and access.allows(actor, access.Permission.QUOTA_REQUEST, request.team)
    if not asks and not access.allows(actor, access.Permission.TEAM_MANAGE, request.team):
        raise Denied(_("Only who asked, and the team's admins, may withdraw this."))


def _require_staff(actor: User) -> None:
    if not (actor.is_active and (actor.is_staff or actor.is_superuser)):
        raise Denied(_("Only administrators of the console may decide on quotas."))


def _words(comment: str) -> str:
    return comment.replace("\0", "").strip()[: limits.REASON_CHARS_MAX]
