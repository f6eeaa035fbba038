"""``/team/why/``: why somebody can't run something somewhere, rule by rule."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from commands.access import Permission
from commands.models import Command, Instance, Membership
from commands.rules import limits
from commands.services import explaining
from console import resolve
from console.pages import approval_note
from console.pages.team import place
from console.resolve import Scope

LISTED = 200
"""Instances and commands that are offered; others are found by what is typed."""


@resolve.signed_in
@require_safe
@cache_control(private=True)
def why(request: HttpRequest) -> HttpResponse:
    """The form, and the rules in the order in which they are asked, once it is filled in."""
    scope = resolve.scope(request)
    if scope is None:
        return place.nowhere(request)
    membership = _member(request, scope)
    asked = request.GET
    context: dict[str, Any] = {
        "manages": resolve.may(request, Permission.TEAM_MANAGE, scope),
        "members": _members(request, scope),
        "member": membership,
        "commands": _kept(scope)[:LISTED],
        "instances": _instances(request, scope)[:LISTED],
        "command": asked.get("command", ""),
        "instance": asked.get("instance", "").strip(),
        "run_as": asked.get("run_as", "").strip()[: limits.RUN_AS_CHARS],
    }
    if "instance" in asked:
        context |= _answer(request, scope, membership, context)
    status = 422 if context.get("error") else 200
    return render(request, "team/why.html", context, status=status)


def _answer(
    request: HttpRequest, scope: Scope, membership: Membership, asked: dict[str, Any]
) -> dict[str, Any]:
    """The rules for what was ``asked``, or what is wrong with the question."""
    command = None
    if asked["command"]:
        command = _by_uid(asked["command"], scope)
        if command is None:
            return {"error": _("Choose a saved command of the team."), "wrong": "command"}
    instance = _instance(request, scope, asked["instance"])
    if asked["instance"] and instance is None:
        return {"error": _("No instance is called that."), "wrong": "instance"}
    steps = explaining.explain(
        member=membership.user,
        team=scope.team,
        command=command,
        instance=instance,
        run_as=asked["run_as"],
    )
    answer = {"steps": steps, "decides": steps[-1], "on": instance, "what": command}
    if instance is not None and steps[-1].passes:
        run_as = asked["run_as"]
        answer["approval_why"] = approval_note.told(scope.team, [instance], run_as)
    return answer


def _member(request: HttpRequest, scope: Scope) -> Membership:
    """Who is asked about: oneself, or anybody for a team's admin. Raises Http404."""
    number = request.GET.get("member", "")
    own = Membership.objects.select_related("user").get(team=scope.team, user=scope.user)
    if not number or number == str(own.pk):
        return own
    found = resolve.managed_membership(request, number)
    if found.team_id != scope.team.pk:
        raise Http404
    return found


def _members(request: HttpRequest, scope: Scope) -> list[Membership]:
    found = Membership.objects.filter(team=scope.team).select_related("user")
    if not resolve.may(request, Permission.TEAM_MANAGE, scope):
        found = found.filter(user=scope.user)
    return list(found.order_by("user__username"))


def _kept(scope: Scope) -> QuerySet[Command]:
    kept = Command.objects.kept().filter(team=scope.team, region=scope.region)
    return kept.order_by("name", "uid")


def _by_uid(uid: str, scope: Scope) -> Command | None:
    possible = uid.isascii() and uid.isprintable()
    return _kept(scope).filter(uid=uid).first() if possible else None


def _instances(request: HttpRequest, scope: Scope) -> QuerySet[Instance]:
    """Instances of the person's teams: one of another team is a case to explain."""
    found = Instance.objects.visible_to(request.user).filter(region=scope.region)
    return found.order_by("name", "uid")


def _instance(request: HttpRequest, scope: Scope, typed: str) -> Instance | None:
    """The instance with that id, else that name: of several the team's own."""
    if not typed or not typed.isprintable():
        return None
    found = _instances(request, scope)
    exact = found.filter(uid=typed).first() if typed.isascii() else None
    own = found.filter(name=typed, team=scope.team).first()
    return exact or own or found.filter(name=typed).first()
