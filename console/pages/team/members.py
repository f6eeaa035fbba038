"""``/team/members/``: who is in the team, as what; roles, removing, leaving, narrowing."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from commands import access
from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid
from commands.models import Command, Invitation, Membership, Role
from commands.services import members as service
from commands.services import restrictions
from console import errors, resolve
from console.forms.team import InviteForm, NarrowingForm, as_typed, narrowing_of, refuse
from console.pages.answers import SeeOther
from console.pages.team import people, place
from console.resolve import Scope

PAGE_SIZE = 50
COMMANDS_LISTED = 500
"""Saved commands that can be chosen on the page for narrowing."""


@resolve.signed_in
@require_safe
@cache_control(private=True)
def members(request: HttpRequest) -> HttpResponse:
    """Everybody in the team, and, for its admins, who was invited."""
    scope = resolve.scope(request)
    if scope is None:
        return place.nowhere(request)
    return render(request, "team/members.html", context(request, scope))


def context(request: HttpRequest, scope: Scope, form: InviteForm | None = None) -> dict[str, Any]:
    """What the page of the members shows."""
    manages = resolve.may(request, Permission.TEAM_MANAGE, scope)
    paginator: Paginator[Any] = Paginator(people.members(scope.team), PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))
    now = timezone.now()
    waiting = Invitation.objects.pending(now).filter(team=scope.team) if manages else []
    return {
        "page": page,
        "people": people.people(page.object_list),
        "manages": manages,
        "invitations": waiting,
        "roles": Role.choices,
        "form": form or InviteForm(),
    }


@resolve.signed_in
@require_POST
def role(request: HttpRequest, number: str) -> HttpResponse:
    """Give a member another role, in force at once."""
    membership = resolve.managed_membership(request, number)
    name = membership.user.shown_name
    try:
        changed = service.set_role(
            actor=resolve.person(request),
            membership=membership,
            role=request.POST.get("role", ""),
            now=timezone.now(),
        )
    except (Invalid, Conflict) as error:
        messages.error(request, f"{name}: {error.message}")
    else:
        said = _("%(name)s is %(role)s now.")
        messages.success(request, said % {"name": name, "role": changed.get_role_display()})
    return SeeOther(reverse("team-members"))


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, number: str) -> HttpResponse:
    """Ask whether somebody is to be removed, or to leave (GET), and do it (POST, 303)."""
    membership = resolve.membership(request, number)
    person = resolve.person(request)
    leaves = membership.user_id == person.pk
    if not leaves:
        membership = resolve.managed_membership(request, number)
    asked = {"membership": membership, "leaves": leaves, "name": membership.user.shown_name}
    if request.method != "POST":
        return render(request, "team/remove.html", asked)
    try:
        service.remove(actor=person, membership=membership, now=timezone.now())
    except Conflict as error:
        asked["error"] = error.message
        return render(request, "team/remove.html", asked, status=errors.status_code(error))
    said = _("You left %(team)s.") if leaves else _("%(name)s is no longer in %(team)s.")
    messages.success(request, said % {"name": asked["name"], "team": membership.team.name})
    return SeeOther(reverse("team-members"))


@resolve.signed_in(keep_form=True)
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def narrowing(request: HttpRequest, number: str) -> HttpResponse:
    """What a membership is narrowed to: a form (GET), and to narrow it so (POST, 303)."""
    membership = resolve.managed_membership(request, number)
    if request.method != "POST":
        left = place.left(request)
        form = as_typed(left) if left else narrowing_of(membership.restrictions.all())
        return _narrowing(request, membership, form)
    form = NarrowingForm(request.POST)
    form.is_valid()
    try:
        restrictions.set_all(
            actor=resolve.person(request), membership=membership, wanted=form.pairs()
        )
    except (Invalid, Conflict) as error:
        refuse(form, error)
        return _narrowing(request, membership, form, error)
    said = _("What %(name)s may do is saved, and in force.")
    messages.success(request, said % {"name": membership.user.shown_name})
    return SeeOther(reverse("team-members"))


def _narrowing(
    request: HttpRequest,
    membership: Membership,
    form: NarrowingForm,
    error: CommandConsoleError | None = None,
) -> HttpResponse:
    kept = Command.objects.kept().filter(team=membership.team).order_by("name", "uid")
    shown = {
        "membership": membership,
        "name": membership.user.shown_name,
        "form": form,
        "commands": kept.select_related("region")[:COMMANDS_LISTED],
        "chosen": form["commands"].value() or [],
        "is_admin": Permission.TEAM_MANAGE in access.PERMISSIONS[membership.role],
    }
    return place.show(request, "narrowing", shown, form=form, error=error)
