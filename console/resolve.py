"""Finding rows and checking access to them in one place: 404 for absent and for not yours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, overload

from django.contrib.auth.views import redirect_to_login
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone

from commands import access
from commands.access import Narrowing
from commands.models import (
    AccessKey,
    Command,
    CommandVersion,
    Grant,
    Import,
    Instance,
    Invitation,
    Invocation,
    Membership,
    NoticeRule,
    Preflight,
    QuotaRequest,
    RefusedLender,
    Region,
    Run,
    Team,
    User,
)
from commands.models.instance import GrantQuerySet
from commands.services import teams
from console import kept

View = Callable[..., HttpResponseBase]
Row = TypeVar("Row", bound=Model)
TEAM_KEY, REGION_KEY = "scope.team", "scope.region"


@dataclass(frozen=True, slots=True)
class Scope:
    """The team and region that the person chose in the top bar."""

    team: Team
    region: Region
    user: User | None = field(default=None, compare=False, repr=False)

    @property
    def only(self) -> Narrowing:
        """What the person's membership of the team is narrowed to."""
        return access.narrowing(self.user, self.team)


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
    return Scope(team, region or teams.default_region(), person(request))


def may_create(request: HttpRequest, chosen: Scope) -> bool:
    """Whether the person may create tasks in the chosen team."""
    return access.allows(request.user, access.Permission.INVOCATION_CREATE, chosen.team)


def choose_scope(request: HttpRequest, team_id: str, region_id: str) -> None:
    """Remember another team and region. Raises Http404 unless both are the person's to choose."""
    for number in (team_id, region_id):
        _refuse_impossible_number(number)
    if not Team.objects.of(request.user).filter(pk=team_id).exists():
        raise Http404
    if not Region.objects.filter(pk=region_id).exists():
        raise Http404
    request.session[TEAM_KEY], request.session[REGION_KEY] = int(team_id), int(region_id)


def choose_team(request: HttpRequest, team: Team) -> None:
    """Remember another team, one of the person's; the region stays."""
    request.session[TEAM_KEY] = team.pk


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
    if team is None or region is None:
        return None
    return Scope(team, region, person(request))


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


def instance(request: HttpRequest, uid: str) -> Instance:
    """The instance called ``uid``, of a team of the person's or lent to it. Raises Http404."""
    _refuse_impossible(uid)
    found = Instance.objects.visible_to(request.user).filter(uid=uid)
    instance = found.select_related("team", "region", "jump_host").first()
    if instance is None or not access.may_see(request.user, instance):
        raise Http404
    return instance


def managed_instance(request: HttpRequest, uid: str) -> Instance:
    """The same, for somebody who may also change it: nobody it was lent to. Raises Http404."""
    found = instance(request, uid)
    if not access.allows(request.user, access.Permission.INSTANCE_MANAGE, found.team):
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
    if not access.may_manage_library(request.user, found.team):
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
    if not access.may_manage_library(request.user, commands[0].team):
        raise Http404
    return commands


def command_version(command: Command, number: str) -> CommandVersion:
    """The version of ``command`` with that number. Raises Http404."""
    _refuse_impossible_number(number)
    found = command.versions.select_related("created_by").filter(number=number).first()
    if found is None:
        raise Http404
    return found


def membership(request: HttpRequest, number: str) -> Membership:
    """The membership with that number, of a team of the person's. Raises Http404."""
    found = Membership.objects.filter(team__in=Team.objects.of(request.user))
    return _numbered(found.select_related("team", "user"), number)


def managed_membership(request: HttpRequest, number: str) -> Membership:
    """The same, for somebody who may also change it. Raises Http404."""
    found = membership(request, number)
    if not access.allows(request.user, access.Permission.TEAM_MANAGE, found.team):
        raise Http404
    return found


def invitation(request: HttpRequest, uid: str) -> Invitation:
    """The invitation called ``uid``, for who may revoke it. Raises Http404."""
    _refuse_impossible(uid)
    found = Invitation.objects.filter(uid=uid, team__in=Team.objects.of(request.user))
    invitation = found.select_related("team").first()
    if invitation is None or not access.allows(
        request.user, access.Permission.TEAM_MANAGE, invitation.team
    ):
        raise Http404
    return invitation


def access_key(request: HttpRequest, uid: str) -> AccessKey:
    """The access key called ``uid``, for who may revoke it. Raises Http404."""
    _refuse_impossible(uid)
    found = AccessKey.objects.visible_to(person(request)).filter(uid=uid)
    key = found.select_related("owner", "team").first()
    if key is None:
        raise Http404
    return key


