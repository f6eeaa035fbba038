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
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, transaction
from django.db.models import Case, F, Prefetch, Q, QuerySet, Value, When

from commands import access, queue
from commands.access import Narrowing
from commands.errors import Invalid
from commands.execution.executor import Endpoint, Handle, Language, Offsets, RunSpec
from commands.models import Credential, Instance, Invocation, Run, Team
from commands.rules import launcher
from commands.rules.content import CommandType, OsType, Termination
from commands.rules.status import ErrorCode, Phase, RunStatus
from commands.services import approved, eligibility, endings, jumps, scripts
from commands.services.scripts import Binding, Script
from commands.words import gettext_noop, kept

log = logging.getLogger(__name__)

Credentials = dict[int, Credential]
"""Credentials by their id; those that can't be decrypted are missing."""

LANGUAGES: Mapping[CommandType, Language] = {
    CommandType.SHELL: "shell",
    CommandType.BAT: "bat",
    CommandType.POWERSHELL: "powershell",
}
LEASE = timedelta(seconds=15)
"""How long a worker owns a run without renewing; then another may take it over."""
RECONCILE_AFTER = timedelta(seconds=10)
"""How long a run waits for its message before the reconciler starts it anyway."""
DELIVERY = timedelta(minutes=10)
"""How long a run waits for a worker. What starts much later is no longer what was wanted."""
GIVE_UP_AFTER = timedelta(minutes=3)
"""How long after its deadline a run is ended whoever carries it: that worker is stuck.

Where nobody had it meanwhile, as long after a worker took it over.
"""
KEY_MISSING = timedelta(minutes=1)
"""How long, counted the same way, a run that may have begun waits for a key that is missing."""
START_BATCH = 50
"""Runs that one message asks a worker to start: few messages, yet several workers share."""


SPOOL_TIMES = 4
"""How many times as much as is kept an instance may hold of each stream.

It keeps at least the first and the last quarter. So each of them has all that is kept here, even
if one stream has it all and nobody was there to take the middle.
"""


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
    """By when its script must have ended."""
    may_have_begun: bool
    """Whether an earlier worker may have started it: then "unreachable" is not "never ran"."""
    asked_at: datetime | None = None
    """Since when that may be."""
    taken_at: datetime | None = None
    """When it was taken over by this worker; None for one that is taken for the first time."""
    deliver_by: datetime | None = None
    """Its deadline if it goes back into the queue; None where it may have begun."""
    stop_asked: bool = False
    """Whether somebody wants it stopped: then it must not start any more."""
    decides_on_others: bool = False
    """Whether other runs of its task may wait for its end."""
    secrets: frozenset[bytes] = field(default=frozenset(), repr=False)
    """What must not be stored of its output, in every form in which that may show it."""

    @property
    def too_late(self) -> bool:
        """Whether it was taken over long after its time, and nobody knows whether it began."""
        taken = self.taken_at
        return not self.base and taken is not None and taken > self.deadline + GIVE_UP_AFTER

    @property
    def handle(self) -> Handle:
        """Where to find the run on its instance; only meaningful once ``base`` is known."""
        return Handle(self.spec.run_id, self.base, self.spec.run_as)


def queued(now: datetime) -> dict[str, Any]:
    """Columns of a run that may begin from now on."""
    return {
        "phase": Phase.QUEUED.value,
        "lease_until": now + RECONCILE_AFTER,
        "deadline": now + DELIVERY,
    }


def ask_to_start(run_ids: Sequence[int]) -> None:
    """Have workers take runs once the present transaction is committed."""
    for first in range(0, len(run_ids), START_BATCH):
        queue.enqueue(queue.Job.START_RUNS, run_ids=list(run_ids[first : first + START_BATCH]))


def claim(*, run_ids: Sequence[int], owner: str, now: datetime) -> list[Claimed]:
    """Take the lease of those of ``run_ids`` that may begin, or began, and nobody owns.

    A run that may no longer be executed (its creator left the team, its instance is gone or
    switched off) or can't be (its credential can't be decrypted) ends here as Aborted. All
    others are Connecting from here on: from now on they may have begun.
    """
    with transaction.atomic():
        free = Q(lease_owner="") | Q(lease_until__lt=now)
        taken = Run.objects.filter(free, pk__in=run_ids).unfinished().released().locked()
        _note_taken_over(taken, now)
        Run.objects.filter(pk__in=taken).update(lease_owner=owner, lease_until=now + LEASE)
        mine = list(
            Run.objects.filter(pk__in=taken)
            .select_related("instance__jump_host")
            # Most runs of a claim belong to one task: it is read once, not with each of them.
            .prefetch_related(Prefetch("invocation", _tasks()))
            .order_by("pk")
        )
        found, rights = credentials(mine), _Rights(mine, now)
        claimed = [_take(run, found, rights, now) for run in mine]
        _begin(mine, claimed)
    return [one for one in claimed if one is not None]


