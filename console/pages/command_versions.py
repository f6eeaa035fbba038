"""``/commands/<uid>/history/``: versions of a command, what differs, bringing one back."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from commands.errors import Conflict, Invalid
from commands.services import library as service
from console import resolve
from console.pages import library
from console.pages.answers import SeeOther
from console.pages.commands import about, versions_page


@resolve.signed_in
@require_safe
@cache_control(private=True)
def history(request: HttpRequest, uid: str) -> HttpResponse:
    """The versions of a command, and what differs between two of them (``from``, ``to``)."""
    command = resolve.command(request, uid)
    newest = str(command.latest)
    new = resolve.command_version(command, request.GET.get("to", newest))
    before = request.GET.get("from", str(max(1, new.number - 1)))
    old = resolve.command_version(command, before)
    context = {
        **about(request, command),
        "page": versions_page(request, command),
        "numbers": list(command.versions.values_list("number", flat=True).order_by("-number")),
        "old": old,
        "new": new,
        "difference": library.version_difference(command, old, new),
        "old_by": library.name_of(old.created_by),
        "new_by": library.name_of(new.created_by),
    }
    return render(request, "commands/history.html", context)


@resolve.signed_in
@require_POST
def restore(request: HttpRequest, uid: str) -> HttpResponse:
    """Make an older version the newest one again."""
    command = resolve.managed_command(request, uid)
    old = resolve.command_version(command, request.POST.get("number", ""))
    based_on = resolve.command_version(command, request.POST.get("based_on", ""))
    try:
        version = service.restore_version(
            actor=resolve.person(request),
            command=command,
            number=old.number,
            based_on=based_on.number,
            now=timezone.now(),
        )
    except (Invalid, Conflict) as error:
        messages.error(request, _("Nothing was restored. %(why)s") % {"why": error.message})
        return SeeOther(reverse("command-history", args=[uid]))
    done = _("v%(old)d was restored as v%(new)d.")
    if version.number == based_on.number:
        done = _("v%(new)d already says what v%(old)d said.")
    messages.success(request, done % {"old": old.number, "new": version.number})
    return SeeOther(reverse("command", args=[uid]))