def quota_request(request: HttpRequest, number: str) -> QuotaRequest:
    """The request for a higher limit with that number, of one of the person's teams.

    Raises Http404.
    """
    found = QuotaRequest.objects.filter(team__in=Team.objects.of(request.user))
    return _numbered(found.select_related("team", "region"), number)


def own_quota_request(request: HttpRequest, number: str) -> QuotaRequest:
    """The same, of the person's own, whatever team they are in now. Raises Http404."""
    found = QuotaRequest.objects.filter(asked_by=person(request))
    return _numbered(found.select_related("team", "region"), number)


def grant(request: HttpRequest, number: str) -> Grant:
    """The loan or offer with that number, for who lends. Raises Http404."""
    found = Grant.objects.filter(instance__team__in=Team.objects.of(request.user))
    loan = _numbered(_loans(found), number)
    if not access.allows(request.user, access.Permission.INSTANCE_MANAGE, loan.instance.team):
        raise Http404
    return loan


def borrowed(request: HttpRequest, number: str) -> Grant:
    """The loan or offer with that number, for who answers it and may give it back.

    Raises Http404.
    """
    found = Grant.objects.filter(team__in=Team.objects.of(request.user))
    loan = _numbered(_loans(found), number)
    if not access.allows(request.user, access.Permission.INSTANCE_MANAGE, loan.team):
        raise Http404
    return loan


def refused_lender(request: HttpRequest, number: str) -> RefusedLender:
    """The lender with that number whose offers a team does not take. Raises Http404."""
    found = RefusedLender.objects.filter(team__in=Team.objects.of(request.user))
    refused = _numbered(found.select_related("team", "lender"), number)
    if not access.allows(request.user, access.Permission.INSTANCE_MANAGE, refused.team):
        raise Http404
    return refused


def _loans(found: GrantQuerySet) -> GrantQuerySet:
    return found.select_related("instance__team", "instance__region", "team", "created_by")


def preflight(request: HttpRequest, uid: str) -> Preflight | None:
    """The preflight called ``uid`` that the person asked for; None if it was forgotten.

    It is also None for somebody who may no longer run what it is about.
    """
    if not (uid and uid.isascii() and uid.isprintable()):
        return None
    found = Preflight.objects.filter(uid=uid, created_by=person(request))
    asked = found.filter(expires_at__gt=timezone.now()).select_related("team").first()
    if asked is None or not access.allows(request.user, asked.permission, asked.team):
        return None
    return asked


def inventory_import(request: HttpRequest, uid: str) -> Import | None:
    """The import called ``uid`` that the person prepares; None if it is done or forgotten.

    Raises Http404 for somebody who may not import anything into its team.
    """
    _refuse_impossible(uid)
    found = Import.objects.filter(uid=uid, created_by=person(request))
    origin = found.select_related("team", "region").first()
    if origin is None or origin.expires_at <= timezone.now():
        return None
    if not access.allows(request.user, access.Permission.INSTANCE_MANAGE, origin.team):
        raise Http404
    return origin


def may(request: HttpRequest, permission: access.Permission, chosen: Scope) -> bool:
    """Whether the person may do what ``permission`` names in the chosen team."""
    return access.allows(request.user, permission, chosen.team)


def managed_notice_rule(request: HttpRequest, uid: str) -> NoticeRule:
    """The rule called ``uid`` of a team that the person manages. Raises Http404."""
    _refuse_impossible(uid)
    found = NoticeRule.objects.filter(team__in=Team.objects.of(request.user), uid=uid)
    # Read where they are needed: what can't be decrypted can be deleted and entered anew.
    rule = found.select_related("team", "region").defer("target", "secret").first()
    if rule is None or not access.allows(request.user, access.Permission.TEAM_MANAGE, rule.team):
        raise Http404
    return rule


def _numbered(rows: QuerySet[Row], number: str) -> Row:
    _refuse_impossible_number(number)
    found = rows.filter(pk=number).first()
    if found is None:
        raise Http404
    return found


def _refuse_impossible_number(number: str) -> None:
    # Nine digits, as no database counts further than ten.
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise Http404


def _refuse_impossible(uid: str) -> None:
    # Not every database takes every character in a comparison; no id has such characters.
    if not (uid.isascii() and uid.isprintable()):
        raise Http404