def renew(*, run_ids: Iterable[int], owner: str, now: datetime) -> set[int]:
    """Extend the lease of runs that ``owner`` still has; the ids of those.

    One that ran out, as while the database was away, is as good as taken over.
    """
    with transaction.atomic():
        held = Run.objects.filter(pk__in=run_ids, lease_owner=owner).unfinished().locked()
        _note_taken_over(held, now)
        Run.objects.filter(pk__in=held).update(lease_until=now + LEASE)
    return set(held)


def release(*, run_ids: Iterable[int], owner: str, now: datetime) -> None:
    """Give leases back at once, so that another worker takes over without waiting."""
    with transaction.atomic():
        held = Run.objects.filter(pk__in=run_ids, lease_owner=owner).unfinished().locked()
        Run.objects.filter(pk__in=held).update(lease_owner="", lease_until=now)


def expire(*, now: datetime, limit: int = 500) -> int:
    """End runs that are far past their deadline, whoever owns them; how many.

    Nobody took them, or the worker that has them is stuck; what it still reports is not stored.
    One that nobody had at its deadline, or since, is for somebody to take over first: its result
    may lie ready on the instance.
    """
    late = Q(phase=Phase.QUEUED.value, lease_owner="", deadline__lt=now)
    long_ago = now - GIVE_UP_AFTER
    stuck = ~Q(phase=Phase.QUEUED.value) & Q(deadline__lt=long_ago)
    stuck &= Q(taken_at=None) | Q(taken_at__lt=long_ago)
    stuck &= Q(lease_until__gte=now) | Q(lease_until__gte=long_ago, taken_at__gte=F("deadline"))
    with transaction.atomic():
        rows = list(
            Run.objects.unfinished()
            .released()
            .filter(late | stuck)
            .select_for_update(of=("self",), skip_locked=True)
            .select_related("invocation")
            .defer("invocation__values")
            .order_by("pk")[:limit]
        )
        for run in rows:
            if run.phase == Phase.QUEUED:
                _end(run, RunStatus.ABORTED, *_NOT_DELIVERED, now)
            else:
                _end(run, RunStatus.ERROR, *_STUCK, now)
    return len(rows)


def overdue(*, now: datetime, limit: int = 500) -> list[int]:
    """Ids of unfinished runs that no worker has: a message or a worker was lost."""
    return list(
        Run.objects.unfinished()
        .filter(lease_until__lt=now)
        .order_by("pk")
        .values_list("pk", flat=True)[:limit]
    )


def _note_taken_over(run_ids: Sequence[int], now: datetime) -> None:
    """Note of runs that may have begun that somebody has them (again) after nobody did.

    Once past the deadline, and again where nobody had them for long: a run that ends whatever
    worker takes it is not given time for ever.
    """
    found = Run.objects.filter(pk__in=run_ids, lease_until__lte=now)
    first = (
        Q(taken_at=None) | Q(taken_at__lt=F("deadline")) | Q(lease_until__lt=now - GIVE_UP_AFTER)
    )
    found.exclude(phase=Phase.QUEUED.value).filter(first).update(taken_at=now)


def _tasks() -> QuerySet[Invocation]:
    """Invocations with all that starting their runs needs."""
    # Values are encrypted, and what is wrong with one must not stop the others: read one by one.
    with_others = ("team", "region", "created_by", "approval__decided_by")
    return Invocation.objects.select_related(*with_others).defer("values")


def credentials(mine: Sequence[Run]) -> Credentials:
    """Credentials by id, decrypted one by one: what is wrong with one stops no other run."""
    found: Credentials = {}
    asked = [each for run in mine if run.instance is not None for each in _way(run.instance)]
    for key in {each.credential_id for each in asked}:
        try:
            found[key] = Credential.objects.get(pk=key)
        except ImproperlyConfigured as error:
            log.error("Credential %s can't be used: %s", key, error)
    return found


