"""Actions on saved commands."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, TypeVar

from django.db.models import Q, QuerySet

from commands.access import Permission
from commands.models import Command, CommandVersion
from commands.models.command import CommandQuerySet
from commands.rules.content import Termination
from commands.services import definitions, library
from commands.services.definitions import CommandInput
from console.api import paging, shapes, wire
from console.api.caller import Caller, storable
from console.api.errors import ApiError
from console.api.shapes import BASE64, PLAIN
from console.api.wire import Parameters

Answer = dict[str, Any]
Rows = TypeVar("Rows", bound=QuerySet[Any])
NOT_HERE = {
    "ContainerId": ("InvalidParameter", "commands run on instances, not in containers."),
    "ContainerName": ("InvalidParameter", "commands run on instances, not in containers."),
    "OssOutputDelivery": ("InvalidParameter", "output is kept in the console."),
}
"""What is refused rather than left out in silence."""
PATTERN_CHARS, PATTERN_STARS = 256, 16
"""Most characters of a name with ``*``, and most of those: each is a condition of its own."""
NO_TAGS = {"Tag": ("InvalidParameter", "answers can't be filtered by tags.")}


def create(caller: Caller, parameters: Parameters) -> Answer:
    """CreateCommand: keep a command."""
    parameters.need("Name")
    made = library.create_command(
        actor=caller.actor,
        team=caller.team,
        region=caller.region,
        command=definition(parameters, usual=BASE64),
        group=caller.group(parameters),
        now=caller.now,
    )
    return {"CommandId": made.uid}


def modify(caller: Caller, parameters: Parameters) -> Answer:
    """ModifyCommand: another name, description, path, timeout or launcher, as a new version."""
    row, version = _one(caller, parameters.need("CommandId"))
    before = definitions.of_version(row, version)
    given: dict[str, Any] = {
        field: parameters.text(name)
        for name, field in _MODIFIABLE.items()
        if name in parameters.values
    }
    library.edit_command(
        actor=caller.actor,
        command=row,
        definition=replace(before, **given),
        based_on=version.number,
        now=caller.now,
    )
    return {}


def delete(caller: Caller, parameters: Parameters) -> Answer:
    """DeleteCommand."""
    library.delete_commands(
        actor=caller.actor,
        team=caller.team,
        region=caller.region,
        uids=[storable(parameters.need("CommandId"))],
    )
    return {}


def describe(caller: Caller, parameters: Parameters) -> Answer:
    """DescribeCommands: those of the library, newest first."""
    caller.require(Permission.COMMAND_READ)
    parameters.refuse(NO_TAGS)
    encoding = wire.encoding(parameters, BASE64, known=(BASE64, PLAIN))
    kept = caller.grouped(_kept(caller), parameters).select_related("resource_group")
    rows: QuerySet[Any] = _wanted(kept, parameters).with_newest().with_use()
    found, told = paging.page(parameters, rows)
    shown = [shapes.command(row, row.newest[0], encoding) for row in found]
    return {"Commands": {"Command": shown}, **told}


def definition(parameters: Parameters, *, usual: str, name: str = "") -> CommandInput:
    """The command that a call describes. Raises ApiError for what is not there at all."""
    parameters.refuse(NOT_HERE)
    encoding = wire.encoding(parameters, usual, known=(BASE64, PLAIN))
    return CommandInput(
        name=parameters.text("Name") or name,
        type=parameters.need("Type"),
        content=wire.decoded(parameters.need("CommandContent"), encoding),
        workdir=parameters.text("WorkingDir"),
        timeout=parameters.text("Timeout"),
        description=parameters.text("Description"),
        use_params=parameters.flag("EnableParameter"),
        launcher=parameters.text("Launcher"),
        run_as=parameters.text("Username"),
        termination=parameters.text("TerminationMode") or Termination.PROCESS_TREE.value,
        tags=parameters.pairs("Tag"),
    )


def find(caller: Caller, uid: str) -> CommandVersion:
    """The newest version of a saved command of the team. Raises ApiError."""
    return _one(caller, uid)[1]


_MODIFIABLE = {
    "Name": "name",
    "Description": "description",
    "WorkingDir": "workdir",
    "Timeout": "timeout",
    "Launcher": "launcher",
}


def _kept(caller: Caller) -> CommandQuerySet:
    return Command.objects.kept().filter(team=caller.team, region=caller.region)


def _one(caller: Caller, uid: str) -> tuple[Command, CommandVersion]:
    caller.require(Permission.COMMAND_READ)
    wanted = CommandVersion.objects.newest().select_related("command__team", "command__region")
    version = wanted.filter(command__in=_kept(caller).filter(uid=storable(uid))).first()
    if version is None:
        raise ApiError("InvalidCmdId.NotFound", "The specified command ID does not exist.")
    return version.command, version


def _wanted(rows: CommandQuerySet, parameters: Parameters) -> CommandQuerySet:
    if "CommandId" in parameters:
        rows = rows.filter(uid=storable(parameters.text("CommandId")))
    if "Type" in parameters:
        rows = rows.filter(type=storable(parameters.text("Type")))
    if "Provider" in parameters and parameters.text("Provider") != "User":
        rows = rows.none()
    for name in ("Name", "Description"):
        if name in parameters:
            rows = like(rows, name.lower(), parameters, name)
    return rows


def like(rows: Rows, column: str, parameters: Parameters, name: str) -> Rows:
    """Those of ``rows`` whose ``column`` fits the parameter ``name``, in which ``*`` is any text.

    What stands between two of them may be anywhere. Upper and lower case are the same. Raises
    ApiError for a pattern that is too much.
    """
    pattern = re.sub(r"\*+", "*", parameters.text(name))
    if len(pattern) > PATTERN_CHARS or pattern.count("*") > PATTERN_STARS:
        raise ApiError(
            "InvalidParameter",
            f"{name} has up to {PATTERN_CHARS} characters, and up to {PATTERN_STARS} *.",
        )
    if "\0" in pattern:
        return rows.none()
    if "*" not in pattern:
        return rows.filter(**{f"{column}__iexact": pattern})
    first, *middle, last = pattern.split("*")
    wanted = Q(**{f"{column}__istartswith": first}, **{f"{column}__iendswith": last})
    for part in middle:
        wanted &= Q(**{f"{column}__icontains": part})
    return rows.filter(wanted)
