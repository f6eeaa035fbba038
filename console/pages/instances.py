"""``/instances/``: the inventory as a list, searched, filtered, sorted, and kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Case, F, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from commands.access import Permission
from commands.models import Instance
from commands.models.instance import ConnectionState, InstanceQuerySet
from console import grouping, resolve
from console.forms.picker import SEARCH_CHARS, Filters
from console.pages import inventory
from console.pages.picker import frequent_tags
from console.resolve import Scope

PAGE_SIZE = 50

SORTS: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "uid"),
    "address": ("host", "port", "name"),
    "system": ("os_type", "system", "name"),
    "connection": ("trouble", "name"),
    "task": ("last_run", "name"),
}
"""Columns to sort by, in words of the address, and what they mean."""

_TROUBLE = Case(
    When(enabled=False, then=5),
    When(connection=ConnectionState.HOST_KEY_CHANGED, then=0),
    When(connection=ConnectionState.SIGN_IN_REFUSED, then=1),
    When(connection=ConnectionState.UNREACHABLE, then=2),
    When(connection=ConnectionState.UNKNOWN, then=3),
    default=4,
)
"""How urgently an instance wants looking at: problems first."""

COLUMNS = (
    ("name", _("Instance"), ""),
    ("address", _("Address"), "wide"),
    ("system", _("System"), "wide"),
    ("", _("Tags"), "wide"),
    ("connection", _("Connection"), ""),
    ("", _("Host key"), "wide"),
    ("task", _("Last task"), "wide"),
)
"""Columns of the table: what to sort by, heading, classes."""


@resolve.signed_in
@require_safe
@cache_control(private=True)
@vary_on_headers("HX-Target")
def instances(request: HttpRequest) -> HttpResponse:
    """What the chosen team owns or was lent in the chosen region."""
    scope = resolve.scope(request)
    if scope is None or not resolve.may(request, Permission.INSTANCE_READ, scope):
        return render(request, "instances/list.html", {})
    if request.headers.get("HX-Target") == "presence":
        return presence(request, scope, Filters.of(request.GET).on)
    own = _inventory(scope)
    filters = Filters.of(request.GET)
    sort = _sort(request)
    groups = grouping.choices(scope.team)
    group = grouping.chosen(groups, filters.group)
    page = _page(request, own.facet(group=group), filters, sort)
    context = {
        "page": page,
        "rows": inventory.rows(request, page.object_list, scope.team, timezone.now()),
        "filters": filters,
        "search_chars": SEARCH_CHARS,
        "filtered": bool(filters.q or filters.os or filters.connection or filters.tags or group),
        "groups": groups,
        "group": group,
        "sort": sort,
        "columns": _columns(sort),
        "total": own.count(),
        "tags": frequent_tags(own, filters),
        "os_choices": Instance.Os.choices,
        "connection_choices": ConnectionState.choices,
        "may_manage": resolve.may(request, Permission.INSTANCE_MANAGE, scope),
    }
    part = request.headers.get("HX-Target") == "results"
    return render(request, f"instances/{'_results' if part else 'list'}.html", context)


def presence(
    request: HttpRequest, scope: Scope, uids: tuple[str, ...], told: Mapping[str, str] | None = None
) -> HttpResponse:
    """What changes by itself in the rows of these instances, to be put in their places."""
    possible = [uid for uid in uids[:PAGE_SIZE] if uid.isascii() and uid.isprintable()]
    found = inventory.with_last_task(_inventory(scope).filter(uid__in=possible), request)
    rows = inventory.rows(request, found.select_related("team"), scope.team, timezone.now(), told)
    context = {"rows": rows, "told": " ".join((told or {}).values())}
    return render(request, "instances/_presence.html", context)


def _inventory(scope: Scope) -> InstanceQuerySet:
    return Instance.objects.usable_by(scope.team).filter(region=scope.region)


def _sort(request: HttpRequest) -> str:
    sort = request.GET.get("sort", "")
    return sort if sort.removeprefix("-") in SORTS else "name"


def _page(
    request: HttpRequest, own: InstanceQuerySet, filters: Filters, sort: str
) -> Page[Instance]:
    found = own.search(filters.q).facet(
        os_type=filters.os, connection=filters.connection, tags=filters.tags
    )
    down = sort.startswith("-")
    order = [
        F(column).desc(nulls_last=True) if down else F(column).asc(nulls_last=True)
        for column in SORTS[sort.removeprefix("-")]
    ]
    shown = inventory.with_last_task(found, request).annotate(trouble=_TROUBLE)
    shown = shown.order_by(*order, "pk")
    shown = shown.select_related("team").prefetch_related("tags")
    return Paginator(shown, PAGE_SIZE).get_page(filters.page)


def _columns(sort: str) -> list[dict[str, Any]]:
    """Headings: what a click sorts by, and how the table is sorted now."""
    column, down = sort.removeprefix("-"), sort.startswith("-")
    made = []
    for key, heading, css in COLUMNS:
        here = bool(key) and key == column
        # Tasks are looked for from the newest on.
        fresh = "-task" if key == "task" else key
        opposite = key if down else f"-{key}"
        state = ("descending" if down else "ascending") if here else ""
        made.append(
            {
                "heading": heading,
                "css": css,
                "state": state,
                "next": opposite if here else fresh,
            }
        )
    return made
