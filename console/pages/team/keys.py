"""``/team/keys/``: access keys with which programs act as a member, made and revoked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid
from commands.models import AccessKey
from commands.rules import limits
from commands.services import access_keys as service
from commands.services import second_factor
from console import resolve
from console.forms.run import new_client_token
from console.forms.team import KeyForm, refuse
from console.pages import signing
from console.pages.answers import SeeOther
from console.pages.team import place
from console.resolve import Scope

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Shown:
    """A key in the list; ``end`` says why it opens nothing any more, "" if it does."""

    row: AccessKey
    owner: str
    end: str
    is_own: bool


@sensitive_post_parameters("code", "password")
@never_cache
@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """Keys (GET), and to make one (POST), whose secret is in that answer and in no other.

    That answer's form can be sent again by reloading it: it makes no second key.
    """
    if request.method != "POST":
        scope = resolve.scope(request)
        return _page(request, scope) if scope else place.nowhere(request)
    scope = place.chosen(request, needs=Permission.COMMAND_READ)
    form = KeyForm(request.POST)
    form.is_valid()
    if (refused := _check_password(request, scope, form)) is not None:
        return refused
    try:
        made = service.create_key(
            actor=resolve.person(request),
            team=scope.team,
            name=form.cleaned_data["name"],
            days=form.days(),
            code=form.cleaned_data["code"],
            client_token=form.cleaned_data["client_token"],
            now=timezone.now(),
        )
    except (Invalid, Conflict) as error:
        refuse(form, error)
        return _page(request, scope, form, error)
    endpoint, scheme = _endpoint(request)
    return _page(request, scope, made=made, endpoint=endpoint, scheme=scheme)


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def revoke(request: HttpRequest, uid: str) -> HttpResponse:
    """Ask whether a key is to be revoked (GET), and do it (POST, 303)."""
    key = resolve.access_key(request, uid)
    if request.method != "POST":
        shown = {"key": key, "owner": key.owner.shown_name, "ended": key.end(timezone.now())}
        return render(request, "team/revoke_key.html", shown)
    try:
        service.revoke_key(actor=resolve.person(request), key=key, now=timezone.now())
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, _("The access key %(name)s is revoked.") % {"name": key.name})
    return SeeOther(reverse("team-keys"))


def _check_password(request: HttpRequest, scope: Scope, form: KeyForm) -> HttpResponse | None:
    """Ask who has no second factor for the password; what to answer unless it is right."""
    person = resolve.person(request)
    if second_factor.is_on(person):
        return None
    refusal = signing.password_refusal(request, person, form.cleaned_data["password"])
    if not refusal:
        return None
    form.add_error("password", refusal)
    answer = _page(request, scope, form)
    if signing.must_wait(request, person):
        answer.status_code = 429
        return signing.waiting(answer)
    return answer


def _page(
    request: HttpRequest,
    scope: Scope,
    form: KeyForm | None = None,
    error: CommandConsoleError | None = None,
    **made: Any,
) -> HttpResponse:
    person, now = resolve.person(request), timezone.now()
    found = AccessKey.objects.visible_to(person).filter(team=scope.team)
    paginator: Paginator[AccessKey] = Paginator(found.select_related("owner"), PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))
    context = {
        "page": page,
        "keys": [_shown(key, person.pk, now) for key in page.object_list],
        "manages": resolve.may(request, Permission.TEAM_MANAGE, scope),
        "form": form or KeyForm(),
        "days": limits.ACCESS_KEY_DAYS,
        "most": limits.ACCESS_KEYS,
        "asks_code": second_factor.is_on(person),
        "client_token": new_client_token(),
        **made,
    }
    return place.show(request, "keys", context, form=form, error=error)


def _shown(key: AccessKey, person: int, now: datetime) -> Shown:
    return Shown(key, key.owner.shown_name, key.end(now), key.owner_id == person)


def _endpoint(request: HttpRequest) -> tuple[str, str]:
    """Under which host, and by which protocol, programs reach the console."""
    scheme, _, host = settings.CONSOLE_URL.partition("://")
    return (host, scheme) if host else (request.get_host(), request.scheme or "http")
