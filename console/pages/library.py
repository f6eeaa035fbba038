"""What pages of the library show of commands: plain objects made from rows, for templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.utils.translation import gettext as _

from commands.models import Command, CommandVersion, Invocation, User
from commands.models.command import TerminationChoice
from commands.rules.differences import Line, differences
from commands.rules.grammar import PLACEHOLDER, Parameter, scan
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema
from commands.services import definitions
from commands.services.definitions import CommandInput
from console import presentation
from console.presentation import TaskView

_USUAL = ParameterSchema()


@dataclass(frozen=True, slots=True)
class CommandRow:
    """A command in the list; ``last`` is the newest task that ran it."""

    command: Command
    by: str
    parameters: list[str]
    pinned: bool
    times_run: int
    last: TaskView | None


class Piece(NamedTuple):
    """A piece of a script; ``parameter`` if it is a placeholder."""

    text: str
    parameter: bool


@dataclass(frozen=True, slots=True)
class ListingLine:
    """A line of a script in pieces; ``comment`` if all of it is one."""

    pieces: list[Piece]
    comment: bool


@dataclass(frozen=True, slots=True)
class ParameterView:
    """A parameter of a command and what is said of it."""

    parameter: Parameter
    schema: ParameterSchema
    insertion: str


class Change(NamedTuple):
    """A setting that differs: its name, and what two definitions say of it."""

    label: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two definitions: settings, and lines of the script."""

    settings: list[Change]
    lines: list[Line]


def rows(commands: Iterable[Command], now: datetime) -> list[CommandRow]:
    """Rows of the list, for ``commands`` that come with their use, pin and newest version."""
    found = list(commands)
    keys = [key for command in found if (key := _annotated(command, "last_task"))]
    tasks = Invocation.objects.filter(pk__in=keys).prefetch_related("runs")
    last = {task.pk: presentation.task_view(task, list(task.runs.all()), now) for task in tasks}
    return [
        CommandRow(
            command=command,
            by=name_of(command.updated_by),
            parameters=[one.name for version in _newest(command) for one in parameters_of(version)],
            pinned=bool(_annotated(command, "pinned")),
            times_run=_annotated(command, "times_run"),
            last=last.get(_annotated(command, "last_task")),
        )
        for command in found
    ]


def name_of(user: User | None) -> str:
    """The name of who did something, also of somebody whose account is gone."""
    return user.shown_name if user else _("a former member")


def listing(version: CommandVersion) -> list[ListingLine]:
    """The script line by line, placeholders marked."""
    text = version.content.removesuffix("\n")
    return [
        ListingLine(_pieces(line, version.use_params), line.lstrip().startswith("#"))
        for line in text.split("\n")
    ]


def parameters_of(version: CommandVersion) -> tuple[Parameter, ...]:
    """The parameters that a version asks values for."""
    return scan(version.content).parameters if version.use_params else ()


def parameter_views(version: CommandVersion) -> list[ParameterView]:
    """The same with what is said of each."""
    schemas = version.schemas_as_kept()
    return [
        ParameterView(parameter, schema, _insertion(schema))
        for parameter in parameters_of(version)
        for schema in [schemas.get(parameter.key, _USUAL)]
    ]


def difference(old: CommandInput, new: CommandInput) -> Difference:
    """What differs between two definitions of a command."""
    before, after = _settings(old), _settings(new)
    changes = [
        Change(label, before.get(label, ""), after.get(label, ""))
        for label in dict.fromkeys([*before, *after])
        if before.get(label, "") != after.get(label, "")
    ]
    return Difference(changes, differences(_script(old), _script(new)))


def version_difference(command: Command, old: CommandVersion, new: CommandVersion) -> Difference:
    """What differs between two versions of ``command``."""
    return difference(definitions.of_version(command, old), definitions.of_version(command, new))


def _annotated(command: Command, name: str) -> int:
    value: int = getattr(command, name)
    return value


def _newest(command: Command) -> Sequence[CommandVersion]:
    newest: Sequence[CommandVersion] = getattr(command, "newest")  # noqa: B009 - set by a prefetch
    return newest


def _pieces(line: str, use_params: bool) -> list[Piece]:
    pieces: list[Piece] = []
    reached = 0
    for match in re.finditer(PLACEHOLDER, line) if use_params else ():
        pieces += (
            Piece(line[reached : match.start()], parameter=False),
            Piece(match[0], parameter=True),
        )
        reached = match.end()
    return [piece for piece in (*pieces, Piece(line[reached:], parameter=False)) if piece.text]


def _script(command: CommandInput) -> str:
    return command.content.replace("\r\n", "\n")


def _insertion(schema: ParameterSchema) -> str:
    return _("Quoted") if schema.insertion is Insertion.QUOTED else _("As typed")


def _settings(command: CommandInput) -> dict[str, str]:
    """What a definition says besides its script, by label."""
    switch = {True: _("On"), False: _("Off")}
    found = {
        _("Command name"): command.name.strip(),
        _("Description"): command.description.strip(),
        _("Execution path"): command.workdir.strip() or _("Home folder"),
        _("Timeout period"): _("%(n)s seconds") % {"n": str(command.timeout).strip()},
        _("Run as"): command.run_as.strip() or _("The sign-in user"),
        _("Launcher"): command.launcher.strip() or _("None"),
        _("A timeout or a stop ends"): str(TerminationChoice(command.termination).label),
        _("Use parameters"): switch[command.use_params],
        _("Runners may type values"): switch[command.runners_may_type],
        _("Tags"): ", ".join(f"{key.strip()}={value.strip()}" for key, value in command.tags),
    }
    return found | dict(_parameter_settings(command))


def _parameter_settings(command: CommandInput) -> Iterator[tuple[str, str]]:
    given: Mapping[str, ParameterSchema] = command.parameters if command.use_params else {}
    for key, schema in sorted(given.items()):
        if schema != _USUAL:
            yield _("Parameter %(name)s") % {"name": key}, " · ".join(_said(schema))


def _said(schema: ParameterSchema) -> Iterator[str]:
    """Everything unusual about a parameter, in words."""
    if schema.required:
        yield _("required")
    if schema.secret:
        yield _("hidden")
    if schema.insertion is Insertion.QUOTED:
        yield _("quoted")
    if schema.default:
        yield _("default %(value)s") % {"value": schema.default}
    if schema.choices:
        yield _("one of %(values)s") % {"values": ", ".join(schema.choices)}
    if schema.pattern:
        yield _("matches %(pattern)s") % {"pattern": schema.pattern}
    if schema.description:
        yield schema.description
