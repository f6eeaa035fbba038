"""Creating tasks: checks, then rows, then a job, all in one transaction.

A new command and one of the library take the same way: both become a ``_Plan``, which is what
``preview`` shows and what ``run_command`` and ``invoke_command`` carry out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime

from django.db import IntegrityError, transaction

from commands import access
from commands.access import Permission
from commands.errors import Conflict, Invalid, QuotaExceeded
from commands.models import Command, CommandVersion, Instance, Invocation, Region, Run, Team, User
from commands.rules import content as rules
from commands.rules import rate as rates
from commands.rules.problems import Problems
from commands.rules.quoting import Insertion
from commands.rules.rate import Rate, RateInput
from commands.rules.schema import ParameterSchema
from commands.services import (
    definitions,
    eligibility,
    idempotency,
    library,
    pacing,
    quotas,
    runs,
    scripts,
    stopping,
)
from commands.services.definitions import Checked, CommandInput
from commands.services.scripts import Binding, Place, Script
from commands.services.stopping import Stop

DELETED = "That command was deleted. Choose another."


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
class Preview:
    """What would run on one instance, hidden values marked.

    ``instance`` is None if none is selected: then what differs by instance is marked too.
    ``digest`` is that of the text as it is shown; "" where it is not all known yet.
    """

    instance: Instance | None
    script: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """A task that was checked and not yet made. ``version`` is None for a new command."""

    team: Team
    region: Region
    checked: Checked
    script: Script
    instances: list[Instance]
    permission: Permission
    version: CommandVersion | None = None
    rate: Rate = field(default_factory=Rate)


def run_command(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: CommandInput,
    values: Values | None = None,
    save: bool = False,
    instance_uids: Sequence[str],
    rate: RateInput | None = None,
    client_token: str = "",
    now: datetime,
) -> Invocation:
    """Create a task that runs a new command on instances, and have it started.

    With ``save`` the command is kept in the library and uses one place of its quota; else it
    uses none. ``rate`` says how fast it spreads over the instances. With a ``client_token``,
    repeating the request answers with the task it made before. Raises Denied; InvalidFields
    with a sentence for every field that is wrong; QuotaExceeded if the team has no task left
    today, or no place in its library; IdempotencyMismatch if the token was used for another
    request.
    """
    access.require(actor, Permission.INVOCATION_CREATE, team)
    if save:
        access.require(actor, Permission.COMMAND_MANAGE, team)
    given = values or Values()
    digest = _digest(region, _plain(command), given, instance_uids, save=save, rate=rate)

    def plan() -> _Plan:
        return _plan_new(team, region, command, given, instance_uids, rate=rate)

    return _once(actor, team, client_token, digest, plan, now, save=save)


def invoke_command(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: SavedInput,
    values: Values | None = None,
    instance_uids: Sequence[str],
    rate: RateInput | None = None,
    client_token: str = "",
    now: datetime,
) -> Invocation:
    """Create a task that runs a command of the library, and have it started.

    Members that may only run saved commands can't change its path, nor give values that are
    inserted as typed unless the command allows it. Raises what ``run_command`` raises, and
    Conflict if the command was edited since.
    """
    access.require(actor, Permission.COMMAND_RUN, team)
    given = values or Values()
    digest = _digest(region, _plain(command), given, instance_uids, rate=rate)

    def plan() -> _Plan:
        return _plan_saved(actor, team, region, command, given, instance_uids, rate=rate)

    return _once(actor, team, client_token, digest, plan, now)


def stop_invocation(
    *,
    actor: User,
    invocation: Invocation,
    instance_uids: Sequence[str] | None = None,
    now: datetime,
) -> Stop:
    """Stop a task on all its instances, or on some of them; what that changed.

    What is not begun never begins; the rest is Stopping until its instance has ended it. Runs
    that have ended keep their result, and stopping twice is harmless. Raises Denied; Invalid if
    the task has no run on one of ``instance_uids``, and then nothing is stopped.
    """
    access.require_control(actor, invocation)
    if instance_uids is not None:
        known = set(invocation.runs.values_list("instance_uid", flat=True))
        if strange := sorted(set(instance_uids) - known):
            raise Invalid(
                f"This task does not run on {strange[0]}.",
                field="instance",
                code="InvalidInstanceId.NotFound",
            )
    return stopping.stop(
        invocation=invocation, instance_uids=instance_uids, by=actor.shown_name, now=now
    )


def continue_invocation(
    *, actor: User, invocation: Invocation, after: int | None = None, now: datetime
) -> bool:
    """Let a task that waits between two batches go on with the next; whether it did wait.

    ``after`` is how many of its runs had been released when the person decided: pressing twice
    lets one batch go, not two. Raises Denied.
    """
    access.require_control(actor, invocation)
    return pacing.next_batch(invocation_id=invocation.pk, after=after, now=now)


def preview(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: CommandInput | SavedInput,
    values: Values | None = None,
    instance_uids: Sequence[str],
    mark: str,
) -> list[Preview]:
    """The exact script for every instance, checked as at creation; ``mark`` for what is unknown.

    Neither a name nor instances are needed yet. Raises Denied, InvalidFields, Conflict.
    """
    given = values or Values()
    if isinstance(command, SavedInput):
        access.require(actor, Permission.COMMAND_RUN, team)
        plan = _plan_saved(actor, team, region, command, given, instance_uids, complete=False)
    else:
        access.require(actor, Permission.INVOCATION_CREATE, team)
        named = command if command.name.strip() else replace(command, name="Preview")
        plan = _plan_new(team, region, named, given, instance_uids, complete=False)
    if not plan.instances:
        nowhere = Place(region.uid, team.uid, mark, mark, mark, mark)
        return [Preview(None, plan.script.shown(nowhere), "")]
    command_uid = plan.version.command.uid if plan.version else mark
    return [_preview(plan, instance, mark, command_uid) for instance in plan.instances]


def _preview(plan: _Plan, instance: Instance, mark: str, command_uid: str) -> Preview:
    place = Place(plan.region.uid, plan.team.uid, instance.uid, instance.name, mark, command_uid)
    shown = plan.script.shown(place)
    open_ids = plan.script.names_ids(command_is_known=plan.version is not None)
    return Preview(instance, shown, "" if open_ids else scripts.shown_digest(shown))


def _once(
    actor: User,
    team: Team,
    client_token: str,
    digest: str,
    plan: Callable[[], _Plan],
    now: datetime,
    *,
    save: bool = False,
) -> Invocation:
    """The task that this request made before, or makes now."""
    token = rules.check_client_token(client_token)

    def earlier() -> Invocation | None:
        return idempotency.earlier(actor=actor, team=team, token=token, digest=digest)

    if found := earlier():
        return found
    planned = plan()
    try:
        with transaction.atomic():
            return _create(actor, planned, token, digest, now, save=save)
    except (IntegrityError, QuotaExceeded):
        # The same token was committed, and took the last place, while this request was on its way.
        if found := earlier():
            return found
        raise


def _digest(
    region: Region,
    command: list[object],
    values: Values,
    instance_uids: Sequence[str],
    *,
    save: bool = False,
    rate: RateInput | None = None,
) -> str:
    return idempotency.digest(
        region.uid,
        command,
        sorted(values.given.items()),
        sorted(values.hidden),
        sorted(set(instance_uids)),
        save,
        *([astuple(rate)] if rate and rate.asked else []),
    )


def _plain(command: CommandInput | SavedInput) -> list[object]:
    """The same as JSON's types, for a digest; timeouts as text, as forms send them."""
    if isinstance(command, SavedInput):
        timeout = None if command.timeout is None else str(command.timeout)
        return [command.uid, command.version, command.workdir, timeout]
    return [
        command.name,
        command.type,
        command.content,
        command.workdir,
        str(command.timeout),
        command.description,
        command.use_params,
        sorted((key, schema.to_dict()) for key, schema in command.parameters.items()),
        command.launcher,
        command.run_as,
        command.termination,
        [list(pair) for pair in command.tags],
        command.runners_may_type,
    ]


