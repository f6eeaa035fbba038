"""Who may do what: one table of roles and permissions, asked at creation and at dispatch.

``allows`` answers, ``require`` raises ``Denied``. Somebody who is not in the team is denied
everything, and pages turn that into 404, so that nothing about another team shows.

A membership can be narrowed (``Restriction``): to instances with a tag, to saved commands, to users
that scripts run as. ``narrowing`` reads that, ``explain`` says which rule decides in a case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.db.models import Q

from commands.errors import Denied
from commands.models import (
    Command,
    Instance,
    Invocation,
    Membership,
    Restriction,
    Role,
    Team,
    User,
)
from commands.models.instance import InstanceQuerySet
from commands.rules.content import OsType
from commands.words import gettext as _

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


class Permission(StrEnum):
    """Things a member may be allowed to do, as ``resource:action``.

    ``COMMAND_RUN`` is running a saved command as it stands; ``INVOCATION_CREATE`` is running
    anything, so it includes values that are inserted as typed and changes for one task.
    ``INVOCATION_APPROVE`` is deciding on what another member wants to run (``approvers``).
    """

    COMMAND_READ = "command:read"
    COMMAND_RUN = "command:run"
    COMMAND_MANAGE = "command:manage"
    INVOCATION_READ = "invocation:read"
    INVOCATION_CREATE = "invocation:create"
    INVOCATION_APPROVE = "invocation:approve"
    INSTANCE_READ = "instance:read"
    INSTANCE_MANAGE = "instance:manage"
    QUOTA_REQUEST = "quota:request"
    TEAM_MANAGE = "team:manage"


_READ = frozenset({Permission.COMMAND_READ, Permission.INVOCATION_READ, Permission.INSTANCE_READ})
_RUN = _READ | {Permission.COMMAND_RUN}

PERMISSIONS: dict[str, frozenset[Permission]] = {
    Role.VIEWER: _READ,
    Role.RUNNER: _RUN,
    Role.OPERATOR: _RUN
    | {
        Permission.COMMAND_MANAGE,
        Permission.INVOCATION_CREATE,
        Permission.INVOCATION_APPROVE,
        Permission.QUOTA_REQUEST,
    },
    Role.TEAM_ADMIN: frozenset(Permission),
}


def allows(actor: User | AnonymousUser | None, permission: str, team: Team) -> bool:
    """Whether ``actor`` may do what ``permission`` (one of ``Permission``) names in ``team``."""
    if actor is None or not actor.is_authenticated or not actor.is_active:
        return False
    # What is active is asked anew, too: ``actor`` may have been read long ago.
    found = Membership.objects.filter(team=team, user=actor, user__is_active=True)
    role = found.values_list("role", flat=True).first()
    return role is not None and permission in PERMISSIONS[role]


def allowed(permission: Permission, pairs: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """As ``allows`` for many: those ``pairs`` of a user's and a team's id where it says yes."""
    users, teams = {user for user, _team in pairs}, {team for _user, team in pairs}
    found = Membership.objects.filter(user__in=users, team__in=teams, user__is_active=True)
    roles = found.values_list("user_id", "team_id", "role")
    return {(user, team) for user, team, role in roles if permission in PERMISSIONS[role]} & {
        *pairs
    }


def require(actor: User | AnonymousUser | None, permission: Permission, team: Team) -> None:
    """Raise Denied unless ``allows``."""
    if not allows(actor, permission, team):
        raise Denied(_("You may not do this in this team."), permission=permission, team=team)


def require_staff(actor: User | AnonymousUser | None) -> None:
    """Raise Denied unless ``actor`` is an administrator of the console."""
    if not _is_staff(actor):
        raise Denied(_("Only administrators of the console may do this."))


def _is_staff(actor: User | AnonymousUser | None) -> bool:
    return bool(actor and actor.is_active and (actor.is_staff or actor.is_superuser))


def require_groups(actor: User | AnonymousUser | None, team: Team) -> None:
    """Raise Denied unless ``actor`` is an administrator of the console, or an admin of ``team``."""
    if not _is_staff(actor):
        require(actor, Permission.TEAM_MANAGE, team)


def may_manage_library(actor: User | AnonymousUser | None, team: Team) -> bool:
    """Whether ``actor`` may change saved commands.

    Not who is narrowed to some of them: what those say could be anything then.
    """
    manages = allows(actor, Permission.COMMAND_MANAGE, team)
    return manages and not narrowing(actor, team).commands


def require_library(actor: User | AnonymousUser | None, team: Team) -> None:
    """Raise Denied unless ``may_manage_library``."""
    if not may_manage_library(actor, team):
        raise Denied(
            _("You may not do this in this team."), permission=Permission.COMMAND_MANAGE, team=team
        )


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
        raise Denied(_("You may not do this with this task."), team=invocation.team)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a membership is narrowed to; an empty set of a kind narrows nothing."""

    tags: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    run_as: frozenset[str] = frozenset()
    not_run_as: frozenset[str] = frozenset()

    def instances(self, found: InstanceQuerySet) -> InstanceQuerySet:
        """Those of ``found`` that it leaves."""
        return found.tagged(self.tags) if self.tags else found

    def refuses_command(self, command_uid: str) -> bool:
        """Whether the saved command (``""`` for a new one) is not among those it leaves."""
        return bool(self.commands) and command_uid not in self.commands

    def refuses_user(self, run_as: str, instance: Instance) -> bool:
        """Whether scripts may not run as ``run_as``, or else as who signs in on ``instance``.

        On Windows a name means the same user in any case.
        """
        fold = str.casefold if instance.os_type == OsType.WINDOWS else str
        user = fold(run_as or instance.user)
        if user in map(fold, self.not_run_as):
            return True
        return bool(self.run_as) and user not in map(fold, self.run_as)