class _Rights:
    """Who may do what, asked once for all runs of a claim: most belong to one task."""

    def __init__(self, mine: Sequence[Run], now: datetime) -> None:
        self._mine, self._now = mine, now
        self._wanted = frozenset(run.instance_id for run in mine if run.instance_id is not None)
        self.allows = cache(access.allows)
        self._usable = cache(access.usable)
        self._narrowing = cache(access.narrowing)
        self._tagged = cache(self._find_tagged)
        self.unapproved = cache(self._find_unapproved)

    def may_use(self, team: Team, instance: Instance) -> bool:
        """Whether tasks of ``team`` may run on ``instance``, one of those of the claim."""
        return instance.pk in self._usable(team, self._wanted)

    def is_left(self, invocation: Invocation, instance: Instance) -> bool:
        """Whether what narrows the membership of a task's creator leaves it this instance."""
        only = self._narrowing(invocation.created_by, invocation.team)
        command = invocation.command_uid if invocation.saved else ""
        return not (
            only.refuses_command(command)
            or only.refuses_user(invocation.run_as, instance)
            or instance.pk not in self._tagged(only)
        )

    def _find_unapproved(self, invocation: Invocation) -> tuple[ErrorCode, str] | None:
        """Why nothing of a task may begin as far as approval goes."""
        fresh = [run for run in self._mine if run.phase == Phase.QUEUED]
        claimed = [run for run in fresh if run.invocation_id == invocation.pk]
        try:
            return approved.obstacle(invocation, claimed, self._now)
        except ImproperlyConfigured as error:
            log.error("The approval of task %s can't be checked: %s", invocation.pk, error)
            return _UNUSABLE

    def _find_tagged(self, only: Narrowing) -> frozenset[int]:
        if not only.tags:
            return self._wanted
        found = only.instances(Instance.objects.filter(pk__in=self._wanted))
        return frozenset(found.values_list("pk", flat=True))


def _take(run: Run, credentials: Credentials, rights: _Rights, now: datetime) -> Claimed | None:
    """What is needed to carry ``run``; None if it ends here."""
    fresh = run.phase == Phase.QUEUED
    instance = run.instance
    refusal = _refusal(run, rights, now) if fresh else _changed_since(run, rights, now)
    if instance is None:
        refusal = _NEVER_REACHED if fresh else _GONE
    elif refusal is None and any(each.credential_id not in credentials for each in _way(instance)):
        refusal = _UNUSABLE
    if instance is not None and refusal is None:
        try:
            return _claimed(run, instance, credentials, now)
        except (ImproperlyConfigured, KeyError) as error:
            log.error("What run %s needs can't be used: %r", run.pk, error)
            refusal = _UNUSABLE
        except (_Altered, Invalid) as error:
            log.error("Run %s is not what was created: %r", run.pk, error)
            refusal = _ALTERED_SINCE if not fresh else _ALTERED if run.digest else _OLD
    if refusal is _UNUSABLE and not fresh:
        if _may_wait(run, now):
            _leave(run, now)
            return None
        refusal = _NO_KEY
    code, reason = refusal or _GONE
    status = RunStatus.ABORTED if fresh else RunStatus.ERROR
    if code is ErrorCode.COMMAND_NOT_APPLICABLE:
        status = RunStatus.INVALID
    _end(run, status, code, reason, now)
    return None


def _may_wait(run: Run, now: datetime) -> bool:
    """Whether a run that may have begun can wait for a key that is missing."""
    times = [each for each in (run.deadline, run.taken_at) if each is not None]
    return now <= max(times, default=now) + KEY_MISSING


def _leave(run: Run, now: datetime) -> None:
    """Give a run back for somebody to take soon."""
    Run.objects.filter(pk=run.pk).update(lease_owner="", lease_until=now + RECONCILE_AFTER)


def _begin(mine: Sequence[Run], claimed: Iterable[Claimed | None]) -> None:
    """Store of those that are taken for the first time that they may have begun, and where."""
    fresh: dict[datetime, list[Run]] = {}
    for run, one in zip(mine, claimed, strict=True):
        if one is not None and not one.may_have_begun:
            fresh.setdefault(one.deadline, []).append(run)
    for deadline, begun in fresh.items():
        ways = [When(pk=run.pk, then=Value(approved.way_to(run.instance))) for run in begun]
        Run.objects.filter(pk__in=[run.pk for run in begun]).update(
            phase=Phase.CONNECTING.value, deadline=deadline, way=Case(*ways)
        )