def _plan_new(
    team: Team,
    region: Region,
    command: CommandInput,
    values: Values,
    instance_uids: Sequence[str],
    *,
    rate: RateInput | None = None,
    complete: bool = True,
) -> _Plan:
    problems = Problems()
    checked = definitions.check(command, problems)
    script = _script(checked, values, problems)
    instances = _instances(team, region, checked, instance_uids, problems, complete=complete)
    checked_rate = rates.check(rate or RateInput(), problems)
    problems.raise_any()
    permission = Permission.INVOCATION_CREATE
    plan = _Plan(team, region, checked, script, instances, permission, rate=checked_rate)
    return _filled(plan)


def _plan_saved(
    actor: User,
    team: Team,
    region: Region,
    command: SavedInput,
    values: Values,
    instance_uids: Sequence[str],
    *,
    rate: RateInput | None = None,
    complete: bool = True,
) -> _Plan:
    version = _latest(team, region, command)
    _refuse_old_rules(version)
    problems = Problems()
    checked = definitions.check(_changed(version, command), problems)
    script = _script(checked, values, problems)
    instances = _instances(team, region, checked, instance_uids, problems, complete=complete)
    permission = _needed(version, checked, script)
    if not access.allows(actor, permission, team):
        problems.collect(lambda: _refuse_changes(version, checked, script), None)
    checked_rate = rates.check(rate or RateInput(), problems)
    problems.raise_any()
    plan = _Plan(team, region, checked, script, instances, permission, version, checked_rate)
    return _filled(plan)