EVERYTHING = Narrowing()
"""A membership that is not narrowed."""


def narrowing(actor: User | AnonymousUser | None, team: Team) -> Narrowing:
    """What the membership of ``actor`` in ``team`` is narrowed to."""
    if actor is None or not actor.is_authenticated:
        return Narrowing()
    values: dict[str, set[str]] = {}
    found = Restriction.objects.filter(membership__team=team, membership__user=actor)
    for kind, value in found.values_list("kind", "value"):
        values.setdefault(kind, set()).add(value)
    return Narrowing(
        tags=frozenset(values.get(Restriction.Kind.INSTANCE_TAG, ())),
        commands=frozenset(values.get(Restriction.Kind.COMMAND, ())),
        run_as=frozenset(values.get(Restriction.Kind.RUN_AS, ())),
        not_run_as=frozenset(values.get(Restriction.Kind.NOT_RUN_AS, ())),
    )


def covers(
    actor: User | AnonymousUser | None,
    team: Team,
    *,
    command_uid: str,
    run_as: str,
    instances: Collection[Instance],
) -> bool:
    """Whether what narrows the membership of ``actor`` leaves all of that.

    ``command_uid`` is the saved command's, "" for what is none.
    """
    only = narrowing(actor, team)
    if only.refuses_command(command_uid):
        return False
    if any(only.refuses_user(run_as, instance) for instance in instances):
        return False
    keys = {instance.pk for instance in instances}
    return only.instances(Instance.objects.filter(pk__in=keys)).count() == len(keys)


