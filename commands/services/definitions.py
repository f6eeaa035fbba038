"""What to run and how: as a person gives it, and the same after the rules have passed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from commands.errors import Invalid
from commands.models import Command, CommandVersion, Definition, Region, Team
from commands.rules import content as rules
from commands.rules import launcher as launchers
from commands.rules import limits
from commands.rules.grammar import scan
from commands.rules.parameters import check_insertions
from commands.rules.problems import Problems
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema
from commands.rules.tags import check_tags
from commands.services import quotas
from commands.words import gettext as _


@dataclass(frozen=True, slots=True)
class CommandInput:
    """What a person typed about a command; ``timeout`` in seconds, as text or number.

    ``parameters`` are what is said of its parameters, by their names in any case; ignored, as
    placeholders are, while ``use_params`` is off.
    """

    name: str
    type: str
    content: str
    workdir: str = ""
    timeout: str | int = limits.TIMEOUT_DEFAULT
    description: str = ""
    use_params: bool = False
    parameters: Mapping[str, ParameterSchema] = field(default_factory=dict)
    launcher: str = ""
    run_as: str = ""
    termination: str = rules.Termination.PROCESS_TREE.value
    tags: Sequence[tuple[str, str]] = ()
    runners_may_type: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """The same after the rules have passed it. ``timeout_asked`` is before it was raised."""

    name: str
    type: rules.CommandType
    content: str
    workdir: str
    timeout: int
    timeout_asked: int
    description: str
    use_params: bool
    parameters: dict[str, ParameterSchema]
    launcher: str
    run_as: str
    termination: rules.Termination
    tags: dict[str, str]
    runners_may_type: bool

    def columns(self) -> dict[str, Any]:
        """The columns of a ``Definition`` that say the same."""
        return {
            "content": self.content,
            "workdir": self.workdir,
            "timeout": self.timeout,
            "use_params": self.use_params,
            "parameters": {key: one.to_dict() for key, one in self.parameters.items()},
            "launcher": self.launcher,
            "run_as": self.run_as,
            "termination": self.termination.value,
        }


def check(command: CommandInput, problems: Problems, *, team: Team, region: Region) -> Checked:
    """The command as ``team`` may have it; what is wrong with it goes to ``problems``."""
    kind = problems.collect(lambda: rules.check_type(command.type), rules.CommandType.SHELL)
    timeout, asked = problems.collect(
        lambda: rules.check_timeout(command.timeout), (limits.TIMEOUT_DEFAULT, 0)
    )
    content = problems.collect(
        lambda: quotas.check_content(
            team=team, region=region, text=rules.check_content(command.content)
        ),
        "",
    )
    none: dict[str, ParameterSchema] = {}
    no_tags: Mapping[str, str] = {}
    return Checked(
        name=problems.collect(lambda: rules.check_name(command.name), ""),
        type=kind,
        content=content,
        workdir=problems.collect(lambda: rules.check_workdir(command.workdir, kind), ""),
        timeout=timeout,
        timeout_asked=asked,
        description=problems.collect(lambda: rules.check_description(command.description), ""),
        use_params=command.use_params,
        parameters=problems.collect(lambda: _check_parameters(command, content, kind), none),
        launcher=problems.collect(lambda: _check_launcher(command.launcher, kind), ""),
        run_as=problems.collect(lambda: rules.check_run_as(command.run_as, kind), ""),
        termination=problems.collect(
            lambda: rules.check_termination(command.termination), rules.Termination.PROCESS_TREE
        ),
        tags=dict(problems.collect(lambda: check_tags(command.tags), no_tags)),
        runners_may_type=command.runners_may_type,
    )


def of_version(command: Command, version: CommandVersion) -> CommandInput:
    """What a person would have to type to get this version again; not checked."""
    return CommandInput(
        name=version.name,
        type=command.type,
        content=version.content,
        workdir=version.workdir,
        timeout=version.timeout,
        description=version.description,
        use_params=version.use_params,
        parameters=version.schemas_as_kept(),
        launcher=version.launcher,
        run_as=version.run_as,
        termination=version.termination,
        tags=tuple(version.tags.items()),
        runners_may_type=version.runners_may_type,
    )


def insertions(schemas: Mapping[str, ParameterSchema]) -> dict[str, Insertion]:
    """How the value of each parameter is inserted, by key."""
    return {key: schema.insertion for key, schema in schemas.items()}


def insertions_of(definition: Definition) -> dict[str, Insertion]:
    """How a stored definition inserts its values, by key."""
    return insertions(definition.schemas())


def _check_launcher(text: str, kind: rules.CommandType) -> str:
    if not text.strip():
        return ""
    if rules.RUNS_ON[kind] is rules.OsType.WINDOWS:
        raise Invalid(
            _("Bat and PowerShell run by themselves; launchers are for Linux. Leave this empty."),
            field="launcher",
            code="InvalidParameter.Launcher",
        )
    launchers.parse(text)
    return text.strip()


def _check_parameters(
    command: CommandInput, content: str, kind: rules.CommandType
) -> dict[str, ParameterSchema]:
    if not command.use_params or not content:
        return {}
    known = {parameter.key for parameter in scan(content).check().parameters}
    # Built by hand, a schema has not been checked yet.
    given = {
        name.lower(): ParameterSchema.from_dict(schema.to_dict())
        for name, schema in command.parameters.items()
    }
    if unknown := sorted(given.keys() - known):
        raise Invalid(
            _("The command has no parameter %(name)s.") % {"name": unknown[0][:40]},
            field="parameters",
            code="InvalidParameter.ParameterDefinitions",
        )
    ways = insertions(given)
    if command.launcher.strip() and Insertion.QUOTED in ways.values():
        raise Invalid(
            _(
                "With a launcher the script's language is unknown, so values can't be quoted. "
                "Insert them as typed, or leave the launcher empty."
            ),
            field="launcher",
        )
    check_insertions(content, ways, kind)
    usual = ParameterSchema()
    return {key: schema for key, schema in given.items() if schema != usual}
