"""Quotas: the one place that says how much a team may use, and counts what it uses.

What is used up is counted while the ledger row of the team and region is locked, inside the
transaction of whoever uses it: of any number of requests for the last place exactly one gets it,
and one that fails gives its place back by rolling back. Those functions belong *first* into that
transaction, before any other row is written, so that all requests wait at the same place and none
of them for each other.
"""

from __future__ import annotations

from datetime import date, datetime

from django.db import transaction
from django.utils import timezone

from commands.errors import Denied
from commands.models import Command, QuotaLedger, QuotaOverride, Region, Team, User
from commands.rules import quotas as rules
from commands.rules.quotas import Quota, Usage


def limit(*, team: Team, region: Region, key: Quota) -> int:
    """How much of ``key`` the team may use in ``region``: its own limit, else the default."""
    own = QuotaOverride.objects.filter(team=team, region=region, key=key.value)
    found = own.values_list("limit", flat=True).first()
    return rules.DEFINITIONS[key].default if found is None else found


def usage(*, team: Team, region: Region, key: Quota, now: datetime) -> Usage:
    """How much of ``key`` is used, to be shown. It locks nothing, so it decides nothing."""
    if key is Quota.SAVED_COMMANDS:
        return _usage(team, region, key, used=_saved_commands(team, region))
    if key is Quota.TASKS_PER_DAY:
        ledger = QuotaLedger.objects.filter(team=team, region=region).first()
        return _tasks(team, region, ledger or QuotaLedger(), now)
    return _usage(team, region, key, used=0)


def overview(*, team: Team, region: Region, now: datetime) -> list[Usage]:
    """How much is used of every quota, in the order of their definition."""
    return [usage(team=team, region=region, key=key, now=now) for key in rules.DEFINITIONS]


def take_task(*, team: Team, region: Region, now: datetime) -> None:
    """Count one task, whatever the number of its instances, on the day of ``now``.

    Must be called inside the transaction that makes the task, before its rows. Raises
    QuotaExceeded if the day's tasks are used up.
    """
    ledger = _lock(team, region)
    found = _tasks(team, region, ledger, now)
    if found.full:
        raise rules.exceeded(found)
    ledger.day, ledger.tasks = _day(ledger, now), found.used + 1
    ledger.save(update_fields=["day", "tasks"])


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


def set_limit(*, actor: User, team: Team, region: Region, key: Quota, limit: int) -> QuotaOverride:
    """Give the team a limit of its own in ``region``, in force at once.

    A limit below the present use takes nothing away: what is there stays, nothing is added.
    Raises Denied unless ``actor`` is staff; Invalid if the limit is out of range.
    """
    if not (actor.is_active and (actor.is_staff or actor.is_superuser)):
        raise Denied("Only administrators of the console may change quotas.")
    override, _ = QuotaOverride.objects.update_or_create(
        team=team,
        region=region,
        key=key.value,
        defaults={"limit": rules.check_limit(key, limit)},
    )
    return override


def _lock(team: Team, region: Region) -> QuotaLedger:
    """The team's ledger, made if it is missing, locked until the transaction ends.

    SQLite has no row locks and needs none: its transactions take the database's only write lock
    when they begin.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("Quotas are counted inside transactions.")
    ledger, _ = QuotaLedger.objects.select_for_update().get_or_create(team=team, region=region)
    return ledger


def _saved_commands(team: Team, region: Region) -> int:
    return Command.objects.kept().filter(team=team, region=region).count()


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