def approvers(team: Team, creator: User | None) -> list[User]:
    """Members who may approve what ``creator`` wants to run, as far as their role says.

    Never one's own task, not even as a team admin.
    """
    roles = [role for role, may in PERMISSIONS.items() if Permission.INVOCATION_APPROVE in may]
    found = User.objects.filter(
        memberships__team=team, memberships__role__in=roles, is_active=True
    ).order_by("pk")
    return list(found if creator is None else found.exclude(pk=creator.pk))


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was looked at: whether it lets the case pass, and what would change it.

    ``why`` says more of what is in the way, where there is more to say.
    """

    rule: str
    passes: bool
    remedy: str = ""
    why: str = ""


def explain(
    *,
    member: User,
    team: Team,
    command: Command | None,
    instance: Instance | None,
    run_as: str = "",
) -> list[Step]:
    """Why ``member`` can or can't run ``command`` (None for a new one) on ``instance``.

    The rules of people in the order in which they are asked; the first that does not pass
    decides, and the list ends there. What else an instance takes is asked by
    ``commands.services.explaining``.
    """
    steps: list[Step] = []
    for step in _steps(member, team, command, instance, run_as):
        steps.append(step)
        if not step.passes:
            break
    return steps


def _steps(
    member: User, team: Team, command: Command | None, instance: Instance | None, run_as: str
) -> Iterator[Step]:
    yield Step(
        _("%(user)s may sign in.") % {"user": member.username},
        member.is_active,
        _("An administrator activates the user."),
    )
    role = Membership.objects.filter(team=team, user=member).first()
    if role is None:
        rule = _("%(user)s is a member of %(team)s.")
        names = {"user": member.username, "team": team.name}
        yield Step(rule % names, False, _("A team admin invites."))
        return
    needed = Permission.COMMAND_RUN if command else Permission.INVOCATION_CREATE
    saved = _("The role %(role)s may run saved commands.")
    new = _("The role %(role)s may run new commands.")
    others = [str(Role(key).label) for key in Role.values if needed in PERMISSIONS[key]]
    yield Step(
        (saved if command else new) % {"role": role.get_role_display()},
        needed in PERMISSIONS[role.role],
        _("A team admin gives another role: %(roles)s.") % {"roles": ", ".join(others)},
    )
    yield from _narrowed(narrowing(member, team), team, command, instance, run_as)


def _narrowed(
    only: Narrowing, team: Team, command: Command | None, instance: Instance | None, run_as: str
) -> Iterator[Step]:
    lift = _("A team admin changes what the membership is narrowed to.")
    yield Step(
        _("The membership is not narrowed to other commands."),
        not only.refuses_command(command.uid if command else ""),
        lift,
    )
    if instance is None:
        return
    yield Step(
        _("%(instance)s belongs to %(team)s, or is lent to it.")
        % {"instance": instance.name, "team": team.name},
        may_use(team, instance),
        _("An admin of the team that owns the instance lends it, and one of this team accepts."),
    )
    seen = only.instances(Instance.objects.filter(pk=instance.pk)).exists()
    tags = ", ".join(sorted(only.tags))
    tagged = _("Or the instance gets the tag.")
    yield Step(
        _("%(instance)s has one of the tags that the membership is narrowed to: %(tags)s.")
        % {"instance": instance.name, "tags": tags}
        if only.tags
        else _("The membership is not narrowed to instances with a tag."),
        seen,
        f"{lift} {tagged}",
    )
    yield Step(
        _("Scripts may run as %(user)s.") % {"user": run_as or instance.user},
        not only.refuses_user(run_as, instance),
        lift,
    )
    yield Step(
        _("%(instance)s is enabled.") % {"instance": instance.name},
        instance.enabled,
        _("Somebody who manages instances enables it."),
    )


def usable(team: Team, instance_ids: Iterable[int]) -> set[int]:
    """Those of ``instance_ids`` that tasks of ``team`` may run on: its own, or lent to it."""
    found = Instance.objects.usable_by(team).filter(pk__in=instance_ids)
    return set(found.values_list("pk", flat=True))


def may_use(team: Team, instance: Instance) -> bool:
    """Whether tasks of ``team`` may run on ``instance``."""
    return instance.pk in usable(team, [instance.pk])


def may_see(actor: User | AnonymousUser | None, instance: Instance) -> bool:
    """Whether ``actor`` may look at ``instance``, in the team that owns it or one it is lent to."""
    return _in_any_team(actor, Permission.INSTANCE_READ, instance)


def may_try(actor: User | AnonymousUser | None, instance: Instance) -> bool:
    """Whether ``actor`` may run something on ``instance`` in any team, and so connect to it."""
    return _in_any_team(actor, Permission.COMMAND_RUN, instance)


def _in_any_team(
    actor: User | AnonymousUser | None, permission: Permission, instance: Instance
) -> bool:
    if actor is None:
        return False
    lent = Q(grants__instance=instance, grants__accepted_at__isnull=False)
    teams = Team.objects.of(actor).filter(Q(pk=instance.team_id) | lent).distinct()
    return any(allows(actor, permission, team) for team in teams)


def require_try(actor: User | AnonymousUser | None, instance: Instance) -> None:
    """Raise Denied unless ``may_try``."""
    if not may_try(actor, instance):
        raise Denied(_("You may not do this with this instance."), team=instance.team)
