"""What running a task again takes: its frozen copy, who may, and where that is still possible.

A task keeps a copy of all that it ran, and that copy is what runs again: what the saved command
says now does not matter. Hidden values are kept for the runs of that task only; whoever runs it
again gives them anew. Nothing changes here: see ``invocations.repeat_invocation``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from commands import access
from commands.access import Permission
from commands.errors import Conflict, Invalid
from commands.models import CommandVersion, Instance, Invocation, Run, User
from commands.rules.again import ENDED, Only
from commands.rules.content import CommandType
from commands.rules.grammar import scan
from commands.rules.problems import Problems, raise_all
from commands.rules.schema import ParameterSchema
from commands.services import definitions, eligibility
from commands.services.definitions import Checked, CommandInput
from commands.words import gettext as _
from commands.words import gettext_noop

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

NOT_THERE = gettext_noop("It was removed, or this team may no longer use it.")
_COLUMNS = ("content", "workdir", "use_params", "launcher", "run_as", "termination")
"""Columns that say what runs, besides the schemas of parameters and the timeout.

In its timeout a task may differ from its command, whoever creates it.
"""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An instance on which a task can't run again now, and why, as a sentence."""

    uid: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Where:
    """Where a task can run again, and where not."""

    usable: list[Instance]
    left_out: list[LeftOut]


@dataclass(frozen=True, slots=True)
class Question:
    """A parameter whose value has to be given anew."""

    key: str
    name: str
    hidden: bool
    schema: ParameterSchema


def chosen(
    invocation: Invocation, *, only: Only | None = None, instance_uids: Sequence[str] = ()
) -> list[Run]:
    """The runs of a task on the instances that are meant, in their order; all without a choice.

    Raises Invalid if the task has no run on one of ``instance_uids``.
    """
    runs = list(invocation.runs.order_by("pk"))
    if strange := sorted(set(instance_uids) - {run.instance_uid for run in runs}):
        raise Invalid(
            _("This task does not run on %(name)s.") % {"name": strange[0][:40]},
            field="instance",
            code="InvalidInstanceId.NotFound",
        )
    if instance_uids:
        return [run for run in runs if run.instance_uid in set(instance_uids)]
    return [run for run in runs if only is None or run.status in ENDED[only]]


def where(invocation: Invocation, runs: Sequence[Run]) -> Where:
    """Where ``runs`` of a task can be repeated: on instances that are there and answer."""
    found = {
        instance.uid: instance
        for instance in Instance.objects.usable_by(invocation.team).filter(
            region=invocation.region_id, uid__in=[run.instance_uid for run in runs]
        )
    }
    usable, left_out = [], []
    for run in runs:
        instance = found.get(run.instance_uid)
        reason = _(NOT_THERE)
        if instance is not None:
            reason = eligibility.unfit(instance, CommandType(invocation.type))
        if instance is not None and not reason:
            usable.append(instance)
        else:
            left_out.append(LeftOut(run.instance_uid, run.instance_name, reason))
    return Where(usable, left_out)


def newest(invocation: Invocation) -> CommandVersion | None:
    """What the saved command of a task says now; None if it is not in the library."""
    if invocation.command_id is None:
        return None
    found = CommandVersion.objects.newest().select_related("command")
    return found.filter(command=invocation.command_id, command__kept=True).first()


def changed_since(invocation: Invocation) -> CommandVersion | None:
    """The newest version of a task's saved command, if that is not the one that it ran."""
    version = newest(invocation)
    return version if version is not None and version.pk != invocation.version_id else None


def as_it_stands(invocation: Invocation) -> CommandVersion | None:
    """The newest version of a task's saved command, if it still says what the task ran."""
    version = newest(invocation)
    if version is None or version.command.type != invocation.type:
        return None
    same = all(getattr(version, name) == getattr(invocation, name) for name in _COLUMNS)
    return version if same and version.parameters == invocation.parameters else None


def may_repeat(actor: User | AnonymousUser | None, invocation: Invocation) -> bool:
    """Whether ``actor`` may run again what a task ran.

    Who runs saved commands only may do so with one that the library still has as it was.
    """
    if access.allows(actor, Permission.INVOCATION_CREATE, invocation.team):
        return True
    return (
        invocation.permission == Permission.COMMAND_RUN
        and access.allows(actor, Permission.COMMAND_RUN, invocation.team)
        and as_it_stands(invocation) is not None
    )


