"""The library: commands that a team keeps, their versions, who pinned them.

Every edit adds a version and moves ``Command.latest`` on by one, only if it still is the version
that the edit began with: of two people who edit at the same time the second one is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from commands import access
from commands.access import Permission
from commands.errors import Conflict, Denied, EditConflict, Invalid
from commands.models import (
    Command,
    CommandPin,
    CommandVersion,
    Invocation,
    Region,
    ResourceGroup,
    Team,
    User,
)
from commands.rules.problems import Problems
from commands.services import audit, definitions, quotas, resource_groups
from commands.services.definitions import Checked, CommandInput
from commands.words import gettext as _


def create_command(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: CommandInput,
    group: ResourceGroup | None = None,
    now: datetime,
) -> Command:
    """Keep a new command in the library, as its version 1.

    It goes to the team's default resource group unless ``group`` names another. Raises Denied;
    InvalidFields with a sentence for every field that is wrong; QuotaExceeded if
    the library has no place left.
    """
    access.require_library(actor, team)
    checked = _check(command, team, region)
    with transaction.atomic():
        quotas.require_room_for_command(team=team, region=region)
        # What waited for a row asks again: the right may have been taken away meanwhile.
        access.require_library(actor, team)
        held = resource_groups.hold(team=team, group=group)
        version = add(actor=actor, region=region, checked=checked, group=held, kept=True, now=now)
    return version.command


def add(
    *,
    actor: User,
    region: Region,
    checked: Checked,
    group: ResourceGroup,
    kept: bool,
    now: datetime,
) -> CommandVersion:
    """Version 1 of a new command of the group's team, in the library if ``kept``.

    Must be called inside a transaction, for a kept one after ``quotas.require_room_for_command``;
    ``group`` is one that ``resource_groups.hold`` gave.
    """
    team = group.team
    command = Command.objects.create(
        team=team,
        region=region,
        resource_group=group,
        type=checked.type.value,
        kept=kept,
        created_by=actor,
        created_at=now,
        **_row(actor, checked, now),
    )
    version = _version(actor, command, 1, checked, now)
    if kept:
        details = {"region": region.uid, "type": command.type}
        _record(actor, "command:create", team, command, details)
    return version


def edit_command(
    *, actor: User, command: Command, definition: CommandInput, based_on: int, now: datetime
) -> CommandVersion:
    """Add a version that says what ``definition`` says; the newest one if that says the same.

    ``based_on`` is the number of the version that the edit began with. Raises Denied;
    InvalidFields; EditConflict if there is a newer version; Conflict if the command is gone.
    """
    access.require_library(actor, command.team)
    if definition.type != command.type:
        raise Invalid(_("A command's type can't change. Clone the command instead."), field="type")
    return _replace(actor, command, _check(definition, command.team, command.region), based_on, now)


def restore_version(
    *, actor: User, command: Command, number: int, based_on: int, now: datetime
) -> CommandVersion:
    """Add a version that says what version ``number`` said; the newest one if it still does.

    Raises what ``edit_command`` raises.
    """
    access.require_library(actor, command.team)
    old = command.versions.filter(number=number).first()
    if old is None:
        raise Invalid(
            _("The command has no version %(number)s.") % {"number": number}, field="number"
        )
    checked = _check(definitions.of_version(command, old), command.team, command.region)
    return _replace(actor, command, checked, based_on, now, restored_from=number)


def delete_commands(*, actor: User, team: Team, region: Region, uids: Sequence[str]) -> None:
    """Take commands out of the library for good, all of them or none.

    Past tasks keep their copy of the command. Raises Denied; Invalid if none is named or one
    can't be found; Conflict if a task of one of them has not ended.
    """
    access.require_library(actor, team)
    chosen = sorted(set(uids))
    if not chosen:
        raise Invalid(_("Select at least one command."), field="commands")
    with transaction.atomic():
        # In one order for everybody, so that two deletions never wait for each other.
        found = Command.objects.kept().filter(team=team, region=region, uid__in=chosen)
        commands = list(found.select_for_update().order_by("pk"))
        access.require_library(actor, team)
        if missing := len(chosen) - len(commands):
            raise Invalid(
                _(
                    "%(missing)s of the selected commands can't be found in this team and region. "
                    "Select again."
                )
                % {"missing": missing},
                field="commands",
                code="InvalidCommand.NotFound",
            )
        _refuse_unfinished(commands)
        Command.objects.filter(pk__in=[command.pk for command in commands]).delete()
        for command in commands:
            _record(actor, "command:delete", team, command, {"version": command.latest})


def pin(*, actor: User, command: Command, pinned: bool) -> None:
    """Show ``command`` on top of the library to ``actor``, or no longer. Raises Denied."""
    access.require(actor, Permission.COMMAND_READ, command.team)
    if not command.kept:
        raise Denied(_("Only commands of the library can be pinned."))
    if pinned:
        CommandPin.objects.get_or_create(user=actor, command=command)
    else:
        CommandPin.objects.filter(user=actor, command=command).delete()


def _check(command: CommandInput, team: Team, region: Region) -> Checked:
    problems = Problems()
    checked = definitions.check(command, problems, team=team, region=region)
    problems.raise_any()
    return checked


def _row(actor: User, checked: Checked, now: datetime) -> dict[str, Any]:
    """The columns of a command that its newest version sets."""
    return {**_repeated(checked), "updated_by": actor, "updated_at": now}


def _repeated(checked: Checked) -> dict[str, Any]:
    """The columns that a command and its newest version share."""
    return {
        "name": checked.name,
        "description": checked.description,
        "tags": checked.tags,
        "runners_may_type": checked.runners_may_type,
    }


def _version(
    actor: User,
    command: Command,
    number: int,
    checked: Checked,
    now: datetime,
    *,
    restored_from: int | None = None,
) -> CommandVersion:
    return CommandVersion.objects.create(
        command=command,
        number=number,
        **_repeated(checked),
        restored_from=restored_from,
        created_by=actor,
        created_at=now,
        **checked.columns(),
    )


def _replace(
    actor: User,
    command: Command,
    checked: Checked,
    based_on: int,
    now: datetime,
    *,
    restored_from: int | None = None,
) -> CommandVersion:
    """The version that follows ``based_on``, if that is the newest and says something else."""
    with transaction.atomic():
        current = Command.objects.kept().filter(pk=command.pk, latest=based_on)
        newest = CommandVersion.objects.select_related("command").filter(
            command__in=current, number=based_on
        )
        if (same := newest.first()) and _says(same, checked):
            return same
        number = based_on + 1
        if not current.update(latest=number, **_row(actor, checked, now)):
            raise _conflict(command)
        access.require_library(actor, command.team)
        command.refresh_from_db()
        version = _version(actor, command, number, checked, now, restored_from=restored_from)
        details = {"version": number}
        if restored_from is None:
            _record(actor, "command:edit", command.team, command, details)
        else:
            details["restored_from"] = restored_from
            _record(actor, "command:restore", command.team, command, details)
        return version


def _record(
    actor: User, action: str, team: Team, command: Command, details: dict[str, Any]
) -> None:
    audit.record(actor=actor, action=action, team=team, target=command, details=details)


def _says(version: CommandVersion, checked: Checked) -> bool:
    """Whether ``version`` already says what ``checked`` says."""
    columns = {**checked.columns(), **_repeated(checked)}
    return all(getattr(version, name) == value for name, value in columns.items())


def _conflict(command: Command) -> Conflict:
    newest = CommandVersion.objects.filter(command__in=Command.objects.kept(), command=command)
    version = newest.select_related("created_by").order_by("-number").first()
    if version is None:
        return Conflict(_("This command was deleted while you were editing."))
    by = version.created_by.shown_name if version.created_by else ""
    return EditConflict(
        _("%(name)s saved v%(number)s while you were editing.")
        % {"name": by or _("Somebody"), "number": version.number},
        number=version.number,
        by=by,
    )


def _refuse_unfinished(commands: Sequence[Command]) -> None:
    tasks = Invocation.objects.filter(command__in=commands).active()
    task = tasks.select_related("command").defer("values", "content").first()
    if task is None:
        return
    names = {"command": task.command, "uid": task.uid}
    if task.runs.unapproved().exists():
        raise Conflict(
            _(
                "%(command)s waits for approval in the task %(uid)s. Have that decided, or stop "
                "the task, then delete the command."
            )
            % names
        )
    raise Conflict(
        _(
            "%(command)s is still running in the task %(uid)s. Wait until it has ended, or "
            "stop it, then delete the command."
        )
        % names
    )
