"""Resource groups: a team's own order of its instances, commands and tasks.

They are names to list and filter by, and give nobody a permission. Every team has a default one,
which takes what nobody sorts; what another team lends stays in a group of that team.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import transaction

from commands import access
from commands.access import Permission
from commands.errors import Conflict, Denied, Invalid
from commands.models import Command, Instance, Invocation, ResourceGroup, Team, User
from commands.rules import limits
from commands.services import audit
from commands.words import gettext as _

DEFAULT_NAME = "Default"
"""What a team's first group is called until somebody renames it."""


def make_default(team: Team) -> ResourceGroup:
    """The group that a new team begins with."""
    return ResourceGroup.objects.create(team=team, name=DEFAULT_NAME, is_default=True)


def default_of(team: Team) -> ResourceGroup:
    """The group of all that nobody sorts."""
    return ResourceGroup.objects.get(team=team, is_default=True)


def find(*, team: Team, uid: str) -> ResourceGroup:
    """The team's group that is called ``uid``. Raises Invalid."""
    possible = uid.isascii() and uid.isprintable()
    group = ResourceGroup.objects.filter(team=team, uid=uid).first() if possible else None
    if group is None:
        raise _not_found()
    return group


def hold(*, team: Team, group: ResourceGroup | None) -> ResourceGroup:
    """The group that something new of ``team`` goes to: the default one unless one is named.

    Must be called inside a transaction; until its end nobody can remove the group. Raises Invalid
    for one that is gone, or another team's.
    """
    if group is None:
        return default_of(team)
    found = ResourceGroup.objects.filter(team=team, pk=group.pk)
    # Nobody can remove a default group: those who use it need not wait for each other.
    held = found.first() if group.is_default else found.select_for_update(no_key=True).first()
    if held is None:
        raise _not_found()
    return held


def require_together(*, team: Team, group: ResourceGroup, instances: Collection[Instance]) -> None:
    """Raise Invalid unless what a task of ``group`` runs on is in it, or in the default group.

    What another team lends is in none of the team's groups, and counts as in the default one.
    """
    others = ResourceGroup.objects.filter(team=team, is_default=False).exclude(pk=group.pk)
    elsewhere = set(others.values_list("pk", flat=True))
    for instance in instances:
        if instance.resource_group_id in elsewhere:
            raise Invalid(
                _("%(name)s belongs to another resource group than %(group)s.")
                % {"name": instance.name, "group": group.name},
                field="instances",
                code="InvalidInstance.NotMatch",
            )


@transaction.atomic
def create(*, actor: User, team: Team, name: str) -> ResourceGroup:
    """Make another group of a team. Raises Denied; Invalid; Conflict if there is that name."""
    access.require_groups(actor, team)
    words = _name(name)
    _require_free(team, words)
    group = ResourceGroup.objects.create(team=team, name=words)
    _record(actor, "resource-group:create", group)
    return group


@transaction.atomic
def rename(*, actor: User, group: ResourceGroup, name: str) -> ResourceGroup:
    """Call a group something else; its id stays. Raises what ``create`` raises."""
    access.require_groups(actor, group.team)
    words, row = _name(name), _locked(group)
    access.require_groups(actor, group.team)  # it may have been taken away meanwhile
    if words != row.name:
        _require_free(row.team, words)
        before, row.name = row.name, words
        row.save(update_fields=["name"])
        _record(actor, "resource-group:rename", row, **{"from": before})
    return row


