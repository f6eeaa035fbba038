"""What a task will be: checked for one person, and not yet made.

A new command, one of the library, and the frozen copy or the latest version of what an earlier
task ran all become a ``Plan``. ``commands.services.invocations`` shows it or makes the task.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from commands import access
from commands.access import Narrowing, Permission
from commands.errors import Conflict, Denied, Invalid
from commands.models import (
    Command,
    CommandVersion,
    Instance,
    Invocation,
    Region,
    ResourceGroup,
    Team,
    User,
)
from commands.rules import rate as rates
from commands.rules.again import Again
from commands.rules.problems import Problems
from commands.rules.quoting import Insertion
from commands.rules.rate import Rate, RateInput
from commands.rules.schema import ParameterSchema
from commands.services import definitions, eligibility, repeating, scripts
from commands.services.definitions import Checked, CommandInput
from commands.services.scripts import Place, Script
from commands.words import gettext as _
from commands.words import gettext_noop

DELETED = gettext_noop("That command was deleted. Choose another.")


@dataclass(frozen=True, slots=True)
class SavedInput:
    """A command of the library, and what is different for one task; None leaves it as it is.

    ``version`` is the one that the person has seen: if there is a newer one, nothing is run.
    """

    uid: str
    version: int | None = None
    workdir: str | None = None
    timeout: str | int | None = None


@dataclass(frozen=True, slots=True)
class Values:
    """Values of the parameters by name in any case, and the names of those that are hidden."""

    given: Mapping[str, str] = field(default_factory=dict, repr=False)
    hidden: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a command decides whether it can start on an instance.

    ``script`` is None where a value is still missing or wrong; ``permission`` is what running
    the command takes.
    """

    checked: Checked
    script: Script | None
    permission: Permission


@dataclass(frozen=True, slots=True)
class Plan:
    """A task that was checked and not yet made. ``version`` is None for a new command.

    ``group`` is the resource group that was named, if one was.

    ``again_of`` is the task that it repeats, in the way that ``again_kind`` says.
    """

    team: Team
    region: Region
    checked: Checked
    script: Script
    instances: list[Instance]
    permission: Permission
    version: CommandVersion | None = None
    rate: Rate = field(default_factory=Rate)
    tell_me: bool = False
    group: ResourceGroup | None = None
    again_of: Invocation | None = None
    again_kind: Again | None = None

    @property
    def command_uid(self) -> str:
        """The id of the saved command that it runs; "" for what is none."""
        if self.version is not None:
            return self.version.command.uid if self.version.command.kept else ""
        old = self.again_of
        return old.command_uid if old is not None and old.saved else ""


def of_new(
    person: User,
    team: Team,
    region: Region,
    command: CommandInput,
    values: Values,
    instance_uids: Sequence[str],
    *,
    rate: RateInput | None = None,
    complete: bool = True,
) -> Plan:
    """A plan for a command that is written for it.

    With ``complete`` false, no instance has to be chosen yet. Raises Invalid, InvalidFields.
    """
    problems = Problems()
    checked = definitions.check(command, problems, team=team, region=region)
    script = _script(checked, values, problems)
    only = access.narrowing(person, team)
    _refuse_command(only, "", problems)
    instances = _instances(team, region, checked, instance_uids, only, problems, complete=complete)
    checked_rate = rates.check(rate or RateInput(), problems)
    problems.raise_any()
    permission = Permission.INVOCATION_CREATE
    plan = Plan(team, region, checked, script, instances, permission, rate=checked_rate)
    return _filled(plan)


def of_saved(
    person: User,
    team: Team,
    region: Region,
    command: SavedInput,
    values: Values,
    instance_uids: Sequence[str],
    *,
    rate: RateInput | None = None,
    complete: bool = True,
) -> Plan:
    """A plan for the latest version of a command of the library; else as ``of_new``.

    Raises Denied and Conflict too: the person may only run it as it stands, or saw another version.
    """
    version = _latest(team, region, command)
    _refuse_old_rules(version)
    problems = Problems()
    checked = definitions.check(_changed(version, command), problems, team=team, region=region)
    script = _script(checked, values, problems)
    only = access.narrowing(person, team)
    _refuse_command(only, version.command.uid, problems)
    instances = _instances(team, region, checked, instance_uids, only, problems, complete=complete)
    permission = _needed(version, checked, script)
    if only.commands or not access.allows(person, permission, team):
        problems.collect(lambda: _refuse_changes(version, checked, script), None)
    checked_rate = rates.check(rate or RateInput(), problems)
    problems.raise_any()
    plan = Plan(team, region, checked, script, instances, permission, version, checked_rate)
    return _filled(plan)


