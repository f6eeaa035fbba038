"""Runs: taking a lease on them, and what a worker may do with one it holds.

A worker process owns a run while ``lease_owner`` names it and ``lease_until`` lies ahead.
Taking and renewing a lease are compare-and-set updates, so two workers never own one run;
the recorder writes only for the owner.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Q

from commands import access
from commands.errors import Invalid
from commands.execution.executor import Endpoint, Handle, Language, Offsets, RunSpec
from commands.models import Credential, Instance, Run
from commands.rules import launcher
from commands.rules.content import CommandType, OsType, Termination
from commands.rules.status import ErrorCode, Phase, RunStatus
from commands.services import eligibility, scripts
from commands.services.scripts import Binding, Script

log = logging.getLogger(__name__)

LANGUAGES: Mapping[CommandType, Language] = {
    CommandType.SHELL: "shell",
    CommandType.BAT: "bat",
    CommandType.POWERSHELL: "powershell",
}
LEASE = timedelta(seconds=15)
"""How long a worker owns a run without renewing; then another may take it over."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this worker owns, with everything needed to carry it, and no row."""

    run_id: int
    invocation_id: int
    endpoint: Endpoint
    spec: RunSpec
    base: str
    offsets: Offsets
    deadline: datetime
    may_have_begun: bool
    """Whether an earlier worker may have started it: then "unreachable" is not "never ran"."""
    secrets: frozenset[bytes] = field(default=frozenset(), repr=False)
    """What must not be stored of its output, in every form in which that may show it."""

    @property
    def handle(self) -> Handle:
        """Where to find the run on its instance; only meaningful once ``base`` is known."""
        return Handle(self.spec.run_id, self.base, self.spec.run_as)


def claim(*, run_ids: Sequence[int], owner: str, now: datetime) -> list[Claimed]:
    """Take the lease of those of ``run_ids`` that are unfinished and owned by nobody.

    A run that may no longer be executed (its creator left the team, its instance is gone or
    switched off) or can't be (its credential can't be decrypted) ends here as Aborted. All
    others are Connecting from here on: from now on they may have begun.
    """
    with transaction.atomic():
        free = Q(lease_owner="") | Q(lease_until__lt=now)
        Run.objects.filter(free, pk__in=run_ids).unfinished().update(
            lease_owner=owner, lease_until=now + LEASE
        )
        mine = list(
            Run.objects.filter(pk__in=run_ids, lease_owner=owner, lease_until=now + LEASE)
            .unfinished()
            .select_related(
                "invocation__team",
                "invocation__region",
                "invocation__command",
                "invocation__created_by",
                "instance__team",
            )
            # Encrypted, so what is wrong with one must not stop the others: read one by one.
            .defer("invocation__values")
            .order_by("pk")
        )
        credentials = _credentials(mine)
        claimed = [_take(run, credentials, now) for run in mine]
        fresh = [run.pk for run in mine if run.phase == Phase.QUEUED]
        Run.objects.filter(pk__in=fresh).update(phase=Phase.CONNECTING.value)
    return [one for one in claimed if one is not None]


def renew(*, run_ids: Iterable[int], owner: str, now: datetime) -> set[int]:
    """Extend the lease of runs that ``owner`` still has; the ids of those."""
    held = Run.objects.filter(pk__in=run_ids, lease_owner=owner).unfinished()
    held.update(lease_until=now + LEASE)
    return set(held.values_list("pk", flat=True))


def release(*, run_ids: Iterable[int], owner: str, now: datetime) -> None:
    """Give leases back at once, so that another worker takes over without waiting."""
    Run.objects.filter(pk__in=run_ids, lease_owner=owner).unfinished().update(
        lease_owner="", lease_until=now
    )


def overdue(*, now: datetime, limit: int = 500) -> list[int]:
    """Ids of unfinished runs that no worker has: a message or a worker was lost."""
    return list(
        Run.objects.unfinished()
        .filter(lease_until__lt=now)
        .order_by("pk")
        .values_list("pk", flat=True)[:limit]
    )


def _credentials(mine: Sequence[Run]) -> dict[int, Credential]:
    """Credentials by id, decrypted one by one: what is wrong with one stops no other run."""
    found: dict[int, Credential] = {}
    for key in {run.instance.credential_id for run in mine if run.instance is not None}:
        try:
            found[key] = Credential.objects.get(pk=key)
        except ImproperlyConfigured as error:
            log.error("Credential %s can't be used: %s", key, error)
    return found


