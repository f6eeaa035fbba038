"""``/tasks/``: the tasks of a team and region, filtered by what the address says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from commands.access import Permission
from commands.models import Invocation
from commands.models.command import Type
from commands.models.instance import storable
from commands.models.invocation import InvocationQuerySet
from commands.rules.status import TaskStatus
from console import resolve
from console.pages.task_rows import task_rows
from console.resolve import Scope
from console.templatetags.console_ui import status_label

PAGE_SIZE = 50
UNFINISHED, FAILURES, UNAPPROVED = "unfinished", "failures", "unapproved"
"""Filters by status for more than one state, or for a part of one."""
FILTER_CHARS = 200
"""Characters of a filter that are looked at."""


class Chip(NamedTuple):
    """A filter in force: what it is about, its value in words, the address without it."""

    label: str
    value: str
    without: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks are to be listed; "" leaves a filter out."""

    status: str = ""
    type: str = ""
    by: str = ""
    q: str = ""
    instance: str = ""

    @classmethod
    def of(cls, data: QueryDict) -> Wanted:
        """What a query string asks for; a state or a type that does not exist asks for nothing."""
        given = {
            field.name: storable(data.get(field.name, "")[:FILTER_CHARS]).strip()
            for field in fields(cls)
        }
        wanted = cls(**given)
        if wanted.status not in _states():
            wanted = replace(wanted, status="")
        return wanted if wanted.type in Type.values else replace(wanted, type="")

    def given(self) -> dict[str, str]:
        """The filters in force, by name."""
        values = {field.name: str(getattr(self, field.name)) for field in fields(self)}
        return {name: value for name, value in values.items() if value}

    def apply(self, tasks: InvocationQuerySet) -> InvocationQuerySet:
        """Those of ``tasks`` that are wanted."""
        tasks = tasks.filter(type=self.type) if self.type else tasks
        tasks = tasks.filter(created_by_name=self.by) if self.by else tasks
        tasks = tasks.search(self.q) if self.q else tasks
        tasks = tasks.on_instance(self.instance) if self.instance else tasks
        if self.status == UNFINISHED:
            return tasks.active()
        if self.status == FAILURES:
            return tasks.failed()
        if self.status == UNAPPROVED:
            return tasks.unapproved()
        return tasks.in_state(self.status) if self.status else tasks

    def chips(self) -> Iterator[Chip]:
        """Each filter in force, in words."""
        labels = {
            "status": _("Status"),
            "type": _("Type"),
            "by": _("By"),
            "q": _("Name or ID"),
            "instance": _("Instance"),
        }
        given = self.given()
        for name, value in given.items():
            rest = urlencode({other: given[other] for other in given if other != name})
            yield Chip(labels[name], _in_words(name, value), f"?{rest}")


def _states() -> dict[str, str]:
    """What can be asked of the status, in words; problems first."""
    states = [
        TaskStatus.FAILED,
        TaskStatus.PARTIAL_FAILED,
        TaskStatus.RUNNING,
        TaskStatus.STOPPING,
        TaskStatus.PENDING,
        TaskStatus.SUCCESS,
        TaskStatus.STOPPED,
    ]
    more = {
        FAILURES: _("With failures"),
        UNFINISHED: _("Not finished"),
        UNAPPROVED: _("Waiting for approval"),
    }
    return more | {state.value: status_label(state) for state in states}


def _in_words(name: str, value: str) -> str:
    if name == "status":
        return _states()[value]
    return dict(Type.choices)[value] if name == "type" else value


@resolve.signed_in
@require_safe
@cache_control(private=True)
@vary_on_headers("HX-Target")
def tasks(request: HttpRequest) -> HttpResponse:
    """Tasks of the chosen team and region, newest first; parts of the page for htmx."""
    scope = resolve.scope(request)
    if scope is None:
        return render(request, "tasks/list.html", {})
    wanted = Wanted.of(request.GET)
    part = request.headers.get("HX-Target", "")
    if part == "fresh":
        return render(request, "tasks/_fresh.html", _fresh(request, scope, wanted))
    context = _context(request, scope, wanted)
    template = "_results" if part == "results" else "list"
    return render(request, f"tasks/{template}.html", context)


def _all(request: HttpRequest, scope: Scope) -> InvocationQuerySet:
    found = Invocation.objects.visible_to(request.user)
    return found.filter(team=scope.team, region=scope.region)


def _context(request: HttpRequest, scope: Scope, wanted: Wanted) -> dict[str, Any]:
    everything = _all(request, scope)
    # Before the page's tasks: one that is created in between is listed, and counted as new all
    # the same. The other way round it would be neither.
    newest = _newest(everything)
    paginator: Paginator[Any] = Paginator(wanted.apply(everything), PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))
    page.object_list = task_rows(page.object_list, timezone.now())
    return {
        "page": page,
        "wanted": wanted,
        "chips": list(wanted.chips()),
        "any": bool(page.object_list) or everything.exists(),
        "newest": newest,
        "fresh": 0,
        "states": list(_states().items()),
        "types": Type.choices,
        "people": list(
            everything.order_by("created_by_name")
            .values_list("created_by_name", flat=True)
            .distinct()
        ),
        "may_run": resolve.may(request, Permission.COMMAND_RUN, scope),
    }


def _fresh(request: HttpRequest, scope: Scope, wanted: Wanted) -> dict[str, Any]:
    """How many tasks came since the page was made."""
    since = request.GET.get("newest", "")
    known = int(since) if since.isascii() and since.isdecimal() and len(since) < 19 else 0
    newer = wanted.apply(_all(request, scope).filter(pk__gt=known))
    return {"newest": known, "fresh": newer.count()}


def _newest(tasks: InvocationQuerySet) -> int:
    newest = tasks.order_by("-pk").values_list("pk", flat=True).first()
    return newest or 0