def of_frozen(
    person: User, old: Invocation, typed: Mapping[str, str], instance_uids: Sequence[str]
) -> Plan:
    """A plan for just what ``old`` ran, with hidden values given anew; as ``of_saved``."""
    problems = Problems()
    checked = repeating.check(old, problems)
    nothing: tuple[dict[str, str], list[str]] = {}, []
    values = problems.collect(lambda: repeating.given_anew(old, typed), nothing)
    problems.raise_any()
    repeating.require_same(old, checked)
    script = _script(checked, Values(*values), problems)
    only = access.narrowing(person, old.team)
    _refuse_command(only, old.command_uid if old.saved else "", problems)
    instances = _instances(
        old.team, old.region, checked, instance_uids, only, problems, complete=True
    )
    current = repeating.as_it_stands(old)
    permission = _needed(current, checked, script) if current else Permission.INVOCATION_CREATE
    if only.commands or not access.allows(person, permission, old.team):
        if current is None:
            raise Denied(_("You may not run again what is no saved command, or was one."))
        problems.collect(lambda: _refuse_changes(current, checked, script), None)
    problems.raise_any()
    return _filled(Plan(old.team, old.region, checked, script, instances, permission))


def of_latest(
    person: User,
    old: Invocation,
    version: int | None,
    typed: Mapping[str, str],
    instance_uids: Sequence[str],
) -> Plan:
    """A plan for the latest version of the saved command that ``old`` ran; as ``of_saved``."""
    newest = repeating.newest(old)
    if newest is None:
        raise Invalid(_(DELETED), field="command", code="InvalidCommand.NotFound")
    values = Values(*repeating.given_anew(old, typed, newest))
    command = SavedInput(newest.command.uid, version)
    return of_saved(person, old.team, old.region, command, values, instance_uids)


_OF_THE_PLACE = ("type", "workdir", "run_as", "launcher")


def outline(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: CommandInput | SavedInput,
    values: Values | None = None,
) -> Outline:
    """What running the command would ask of an instance, whatever else is missing yet.

    Raises Denied, InvalidFields, Conflict: about what it asks of an instance, and about what
    the actor may not change.
    """
    given = values or Values()
    version = None
    if isinstance(command, SavedInput):
        access.require(actor, Permission.COMMAND_RUN, team)
        version = _latest(team, region, command)
        _refuse_old_rules(version)
        command = _changed(version, command)
    else:
        access.require(actor, Permission.INVOCATION_CREATE, team)
    problems, of_values = Problems(), Problems()
    checked = definitions.check(command, problems, team=team, region=region)
    script = _script(checked, given, of_values)
    problems.about(_OF_THE_PLACE).raise_any()
    narrowed = Problems()
    only = access.narrowing(actor, team)
    _refuse_command(only, version.command.uid if version else "", narrowed)
    narrowed.raise_any()
    permission = Permission.INVOCATION_CREATE
    if version is not None:
        permission = _needed(version, checked, script)
        if only.commands or not access.allows(actor, permission, team):
            _refuse_changes(version, checked, script)
    return Outline(checked, None if of_values else script, permission)


def _latest(team: Team, region: Region, command: SavedInput) -> CommandVersion:
    if not command.uid:
        raise Invalid(_("Choose a saved command."), field="command")
    found = CommandVersion.objects.select_related("command").filter(
        command__in=Command.objects.kept().filter(team=team, region=region, uid=command.uid)
        if command.uid.isascii() and command.uid.isprintable()
        else Command.objects.none()
    )
    version = found.order_by("-number").first()
    if version is None:
        raise Invalid(_(DELETED), field="command", code="InvalidCommand.NotFound")
    if command.version is not None and command.version != version.number:
        raise Conflict(
            _(
                "%(name)s has changed since you chose it: this is version %(number)s "
                "now. Check it and create again."
            )
            % {"name": version.name, "number": version.number}
        )
    return version


