"""Teams, their members, and the first of them."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from commands import access
from commands.errors import Invalid
from commands.models import Membership, Region, Role, Team, User
from commands.rules import limits
from commands.services import audit, resource_groups
from commands.words import gettext as _

DEFAULT_REGION = "local"
"""Id of the region that every new console starts with."""


def first_team() -> Team | None:
    """The oldest team, or None while there is none."""
    return Team.objects.order_by("pk").first()


def default_region() -> Region:
    """The region every console starts with; made if it is missing."""
    region, _ = Region.objects.get_or_create(uid=DEFAULT_REGION, defaults={"name": "Local"})
    return region


@transaction.atomic
def create_first_team(*, username: str, password: str, now: datetime) -> Team | None:
    """Make the first user, an administrator, and its team. None if any user exists already."""
    if User.objects.exists():
        return None
    admin = User.objects.create_superuser(username, password=password, date_joined=now)
    return create_team(name="First team", admin=admin, actor=admin)


@transaction.atomic
def create_team(*, name: str, admin: User, actor: User | None = None) -> Team:
    """Make a team whose team admin is ``admin``. ``actor`` as in ``add_member``."""
    default_region()
    team = Team.objects.create(name=name)
    resource_groups.make_default(team)
    if actor is not None:
        audit.record(actor=actor, action="team:create", team=team, target=team)
    add_member(team=team, user=admin, role=Role.TEAM_ADMIN, actor=actor)
    return team


@transaction.atomic
def add_member(*, team: Team, user: User, role: Role, actor: User | None = None) -> Membership:
    """Make ``user`` a member of ``team``, or change the role they have in it.

    Nobody is asked: the caller has seen to that. ``actor`` is who the audit trail says did it;
    None where nothing is noted, because a console is only being set up.
    """
    before = Membership.objects.filter(team=team, user=user).values_list("role", flat=True).first()
    membership, _ = Membership.objects.update_or_create(
        team=team, user=user, defaults={"role": role}
    )
    if actor is not None and before != role:
        audit.record(
            actor=actor,
            action="member:role" if before else "member:add",
            team=team,
            target_name=user.username,
            details={"from": before or "", "to": role},
        )
    return membership


@transaction.atomic
def rename(*, actor: User, team: Team, name: str) -> Team:
    """Call ``team`` something else. Raises Denied; Invalid if the name can't be, or is taken."""
    access.require(actor, access.Permission.TEAM_MANAGE, team)
    words, most = name.strip(), limits.TEAM_NAME_CHARS
    if not words or len(words) > most or not words.isprintable():
        raise Invalid(
            _("Enter a name of 1 to %(most)d characters, on one line.") % {"most": most},
            field="name",
        )
    before = team.name
    try:
        with transaction.atomic():
            Team.objects.filter(pk=team.pk).update(name=words)
    except IntegrityError:
        raise Invalid(_("Another team is called that."), field="name") from None
    team.name = words
    audit.record(
        actor=actor, action="team:rename", team=team, target=team, details={"from": before}
    )
    return team