def may_run_latest(actor: User | AnonymousUser | None, invocation: Invocation) -> bool:
    """Whether ``actor`` may run what the saved command of a task says now, if that is new."""
    allowed = access.allows(actor, Permission.COMMAND_RUN, invocation.team)
    return allowed and changed_since(invocation) is not None


def frozen(invocation: Invocation) -> CommandInput:
    """What a person would have to type to run the same; not checked."""
    return CommandInput(
        name=invocation.name,
        type=invocation.type,
        content=invocation.content,
        workdir=invocation.workdir,
        timeout=invocation.timeout,
        use_params=invocation.use_params,
        parameters=invocation.schemas_as_kept(),
        launcher=invocation.launcher,
        run_as=invocation.run_as,
        termination=invocation.termination,
        tags=tuple(invocation.tags.items()),
    )


def check(invocation: Invocation, problems: Problems) -> Checked:
    """The frozen copy as it runs again; what today's rules refuse in it goes to ``problems``."""
    checked = definitions.check(
        frozen(invocation), problems, team=invocation.team, region=invocation.region
    )
    return replace(checked, timeout_asked=invocation.timeout_asked)


def require_same(invocation: Invocation, checked: Checked) -> None:
    """Raise Conflict where today's rules would make another script of the frozen copy."""
    columns = checked.columns()
    same = all(columns[name] == getattr(invocation, name) for name in ("timeout", *_COLUMNS))
    if not same or checked.parameters != invocation.schemas() or checked.tags != invocation.tags:
        raise Conflict(
            _(
                "The rules for commands have changed since, so this can't run exactly as it did. "
                "Edit it first, and look at what it becomes."
            )
        )


def open_values(invocation: Invocation) -> dict[str, str]:
    """The values of a task's parameters by key, without hidden ones.

    Raises Invalid if they can't be decrypted.
    """
    hidden = set(invocation.hidden)
    return {key: value for key, value in _values(invocation).items() if key not in hidden}


def questions(invocation: Invocation, version: CommandVersion | None = None) -> list[Question]:
    """The parameters whose values have to be given anew, in the order of the script.

    Those are the hidden ones; with the ``version`` of a saved command that is to run instead,
    also those that it adds. Raises Invalid as ``open_values``.
    """
    known = open_values(invocation)
    found = _parameters(invocation, version)
    return [one for one in found if one.hidden or one.key not in known]


def given_anew(
    invocation: Invocation, typed: Mapping[str, str], version: CommandVersion | None = None
) -> tuple[dict[str, str], list[str]]:
    """All values to run with, by key, and the keys of those that are hidden.

    Of what was ``typed`` only that counts which had to be given anew; the rest is as it was.
    Raises Invalid where something was hidden before and is missing now.
    """
    found = _parameters(invocation, version)
    before, known = _values(invocation), open_values(invocation)
    anew = {name.lower(): value for name, value in typed.items()}
    asked = [one for one in found if one.hidden or one.key not in known]
    missing = [one for one in asked if before.get(one.key) and not anew.get(one.key)]
    sentence = _(
        "Enter a value for %(name)s again: it is hidden, so it was kept for that task only."
    )
    raise_all(
        [
            (f"param-{one.key}", sentence % {"name": one.name}, "Parameter.MissingValue")
            for one in missing
        ]
    )
    values = {one.key: known[one.key] for one in found if one not in asked}
    values |= {one.key: anew[one.key] for one in asked if anew.get(one.key)}
    return values, [one.key for one in asked if one.hidden]


def _parameters(invocation: Invocation, version: CommandVersion | None) -> list[Question]:
    definition = version or invocation
    if not definition.use_params:
        return []
    schemas, usual = definition.schemas_as_kept(), ParameterSchema()
    found = []
    for parameter in scan(definition.content).parameters:
        schema = schemas.get(parameter.key, usual)
        hidden = schema.secret or parameter.key in invocation.hidden
        found.append(Question(parameter.key, parameter.name, hidden, schema))
    return found


def _values(invocation: Invocation) -> dict[str, str]:
    try:
        values: dict[str, str] = json.loads(invocation.values or "{}")
    except ImproperlyConfigured:
        raise Invalid(
            _(
                "The values of this task can't be decrypted: the console lacks the encryption "
                "key they were stored with. An admin must add that key."
            )
        ) from None
    return values
