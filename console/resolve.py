"""Finding rows and checking access to them in one place: 404 for absent and for not yours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, overload

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

from commands import access
from commands.models import Command, CommandVersion, Invocation, Region, Run, Team, User
from commands.services import teams
from console import kept

View = Callable[..., HttpResponseBase]
TEAM_KEY, REGION_KEY = "scope.team", "scope.region"


@dataclass(frozen=True, slots=True)
class Scope:
    """The team and region that the person chose in the top bar."""

    team: Team
    region: Region


@overload
def signed_in(view: View) -> View: ...
@overload
def signed_in(*, keep_form: bool) -> Callable[[View], View]: ...
def signed_in(
    view: View | None = None, *, keep_form: bool = False
) -> View | Callable[[View], View]:
    """A view for people who are signed in; others are sent to the sign-in page.

    With ``keep_form`` the form that they sent waits for them there: see ``kept``.
    """

    def guard(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.user.is_authenticated:
                return view(request, *args, **kwargs)
            return _signed_out(request, keep_form=keep_form)

        return guarded

    return guard if view is None else guard(view)


def _signed_out(request: HttpRequest, *, keep_form: bool) -> HttpResponseBase:
    # A script keeps its page and says so there; see signed-out.js.
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(status=401, headers={"HX-Trigger": "signed-out"})
    safe = request.method in ("GET", "HEAD")
    if keep_form and not safe:
        kept.keep(request)
    # What only takes forms is no page to come back to; the one with its button is.
    is_page = safe or keep_form
    response = redirect_to_login(
        request.get_full_path() if is_page else request.headers.get("Referer", "/")
    )
    response.status_code = 302 if safe else 303
    return response


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


def adopt_scope(request: HttpRequest, mark: str) -> bool:
    """Choose the team and region that a form was made for (``"<team uid> <region uid>"``).

    Another may have been chosen since, in another tab or by signing in again. False, and nothing
    changes, if they are not the person's to choose; forms of programs bear no mark.
    """
    found = scope_of(request, mark)
    if found is None or not mark:
        return not mark
    if found != scope(request):
        request.session[TEAM_KEY], request.session[REGION_KEY] = found.team.pk, found.region.pk
    return True


def scope_of(request: HttpRequest, mark: str) -> Scope | None:
    """The team and region that a form was made for; the chosen ones if it bears no mark."""
    if not mark:
        return scope(request)
    if not (mark.isascii() and mark.isprintable()):
        return None
    team_uid, _, region_uid = mark.partition(" ")
    team = Team.objects.of(request.user).filter(uid=team_uid).first()
    region = Region.objects.filter(uid=region_uid).first()
    return Scope(team, region) if team is not None and region is not None else None


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


def command(request: HttpRequest, uid: str) -> Command:
    """The command of the library called ``uid``. Raises Http404."""
    _refuse_impossible(uid)
    found = Command.objects.kept().visible_to(request.user).select_related("team", "region")
    command = found.filter(uid=uid).first()
    if command is None or not access.allows(
        request.user, access.Permission.COMMAND_READ, command.team
    ):
        raise Http404
    return command


def managed_command(request: HttpRequest, uid: str) -> Command:
    """The same, for somebody who may also change it. Raises Http404."""
    found = command(request, uid)
    if not access.allows(request.user, access.Permission.COMMAND_MANAGE, found.team):
        raise Http404
    return found


def managed_commands(request: HttpRequest, uids: Sequence[str]) -> list[Command]:
    """The commands called ``uids``, all of one team and region, by name, to be changed.

    Raises Http404 if there are none, or one is missing or not the person's to change.
    """
    for uid in uids:
        _refuse_impossible(uid)
    found = Command.objects.kept().visible_to(request.user).filter(uid__in=uids)
    commands = list(found.select_related("team", "region"))
    places = {(command.team, command.region) for command in commands}
    if len(commands) != len(set(uids)) or len(places) != 1:
        raise Http404
    if not access.allows(request.user, access.Permission.COMMAND_MANAGE, commands[0].team):
        raise Http404
    return commands


def command_version(command: Command, number: str) -> CommandVersion:
    """The version of ``command`` with that number. Raises Http404."""
    # Nine digits, as no database counts further than ten.
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise Http404
    found = command.versions.select_related("created_by").filter(number=number).first()
    if found is None:
        raise Http404
    return found


def may(request: HttpRequest, permission: access.Permission, chosen: Scope) -> bool:
    """Whether the person may do what ``permission`` names in the chosen team."""
    return access.allows(request.user, permission, chosen.team)


def _refuse_impossible(uid: str) -> None:
    # Not every database takes every character in a comparison; no id has such characters.
    if not (uid.isascii() and uid.isprintable()):
        raise Http404
