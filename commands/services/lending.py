"""Lending instances: one team offers, the other accepts, and either can end it.

An offer that nobody accepted yet lets nobody see or use anything (``GrantQuerySet.accepted``): no
team finds instances among its own that others chose the names, tags and contents of.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from commands import access
from commands.errors import Conflict, Invalid
from commands.models import AuditEvent, Grant, Instance, RefusedLender, Role, Team, User
from commands.services import audit, mail, members
from commands.words import gettext as _

OFFERS_TOLD = 5
"""So many offers of a team are mailed to another within a day; its page shows the others, too."""


@transaction.atomic
def lend_instance(*, actor: User, instance: Instance, team: Team) -> Grant:
    """Offer another team to run tasks on an instance of one's own team.

    Raises Denied; Invalid for one's own team, and one that takes no offers of it.
    """
    members.hold(instance.team, actor, access.Permission.INSTANCE_MANAGE)
    if instance.team_id == team.pk:
        raise Invalid(_("An instance can't be lent to the team that owns it."), field="team")
    refused = RefusedLender.objects.filter(team=team, lender=instance.team)
    if refused.exists() and not Grant.objects.filter(instance=instance, team=team).exists():
        text = _("%(team)s takes no offers of your team.")
        raise Invalid(text % {"team": team.name}, field="team")
    grant, made = Grant.objects.get_or_create(
        instance=instance, team=team, defaults={"created_by": actor}
    )
    if made:
        _record(actor, "instance:lend", grant)
        if _offers_of_a_day(grant) <= OFFERS_TOLD:
            for admin in _admins(team):
                _tell(admin, grant, _("%(owner)s offers %(name)s to %(team)s."))
    return grant


@transaction.atomic
def accept(*, actor: User, grant: Grant, now: datetime) -> Grant:
    """Take what another team offers: from now on this team sees it and runs tasks on it.

    Raises Denied unless ``actor`` manages instances of the team that it is offered to; Conflict if
    it is no longer offered. One that is accepted already stays as it is.
    """
    members.hold(grant.team, actor, access.Permission.INSTANCE_MANAGE)
    found = Grant.objects.filter(pk=grant.pk)
    tags = [list(pair) for pair in grant.instance.tags.values_list("key", "value")]
    if found.offered().update(accepted_at=now, accepted_by=actor, accepted_tags=tags):
        grant.refresh_from_db()
        _record(actor, "instance:accept", grant)
        _answer(grant, _("%(team)s has accepted %(name)s."))
    elif not found.exists():
        raise Conflict(_("This instance is no longer offered to your team."))
    else:
        grant.refresh_from_db()
    return grant


@transaction.atomic
def decline(*, actor: User, grant: Grant) -> None:
    """Do not take what another team offers; it can offer again.

    Raises Denied as ``accept``; Conflict if it was accepted or taken back meanwhile.
    """
    members.hold(grant.team, actor, access.Permission.INSTANCE_MANAGE)
    deleted, _rows = Grant.objects.filter(pk=grant.pk).offered().delete()
    if not deleted:
        raise Conflict(_("This instance is no longer offered to your team."))
    _record(actor, "instance:decline", grant)
    _answer(grant, _("%(team)s has declined %(name)s."))


@transaction.atomic
def refuse_lender(*, actor: User, grant: Grant, now: datetime) -> RefusedLender:
    """Decline all that the team of an offer offers to this one, and take no more offers of it.

    What was accepted before stays. Raises Denied as ``accept``.
    """
    members.hold(grant.team, actor, access.Permission.INSTANCE_MANAGE)
    lender = grant.instance.team
    refused, made = RefusedLender.objects.get_or_create(
        team=grant.team, lender=lender, defaults={"at": now}
    )
    if made:
        _record_lender(actor, "lender:refuse", refused)
    waiting = Grant.objects.offered().filter(team=grant.team, instance__team=lender)
    for offer in waiting.select_related("instance__team", "instance__region", "team"):
        with suppress(Conflict):  # it was taken back, or accepted, at this moment
            decline(actor=actor, grant=offer)
    return refused


@transaction.atomic
def allow_lender(*, actor: User, refused: RefusedLender) -> None:
    """Take offers of a team again. Raises Denied as ``accept``."""
    members.hold(refused.team, actor, access.Permission.INSTANCE_MANAGE)
    deleted, _rows = RefusedLender.objects.filter(pk=refused.pk).delete()
    if deleted:
        _record_lender(actor, "lender:allow", refused)


@transaction.atomic
def give_back(*, actor: User, grant: Grant) -> None:
    """Use an instance of another team no longer: what has not started there never will.

    Raises Denied as ``accept``.
    """
    members.hold(grant.team, actor, access.Permission.INSTANCE_MANAGE)
    deleted, _rows = Grant.objects.filter(pk=grant.pk).accepted().delete()
    if deleted:
        _record(actor, "instance:give-back", grant)
        _answer(grant, _("%(team)s has given %(name)s back."))


@transaction.atomic
def take_back(*, actor: User, grant: Grant) -> None:
    """Lend an instance no longer, or offer it no longer.

    What has not started there for the other team never will. Raises Denied unless ``actor`` manages
    instances of the team that owns it.
    """
    members.hold(grant.instance.team, actor, access.Permission.INSTANCE_MANAGE)
    deleted, _rows = Grant.objects.filter(pk=grant.pk).delete()
    if deleted:
        _record(actor, "instance:take-back", grant)


def _record(actor: User, action: str, grant: Grant) -> None:
    """Note a step of a loan, for both teams."""
    for team, other in ((grant.instance.team, grant.team), (grant.team, grant.instance.team)):
        audit.record(
            actor=actor,
            action=action,
            team=team,
            target=grant.instance,
            details={"other_team": other.name, "other_team_id": other.uid},
        )


def _record_lender(actor: User, action: str, refused: RefusedLender) -> None:
    audit.record(
        actor=actor,
        action=action,
        team=refused.team,
        target=refused.lender,
        details={"other_team": refused.lender.name},
    )


def _offers_of_a_day(grant: Grant) -> int:
    """How often the team that owns the instance has offered something to the other of late.

    The names of team and instance are theirs to choose, and to change, so this is no way to send
    mail.
    """
    return AuditEvent.objects.filter(
        action="instance:lend",
        team_uid=grant.team.uid,
        details__other_team_id=grant.instance.team.uid,
        at__gt=timezone.now() - timedelta(days=1),
    ).count()


def _admins(team: Team) -> list[User]:
    admins = team.memberships.filter(role=Role.TEAM_ADMIN, user__is_active=True)
    return [admin.user for admin in admins.select_related("user")]


def _answer(grant: Grant, text: str) -> None:
    """Tell who made the offer, or who leads that team now if they do no longer."""
    made_by, owner = grant.created_by, grant.instance.team
    if access.allows(made_by, access.Permission.INSTANCE_MANAGE, owner):
        _tell(made_by, grant, text)
    else:
        for admin in _admins(owner):
            _tell(admin, grant, text)


def _tell(user: User | None, grant: Grant, text: str) -> None:
    """Tell somebody, if they have an address, once it is committed."""
    owner, name = grant.instance.team.name, grant.instance.name
    said = text % {"team": grant.team.name, "name": name, "owner": owner}
    mail.send_later(
        to=user.email if user else "",
        subject=said,
        body=f"{said}\n\n{grant.instance.team.name}, {grant.instance.region.name}\n",
    )