def _latest(team: Team, region: Region, command: SavedInput) -> CommandVersion:
    if not command.uid:
        raise Invalid("Choose a saved command.", field="command")
    found = CommandVersion.objects.select_related("command").filter(
        command__in=Command.objects.kept().filter(team=team, region=region, uid=command.uid)
        if command.uid.isascii() and command.uid.isprintable()
        else Command.objects.none()
    )
    version = found.order_by("-number").first()
    if version is None:
        raise Invalid(DELETED, field="command", code="InvalidCommand.NotFound")
    if command.version is not None and command.version != version.number:
        raise Conflict(
            f"{version.name} has changed since you chose it: this is version {version.number} "
            "now. Check it and create again."
        )
    return version


def _refuse_old_rules(version: CommandVersion) -> None:
    for key, why in version.refused().items():
        raise Invalid(
            f"What {version.name} says of its parameter {key} is no longer allowed: {why} Edit "
            "the command, then run it.",
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
    problems: Problems,
    *,
    complete: bool,
) -> list[Instance]:
    none: list[Instance] = []
    if not uids and not complete:
        return none
    return problems.collect(
        lambda: eligibility.choose(team=team, region=region, kind=checked.type, uids=uids), none
    )


def _filled(plan: _Plan) -> _Plan:
    """The plan, whose script fits everywhere with its values. Raises Invalid."""
    if plan.script.values is not None and plan.instances:
        places = [
            Place.of(instance, account=plan.team.uid, region=plan.region.uid)
            for instance in plan.instances
        ]
        scripts.check_filled(plan.script, places)
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
            "Your role runs saved commands as they stand. Leave the execution path as it is, or "
            "ask an operator.",
        )
    for key in _typed(version, script):
        problems.add(
            f"param-{key}",
            f"Your role can't give {key} a value: it is inserted as typed, so it could be any "
            "code. Leave it as it is, or ask an operator.",
        )
    problems.raise_any()


def _create(
    actor: User, plan: _Plan, token: str, digest: str, now: datetime, *, save: bool
) -> Invocation:
    quotas.take_task(team=plan.team, region=plan.region, now=now)
    if save:
        quotas.require_room_for_command(team=plan.team, region=plan.region)
    version = _locked(plan.version) if plan.version else _add(actor, plan, now, kept=save)
    rate = plan.rate
    invocation = Invocation.objects.create(
        team=plan.team,
        region=plan.region,
        command=version.command,
        command_uid=version.command.uid,
        version=version,
        saved=version.command.kept,
        permission=plan.permission.value,
        name=plan.checked.name,
        type=plan.checked.type.value,
        timeout_asked=plan.checked.timeout_asked,
        values=json.dumps(plan.script.values) if plan.script.values else "",
        hidden=sorted(plan.script.hidden),
        tags=plan.checked.tags,
        created_by=actor,
        created_by_name=actor.shown_name,
        created_at=now,
        client_token=token,
        request_digest=digest,
        concurrency=rate.concurrency,
        max_failures=rate.max_failures,
        batch_pause=rate.pause_s,
        batch_confirm=rate.confirm,
        canary=rate.canary,
        batch_end=rate.first_batch(len(plan.instances)),
        **plan.checked.columns(),
    )
    made = [_run(invocation, instance, plan.script) for instance in plan.instances]
    pacing.hold_back(rate, made, now)
    Run.objects.bulk_create(made)
    begin = invocation.runs.released().order_by("pk").values_list("pk", flat=True)
    runs.ask_to_start(list(begin))
    return invocation


def _add(actor: User, plan: _Plan, now: datetime, *, kept: bool) -> CommandVersion:
    return library.add(
        actor=actor, team=plan.team, region=plan.region, checked=plan.checked, kept=kept, now=now
    )


def _locked(version: CommandVersion) -> CommandVersion:
    """The same, of a command that nobody can delete until the task is there."""
    if not Command.objects.select_for_update().filter(pk=version.command_id).exists():
        raise Invalid(DELETED, field="command", code="InvalidCommand.NotFound")
    return version


def _run(invocation: Invocation, instance: Instance, script: Script) -> Run:
    run = Run(
        invocation=invocation,
        instance=instance,
        instance_uid=instance.uid,
        instance_name=instance.name,
        address=instance.address,
    )
    run.digest = Binding.of(run, script.data(scripts.place_of(run))).digest()
    return run