def _end(run: Run, status: RunStatus, code: ErrorCode, reason: str, now: datetime) -> None:
    values = {"status": status.value, "error_code": code.value, "error_info": reason}
    if endings.end(run, values, now) and run.invocation.rate.limited:
        queue.enqueue(queue.Job.ADVANCE, invocation_id=run.invocation_id)


_NOT_DELIVERED = (
    ErrorCode.DELIVERY_TIMEOUT,
    kept("No worker took it within %(n)s minutes. Nothing ran; create the task again.")
    % {"n": DELIVERY.seconds // 60},
)
_STUCK = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "Nothing was heard of it until long after its timeout, so nobody knows how the script "
        "ended. It is not run again."
    ),
)
_NEVER_REACHED = (
    ErrorCode.INSTANCE_NOT_EXISTS,
    gettext_noop("The instance was removed before the task reached it."),
)
_UNUSABLE = (
    ErrorCode.CREDENTIAL_UNUSABLE,
    gettext_noop(
        "The instance's credential or the task's values can't be decrypted: the console lacks "
        "the encryption key they were stored with. An admin must add that key."
    ),
)
_ALTERED = (
    ErrorCode.TASK_ALTERED,
    gettext_noop(
        "What would run is not what was created: somebody altered the task in the database, or "
        "the console's secret key was replaced. Create the task again."
    ),
)
_ALTERED_SINCE = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "A worker was lost while it had this, and since then what would run is no longer what was "
        "created: somebody altered the task in the database, or the console's secret key was "
        "replaced. So nobody knows whether the script began. It is not run again."
    ),
)
_NO_KEY = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "The instance's credential or the task's values can't be decrypted: the console lacks "
        "the encryption key they were stored with. So nobody knows how the script ended. It is "
        "not run again."
    ),
)
_MOVED = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "A worker was lost while it started this, and since then the instance, or the way to it, "
        "was changed. So nobody knows whether the script began. It is not run again."
    ),
)
_OLD = (
    ErrorCode.TASK_ALTERED,
    gettext_noop("The console was upgraded while this task waited. Create it again."),
)
_GONE = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "The instance was removed from the console while the script ran, so nobody knows how "
        "it ended. It is not run again."
    ),
)
_TAKEN_AWAY = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "A worker was lost while it started this, and since then whoever created the task may no "
        "longer run it here. So nobody knows whether the script began. It is not run again."
    ),
)
_NOWHERE = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "A worker was lost while it started this, and since then the instance or its jump host "
        "was switched off, or is no longer one that it may run on. So nobody knows whether the "
        "script began. It is not run again."
    ),
)
_CHANGED = (
    ErrorCode.OUTCOME_UNKNOWN,
    gettext_noop(
        "A worker was lost while it started this, and since then the instance, or the way to it, "
        "is no longer what was approved. So nobody knows whether the script began. It is not run "
        "again."
    ),
)


def _refusal(run: Run, rights: _Rights, now: datetime) -> tuple[ErrorCode, str] | None:
    instance, invocation = run.instance, run.invocation
    if instance is None:
        return _NEVER_REACHED
    if run.deadline is not None and run.deadline < now:
        return _NOT_DELIVERED
    return (
        _closed(instance, invocation)
        or _forbidden(instance, invocation, rights)
        or rights.unapproved(invocation)
    )


def _closed(instance: Instance, invocation: Invocation) -> tuple[ErrorCode, str] | None:
    """Why nothing of the task's kind may begin on an instance, whoever created it."""
    if not instance.enabled:
        return ErrorCode.NO_LONGER_ALLOWED, gettext_noop(
            "The instance was switched off in the console."
        )
    if reason := eligibility.never(instance, CommandType(invocation.type)):
        return ErrorCode.COMMAND_NOT_APPLICABLE, reason
    if obstacle := jumps.obstacle(instance):
        return ErrorCode.NO_LONGER_ALLOWED, obstacle
    return None


