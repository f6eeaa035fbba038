"""Who may do what: one table of roles and permissions, asked at creation and at dispatch.

``allows`` answers, ``require`` raises ``Denied``. Somebody who is not in the team is denied
everything, and pages turn that into 404, so that nothing about another team shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

from commands.errors import Denied
from commands.models import Instance, Invocation, Membership, Role, Team, User

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


class Permission(StrEnum):
    """Things a member may be allowed to do, as ``resource:action``.

    ``COMMAND_RUN`` is running a saved command as it stands; ``INVOCATION_CREATE`` is running
    anything, so it includes values that are inserted as typed and changes for one task.
    """

    COMMAND_READ = "command:read"
    COMMAND_RUN = "command:run"
    COMMAND_MANAGE = "command:manage"
    INVOCATION_READ = "invocation:read"
    INVOCATION_CREATE = "invocation:create"
    INSTANCE_READ = "instance:read"
    INSTANCE_MANAGE = "instance:manage"
    TEAM_MANAGE = "team:manage"


_READ = frozenset({Permission.COMMAND_READ, Permission.INVOCATION_READ, Permission.INSTANCE_READ})
_RUN = _READ | {Permission.COMMAND_RUN}

PERMISSIONS: dict[str, frozenset[Permission]] = {
    Role.VIEWER: _READ,
    Role.RUNNER: _RUN,
    Role.OPERATOR: _RUN | {Permission.COMMAND_MANAGE, Permission.INVOCATION_CREATE},
    Role.TEAM_ADMIN: frozenset(Permission),
}


def allows(actor: User | AnonymousUser | None, permission: str, team: Team) -> bool:
    """Whether ``actor`` may do what ``permission`` (one of ``Permission``) names in ``team``."""
    if actor is None or not actor.is_authenticated or not actor.is_active:
        return False
    role = Membership.objects.filter(team=team, user=actor).values_list("role", flat=True).first()
    return role is not None and permission in PERMISSIONS[role]


def require(actor: User | AnonymousUser | None, permission: Permission, team: Team) -> None:
    """Raise Denied unless ``allows``."""
    if not allows(actor, permission, team):
        raise Denied("You may not do this in this team.")


def may_control(actor: User | AnonymousUser | None, invocation: Invocation) -> bool:
    """Whether ``actor`` may stop a task, or let a paused one go on.

    Whoever may run anything may do so with every task of the team, others with their own.
    """
    if allows(actor, Permission.INVOCATION_CREATE, invocation.team):
        return True
    own = actor is not None and invocation.created_by_id == actor.pk
    return own and allows(actor, Permission.COMMAND_RUN, invocation.team)


def require_control(actor: User | AnonymousUser | None, invocation: Invocation) -> None:
    """Raise Denied unless ``may_control``."""
    if not may_control(actor, invocation):
        raise Denied("You may not do this with this task.")


def usable(team: Team, instance_ids: Iterable[int]) -> set[int]:
    """Those of ``instance_ids`` that tasks of ``team`` may run on: its own, or lent to it."""
    found = Instance.objects.usable_by(team).filter(pk__in=instance_ids)
    return set(found.values_list("pk", flat=True))


def may_use(team: Team, instance: Instance) -> bool:
    """Whether tasks of ``team`` may run on ``instance``."""
    return instance.pk in usable(team, [instance.pk])