def _take(run: Run, credentials: Mapping[int, Credential], now: datetime) -> Claimed | None:
    """What is needed to carry ``run``; None if it ends here."""
    fresh = run.phase == Phase.QUEUED
    instance = run.instance
    refusal = _refusal(run) if fresh else None
    if instance is None:
        refusal = _NEVER_REACHED if fresh else _GONE
    elif refusal is None and instance.credential_id not in credentials:
        refusal = _UNUSABLE
    if instance is not None and refusal is None:
        try:
            return _claimed(run, instance, credentials[instance.credential_id], now)
        except ImproperlyConfigured as error:
            log.error("Values of run %s can't be used: %s", run.pk, error)
            refusal = _UNUSABLE
        except (_Altered, Invalid) as error:
            log.error("Run %s is not what was created: %r", run.pk, error)
            refusal = _ALTERED if run.digest else _OLD
    code, reason = refusal or _GONE
    status = RunStatus.ABORTED if fresh else RunStatus.ERROR
    if code is ErrorCode.COMMAND_NOT_APPLICABLE:
        status = RunStatus.INVALID
    _end(run, status, code, reason, now)
    return None


def _end(run: Run, status: RunStatus, code: ErrorCode, reason: str, now: datetime) -> None:
    run.status, run.phase = status.value, Phase.FINISHED.value
    run.error_code, run.error_info = code.value, reason
    run.finished_at, run.lease_owner = now, ""
    run.save(update_fields=_ENDED)


_ENDED = ["status", "phase", "error_code", "error_info", "finished_at", "lease_owner"]
_NEVER_REACHED = (
    ErrorCode.INSTANCE_NOT_EXISTS,
    "The instance was removed before the task reached it.",
)
_UNUSABLE = (
    ErrorCode.CREDENTIAL_UNUSABLE,
    (
        "The instance's credential or the task's values can't be decrypted: the console lacks "
        "the encryption key they were stored with. An admin must add that key."
    ),
)
_ALTERED = (
    ErrorCode.TASK_ALTERED,
    (
        "What would run is not what was created: somebody altered the task in the database, or "
        "the console's secret key was replaced. Create the task again."
    ),
)
_OLD = (
    ErrorCode.TASK_ALTERED,
    "The console was upgraded while this task waited. Create it again.",
)
_GONE = (
    ErrorCode.OUTCOME_UNKNOWN,
    (
        "The instance was removed from the console while the script ran, so nobody knows how "
        "it ended. It is not run again."
    ),
)


def _refusal(run: Run) -> tuple[ErrorCode, str] | None:
    instance, invocation = run.instance, run.invocation
    if instance is None:
        return _NEVER_REACHED
    if not instance.enabled:
        return ErrorCode.NO_LONGER_ALLOWED, "The instance was switched off in the console."
    if reason := eligibility.never(instance, CommandType(invocation.type)):
        return ErrorCode.COMMAND_NOT_APPLICABLE, reason
    if not access.may_use(invocation.team, instance):
        return ErrorCode.NO_LONGER_ALLOWED, "The team may no longer use this instance."
    if not access.allows(invocation.created_by, invocation.permission, invocation.team):
        return (
            ErrorCode.NO_LONGER_ALLOWED,
            "Whoever created the task may no longer run commands in this team.",
        )
    return None


class _Altered(Exception):
    """A row says something else than when its task was created."""


def _claimed(run: Run, instance: Instance, credential: Credential, now: datetime) -> Claimed:
    """Raises _Altered or Invalid; ImproperlyConfigured if values can't be decrypted."""
    script = Script.of(run.invocation)
    began = run.started_at or now
    return Claimed(
        run_id=run.pk,
        invocation_id=run.invocation.pk,
        endpoint=_endpoint(instance, credential),
        spec=_spec(run, script),
        base=run.base,
        offsets=Offsets(run.stdout_size, run.stderr_size),
        deadline=began + timedelta(seconds=run.invocation.timeout),
        may_have_begun=run.phase != Phase.QUEUED,
        secrets=script.secrets(),
    )


def _spec(run: Run, script: Script) -> RunSpec:
    invocation = run.invocation
    data = script.data(scripts.place_of(run))
    # Once it is known to be there, the script is not sent again and can't be another.
    if not run.base and not Binding.of(run, data).matches(run.digest):
        raise _Altered
    return RunSpec(
        run_id=run.execution_id,
        script=data,
        workdir=invocation.workdir,
        timeout=invocation.timeout,
        launcher=launcher.parse(invocation.launcher) if invocation.launcher else None,
        run_as=invocation.run_as,
        whole_tree=invocation.termination == Termination.PROCESS_TREE,
        language=LANGUAGES[CommandType(invocation.type)],
    )


def endpoint(instance: Instance) -> Endpoint:
    """Where ``instance`` is and how to sign in there, with its secrets decrypted."""
    return _endpoint(instance, instance.credential)


def _endpoint(instance: Instance, credential: Credential) -> Endpoint:
    is_key = credential.kind == Credential.Kind.PRIVATE_KEY
    return Endpoint(
        host=instance.host,
        port=instance.port,
        user=instance.user,
        host_key=instance.host_key,
        private_key=credential.secret if is_key else "",
        passphrase=credential.passphrase,
        password="" if is_key else credential.secret,
        system="windows" if instance.os_type == OsType.WINDOWS else "linux",
    )
