"""Finding rows and checking access to them in one place: 404 for absent and for not yours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponseBase

from commands import access
from commands.models import Invocation, Region, Run, Team, User
from commands.services import teams

TEAM_KEY, REGION_KEY = "scope.team", "scope.region"


@dataclass(frozen=True, slots=True)
class Scope:
    """The team and region that the person chose in the top bar."""

    team: Team
    region: Region


def signed_in(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A view for people who are signed in; others are sent to the sign-in page."""
    return wraps(view)(login_required(view))


def person(request: HttpRequest) -> User:
    """Who is signed in. Raises Http404 for nobody."""
    if not isinstance(request.user, User):
        raise Http404
    return request.user


def scope(request: HttpRequest) -> Scope | None:
    """The chosen team and region, else the first of each; None for somebody without a team."""
    own = Team.objects.of(request.user)
    team = own.filter(pk=request.session.get(TEAM_KEY, 0)).first() or own.first()
    if team is None:
        return None
    region = Region.objects.filter(pk=request.session.get(REGION_KEY, 0)).first()
    return Scope(team, region or teams.default_region())


def may_create(request: HttpRequest, chosen: Scope) -> bool:
    """Whether the person may create tasks in the chosen team."""
    return access.allows(request.user, access.Permission.INVOCATION_CREATE, chosen.team)


def choose_scope(request: HttpRequest, team_id: str, region_id: str) -> None:
    """Remember another team and region. Raises Http404 unless both are the person's to choose."""
    if not (team_id.isdecimal() and region_id.isdecimal()):
        raise Http404
    if not Team.objects.of(request.user).filter(pk=team_id).exists():
        raise Http404
    if not Region.objects.filter(pk=region_id).exists():
        raise Http404
    request.session[TEAM_KEY], request.session[REGION_KEY] = int(team_id), int(region_id)


def task(request: HttpRequest, uid: str) -> Invocation:
    """The task called ``uid``. Raises Http404."""
    _refuse_impossible(uid)
    found = Invocation.objects.visible_to(request.user).select_related("team", "region")
    invocation = found.filter(uid=uid).first()
    if invocation is None or not access.allows(
        request.user, access.Permission.INVOCATION_READ, invocation.team
    ):
        raise Http404
    return invocation


def run(invocation: Invocation, instance_uid: str) -> Run:
    """The run of a task on one instance. Raises Http404."""
    _refuse_impossible(instance_uid)
    found = Run.objects.filter(invocation=invocation, instance_uid=instance_uid).first()
    if found is None:
        raise Http404
    return found


def _refuse_impossible(uid: str) -> None:
    # Not every database takes every character in a comparison; no id has such characters.
    if not (uid.isascii() and uid.isprintable()):
        raise Http404
