"""Quotas: the one place that says how much a team may use, and counts what it uses.

What is used up is counted while the ledger row of the team and region is locked, inside the
transaction of whoever uses it: of any number of requests for the last place exactly one gets it,
and one that fails gives its place back by rolling back. Those functions belong *first* into that
transaction, before any other row is written, so that all requests wait at the same place and none
of them for each other.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from commands.errors import Conflict, Denied
from commands.models import (
    Command,
    CommandVersion,
    QuotaDay,
    QuotaLedger,
    QuotaOverride,
    Region,
    Run,
    Team,
    User,
)
from commands.models.command import OctetLength
from commands.rules import quotas as rules
from commands.rules.content import base64_size, encoded_size
from commands.rules.quotas import Quota, Usage
from commands.services import audit
from commands.words import gettext as _
from commands.words import gettext_noop


def limit(*, team: Team, region: Region, key: Quota) -> int:
    """How much of ``key`` the team may use in ``region``: its own limit, else the default."""
    own = QuotaOverride.objects.filter(team=team, region=region, key=key.value)
    found = own.values_list("limit", flat=True).first()
    return rules.DEFINITIONS[key].default if found is None else found


def usage(*, team: Team, region: Region, key: Quota, now: datetime) -> Usage:
    """How much of ``key`` is used, to be shown. It locks nothing, so it decides nothing."""
    if key is Quota.SAVED_COMMANDS:
        return _usage(team, region, key, used=_saved_commands(team, region))
    if key is Quota.RUNS_AT_A_TIME:
        return _usage(team, region, key, used=_unfinished(team, region))
    if key is Quota.CONTENT_SIZE:
        return _usage(team, region, key, used=_largest(team, region))
    if key is Quota.TASKS_PER_DAY:
        ledger = QuotaLedger.objects.filter(team=team, region=region).first()
        return _tasks(team, region, ledger or QuotaLedger(), now)
    return _usage(team, region, key, used=0)


def overview(*, team: Team, region: Region, now: datetime) -> list[Usage]:
    """How much is used of every quota, in the order of their definition."""
    return [usage(team=team, region=region, key=key, now=now) for key in rules.DEFINITIONS]


def take_task(*, team: Team, region: Region, runs: int, now: datetime) -> None:
    """Count one task, whatever the number of its ``runs``, on the day of ``now``.

    Must be called inside the transaction that makes the task, before its rows. Raises
    QuotaExceeded if the day's tasks are used up, or there would be too many runs at a time.
    """
    ledger = _lock(team, region)
    found = _tasks(team, region, ledger, now)
    if found.full:
        raise rules.exceeded(found)
    _require_runs(team, region, runs)
    if ledger.day not in (None, _day(ledger, now)):
        _remember(ledger)
    ledger.day, ledger.tasks = _day(ledger, now), found.used + 1
    ledger.save(update_fields=["day", "tasks"])


def require_runs(*, team: Team, region: Region, runs: int) -> None:
    """Make sure that so many ``runs`` more may go on at a time.

    Must be called inside the transaction that lets them, before its rows. Raises QuotaExceeded.
    """
    _lock(team, region)
    _require_runs(team, region, runs)


def require_room_for_command(*, team: Team, region: Region) -> None:
    """Make sure that one more command may be kept in the library.

    Must be called inside the transaction that keeps it (makes it with ``kept=True``, or sets
    that later), before its rows. Raises QuotaExceeded if all places are used.
    """
    _lock(team, region)
    used = _saved_commands(team, region)
    found = _usage(team, region, Quota.SAVED_COMMANDS, used=used)
    if found.full:
        raise rules.exceeded(found)


def check_instances(*, team: Team, region: Region, number: int) -> None:
    """Make sure that one task may have ``number`` instances. Raises QuotaExceeded."""
    found = _usage(team, region, Quota.INSTANCES_PER_TASK, used=0)
    if number > found.limit:
        raise rules.exceeded(found, asked=number)


def check_content(
    *, team: Team, region: Region, text: str, what: str = gettext_noop("Command")
) -> str:
    """``text``, if a script of the team may be so long; ``what`` says in words what it is.

    Raises QuotaExceeded, with the size and the limit.
    """
    size = encoded_size(text)
    most = limit(team=team, region=region, key=Quota.CONTENT_SIZE)
    if size > most:
        found = Usage(key=Quota.CONTENT_SIZE, label="", used=size, limit=most)
        raise rules.too_large(found, size=size, what=what)
    return text


def note_use(*, now: datetime) -> None:
    """Remember what every team uses today, for the chart of past days.

    Called now and then; what a day of tasks came to in the end is remembered when the next one
    begins.
    """
    today = rules.day_of(now, timezone.get_default_timezone())
    for ledger in QuotaLedger.objects.select_related("team", "region"):
        if ledger.day is not None:
            _remember(ledger)
        for key in (Quota.SAVED_COMMANDS, Quota.RUNS_AT_A_TIME):
            found = usage(team=ledger.team, region=ledger.region, key=key, now=now)
            _note(ledger, key, today, found.used)


def past_use(
    *, team: Team, region: Region, key: Quota, days: int, now: datetime
) -> list[tuple[date, int]]:
    """What was used on each of the last ``days`` days, today last; 0 where nothing is known."""
    today = rules.day_of(now, timezone.get_default_timezone())
    first = today - timedelta(days=days - 1)
    rows = QuotaDay.objects.filter(team=team, region=region, key=key.value, day__gte=first)
    known = dict(rows.values_list("day", "used"))
    found = usage(team=team, region=region, key=key, now=now)
    if found.used_up:
        known[today] = max(found.used, known.get(today, 0))
    return [(day, known.get(day, 0)) for day in (first + timedelta(days=n) for n in range(days))]


def _remember(ledger: QuotaLedger) -> None:
    """Keep what a day of tasks came to."""
    if ledger.day is not None:
        _note(ledger, Quota.TASKS_PER_DAY, ledger.day, ledger.tasks)


def _note(ledger: QuotaLedger, key: Quota, day: date, used: int) -> None:
    place = {"team": ledger.team, "region": ledger.region, "key": key.value, "day": day}
    row, made = QuotaDay.objects.get_or_create(**place, defaults={"used": used})
    if not made and row.used < used:
        QuotaDay.objects.filter(pk=row.pk, used__lt=used).update(used=used)


@transaction.atomic
def set_limit(
    *, actor: User, team: Team, region: Region, key: Quota, limit: int, only_up: bool = False
) -> QuotaOverride:
    """Give the team a limit of its own in ``region``, in force at once.

    A limit below the present use takes nothing away: what is there stays, nothing is added.
    Raises Denied unless ``actor`` is staff; Invalid if the limit is out of range; with ``only_up``
    Conflict unless it is above the present one.
    """
    if not (actor.is_active and (actor.is_staff or actor.is_superuser)):
        raise Denied(_("Only administrators of the console may change quotas."))
    # Of two who set it at a time the second one sees what the first has set.
    _lock(team, region)
    wanted = rules.check_limit(key, limit)
    present = _usage(team, region, key, used=0).limit
    if only_up and wanted <= present:
        raise Conflict(
            _(
                "The limit is %(limit)s already. Grant more than that, or decline the request and "
                "say so."
            )
            % {"limit": f"{present:,}"}
        )
    override, _made = QuotaOverride.objects.update_or_create(
        team=team,
        region=region,
        key=key.value,
        defaults={"limit": wanted},
    )
    audit.record(
        actor=actor,
        action="quota:set",
        team=team,
        target_name=rules.DEFINITIONS[key].label,
        details={"region": region.uid, "limit": limit},
    )
    return override


def _lock(team: Team, region: Region) -> QuotaLedger:
    """The team's ledger, made if it is missing, locked until the transaction ends.

    SQLite has no row locks and needs none: its transactions take the database's only write lock
    when they begin.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("Quotas are counted inside transactions.")
    ledger, _made = QuotaLedger.objects.select_for_update().get_or_create(team=team, region=region)
    return ledger


