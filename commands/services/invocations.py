"""Creating tasks: checks, then rows, then a job, all in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import IntegrityError, transaction
from django.utils.crypto import salted_hmac

from commands import access, queue
from commands.errors import IdempotencyMismatch, Invalid, InvalidFields, QuotaExceeded
from commands.models import Command, CommandVersion, Instance, Invocation, Region, Run, Team, User
from commands.rules import content as rules
from commands.rules import limits
from commands.services import quotas, scripts

T = TypeVar("T")

RECONCILE_AFTER = timedelta(seconds=10)
"""How long a new run waits for its message before the reconciler starts it anyway."""

START_BATCH = 50
"""Runs that one message asks a worker to start: few messages, yet several workers share."""


@dataclass(frozen=True, slots=True)
class CommandInput:
    """What a person typed about a command; ``timeout`` in seconds, as text or number."""

    name: str
    type: str
    content: str
    workdir: str = ""
    timeout: str | int = limits.TIMEOUT_DEFAULT
    description: str = ""
    use_params: bool = False
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values of the parameters by name; ignored while ``use_params`` is off."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """The same after the rules have passed it."""

    name: str
    type: rules.CommandType
    content: str
    workdir: str
    timeout: int
    timeout_asked: int
    values: dict[str, str] | None
    """By key; None where parameters are off."""


def run_command(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: CommandInput,
    instance_uids: Sequence[str],
    client_token: str = "",
    now: datetime,
) -> Invocation:
    """Create a task that runs a new command on instances, and have it started.

    With a ``client_token``, repeating the request answers with the task it made before.
    Raises Denied; InvalidFields with a sentence for every field that is wrong; QuotaExceeded
    if the team has no task left today; IdempotencyMismatch if the token was used for another
    request.
    """
    access.require(actor, access.Permission.INVOCATION_CREATE, team)
    token = rules.check_client_token(client_token)
    digest = _digest(region, command, instance_uids)
    if earlier := _repeated(actor, team, token, digest):
        return earlier
    checked, instances = _check(team, region, command, instance_uids)
    try:
        with transaction.atomic():
            return _create(actor, team, region, checked, instances, token, digest, now)
    except (IntegrityError, QuotaExceeded):
        # The same token was committed, and took the last place, while this request was on its way.
        if earlier := _repeated(actor, team, token, digest):
            return earlier
        raise


def _repeated(actor: User, team: Team, token: str, digest: str) -> Invocation | None:
    if not token:
        return None
    earlier = Invocation.objects.filter(team=team, created_by=actor, client_token=token).first()
    if earlier is not None and earlier.request_digest != digest:
        raise IdempotencyMismatch(
            "You changed the form after it was sent. Check it and create again."
        )
    return earlier


def _digest(region: Region, command: CommandInput, instance_uids: Sequence[str]) -> str:
    request = [
        region.uid,
        command.name,
        command.type,
        command.content,
        command.workdir,
        str(command.timeout),
        command.description,
        sorted(command.values.items()) if command.use_params else None,
        sorted(set(instance_uids)),
    ]
    # Keyed, so that nobody who reads the database can guess a weak value from it.
    return salted_hmac("invocation", json.dumps(request), algorithm="sha256").hexdigest()


def _check(
    team: Team, region: Region, command: CommandInput, instance_uids: Sequence[str]
) -> tuple[_Checked, list[Instance]]:
    problems = _Problems()
    kind = problems.collect(lambda: rules.check_type(command.type), rules.CommandType.SHELL)
    timeout, asked = problems.collect(lambda: rules.check_timeout(command.timeout), (0, 0))
    content = problems.collect(lambda: rules.check_content(command.content), "")
    nothing: dict[str, str] = {}
    values = (
        problems.collect(lambda: scripts.check_values(content, command.values), nothing)
        if command.use_params and content
        else None
    )
    checked = _Checked(
        name=problems.collect(lambda: rules.check_name(command.name), ""),
        type=kind,
        content=content,
        workdir=problems.collect(lambda: rules.check_workdir(command.workdir, kind), ""),
        timeout=timeout,
        timeout_asked=asked,
        values=values,
    )
    none: list[Instance] = []
    instances = problems.collect(lambda: _choose(team, region, kind, instance_uids), none)
    problems.raise_any()
    if checked.values is not None:
        longest = max(instances, key=lambda instance: len(instance.name.encode()))
        scripts.check_filled(content, checked.values, kind, longest, team.uid)
    return checked, instances


class _Problems:
    """Collects what is wrong with each field, so that a person sees all of it at once."""

    def __init__(self) -> None:
        self._errors: dict[str, list[str]] = {}

    def collect(self, check: Callable[[], T], fallback: T) -> T:
        """The result of ``check``, or ``fallback`` where it finds something wrong."""
        try:
            return check()
        except InvalidFields as error:
            for name, texts in error.errors.items():
                self._errors.setdefault(name, []).extend(texts)
        except Invalid as error:
            self._errors.setdefault(error.field, []).append(error.message)
        return fallback

    def raise_any(self) -> None:
        """Raise InvalidFields if anything was wrong."""
        if self._errors:
            raise InvalidFields(self._errors)


def _choose(
    team: Team, region: Region, kind: rules.CommandType, instance_uids: Sequence[str]
) -> list[Instance]:
    chosen = list(dict.fromkeys(instance_uids))
    if not chosen:
        raise Invalid("Select at least one instance.", field="instances")
    quotas.check_instances(team=team, region=region, number=len(chosen))
    # Not every database takes every character in a comparison; no id has such characters.
    possible = [uid for uid in chosen if uid.isascii() and uid.isprintable()]
    usable = Instance.objects.usable_by(team).filter(region=region, uid__in=possible)
    instances = sorted(usable, key=lambda instance: chosen.index(instance.uid))
    if missing := len(chosen) - len(instances):
        # The same words whether it never existed or belongs to somebody else.
        raise Invalid(
            f"{missing} of the selected instances can't be found in this team and region. "
            "Select again.",
            field="instances",
            code="InvalidInstance.NotFound",
        )
    for instance in instances:
        if reason := unfit(instance, kind):
            raise Invalid(
                f"{instance.name}: {reason} Clear it and create again.",
                field="instances",
                code="InvalidInstance.NotMatch",
            )
    return instances


def unfit(instance: Instance, kind: rules.CommandType) -> str:
    """Why a command of this kind can't run on ``instance``, as a sentence; "" if it can."""
    if not instance.enabled:
        return "The instance is switched off in the console."
    if rules.RUNS_ON[kind].value != instance.os_type:
        return "Shell runs on Linux; Bat and PowerShell run on Windows."
    if instance.os_type == Instance.Os.WINDOWS:
        return "Windows instances can't run commands yet."
    return ""


