"""Quotas on the admin site: every team's, in every region, with what is used of them.

Most have no row of their own, as they stand at the default; so the list is made from what the
service counts (``quota_table``), and every change goes through ``quotas.set_limit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from commands.errors import CommandConsoleError, Conflict, Invalid
from commands.models import AuditEvent, QuotaOverride, QuotaRequest, Region, Team
from commands.rules import quotas as rules
from commands.rules.quotas import Quota
from commands.services import quota_table, quotas
from commands.services.quota_table import Row
from console import resolve
from console.admin import charts
from console.admin.base import ServiceAdmin, tell

PAGE_SIZE = 100
LOWERING = "Lowering below current use keeps existing items and blocks new ones."


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the list: a quota, and what was typed for its limit, if that was refused."""

    row: Row
    typed: str = ""
    error: str = ""
    warning: str = ""

    @property
    def name(self) -> str:
        """What the fields of this line are called."""
        return f"{self.row.team.uid}.{self.row.region.uid}.{self.row.usage.key.value}"

    @property
    def limit(self) -> str:
        """What stands in the field."""
        return self.typed or str(self.row.usage.limit)

    @property
    def bar(self) -> SafeString:
        """How much is used."""
        return charts.bar(self.row.usage)

    @property
    def address(self) -> str:
        """The page of this quota."""
        usage = self.row.usage
        place = [self.row.team.uid, self.row.region.uid, usage.key.value]
        return reverse("admin:commands_quota_place", args=place)


@dataclass(frozen=True, slots=True)
class Change:
    """A limit that was typed, in the place of the one that the page showed."""

    row: Row
    limit: int


@admin.register(QuotaOverride)
class QuotaAdmin(ServiceAdmin[QuotaOverride]):
    """Limits of all teams in all regions, and what is used of them."""

    def get_urls(self) -> list[Any]:
        """Besides Django's, the page of one quota."""
        place: URLPattern = path(
            "<str:team>/<str:region>/<str:key>/",
            self.admin_site.admin_view(self.place_view),
            name="commands_quota_place",
        )
        listed: URLPattern = path(
            "",
            self.admin_site.admin_view(self.changelist_view),
            name="commands_quotaoverride_changelist",
        )
        change: URLPattern = path(
            "<int:number>/change/",
            self.admin_site.admin_view(self.change_redirect),
            name="commands_quotaoverride_change",
        )
        return [listed, change, place]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: there is every quota already."""
        return False

    def change_redirect(self, request: HttpRequest, number: int) -> HttpResponse:
        """From a row that is kept to the page of its quota, for links in Django's own pages."""
        self._require_view(request)
        found = QuotaOverride.objects.select_related("team", "region").filter(pk=number).first()
        if found is None:
            raise Http404
        place = [found.team.uid, found.region.uid, found.key]
        return HttpResponseRedirect(reverse("admin:commands_quota_place", args=place))

    def changelist_view(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        """The list; what was typed into it is checked, warned of, and set."""
        self._require_view(request)
        lines: list[Line] | None = None
        if request.method == "POST":
            lines = self._set(request, _rows(request))
            if lines is None:
                return HttpResponseRedirect(request.get_full_path())
        shown = _filtered(request, _rows(request))
        page = Paginator(shown, PAGE_SIZE).get_page(request.GET.get("p"))
        refused = {line.name: line for line in lines or ()}
        listed = [refused.get((line := Line(row)).name, line) for row in page.object_list]
        warned = any(line.warning for line in listed)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Quotas"),
            "lines": listed,
            "page": page,
            "page_query": _without_page(request),
            "found": len(shown),
            "search": request.GET.get("q", ""),
            "quota": request.GET.get("quota", ""),
            "near": "near" in request.GET,
            "waiting": "waiting" in request.GET,
            "definitions": rules.DEFINITIONS.values(),
            "may_change": self.has_change_permission(request),
            "warned": warned,
            "lowering": _(LOWERING),
            **(extra_context or {}),
        }
        status = 422 if lines else 200
        name = "admin/commands/quotaoverride/change_list.html"
        return TemplateResponse(request, name, context, status=status)

    def place_view(self, request: HttpRequest, team: str, region: str, key: str) -> HttpResponse:
        """One quota: its limit, what was used of it, and who changed it when."""
        self._require_view(request)
        row = _row(team, region, key)
        lines: list[Line] | None = None
        if request.method == "POST":
            lines = self._set(request, [row])
            if lines is None:
                return HttpResponseRedirect(request.get_full_path())
        line = lines[0] if lines else Line(row)
        usage, now = row.usage, timezone.now()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{usage.label}: {row.team.name}, {row.region.name}",
            "line": line,
            "definition": rules.DEFINITIONS[usage.key],
            "chart": charts.past(
                team=row.team, region=row.region, key=usage.key, usage=usage, now=now
            ),
            "history": _history(row),
            "may_change": self.has_change_permission(request),
            "warned": bool(line.warning),
            "lowering": _(LOWERING),
        }
        status = 422 if lines else 200
        name = "admin/commands/quotaoverride/change_form.html"
        return TemplateResponse(request, name, context, status=status)

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method == "POST" and not self.has_change_permission(request):
            raise PermissionDenied

    def _set(self, request: HttpRequest, rows: Sequence[Row]) -> list[Line] | None:
        """Set what was typed, all of it or nothing; the lines to look at again, None if none."""
        wrong, changes = _typed(request, rows)
        if not wrong and "confirmed" not in request.POST:
            wrong = [
                Line(each.row, typed=str(each.limit), warning=_(LOWERING))
                for each in changes
                if each.row.usage.metered and each.limit < each.row.usage.used
            ]
        if wrong:
            known = {line.name for line in wrong}
            others = [Line(each.row, typed=str(each.limit)) for each in changes]
            return [*wrong, *(line for line in others if line.name not in known)]
        try:
            with transaction.atomic():
                for each in changes:
                    self._set_one(request, each)
        except CommandConsoleError as error:
            tell(request, error)
            return None
        if changes:
            text = ngettext("%(n)d limit is changed.", "%(n)d limits are changed.", len(changes))
            self.message_user(request, text % {"n": len(changes)}, messages.SUCCESS)
        return None

    def _set_one(self, request: HttpRequest, change: Change) -> None:
        row = change.row
        kept = quotas.set_limit(
            actor=resolve.person(request),
            team=row.team,
            region=row.region,
            key=row.usage.key,
            limit=change.limit,
        )
        self.log_change(request, kept, [{"changed": {"fields": [f"limit: {change.limit}"]}}])