def _saved_commands(team: Team, region: Region) -> int:
    return Command.objects.kept().filter(team=team, region=region).count()


def _require_runs(team: Team, region: Region, runs: int) -> None:
    going_on = _usage(team, region, Quota.RUNS_AT_A_TIME, used=_unfinished(team, region))
    if runs > going_on.left:
        raise rules.exceeded(going_on, asked=runs)


def _largest(team: Team, region: Region) -> int:
    found = CommandVersion.objects.newest().filter(
        command__kept=True, command__team=team, command__region=region
    )
    return base64_size(found.aggregate(size=Max(OctetLength("content")))["size"] or 0)


def _unfinished(team: Team, region: Region) -> int:
    runs = Run.objects.going_on()
    return runs.filter(invocation__team=team, invocation__region=region).count()


def _tasks(team: Team, region: Region, ledger: QuotaLedger, now: datetime) -> Usage:
    day = _day(ledger, now)
    return _usage(
        team,
        region,
        Quota.TASKS_PER_DAY,
        used=ledger.tasks if ledger.day == day else 0,
        resets_at=rules.end_of(day, timezone.get_default_timezone()),
    )


def _day(ledger: QuotaLedger, now: datetime) -> date:
    # The site's zone and not the reader's: a team has one day, wherever its members are.
    today = rules.day_of(now, timezone.get_default_timezone())
    return rules.counting_day(ledger.day, today)


def _usage(
    team: Team, region: Region, key: Quota, *, used: int, resets_at: datetime | None = None
) -> Usage:
    return Usage(
        key=key,
        label=rules.DEFINITIONS[key].label,
        used=used,
        limit=limit(team=team, region=region, key=key),
        resets_at=resets_at,
    )
