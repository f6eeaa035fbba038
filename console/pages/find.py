"""``/find/``: tasks, saved commands and instances by name or id, from the field in the top bar."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from commands.access import Permission
from commands.models import Command, Instance, Invocation
from commands.models.instance import storable
from console import resolve
from console.pages.task_rows import TaskRow, task_rows
from console.resolve import Scope

SHOWN, QUICK = 20, 4
"""How many of each kind are shown, on the page and under the field."""
SEARCH_CHARS = 200
"""Characters of a search that are looked at."""


@dataclass(frozen=True, slots=True)
class Found:
    """What fits; ``more`` says that not all of it is here."""

    tasks: list[TaskRow]
    commands: list[Command]
    instances: list[Instance]
    more: bool

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.tasks or self.commands or self.instances)


@resolve.signed_in
@require_safe
@cache_control(private=True)
@vary_on_headers("HX-Target")
def find(request: HttpRequest) -> HttpResponse:
    """What fits ``q``, as a page or as a short list; a whole id leads straight to what it names."""
    text = storable(request.GET.get("q", "")[:SEARCH_CHARS]).strip()
    short = request.headers.get("HX-Target") == "found-quick"
    if not short and (target := _named(request, text)):
        return redirect(target)
    scope = resolve.scope(request)
    found = _search(request, scope, text, QUICK if short else SHOWN) if scope and text else None
    context = {
        "text": text,
        "found": found,
        "may_run": scope is not None and resolve.may(request, Permission.COMMAND_RUN, scope),
    }
    return render(request, "find/_quick.html" if short else "find/page.html", context)


def _named(request: HttpRequest, text: str) -> str:
    """The address of the one thing that has ``text`` as its id, or ""."""
    uid, user = text.lower(), request.user
    if Invocation.objects.visible_to(user).filter(uid=uid).exists():
        return reverse("task", args=[uid])
    if Command.objects.kept().visible_to(user).filter(uid=uid).exists():
        return reverse("command", args=[uid])
    instance = Instance.objects.visible_to(user).filter(uid=uid).exists()
    return reverse("instance", args=[uid]) if instance else ""


def _search(request: HttpRequest, scope: Scope, text: str, most: int) -> Found:
    here = {"team": scope.team, "region": scope.region}
    user = request.user
    tasks = Invocation.objects.visible_to(user).filter(**here).search(text)
    commands = Command.objects.visible_to(user).kept().filter(**here).search(text)
    instances = Instance.objects.usable_by(scope.team).filter(region=scope.region).search(text)
    kinds = (
        list(tasks[: most + 1]),
        list(commands.pinned_first(resolve.person(request))[: most + 1]),
        list(instances[: most + 1]),
    )
    return Found(
        tasks=task_rows(kinds[0][:most], timezone.now()),
        commands=kinds[1][:most],
        instances=kinds[2][:most],
        more=any(len(kind) > most for kind in kinds),
    )
