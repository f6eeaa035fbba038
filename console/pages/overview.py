"""``/``: what runs now, what needs a look, what is quick to run, how much is left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from commands.access import Permission
from commands.models import Command, Instance, Invocation
from commands.models.invocation import InvocationQuerySet
from commands.services import accounts
from console import resolve
from console.pages.answers import SeeOther
from console.pages.task_rows import task_rows
from console.resolve import Scope

RUNNING, FAILED, QUICK, UNAPPROVED = 8, 6, 8, 6
"""How many of each are shown; the list of tasks and the library have the others."""
LOOK_BACK = timedelta(days=3)
"""How old a failure may be that still needs a look. What was run again had one."""


@resolve.signed_in
@require_safe
@cache_control(private=True)
@vary_on_headers("HX-Target")
def home(request: HttpRequest) -> HttpResponse:
    """The overview; for htmx the part of it that changes by itself."""
    scope = resolve.scope(request)
    if scope is None:
        return render(request, "overview.html", {})
    context = _live(request, scope)
    if request.headers.get("HX-Target") == "live":
        return render(request, "overview/_live.html", context)
    return render(request, "overview.html", {**context, **_rest(request, scope)})


@resolve.signed_in
@require_POST
def looked_at(request: HttpRequest) -> HttpResponse:
    """Take away the failures that need a look: they were looked at."""
    accounts.mark_looked_at(actor=resolve.person(request), now=timezone.now())
    return SeeOther("/")


def _tasks(request: HttpRequest, scope: Scope) -> InvocationQuerySet:
    found = Invocation.objects.visible_to(request.user)
    return found.filter(team=scope.team, region=scope.region)


def _live(request: HttpRequest, scope: Scope) -> dict[str, Any]:
    now = timezone.now()
    person = resolve.person(request)
    tasks = _tasks(request, scope)
    failed = tasks.filter(created_at__gt=now - LOOK_BACK, repeats=None).failed()
    if person.looked_at:
        failed = failed.filter(created_at__gt=person.looked_at)
    unapproved = tasks.unapproved()
    running = tasks.under_way()
    return {
        "unapproved": task_rows(unapproved[:UNAPPROVED], now),
        "unapproved_count": unapproved.count(),
        "running": task_rows(running[:RUNNING], now),
        "running_count": running.count(),
        "failed": task_rows(failed[:FAILED], now),
        "failed_count": failed.count(),
        "may_run": resolve.may(request, Permission.COMMAND_RUN, scope),
    }


def _rest(request: HttpRequest, scope: Scope) -> dict[str, Any]:
    instances = Instance.objects.usable_by(scope.team).filter(region=scope.region)
    commands = Command.objects.visible_to(request.user).kept()
    commands = commands.filter(team=scope.team, region=scope.region)
    steps = {
        "has_instance": instances.exists(),
        "has_task": _tasks(request, scope).exists(),
        "has_command": commands.exists(),
    }
    return {
        **steps,
        "begun": all(steps.values()),
        "quick": list(commands.most_used_first(resolve.person(request))[:QUICK]),
        "instances": instances.count(),
        "reachable": instances.filter(connection=Instance.Connection.REACHABLE).count(),
        "may_create": resolve.may_create(request, scope),
        "may_add": resolve.may(request, Permission.INSTANCE_MANAGE, scope),
    }
