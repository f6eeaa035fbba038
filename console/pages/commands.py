"""``/commands/``: the library as a list, one of its commands, pinning, deleting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from commands import access
from commands.access import Permission
from commands.errors import Conflict, Invalid
from commands.models import Command, CommandVersion, Invocation, ResourceGroup
from commands.rules.quotas import Quota, Usage
from commands.services import library as service
from commands.services import quotas
from console import errors, grouping, presentation, resolve
from console.pages import library
from console.pages.answers import SeeOther, local
from console.resolve import Scope

PAGE_SIZE = 50
SEARCH_CHARS = 200
"""Characters of a search that are looked at."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the library is to be listed: words, a type of command or ``""``, a resource group."""

    text: str
    type: str
    group: ResourceGroup | None

    @classmethod
    def of(cls, data: QueryDict, groups: Sequence[ResourceGroup]) -> Wanted:
        """What a query string asks for, with one of ``groups``; nonsense asks for nothing."""
        type_ = data.get("type", "")
        known = type_ in Command.Type.values
        group = grouping.chosen(groups, data.get("group", ""))
        return cls(data.get("q", "")[:SEARCH_CHARS].strip(), type_ if known else "", group)

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self.text or self.type or self.group)


@resolve.signed_in
@require_safe
@cache_control(private=True)
@vary_on_headers("HX-Target")
def commands(request: HttpRequest) -> HttpResponse:
    """The commands that the chosen team keeps in the chosen region, pinned ones first."""
    scope = resolve.scope(request)
    if scope is None:
        return render(request, "commands/list.html", {})
    groups = grouping.choices(scope.team)
    wanted = Wanted.of(request.GET, groups)
    page = _page(request, scope, wanted)
    context = {
        "page": page,
        "rows": library.rows(page.object_list, timezone.now()),
        "wanted": wanted,
        "types": Command.Type.choices,
        "groups": groups,
        "usage": usage(scope),
        "may_run": resolve.may(request, Permission.COMMAND_RUN, scope),
        "may_manage": resolve.may(request, Permission.COMMAND_MANAGE, scope),
    }
    part = request.headers.get("HX-Target") == "results"
    return render(request, f"commands/{'_results' if part else 'list'}.html", context)


@resolve.signed_in
@require_safe
@cache_control(private=True)
def command(request: HttpRequest, uid: str) -> HttpResponse:
    """One command as it is now, its runs, its versions."""
    found = resolve.command(request, uid)
    version = resolve.command_version(found, str(found.latest))
    context = {
        **about(request, found),
        "version": version,
        "listing": library.listing(version),
        "parameters": library.parameter_views(version),
    }
    if request.GET.get("tab") == "versions":
        context |= {"tab": "versions", "page": versions_page(request, found)}
    else:
        context |= {"tab": "runs", "page": _tasks_page(request, found)}
    return render(request, "commands/detail.html", context)


@resolve.signed_in
@require_POST
def pin(request: HttpRequest, uid: str) -> HttpResponse:
    """Pin a command for oneself, or no longer."""
    found = resolve.command(request, uid)
    pinned = request.POST.get("pinned") == "on"
    service.pin(actor=resolve.person(request), command=found, pinned=pinned)
    if request.headers.get("HX-Request"):
        return render(request, "commands/_pin.html", {"command": found, "pinned": pinned})
    return SeeOther(local(request, request.POST.get("next", ""), reverse("commands")))


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Target")
def delete(request: HttpRequest) -> HttpResponse:
    """Ask whether commands are to be deleted (GET), and delete them (POST, 303)."""
    uids = (request.POST if request.method == "POST" else request.GET).getlist("uid")
    if not uids:
        messages.error(request, _("Select at least one command first."))
        return SeeOther(reverse("commands"))
    chosen = resolve.managed_commands(request, uids)
    if request.method != "POST":
        return _confirm(request, chosen)
    try:
        service.delete_commands(
            actor=resolve.person(request),
            team=chosen[0].team,
            region=chosen[0].region,
            uids=[one.uid for one in chosen],
        )
    except (Invalid, Conflict) as error:
        return _confirm(request, chosen, error.message, status=errors.status_code(error))
    done = ngettext("%(n)d command was deleted.", "%(n)d commands were deleted.", len(chosen))
    messages.success(request, done % {"n": len(chosen)})
    return SeeOther(reverse("commands"))


def about(request: HttpRequest, command: Command) -> dict[str, object]:
    """What every page about one command shows."""
    allows = access.allows
    return {
        "command": command,
        "by": library.name_of(command.updated_by),
        "times_run": command.invocations.count(),
        "may_run": allows(request.user, Permission.COMMAND_RUN, command.team),
        "may_manage": allows(request.user, Permission.COMMAND_MANAGE, command.team),
        "group": grouping.shown(command),
        "pinned": command.pins.filter(user=resolve.person(request)).exists(),
    }


def versions_page(request: HttpRequest, command: Command) -> Page[CommandVersion]:
    """Some versions, newest first."""
    versions = command.versions.select_related("created_by").defer("content")
    return Paginator(versions.order_by("-number"), PAGE_SIZE).get_page(request.GET.get("page"))


def usage(scope: Scope) -> Usage:
    """How full the library is."""
    return quotas.usage(
        team=scope.team, region=scope.region, key=Quota.SAVED_COMMANDS, now=timezone.now()
    )


def _page(request: HttpRequest, scope: Scope, wanted: Wanted) -> Page[Command]:
    found = Command.objects.visible_to(request.user).kept()
    found = found.filter(team=scope.team, region=scope.region).search(wanted.text)
    if wanted.type:
        found = found.filter(type=wanted.type)
    if wanted.group:
        found = found.filter(resource_group=wanted.group)
    person = resolve.person(request)
    shown = found.pinned_first(person).with_use().with_newest().select_related("updated_by")
    return Paginator(shown, PAGE_SIZE).get_page(request.GET.get("page"))


def _tasks_page(request: HttpRequest, command: Command) -> Page[Any]:
    tasks = Invocation.objects.visible_to(request.user).filter(command=command)
    found = tasks.select_related("version").prefetch_related("runs")
    paginator: Paginator[Any] = Paginator(found, PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))
    now = timezone.now()
    page.object_list = [
        (presentation.task_view(task, list(task.runs.all()), now), task.version)
        for task in page.object_list
    ]
    return page


def _confirm(
    request: HttpRequest, chosen: Sequence[Command], error: str = "", *, status: int = 200
) -> HttpResponse:
    part = request.headers.get("HX-Target") == "asked"
    context = {"commands": chosen, "error": error, "in_dialog": part}
    template = f"commands/{'_delete' if part else 'delete'}.html"
    return render(request, template, context, status=status)
