"""``/team/quotas/``: what the team uses and may use, asking for more, and what became of that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
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

from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid
from commands.models import QuotaRequest
from commands.rules import limits
from commands.rules.quotas import Quota, Usage
from commands.services import quota_requests
from commands.services import quotas as service
from console import resolve
from console.forms.team import RequestForm, refuse, whole
from console.pages.answers import SeeOther, local
from console.pages.team import place
from console.resolve import Scope

DAYS = 30
PAGE_SIZE = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One quota: its use now and day by day, and the request that waits, if there is one."""

    usage: Usage
    days: list[tuple[date, int]]
    waiting: QuotaRequest | None
    may_withdraw: bool


@resolve.signed_in
@require_safe
@cache_control(private=True)
def quotas(request: HttpRequest) -> HttpResponse:
    """Every quota of the team in the region, and past requests."""
    scope = resolve.scope(request)
    if scope is None:
        return place.nowhere(request)
    asked = QuotaRequest.objects.filter(team=scope.team, region=scope.region)
    settled = asked.exclude(state=QuotaRequest.State.PENDING)
    paginator: Paginator[Any] = Paginator(settled, PAGE_SIZE)
    context = {
        "rows": _rows(request, scope),
        "may_ask": resolve.may(request, Permission.QUOTA_REQUEST, scope),
        "page": paginator.get_page(request.GET.get("page")),
    }
    return render(request, "team/quotas.html", context)


@resolve.signed_in(keep_form=True)
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for a higher limit: a form (GET), and to send it (POST, 303)."""
    scope = place.chosen(request, needs=Permission.QUOTA_REQUEST)
    if request.method != "POST":
        given = place.left(request) or request.GET
        return _form(request, scope, RequestForm(initial=given.dict()))
    form = RequestForm(request.POST)
    form.is_valid()
    data = form.cleaned_data
    if data["quota"] not in list(Quota):
        form.add_error("quota", _("Choose a quota."))
        return _form(request, scope, form)
    try:
        quota_requests.ask(
            actor=resolve.person(request),
            team=scope.team,
            region=scope.region,
            key=Quota(data["quota"]),
            wanted=whole(data["wanted"]) or 0,
            reason=data["reason"],
            now=timezone.now(),
        )
    except (Invalid, Conflict) as error:
        refuse(form, error)
        return _form(request, scope, form, error)
    messages.success(request, _("Your request is sent. You are told here what is decided."))
    return SeeOther(reverse("team-quotas"))


@resolve.signed_in
@require_POST
def withdraw(request: HttpRequest, number: str) -> HttpResponse:
    """Take a request back."""
    found = resolve.quota_request(request, number)
    try:
        quota_requests.withdraw(actor=resolve.person(request), request=found, now=timezone.now())
    except Conflict as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _("Your request is withdrawn."))
    return SeeOther(reverse("team-quotas"))


@resolve.signed_in
@require_POST
def told(request: HttpRequest, number: str) -> HttpResponse:
    """Show a decision no longer, and go back to the page that it was read on."""
    found = resolve.own_quota_request(request, number)
    quota_requests.told(actor=resolve.person(request), request=found, now=timezone.now())
    return SeeOther(local(request, request.POST.get("next", ""), reverse("home")))


def _rows(request: HttpRequest, scope: Scope) -> list[Row]:
    now, team, region = timezone.now(), scope.team, scope.region
    asked = QuotaRequest.objects.filter(team=team, region=region, state=QuotaRequest.State.PENDING)
    waiting = {each.key: each for each in asked}
    manages = resolve.may(request, Permission.TEAM_MANAGE, scope)
    rows = []
    for usage in service.overview(team=team, region=region, now=now):
        found = waiting.get(usage.key.value)
        days = _past(scope, usage, now) if usage.used_up else []
        own = found is not None and found.asked_by_id == request.user.pk
        rows.append(Row(usage, days, found, may_withdraw=manages or own))
    return rows


def _past(scope: Scope, usage: Usage, now: datetime) -> list[tuple[date, int]]:
    return service.past_use(team=scope.team, region=scope.region, key=usage.key, days=DAYS, now=now)


def _form(
    request: HttpRequest,
    scope: Scope,
    form: RequestForm,
    error: CommandConsoleError | None = None,
) -> HttpResponse:
    context = {
        "form": form,
        "usages": service.overview(team=scope.team, region=scope.region, now=timezone.now()),
        "least": limits.REASON_CHARS_MIN,
        "most": limits.REASON_CHARS_MAX,
    }
    return place.show(request, "request", context, form=form, error=error)