@transaction.atomic
def remove(*, actor: User, group: ResourceGroup) -> None:
    """Remove a group that has neither instances nor saved commands.

    Its tasks, and commands that were never saved, go to the team's default group. Raises Denied;
    Conflict for the default group, and for one that is not empty.
    """
    access.require_groups(actor, group.team)
    row = _locked(group)
    access.require_groups(actor, group.team)  # it may have been taken away meanwhile
    if row.is_default:
        raise Conflict(_("The default group can't be removed: what nobody sorts goes there."))
    instances, saved = row.instances.count(), row.commands.kept().count()
    if instances or saved:
        raise Conflict(
            _(
                "%(name)s is not empty: it has %(instances)d instances and %(commands)d saved "
                "commands. Move them to another group first."
            )
            % {"name": row.name, "instances": instances, "commands": saved}
        )
    default = default_of(row.team)
    # Row by row in one order: an UPDATE of many locks them in any, and two could wait in a circle.
    tasks = Invocation.objects.filter(resource_group=row)
    list(tasks.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    tasks.update(resource_group=default)
    Command.objects.filter(resource_group=row).update(resource_group=default)
    _record(actor, "resource-group:remove", row)
    row.delete()


@transaction.atomic
def move_instances(
    *, actor: User, group: ResourceGroup, instances: Collection[Instance]
) -> list[Instance]:
    """Put instances of the group's team into it; those that were elsewhere.

    Raises Denied unless ``actor`` may edit them, and for what another team owns.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, group.team)
    _require_own(group, {one.team_id for one in instances})
    held = hold(team=group.team, group=group)
    rows = Instance.objects.filter(pk__in=[one.pk for one in instances])
    moved = list(rows.exclude(resource_group=held).select_for_update(no_key=True).order_by("pk"))
    access.require(actor, Permission.INSTANCE_MANAGE, group.team)  # the right may be gone by now
    if moved:
        Instance.objects.filter(pk__in=[one.pk for one in moved]).update(resource_group=held)
        _record(actor, "resource-group:move-instances", held, moved=_names(moved))
    return moved


@transaction.atomic
def move_commands(
    *, actor: User, group: ResourceGroup, commands: Collection[Command]
) -> list[Command]:
    """Put saved commands of the group's team into it; those that were elsewhere.

    Raises Denied unless ``actor`` may edit them, and for what another team owns.
    """
    access.require_library(actor, group.team)
    _require_own(group, {one.team_id for one in commands})
    held = hold(team=group.team, group=group)
    rows = Command.objects.kept().filter(pk__in=[one.pk for one in commands])
    moved = list(rows.exclude(resource_group=held).select_for_update(no_key=True).order_by("pk"))
    access.require_library(actor, group.team)  # the right may be gone by now
    if moved:
        Command.objects.filter(pk__in=[one.pk for one in moved]).update(resource_group=held)
        _record(actor, "resource-group:move-commands", held, moved=_names(moved))
    return moved


def _names(rows: Collection[Instance] | Collection[Command]) -> list[str]:
    return [row.name for row in rows][: limits.RESOURCE_GROUP_NAMED]


def _require_own(group: ResourceGroup, owners: Collection[int]) -> None:
    if any(owner != group.team_id for owner in owners):
        raise Denied(_("You may not do this in this team."), team=group.team)


def _locked(group: ResourceGroup) -> ResourceGroup:
    """The group as it is now, and stays until the transaction ends. Raises Conflict."""
    rows = ResourceGroup.objects.select_for_update(of=("self",)).select_related("team")
    row = rows.filter(pk=group.pk).first()
    if row is None:
        raise Conflict(_("%(name)s was removed in the meantime.") % {"name": group.name})
    return row


def _require_free(team: Team, name: str) -> None:
    if ResourceGroup.objects.filter(team=team, name=name).exists():
        raise Conflict(_("The team has a resource group %(name)s already.") % {"name": name})


def _name(name: str) -> str:
    words, most = name.strip(), limits.RESOURCE_GROUP_NAME_CHARS
    if not words or len(words) > most or not words.isprintable():
        raise Invalid(
            _("Enter a name of 1 to %(most)s characters, on one line.") % {"most": most},
            field="name",
        )
    return words


def _not_found() -> Invalid:
    return Invalid(
        _("The team has no such resource group. Choose another."),
        field="group",
        code="InvalidResourceGroup.NotFound",
    )


def _record(actor: User, action: str, group: ResourceGroup, **details: object) -> None:
    audit.record(actor=actor, action=action, team=group.team, target=group, details=details)