def _rows(request: HttpRequest) -> list[Row]:
    """Quotas of the teams that are looked for; all without a search."""
    words = request.GET.get("q", "").replace("\0", "").split()
    teams = Team.objects.all()
    for word in words:
        teams = teams.filter(Q(name__icontains=word) | Q(uid__icontains=word))
    return quota_table.rows(teams=teams, now=timezone.now())


def _filtered(request: HttpRequest, rows: Sequence[Row]) -> list[Row]:
    key = request.GET.get("quota", "")
    return [
        row
        for row in rows
        if (not key or row.usage.key.value == key)
        and ("near" not in request.GET or row.usage.near)
        and ("waiting" not in request.GET or row.request is not None)
    ]


def _without_page(request: HttpRequest) -> str:
    query = request.GET.copy()
    query.pop("p", None)
    return query.urlencode()


def _row(team: str, region: str, key: str) -> Row:
    """The quota that is meant. Raises Http404."""
    places = Team.objects.filter(uid=team).first() if team.isdecimal() else None
    there = Region.objects.filter(uid=region).first() if region.isascii() else None
    if places is None or there is None or key not in {each.value for each in Quota}:
        raise Http404
    return quota_table.row(team=places, region=there, key=Quota(key), now=timezone.now())


def _typed(request: HttpRequest, rows: Sequence[Row]) -> tuple[list[Line], list[Change]]:
    """What of the form can't be, and what is another limit than the page showed."""
    wrong, changes = [], []
    for row in rows:
        name = Line(row).name
        typed = request.POST.get(f"limit.{name}", "").strip()
        shown = request.POST.get(f"was.{name}", "")
        if f"limit.{name}" not in request.POST or typed == shown:
            continue
        try:
            changes.append(Change(row, _checked(row, typed, shown)))
        except CommandConsoleError as error:
            wrong.append(Line(row, typed=typed, error=error.message))
    return wrong, changes


def _checked(row: Row, typed: str, shown: str) -> int:
    if shown != str(row.usage.limit):
        raise Conflict(
            _("Somebody changed this limit to %(limit)s in the meantime.")
            % {"limit": charts.number(row.usage.limit)}
        )
    if not (typed.isascii() and typed.isdecimal() and len(typed) < 10):
        raise Invalid(_("Enter a whole number."))
    return rules.check_limit(row.usage.key, int(typed))


def _history(row: Row) -> dict[str, Any]:
    """What the audit trail says of this quota, and the requests for more, newest first."""
    events = AuditEvent.objects.filter(
        action__startswith="quota:",
        team_uid=row.team.uid,
        target_name=row.usage.label,
        details__region=row.region.uid,
    )
    requests = QuotaRequest.objects.filter(
        team=row.team, region=row.region, key=row.usage.key.value
    )
    return {"events": events[:50], "requests": requests[:50]}
