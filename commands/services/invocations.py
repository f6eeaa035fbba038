"""Creating tasks: rows, then a job, all in one transaction.

A new command, one of the library and the frozen copy of an earlier task take the same way: all
become a ``Plan``, which is what ``preview`` shows and what ``run_command``, ``invoke_command``
and ``repeat_invocation`` carry out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from commands import access
from commands.access import Permission
from commands.errors import Invalid, InvalidFields, QuotaExceeded
from commands.models import (
    Command,
    CommandVersion,
    Instance,
    Invocation,
    Region,
    ResourceGroup,
    Run,
    Team,
    User,
)
from commands.rules import content as rules
from commands.rules.again import Again
from commands.rules.problems import Problems
from commands.rules.quoting import Insertion
from commands.rules.rate import RateInput
from commands.services import (
    approval_rules,
    approvals,
    audit,
    idempotency,
    library,
    pacing,
    plans,
    quotas,
    repeating,
    resource_groups,
    runs,
    scripts,
    stopping,
)
from commands.services.definitions import CommandInput
from commands.services.plans import Plan, SavedInput, Values
from commands.services.scripts import Binding, Place, Script
from commands.services.stopping import Stop
from commands.words import gettext as _

NAMED = 50
"""Instances that the audit trail names of one task; it always says how many there are."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What would run on one instance, hidden values marked.

    ``instance`` is None if none is selected: then what differs by instance is marked too.
    ``digest`` is that of the text as it is shown; "" where it is not all known yet.
    """

    instance: Instance | None
    script: str
    digest: str


def run_command(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: CommandInput,
    values: Values | None = None,
    save: bool = False,
    instance_uids: Sequence[str],
    group: ResourceGroup | None = None,
    rate: RateInput | None = None,
    tell_me: bool = False,
    client_token: str = "",
    now: datetime,
) -> Invocation:
    """Create a task that runs a new command on instances, and have it started.

    With ``save`` the command is kept in the library and uses one place of its quota; else it
    uses none. It and the task go to the team's default resource group unless ``group`` names
    another, in which its instances have to be then. ``rate`` says how fast it spreads over the
    instances, ``tell_me`` that ``actor`` wants an e-mail when it ends. With a ``client_token``,
    repeating the request answers with the task it made before. Raises Denied; InvalidFields with a
    sentence for every field that is wrong; QuotaExceeded if the team has no task left today, or no
    place in its library; IdempotencyMismatch if the token was used for another request.
    """
    access.require(actor, Permission.INVOCATION_CREATE, team)
    if save:
        access.require(actor, Permission.COMMAND_MANAGE, team)
    given = values or Values()
    digest = _digest(
        region,
        _plain(command),
        given,
        instance_uids,
        save=save,
        rate=rate,
        tell_me=tell_me,
        group=group,
    )

    def plan() -> Plan:
        planned = plans.of_new(actor, team, region, command, given, instance_uids, rate=rate)
        return _in_group(_telling(planned, actor, tell_me=tell_me), group)

    return _once(actor, team, client_token, digest, plan, now, save=save)


def invoke_command(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: SavedInput,
    values: Values | None = None,
    instance_uids: Sequence[str],
    group: ResourceGroup | None = None,
    rate: RateInput | None = None,
    tell_me: bool = False,
    client_token: str = "",
    now: datetime,
) -> Invocation:
    """Create a task that runs a command of the library, and have it started.

    Members that may only run saved commands can't change its path, nor give values that are
    inserted as typed unless the command allows it. ``group`` is as in ``run_command``. Raises what
    that raises, and Conflict if the command was edited since.
    """
    access.require(actor, Permission.COMMAND_RUN, team)
    given = values or Values()
    digest = _digest(
        region, _plain(command), given, instance_uids, rate=rate, tell_me=tell_me, group=group
    )

    def plan() -> Plan:
        planned = plans.of_saved(actor, team, region, command, given, instance_uids, rate=rate)
        return _in_group(_telling(planned, actor, tell_me=tell_me), group)

    return _once(actor, team, client_token, digest, plan, now)


def repeat_invocation(
    *,
    actor: User,
    invocation: Invocation,
    kind: Again,
    instance_uids: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
    version: int | None = None,
    client_token: str = "",
    now: datetime,
) -> Invocation:
    """Create a task that runs again what ``invocation`` ran, on its instances or some of them.

    It runs the frozen copy, with everything in it, also how fast it spreads; or, as
    ``Again.LATEST``, what the saved command says now, which must be the ``version`` that the
    person has seen. Instances on which that is not possible now are left out. ``values`` are
    those that ``repeating.questions`` asks for, by name in any case; the others are what they
    were. Raises what ``invoke_command`` raises, Invalid too if no instance is left, and Conflict
    if today's rules would make something else of the copy.
    """
    access.require(actor, Permission.COMMAND_RUN, invocation.team)
    wanted = repeating.chosen(invocation, instance_uids=instance_uids)
    typed = dict(values or {})
    asked: list[object] = ["again", invocation.uid, kind.value, version]
    uids = [run.instance_uid for run in wanted]
    digest = _digest(invocation.region, asked, Values(typed), uids)

    def plan() -> Plan:
        where = repeating.where(invocation, wanted)
        if not where.usable:
            raise Invalid(_("None of these instances can be used now."), field="instances")
        usable = [instance.uid for instance in where.usable]
        if kind is Again.LATEST:
            planned = plans.of_latest(actor, invocation, version, typed, usable)
        else:
            planned = plans.of_frozen(actor, invocation, typed, usable)
        return replace(
            planned,
            rate=invocation.rate,
            again_of=invocation,
            again_kind=kind,
            group=invocation.resource_group,
        )

    return _once(actor, invocation.team, client_token, digest, plan, now)


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
    return _stop(actor, "task:stop", invocation, instance_uids, now)


def stop_by_staff(*, actor: User, invocation: Invocation, now: datetime) -> Stop:
    """Stop a task of any team, as an administrator of the console; what that changed.

    Raises Denied unless ``actor`` is staff.
    """
    access.require_staff(actor)
    return _stop(actor, "task:stop-by-staff", invocation, None, now)


def _stop(
    actor: User,
    action: str,
    invocation: Invocation,
    instance_uids: Sequence[str] | None,
    now: datetime,
) -> Stop:
    if instance_uids is not None:
        known = set(invocation.runs.values_list("instance_uid", flat=True))
        if strange := sorted(set(instance_uids) - known):
            raise Invalid(
                _("This task does not run on %(name)s.") % {"name": strange[0]},
                field="instance",
                code="InvalidInstanceId.NotFound",
            )
    with transaction.atomic():
        approval = approvals.lock(invocation)
        done = stopping.stop(
            invocation=invocation, instance_uids=instance_uids, by=actor.shown_name, now=now
        )
        if approval is not None:
            approvals.stopped(approval, actor=actor, now=now)
        if not done.nothing:
            numbers: dict[str, Any] = {"never_started": done.cancelled, "ended": done.stopping}
            if instance_uids is not None:
                runs_there = invocation.runs.filter(instance_uid__in=instance_uids)
                names = runs_there.order_by("pk").values_list("instance_name", flat=True)
                numbers["on"] = list(names[:NAMED])
            _record(actor, action, invocation, numbers, now)
    return done


def continue_invocation(
    *, actor: User, invocation: Invocation, after: int | None = None, now: datetime
) -> bool:
    """Let a task that waits between two batches go on with the next; whether it did wait.

    ``after`` is how many of its runs had been released when the person decided: pressing twice
    lets one batch go, not two. Raises Denied.
    """
    access.require_control(actor, invocation)
    with transaction.atomic():
        continued = pacing.next_batch(invocation_id=invocation.pk, after=after, now=now)
        if continued:
            _record(actor, "task:continue", invocation, {"after": after}, now)
    return continued


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
        plan = plans.of_saved(actor, team, region, command, given, instance_uids, complete=False)
    else:
        access.require(actor, Permission.INVOCATION_CREATE, team)
        named = command if command.name.strip() else replace(command, name="Preview")
        plan = plans.of_new(actor, team, region, named, given, instance_uids, complete=False)
    if not plan.instances:
        nowhere = Place(region.uid, team.uid, mark, mark, mark, mark)
        return [Preview(None, plan.script.shown(nowhere), "")]
    command_uid = plan.version.command.uid if plan.version else mark
    return [_preview(plan, instance, mark, command_uid) for instance in plan.instances]


def _preview(plan: Plan, instance: Instance, mark: str, command_uid: str) -> Preview:
    place = Place(plan.region.uid, plan.team.uid, instance.uid, instance.name, mark, command_uid)
    shown = plan.script.shown(place)
    open_ids = plan.script.names_ids(command_is_known=plan.version is not None)
    return Preview(instance, shown, "" if open_ids else scripts.shown_digest(shown))


def _once(
    actor: User,
    team: Team,
    client_token: str,
    digest: str,
    plan: Callable[[], Plan],
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
    tell_me: bool = False,
    group: ResourceGroup | None = None,
) -> str:
    return idempotency.digest(
        region.uid,
        command,
        sorted(values.given.items()),
        sorted(values.hidden),
        sorted(set(instance_uids)),
        save,
        *([astuple(rate)] if rate and rate.asked else []),
        *(["tell me"] if tell_me else []),
        *([["group", group.uid]] if group else []),
    )


def _in_group(plan: Plan, group: ResourceGroup | None) -> Plan:
    if group is None:
        return plan
    resource_groups.require_together(team=plan.team, group=group, instances=plan.instances)
    return replace(plan, group=group)


def _telling(plan: Plan, actor: User, *, tell_me: bool) -> Plan:
    if tell_me and not actor.email:
        text = _("Your account has no e-mail address. An administrator of the console can add it.")
        raise InvalidFields({"tell_me": [text]})
    return replace(plan, tell_me=tell_me)


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


def _create(
    actor: User, plan: Plan, token: str, digest: str, now: datetime, *, save: bool
) -> Invocation:
    why = _why_approval(actor, plan)
    quotas.take_task(team=plan.team, region=plan.region, runs=len(plan.instances), now=now)
    if save:
        quotas.require_room_for_command(team=plan.team, region=plan.region)
    group = resource_groups.hold(team=plan.team, group=plan.group)
    rate = plan.rate
    invocation = Invocation.objects.create(
        team=plan.team,
        region=plan.region,
        resource_group=group,
        **_source(actor, plan, group, now, save=save),
        again_of=plan.again_of,
        again_kind=plan.again_kind.value if plan.again_kind else "",
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
        tell_me=plan.tell_me,
        **plan.checked.columns(),
    )
    made = [_run(invocation, instance, plan.script) for instance in plan.instances]
    if why:
        pacing.hold_unapproved(made)
    else:
        pacing.hold_back(rate, made, now)
    Run.objects.bulk_create(made)
    begin = invocation.runs.released().order_by("pk").values_list("pk", flat=True)
    runs.ask_to_start(list(begin))
    _record(actor, *_done(plan, invocation), now)
    if why:
        approvals.ask(invocation=invocation, why=why, now=now)
    return invocation


def _why_approval(actor: User, plan: Plan) -> list[str]:
    """Why another member has to approve the task; none if nobody has to.

    Raises Conflict if nobody could, InvalidFields if what would run could not be seen.
    """
    run_as = plan.checked.run_as
    why = approval_rules.reasons(team=plan.team, instances=plan.instances, run_as=run_as)
    if why:
        _refuse_unseen(plan.script)
        approvals.require_somebody(
            creator=actor,
            team=plan.team,
            command_uid=plan.command_uid,
            run_as=run_as,
            instances=plan.instances,
        )
    return why


def _refuse_unseen(script: Script) -> None:
    """Raise InvalidFields where a hidden value could be code: nobody can approve what is a mark."""
    problems = Problems()
    for key in sorted(script.hidden):
        if script.insertions.get(key, Insertion.AS_TYPED) is Insertion.AS_TYPED:
            problems.add(
                f"param-{key}",
                _(
                    "%(key)s is hidden and inserted as typed: whoever approves could not see what "
                    "would run. Show it, or have it inserted quoted in the saved command."
                )
                % {"key": key},
            )
    problems.raise_any()


def _done(plan: Plan, invocation: Invocation) -> tuple[str, Invocation, dict[str, Any]]:
    """What the audit trail says of a new task: names, and no value of any parameter."""
    details: dict[str, Any] = {
        "region": plan.region.uid,
        "type": plan.checked.type.value,
        "command": invocation.command_uid,
        "saved": invocation.saved,
        "run_as": plan.checked.run_as,
        "parameters": sorted(plan.script.values or {}),
        "instances": len(plan.instances),
        "on": [instance.name for instance in plan.instances[:NAMED]],
    }
    if plan.again_of is None:
        return "task:create", invocation, details
    return "task:again", invocation, {**details, "again_of": plan.again_of.uid}


def _record(
    actor: User, action: str, invocation: Invocation, details: dict[str, Any], now: datetime
) -> None:
    audit.record(
        actor=actor,
        action=action,
        team=invocation.team,
        target=invocation,
        target_name=invocation.name,
        details=details,
        now=now,
    )


def _source(
    actor: User, plan: Plan, group: ResourceGroup, now: datetime, *, save: bool
) -> dict[str, Any]:
    """The columns that say which command a task runs."""
    old = plan.again_of
    if old is not None and plan.version is None:
        # Its copy is all that it needs: the command may be gone.
        there = _lock(old.command_id)
        return {
            "command_id": old.command_id if there else None,
            "version_id": old.version_id if there else None,
            "command_uid": old.command_uid,
            "saved": old.saved,
        }
    version = _locked(plan.version) if plan.version else _add(actor, plan, group, now, kept=save)
    return {
        "command": version.command,
        "version": version,
        "command_uid": version.command.uid,
        "saved": version.command.kept,
    }


def _add(
    actor: User, plan: Plan, group: ResourceGroup, now: datetime, *, kept: bool
) -> CommandVersion:
    return library.add(
        actor=actor, region=plan.region, checked=plan.checked, group=group, kept=kept, now=now
    )


def _locked(version: CommandVersion) -> CommandVersion:
    """The same, of a command that nobody can delete until the task is there."""
    if not _lock(version.command_id):
        raise Invalid(_(plans.DELETED), field="command", code="InvalidCommand.NotFound")
    return version


def _lock(command_id: int | None) -> bool:
    """Whether the command is there; nobody can delete it until this transaction has ended."""
    return (
        command_id is not None
        and Command.objects.select_for_update().filter(pk=command_id).exists()
    )


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
