"""Preflights: whether a command could start on instances, before a task is created there.

What is asked becomes rows for a while; any worker takes them (``examiner``), and asks again
whether who wanted to know still may. Nothing here decides about a task: that is created, or not,
whatever was found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from commands import access, queue
from commands.errors import Invalid
from commands.execution import remote
from commands.execution.executor import Endpoint, Examined, Needs
from commands.models import Instance, Preflight, PreflightCheck, Region, Team, User
from commands.rules import launcher as launchers
from commands.rules.connection import Connection
from commands.rules.content import RUNS_ON, OsType
from commands.rules.status import ErrorCode
from commands.services import connections, eligibility, plans, runs
from commands.services.connections import Target
from commands.services.definitions import CommandInput
from commands.services.plans import Outline, SavedInput, Values
from commands.services.scripts import Place
from commands.words import gettext as _
from commands.words import gettext_noop

KEPT = timedelta(minutes=15)
"""How long what was found is shown. Much later it says nothing of the instances any more."""
EACH = 4
"""Preflights that one person may have at a time: one for each form that is open, about."""
CLAIM = timedelta(minutes=2)
"""How long a worker has for one instance, which is longer than an executor takes."""

Problem = tuple[str, str]
"""An error code, as a run would have it, and a sentence."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An instance to look at. Without ``endpoint`` nobody may or can: ``problem`` says why."""

    check_id: int
    endpoint: Endpoint | None
    needs: Needs
    problem: Problem = ("", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found by the probe of a check."""

    check_id: int
    problems: tuple[Problem, ...] = ()
    base: str = ""
    free: int | None = None
    whole: bool = True

    @classmethod
    def of(cls, check_id: int, found: Examined) -> Answer:
        """What an executor found."""
        problems = tuple((one.code, one.message) for one in found.problems)
        return cls(check_id, problems, found.base, found.free, found.whole)


@transaction.atomic
def begin(
    *,
    actor: User,
    team: Team,
    region: Region,
    command: CommandInput | SavedInput,
    values: Values | None = None,
    instance_uids: Sequence[str],
    now: datetime,
) -> Preflight:
    """Have instances looked at for what running the command would need there.

    Neither a name nor all values are needed yet, and instances may be out of reach. Raises
    Denied, InvalidFields, QuotaExceeded, Conflict.
    """
    outline = plans.outline(actor=actor, team=team, region=region, command=command, values=values)
    only = access.narrowing(actor, team)
    instances = eligibility.find(team=team, region=region, uids=instance_uids, only=only)
    if any(only.refuses_user(outline.checked.run_as, one) for one in instances):
        raise Invalid(
            _("You may not run anything as that user there. Choose another user."), field="run_as"
        )
    checked = outline.checked
    made = Preflight.objects.create(
        team=team,
        region=region,
        created_by=actor,
        created_at=now,
        expires_at=now + KEPT,
        permission=outline.permission.value,
        workdir=checked.workdir,
        run_as=checked.run_as,
        launcher=_program(checked.launcher),
    )
    PreflightCheck.objects.bulk_create(_check(made, outline, one) for one in instances)
    older = Preflight.objects.filter(created_by=actor).values_list("pk", flat=True)[EACH:]
    Preflight.objects.filter(pk__in=list(older)).delete()
    queue.enqueue(queue.Job.EXAMINE)
    return made


def is_due(*, now: datetime) -> bool:
    """Whether there is an instance to be looked at."""
    return _due(now).exists()


def expire(*, now: datetime) -> None:
    """Forget what was found a while ago."""
    Preflight.objects.filter(expires_at__lte=now).delete()


def claim(*, busy: Collection[int], limit: int, now: datetime) -> list[Probe]:
    """Take at most ``limit`` instances to look at; others leave them alone for a while."""
    with transaction.atomic():
        checks = list(
            _due(now)
            .exclude(pk__in=busy)
            .select_related("preflight__team", "preflight__created_by")
            .select_for_update(of=("self",), skip_locked=True)
            .order_by("pk")[:limit]
        )
        PreflightCheck.objects.filter(pk__in=[each.pk for each in checks]).update(
            claimed_until=now + CLAIM
        )
        found = Instance.objects.filter(pk__in={each.instance_id for each in checks})
        rows = {row.pk: row for row in found.prefetch_related("jump_host")}
        targets = {target.instance_id: target for target in connections.targets(rows.values())}
    rights = _Rights(rows.keys())
    return [
        _probe(check, rows[check.instance_id], targets[check.instance_id], rights)
        for check in checks
        if check.instance_id in rows
    ]


def record(*, answers: Iterable[Answer]) -> None:
    """Store what was found. What was forgotten meanwhile is nobody's concern."""
    found = {answer.check_id: answer for answer in answers}
    with transaction.atomic():
        checks = list(
            PreflightCheck.objects.filter(pk__in=found, done=False)
            .select_for_update()
            .order_by("pk")
        )
        for check in checks:
            _apply(check, found[check.pk])
        PreflightCheck.objects.bulk_update(checks, ["done", "problems", "base", "free", "whole"])


def room_for_output() -> int:
    """Bytes that the output of a run may take on an instance; with less, its end may be lost."""
    return 2 * runs.SPOOL_TIMES * int(settings.CONSOLE_OUTPUT_KEPT)


def _due(now: datetime) -> QuerySet[PreflightCheck]:
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
    return PreflightCheck.objects.filter(free, done=False, preflight__expires_at__gt=now)


def _program(launcher: str) -> str:
    return remote.program_of(launchers.parse(launcher)) if launcher else ""


def _check(preflight: Preflight, outline: Outline, instance: Instance) -> PreflightCheck:
    check = PreflightCheck(preflight=preflight, instance=instance)
    if RUNS_ON[outline.checked.type] is OsType.LINUX:
        place = Place.of(instance, account=preflight.team.uid, region=preflight.region.uid)
        check.interpreter, check.program = _interpreter(outline, place)
    if reason := eligibility.never(instance, outline.checked.type):
        check.done, check.problems = True, [(ErrorCode.COMMAND_NOT_APPLICABLE.value, reason)]
    elif not instance.enabled:
        check.done, check.problems = True, [_SWITCHED_OFF]
    return check


_SWITCHED_OFF = (
    ErrorCode.NO_LONGER_ALLOWED.value,
    gettext_noop("The instance was switched off in the console."),
)
_NOT_YOURS = (
    ErrorCode.NO_LONGER_ALLOWED.value,
    gettext_noop("The team may no longer use this instance."),
)
_NOT_ALLOWED = (
    ErrorCode.NO_LONGER_ALLOWED.value,
    gettext_noop("You may no longer run commands in this team."),
)


def _interpreter(outline: Outline, place: Place) -> tuple[str, str]:
    """What executes the script there, and what ``env`` looks for; "" where nobody can say."""
    first = _first_line(outline, place)
    if first is None:
        return "", ""
    found = remote.interpreter_of(first.encode())
    return found.path, found.program


def _first_line(outline: Outline, place: Place) -> str | None:
    """The first line of the script there; None without one, or where a value in it is hidden."""
    if not outline.checked.content:
        return None
    line = outline.checked.content.split("\n", 1)[0]
    if not outline.checked.use_params or "{{" not in line:
        return line
    if outline.script is None:
        return None
    try:
        texts = outline.script.filled(place), outline.script.shown(place)
    except Invalid:
        return None
    filled, shown = (text.split("\n", 1)[0] for text in texts)
    return filled if filled == shown else None


class _Rights:
    """Who may do what, asked once for each preflight of a claim."""

    def __init__(self, instance_ids: Collection[int]) -> None:
        self._wanted = frozenset(instance_ids)
        self._allows = cache(access.allows)
        self._usable = cache(access.usable)
        self._narrowing = cache(access.narrowing)

    def refusal(self, preflight: Preflight, instance: Instance) -> Problem | None:
        """Why who asked may not know, as a run would tell it; None if that is allowed."""
        if not self._allows(preflight.created_by, preflight.permission, preflight.team):
            return _NOT_ALLOWED
        if instance.pk not in self._usable(preflight.team, self._wanted):
            return _NOT_YOURS
        only = self._narrowing(preflight.created_by, preflight.team)
        left = only.instances(Instance.objects.filter(pk=instance.pk)).exists()
        if not left or only.refuses_user(preflight.run_as, instance):
            return _NOT_ALLOWED
        return None if instance.enabled else _SWITCHED_OFF


def _probe(check: PreflightCheck, instance: Instance, target: Target, rights: _Rights) -> Probe:
    asked = check.preflight
    needs = Needs(asked.workdir, asked.run_as, check.interpreter, check.program, asked.launcher)
    if refusal := rights.refusal(asked, instance):
        return Probe(check.pk, None, needs, refusal)
    if target.endpoint is None:
        unreadable = target.state is Connection.SIGN_IN_REFUSED
        code = ErrorCode.CREDENTIAL_UNUSABLE if unreadable else ErrorCode.NO_LONGER_ALLOWED
        return Probe(check.pk, None, needs, (code.value, target.obstacle))
    return Probe(check.pk, target.endpoint, needs)


def _apply(check: PreflightCheck, answer: Answer) -> None:
    check.done, check.problems = True, [list(problem) for problem in answer.problems]
    check.base, check.free, check.whole = answer.base, answer.free, answer.whole
