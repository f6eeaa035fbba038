"""``/team/lending/``: instances that are lent to other teams, offered by them, and borrowed."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST

from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid
from commands.models import Grant, Instance, RefusedLender, Team
from commands.models.instance import InstanceQuerySet
from commands.services import lending as service
from console import resolve
from console.forms.team import LendForm, refuse
from console.pages.answers import SeeOther
from console.pages.team import place
from console.resolve import Scope

LISTED = 200
"""Instances that are offered; others are found by what is typed."""


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def lending(request: HttpRequest) -> HttpResponse:
    """What is lent and borrowed in the region (GET), and to lend an instance (POST, 303)."""
    if request.method != "POST":
        scope = resolve.scope(request)
        if scope is None:
            return place.nowhere(request)
        return _page(request, scope, LendForm())
    scope = place.chosen(request, needs=Permission.INSTANCE_MANAGE)
    form = LendForm(request.POST)
    form.is_valid()
    instance = _instance(scope, form.cleaned_data["instance"].strip())
    team = _team(form.cleaned_data["team"].strip())
    if instance is None:
        form.add_error("instance", _("No instance of your team is called that."))
    if team is None:
        form.add_error("team", _("No team has this id. Its settings show it: 16 digits."))
    if instance is None or team is None:
        return _page(request, scope, form)
    try:
        grant = service.lend_instance(actor=resolve.person(request), instance=instance, team=team)
    except Invalid as error:
        refuse(form, error)
        return _page(request, scope, form, error)
    if grant.accepted_at:
        said = _("%(name)s is lent to %(team)s already.")
    else:
        said = _("%(name)s is offered to %(team)s. An admin there accepts it, or declines.")
    messages.success(request, said % {"team": team.name, "name": instance.name})
    return SeeOther(reverse("team-lending"))


@resolve.signed_in
@require_POST
def take_back(request: HttpRequest, number: str) -> HttpResponse:
    """Lend an instance no longer."""
    grant = resolve.grant(request, number)
    service.take_back(actor=resolve.person(request), grant=grant)
    said = _("%(name)s is no longer lent to %(team)s.")
    messages.success(request, said % {"name": grant.instance.name, "team": grant.team.name})
    return SeeOther(reverse("team-lending"))


@resolve.signed_in
@require_POST
def accept(request: HttpRequest, number: str) -> HttpResponse:
    """Take what another team offers."""
    grant = resolve.borrowed(request, number)
    try:
        service.accept(actor=resolve.person(request), grant=grant, now=timezone.now())
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        said = _("%(team)s can run tasks on %(name)s now.")
        messages.success(request, said % {"team": grant.team.name, "name": grant.instance.name})
    return SeeOther(reverse("team-lending"))


@resolve.signed_in
@require_POST
def decline(request: HttpRequest, number: str) -> HttpResponse:
    """Do not take what another team offers."""
    grant = resolve.borrowed(request, number)
    try:
        service.decline(actor=resolve.person(request), grant=grant)
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        said = _("You declined %(name)s. %(team)s can offer it again.")
        names = {"name": grant.instance.name, "team": grant.instance.team.name}
        messages.success(request, said % names)
    return SeeOther(reverse("team-lending"))


@resolve.signed_in
@require_POST
def refuse_lender(request: HttpRequest, number: str) -> HttpResponse:
    """Take no more offers of the team that made this one."""
    grant = resolve.borrowed(request, number)
    service.refuse_lender(actor=resolve.person(request), grant=grant, now=timezone.now())
    said = _("%(team)s can offer you nothing any more.")
    messages.success(request, said % {"team": grant.instance.team.name})
    return SeeOther(reverse("team-lending"))


@resolve.signed_in
@require_POST
def allow_lender(request: HttpRequest, number: str) -> HttpResponse:
    """Take offers of a team again."""
    refused = resolve.refused_lender(request, number)
    service.allow_lender(actor=resolve.person(request), refused=refused)
    said = _("%(team)s can offer you instances again.")
    messages.success(request, said % {"team": refused.lender.name})
    return SeeOther(reverse("team-lending"))


@resolve.signed_in
@require_POST
def give_back(request: HttpRequest, number: str) -> HttpResponse:
    """Use an instance of another team no longer."""
    grant = resolve.borrowed(request, number)
    service.give_back(actor=resolve.person(request), grant=grant)
    said = _("%(name)s is given back to %(team)s.")
    names = {"name": grant.instance.name, "team": grant.instance.team.name}
    messages.success(request, said % names)
    return SeeOther(reverse("team-lending"))


def _page(
    request: HttpRequest,
    scope: Scope,
    form: LendForm,
    error: CommandConsoleError | None = None,
) -> HttpResponse:
    grants = Grant.objects.select_related("instance__team", "team", "created_by", "accepted_by")
    grants = grants.filter(instance__region=scope.region).order_by("instance__name", "team__name")
    manages = resolve.may(request, Permission.INSTANCE_MANAGE, scope)
    context = {
        "form": form,
        "manages": manages,
        "lent": grants.filter(instance__team=scope.team) if manages else [],
        "offered": grants.offered().filter(team=scope.team) if manages else [],
        "refused": _refused(scope) if manages else [],
        "borrowed": grants.accepted().filter(team=scope.team, instance__in=_seen(scope)),
        "instances": _own(scope)[:LISTED] if manages else [],
    }
    return place.show(request, "lending", context, form=form, error=error)


def _refused(scope: Scope) -> QuerySet[RefusedLender]:
    return scope.team.refused_lenders.select_related("lender").order_by("lender__name")


def _seen(scope: Scope) -> InstanceQuerySet:
    """What the person's membership in the team leaves of its instances."""
    return scope.only.instances(Instance.objects.usable_by(scope.team))


def _own(scope: Scope) -> list[Instance]:
    return list(Instance.objects.filter(team=scope.team, region=scope.region)[:LISTED])


def _instance(scope: Scope, typed: str) -> Instance | None:
    """The team's instance with that id, else that name."""
    if not typed or not typed.isprintable():
        return None
    own = Instance.objects.filter(team=scope.team, region=scope.region)
    exact = own.filter(uid=typed).first() if typed.isascii() else None
    return exact or own.filter(name=typed).first()


def _team(typed: str) -> Team | None:
    uid = typed.replace(" ", "")
    possible = uid.isascii() and uid.isdecimal() and len(uid) <= 16
    return Team.objects.filter(uid=uid).first() if possible else None