def _create(
    actor: User,
    team: Team,
    region: Region,
    checked: _Checked,
    instances: Sequence[Instance],
    token: str,
    digest: str,
    now: datetime,
) -> Invocation:
    quotas.take_task(team=team, region=region, now=now)
    version = _create_command(actor, team, region, checked, now)
    invocation = Invocation.objects.create(
        team=team,
        region=region,
        command=version.command,
        version=version,
        name=checked.name,
        type=checked.type.value,
        content=checked.content,
        workdir=checked.workdir,
        timeout=checked.timeout,
        timeout_asked=checked.timeout_asked,
        use_params=checked.values is not None,
        values=json.dumps(checked.values) if checked.values else "",
        created_by=actor,
        created_by_name=actor.shown_name,
        created_at=now,
        client_token=token,
        request_digest=digest,
    )
    Run.objects.bulk_create(
        Run(
            invocation=invocation,
            instance=instance,
            instance_uid=instance.uid,
            instance_name=instance.name,
            address=instance.address,
            lease_until=now + RECONCILE_AFTER,
        )
        for instance in instances
    )
    _enqueue(invocation)
    return invocation


def _create_command(
    actor: User, team: Team, region: Region, checked: _Checked, now: datetime
) -> CommandVersion:
    command = Command.objects.create(
        team=team,
        region=region,
        name=checked.name,
        type=checked.type.value,
        kept=False,
        created_by=actor,
        created_at=now,
    )
    return CommandVersion.objects.create(
        command=command,
        number=1,
        content=checked.content,
        workdir=checked.workdir,
        timeout=checked.timeout,
        use_params=checked.values is not None,
        created_by=actor,
        created_at=now,
    )


def _enqueue(invocation: Invocation) -> None:
    run_ids = list(invocation.runs.order_by("pk").values_list("pk", flat=True))
    for first in range(0, len(run_ids), START_BATCH):
        queue.enqueue(queue.Job.START_RUNS, run_ids=run_ids[first : first + START_BATCH])
