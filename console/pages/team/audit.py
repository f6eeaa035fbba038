"""``/team/audit/``: what was done in the team, by whom, searched, and as a table to download."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from commands.access import Permission
from commands.models import AuditEvent
from commands.models.audit import AuditEventQuerySet
from commands.services import audit as service
from console import resolve, results
from console.pages import downloads
from console.pages.team import place
from console.resolve import Scope

PAGE_SIZE = 50
ROWS = 500
"""Events that are read at once for a table."""
WORD_CHARS = 100
COLUMNS = (
    "number",
    "at",
    "who",
    "from",
    "action",
    "outcome",
    "target_id",
    "target",
    "details",
    "digest",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are to be listed; ``since`` and ``until`` are days, both included."""

    who: str
    what: str
    since: date | None
    until: date | None
    outcome: str

    @classmethod
    def of(cls, data: QueryDict) -> Wanted:
        """What a query string asks for; nonsense asks for nothing."""
        outcome = data.get("outcome", "")
        return cls(
            who=_word(data.get("who", "")),
            what=_word(data.get("what", "")),
            since=_day(data.get("since", "")),
            until=_day(data.get("until", "")),
            outcome=outcome if outcome in AuditEvent.Outcome.values else "",
        )

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self.who or self.what or self.since or self.until or self.outcome)

    def of_these(self, events: AuditEventQuerySet) -> AuditEventQuerySet:
        """Those of ``events`` that are wanted."""
        if self.who:
            events = events.filter(actor_name__icontains=self.who)
        if self.what:
            events = events.filter(
                Q(action__icontains=self.what)
                | Q(target_name__icontains=self.what)
                | Q(target_uid=self.what)
            )
        if self.since:
            events = events.filter(at__gte=_midnight(self.since))
        if self.until:
            events = events.filter(at__lt=_midnight(self.until + timedelta(days=1)))
        return events.filter(outcome=self.outcome) if self.outcome else events


@resolve.signed_in
@require_safe
@cache_control(private=True)
def audit(request: HttpRequest) -> HttpResponse:
    """Events of the team, newest first, and whether those that are shown fit the chain."""
    scope = place.chosen(request, needs=Permission.TEAM_MANAGE)
    wanted = Wanted.of(request.GET)
    paginator: Paginator[Any] = Paginator(_events(request, scope, wanted), PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))
    events = list(page.object_list)
    context = {
        "page": page,
        "rows": [
            (event, AuditEvent.Outcome(event.outcome).label, _details(event)) for event in events
        ],
        "altered": service.altered(events),
        "wanted": wanted,
        "outcomes": AuditEvent.Outcome.choices,
    }
    return render(request, "team/audit.html", context)


@resolve.signed_in
@require_safe
def events_csv(request: HttpRequest) -> HttpResponseBase:
    """The same events, all of them, as a table."""
    scope = place.chosen(request, needs=Permission.TEAM_MANAGE)
    found = _events(request, scope, Wanted.of(request.GET))
    if request.method == "GET":
        service.record(
            actor=resolve.person(request),
            action="audit:download",
            team=scope.team,
            target_name="events.csv",
        )
    response = downloads.stream(_table(found), "text/csv; charset=utf-8")
    downloads.name_file(response, f"{downloads.safe(scope.team.name)}.audit.csv")
    return response


def _events(request: HttpRequest, scope: Scope, wanted: Wanted) -> AuditEventQuerySet:
    own = AuditEvent.objects.administered_by(resolve.person(request))
    return wanted.of_these(own.filter(team_uid=scope.team.uid))


async def _table(events: AuditEventQuerySet) -> AsyncIterator[bytes]:
    yield results.BYTE_ORDER_MARK + results.table([COLUMNS])
    last: AuditEvent | None = None
    unsealed: set[int] = set()  # sealed while the table is made they come once more
    while found := await sync_to_async(_some)(events, last):
        yield results.table([_row(event) for event in found if event.pk not in unsealed])
        unsealed |= {event.pk for event in found if event.number is None}
        last = found[-1]


def _some(events: AuditEventQuerySet, last: AuditEvent | None) -> list[AuditEvent]:
    try:
        left = events if last is None else events.before(last)
        return list(left[:ROWS])
    finally:
        connections.close_all()


def _row(event: AuditEvent) -> list[object]:
    return [
        event.number,
        event.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        event.actor_name,
        event.origin,
        event.action,
        event.outcome,
        event.target_uid,
        event.target_name,
        "; ".join(f"{name}={value}" for name, value in _details(event)),
        event.digest,
    ]


def _details(event: AuditEvent) -> list[tuple[str, str]]:
    """Names and values, as text; without what is empty."""
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in event.details.items()
        if value not in (None, "", [])
    ]


def _word(text: str) -> str:
    """``text`` as every database can look for it."""
    plain = text.replace("\0", "").encode(errors="ignore").decode()
    return plain.strip()[:WORD_CHARS]


def _day(text: str) -> date | None:
    try:
        day = parse_date(text.strip())
    except ValueError:
        return None
    # The first and last years have no day before or behind them in some zone.
    return day if day is not None and 1 < day.year < 9999 else None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), timezone.get_current_timezone())
