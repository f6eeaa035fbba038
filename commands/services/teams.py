"""Teams, their members, and the first of them."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from commands.models import Membership, Region, Role, Team, User

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
    return create_team(name="First team", admin=admin)


@transaction.atomic
def create_team(*, name: str, admin: User) -> Team:
    """Make a team whose team admin is ``admin``."""
    default_region()
    team = Team.objects.create(name=name)
    add_member(team=team, user=admin, role=Role.TEAM_ADMIN)
    return team


def add_member(*, team: Team, user: User, role: Role) -> Membership:
    """Make ``user`` a member of ``team``, or change the role they have in it."""
    membership, _ = Membership.objects.update_or_create(
        team=team, user=user, defaults={"role": role}
    )
    return membership