def _refuse_old_rules(version: CommandVersion) -> None:
    for key, why in version.refused().items():
        raise Invalid(
            _(
                "What %(name)s says of its parameter %(key)s is no longer allowed: %(why)s Edit "
                "the command, then run it."
            )
            % {"name": version.name, "key": key, "why": why},
            field="command",
            code="InvalidParameter.ParameterDefinitions",
        )


def _changed(version: CommandVersion, command: SavedInput) -> CommandInput:
    stored = definitions.of_version(version.command, version)
    return replace(
        stored,
        workdir=stored.workdir if command.workdir is None else command.workdir,
        timeout=stored.timeout if command.timeout is None else command.timeout,
    )


def _script(checked: Checked, values: Values, problems: Problems) -> Script:
    none: dict[str, str] = {}
    filled = None
    if checked.use_params and checked.content:
        filled = problems.collect(
            lambda: scripts.values_of(checked.content, values.given, checked.parameters), none
        )
    secret = {key for key, schema in checked.parameters.items() if schema.secret}
    named = {name.lower() for name in values.hidden}
    return Script(
        content=checked.content,
        type=checked.type,
        values=filled,
        insertions=definitions.insertions(checked.parameters),
        hidden=frozenset((secret | named) & set(filled or ())),
    )


def _instances(
    team: Team,
    region: Region,
    checked: Checked,
    uids: Sequence[str],
    only: Narrowing,
    problems: Problems,
    *,
    complete: bool,
) -> list[Instance]:
    none: list[Instance] = []
    if not uids and not complete:
        return none
    found = problems.collect(
        lambda: eligibility.choose(
            team=team, region=region, kind=checked.type, uids=uids, only=only
        ),
        none,
    )
    for instance in found:
        if only.refuses_user(checked.run_as, instance):
            problems.add(
                "run_as",
                _(
                    "You may not run anything as %(user)s on %(name)s. Choose another user, or "
                    "ask a team admin."
                )
                % {"user": checked.run_as or instance.user, "name": instance.name},
            )
            break
    return found


def _refuse_command(only: Narrowing, command_uid: str, problems: Problems) -> None:
    if only.refuses_command(command_uid):
        problems.add(
            "command" if command_uid else "",
            _(
                "Your membership is narrowed to certain saved commands, and this is none of them. "
                "Choose another, or ask a team admin."
            ),
        )


def _filled(plan: Plan) -> Plan:
    """The plan, whose script fits everywhere with its values. Raises Invalid."""
    if plan.script.values is not None and plan.instances:
        places = [
            Place.of(instance, account=plan.team.uid, region=plan.region.uid)
            for instance in plan.instances
        ]
        scripts.check_filled(plan.script, places, team=plan.team, region=plan.region)
    return plan


def _typed(version: CommandVersion, script: Script) -> list[str]:
    """Keys whose values are inserted as typed and not those that the command itself brings."""
    if version.runners_may_type:
        return []
    schemas = version.schemas()
    usual = ParameterSchema()
    return [
        key
        for key, value in (script.values or {}).items()
        if (schema := schemas.get(key, usual)).insertion is Insertion.AS_TYPED
        and value != schema.default
    ]


def _needed(version: CommandVersion, checked: Checked, script: Script) -> Permission:
    as_it_stands = checked.workdir == version.workdir and not _typed(version, script)
    return Permission.COMMAND_RUN if as_it_stands else Permission.INVOCATION_CREATE


def _refuse_changes(version: CommandVersion, checked: Checked, script: Script) -> None:
    problems = Problems()
    if checked.workdir != version.workdir:
        problems.add(
            "workdir",
            _(
                "Your role runs saved commands as they stand. Leave the execution path as it is, "
                "or ask an operator."
            ),
        )
    for key in _typed(version, script):
        problems.add(
            f"param-{key}",
            _(
                "Your role can't give %(key)s a value: it is inserted as typed, so it could be any "
                "code. Leave it as it is, or ask an operator."
            )
            % {"key": key},
        )
    problems.raise_any()
