"""All quotas of all teams at once, for the administrators of the console.

It says what ``quotas.usage`` says of each, with as many queries as there are kinds of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db.models import Count, Max, QuerySet
from django.utils import timezone

from commands.models import (
    Command,
    CommandVersion,
    QuotaLedger,
    QuotaOverride,
    QuotaRequest,
    Region,
    Run,
    Team,
)
from commands.models.command import OctetLength
from commands.rules import quotas as rules
from commands.rules.content import base64_size
from commands.rules.quotas import Quota, Usage

_Place = tuple[int, int]
"""Keys of a team and a region."""


@dataclass(frozen=True, slots=True)
class Row:
    """One quota of one team in one region.

    ``own`` says that its limit is not the default; ``request`` is one that waits.
    """

    team: Team
    region: Region
    usage: Usage
    own: bool
    request: QuotaRequest | None

    @property
    def percent(self) -> int:
        """How much of it is used, in whole percent; more than 100 above a limit that fell."""
        return self.usage.used * 100 // self.usage.limit


def rows(*, teams: QuerySet[Team], now: datetime) -> list[Row]:
    """Every quota of ``teams`` in every region, in their order."""
    counted = _Counted(now)
    regions = list(Region.objects.all())
    return [
        counted.row(team, region, key)
        for team in teams
        for region in regions
        for key in rules.DEFINITIONS
    ]


def row(*, team: Team, region: Region, key: Quota, now: datetime) -> Row:
    """One of them."""
    found = rows(teams=Team.objects.filter(pk=team.pk), now=now)
    return next(each for each in found if each.region == region and each.usage.key is key)


class _Counted:
    """What is used, by place, read at once."""

    def __init__(self, now: datetime) -> None:
        self._today = rules.day_of(now, timezone.get_default_timezone())
        kept = Command.objects.kept().order_by().values("team", "region")
        runs = Run.objects.going_on().order_by()
        going_on = runs.values("invocation__team", "invocation__region")
        self._saved = _by_place(kept.annotate(n=Count("pk")).values_list("team", "region", "n"))
        self._runs = _by_place(
            going_on.annotate(n=Count("pk")).values_list(
                "invocation__team", "invocation__region", "n"
            )
        )
        sizes = CommandVersion.objects.newest().filter(command__kept=True).order_by()
        self._largest = _by_place(
            sizes.values("command__team", "command__region")
            .annotate(n=Max(OctetLength("content")))
            .values_list("command__team", "command__region", "n")
        )
        self._ledgers = {
            (ledger.team_id, ledger.region_id): ledger for ledger in QuotaLedger.objects.all()
        }
        self._limits = {
            (each.team_id, each.region_id, each.key): each.limit
            for each in QuotaOverride.objects.all()
        }
        self._waiting = {
            (each.team_id, each.region_id, each.key): each
            for each in QuotaRequest.objects.filter(state=QuotaRequest.State.PENDING)
        }

    def row(self, team: Team, region: Region, key: Quota) -> Row:
        """One quota of one team in one region."""
        definition, place = rules.DEFINITIONS[key], (team.pk, region.pk)
        own = self._limits.get((*place, key.value))
        ledger = self._ledgers.get(place)
        day = rules.counting_day(ledger.day if ledger else None, self._today)
        resets = rules.end_of(day, timezone.get_default_timezone())
        usage = Usage(
            key=key,
            label=definition.label,
            used=self._used(place, key, ledger, day),
            limit=definition.default if own is None else own,
            resets_at=resets if key is Quota.TASKS_PER_DAY else None,
        )
        return Row(team, region, usage, own is not None, self._waiting.get((*place, key.value)))

    def _used(self, place: _Place, key: Quota, ledger: QuotaLedger | None, day: date) -> int:
        if key is Quota.SAVED_COMMANDS:
            return self._saved.get(place, 0)
        if key is Quota.RUNS_AT_A_TIME:
            return self._runs.get(place, 0)
        if key is Quota.CONTENT_SIZE:
            return base64_size(self._largest.get(place, 0))
        if key is Quota.TASKS_PER_DAY and ledger is not None and ledger.day == day:
            return ledger.tasks
        return 0


def _by_place(
    counts: QuerySet[Any, tuple[int, int, int]],
) -> dict[_Place, int]:
    return {(team, region): number for team, region, number in counts}