def _forbidden(
    instance: Instance, invocation: Invocation, rights: _Rights
) -> tuple[ErrorCode, str] | None:
    """Why the team, or who created the task, may not run it on an instance any more."""
    if not rights.may_use(invocation.team, instance):
        return ErrorCode.NO_LONGER_ALLOWED, gettext_noop(
            "The team may no longer use this instance."
        )
    if not rights.allows(invocation.created_by, invocation.permission, invocation.team):
        return (
            ErrorCode.NO_LONGER_ALLOWED,
            gettext_noop("Whoever created the task may no longer run commands in this team."),
        )
    if not rights.is_left(invocation, instance):
        return (
            ErrorCode.NO_LONGER_ALLOWED,
            gettext_noop(
                "The membership of who created the task was narrowed: it no longer covers this."
            ),
        )
    return None


def _changed_since(run: Run, rights: _Rights, now: datetime) -> tuple[ErrorCode, str] | None:
    """Why a run whose start was never answered is not asked for again; None if it may be.

    One that is to be stopped may: it is told so first, and then begins nothing.
    """
    instance, invocation = run.instance, run.invocation
    if run.base:
        return None
    if instance is not None and run.status != RunStatus.STOPPING:
        if _forbidden(instance, invocation, rights):
            return _TAKEN_AWAY
        if _closed(instance, invocation):
            return _NOWHERE
    try:
        if approved.is_as_asked(run):
            return _MOVED if approved.leads_elsewhere(run) else None
    except ImproperlyConfigured as error:
        log.error("The approval of run %s can't be checked: %s", run.pk, error)
        return _UNUSABLE
    approved.outdate(invocation, now)
    return _CHANGED


class _Altered(Exception):
    """A row says something else than when its task was created."""


def _claimed(run: Run, instance: Instance, credentials: Credentials, now: datetime) -> Claimed:
    """Raises _Altered or Invalid; ImproperlyConfigured if values can't be decrypted."""
    script = Script.of(run.invocation)
    fresh = run.phase == Phase.QUEUED
    by_timeout = (run.started_at or now) + timedelta(seconds=run.invocation.timeout)
    return Claimed(
        run_id=run.pk,
        invocation_id=run.invocation.pk,
        endpoint=_endpoint(instance, credentials),
        spec=_spec(run, script),
        base=run.base,
        offsets=Offsets(run.stdout_size, run.stderr_size),
        deadline=by_timeout if fresh else run.deadline or by_timeout,
        may_have_begun=not fresh,
        asked_at=None if fresh else _asked_at(run),
        taken_at=None if fresh else now,
        deliver_by=run.deadline if fresh else None,
        stop_asked=run.status == RunStatus.STOPPING,
        decides_on_others=run.invocation.rate.limited,
        secrets=script.secrets(),
    )


def _asked_at(run: Run) -> datetime | None:
    """When the first worker took it: until it is known to run, its deadline tells."""
    if run.deadline is None:
        return None
    return run.deadline - timedelta(seconds=run.invocation.timeout)


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
        spool=SPOOL_TIMES * settings.CONSOLE_OUTPUT_KEPT,
        language=LANGUAGES[CommandType(invocation.type)],
    )


def endpoint(instance: Instance) -> Endpoint:
    """Where ``instance`` is and how to sign in there, with its secrets decrypted."""
    return _endpoint(instance, {each.credential_id: each.credential for each in _way(instance)})


def endpoint_or_none(instance: Instance) -> Endpoint | None:
    """The same; None, and a word in the log, where that fails: it concerns one of many."""
    try:
        return endpoint(instance)
    except DatabaseError:
        raise  # no instance is to blame for it, and it may have broken the transaction
    except Exception as error:  # whatever is wrong with one, the others go on
        log.error("Instance %s can't be used: %r", instance.pk, error)
        return None


def _way(instance: Instance) -> list[Instance]:
    """Where the console signs in to reach ``instance``: its jump host, if any, and itself."""
    return [instance] if instance.jump_host is None else [instance.jump_host, instance]


def _endpoint(instance: Instance, credentials: Credentials) -> Endpoint:
    credential, jump = credentials[instance.credential_id], instance.jump_host
    is_key = credential.kind == Credential.Kind.PRIVATE_KEY
    return Endpoint(
        host=instance.host,
        port=instance.port,
        user=instance.user,
        host_key=instance.host_key,
        private_key=credential.secret if is_key else "",
        passphrase=credential.passphrase,
        password="" if is_key else credential.secret,
        jump=None if jump is None else _endpoint(jump, credentials),
        system="windows" if instance.os_type == OsType.WINDOWS else "linux",
        allowed=tuple(settings.CONSOLE_ALLOWED_NETWORKS),
    )
