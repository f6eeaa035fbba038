"""``/team/notices/``: who is told when tasks of the team end, and what became of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from commands.access import Permission
from commands.errors import Conflict, Invalid
from commands.models import Notice, NoticeRule, Region
from commands.services import notice_rules, refusals
from console import resolve
from console.forms.notice import NoticeForm, initial
from console.pages.answers import SeeOther

DELIVERIES = 50
"""Notices that the page shows, newest first."""


class _Rule(NamedTuple):
    """A rule in the list; ``target`` without what may be secret in it."""

    row: NoticeRule
    target: str
    is_webhook: bool


class _Delivery(NamedTuple):
    """A notice in the list; ``why`` it was not taken, in the reader's language."""

    row: Notice
    why: str


@never_cache
@resolve.signed_in
@require_safe
def notices(request: HttpRequest) -> HttpResponse:
    """The rules of the team, and the last deliveries."""
    scope = _managed(request)
    rules = scope.team.notice_rules.select_related("region").defer("target", "secret")
    deliveries = list(
        scope.team.notices.select_related("rule", "invocation")
        .defer("rule__target", "rule__secret", "invocation__values", "invocation__content")
        .order_by("-made_at", "-pk")[:DELIVERIES]
    )
    fresh = (one.state == Notice.State.WAITING and one.attempts < 2 for one in deliveries)
    context = {
        "rules": [_shown(rule) for rule in rules],
        "deliveries": [_Delivery(one, refusals.told(one.last_error)) for one in deliveries],
        "moving": any(fresh),
        "mails": settings.EMAIL_BACKEND.endswith(".smtp.EmailBackend"),
        "has_url": bool(settings.CONSOLE_URL),
    }
    return render(request, "team_notices/list.html", context)


@never_cache
@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """Add a rule; of a webhook's, show the secret once."""
    scope = _managed(request)
    form = NoticeForm(request.POST if request.method == "POST" else initial(None))
    if request.method != "POST" or not form.is_valid():
        return _form(request, form, None)
    try:
        rule = notice_rules.add_rule(
            actor=resolve.person(request),
            team=scope.team,
            rule=form.rule(),
            now=timezone.now(),
        )
    except Invalid as error:
        form.add_domain_error(error)
        return _form(request, form, None)
    except Conflict as error:
        form.add_error(None, error.message)
        return _form(request, form, None)
    if rule.secret:
        return _secret(request, rule)
    messages.success(request, _("The rule is in force."))
    return SeeOther(reverse("team-notices"))


@never_cache
@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, uid: str) -> HttpResponse:
    """Change a rule."""
    rule = resolve.managed_notice_rule(request, uid)
    form = NoticeForm(request.POST if request.method == "POST" else initial(rule))
    if request.method != "POST" or not form.is_valid():
        return _form(request, form, rule)
    try:
        notice_rules.change_rule(
            actor=resolve.person(request), rule=rule, changed=form.rule(), now=timezone.now()
        )
    except Invalid as error:
        form.add_domain_error(error)
        return _form(request, form, rule)
    messages.success(request, _("The rule is changed."))
    return SeeOther(reverse("team-notices"))


@never_cache
@resolve.signed_in
@require_POST
def test(request: HttpRequest, uid: str) -> HttpResponse:
    """Send what says that it is a test."""
    rule = resolve.managed_notice_rule(request, uid)
    try:
        notice_rules.send_test(actor=resolve.person(request), rule=rule, now=timezone.now())
    except Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, _("A test is on its way. What becomes of it is shown below."))
    return SeeOther(reverse("team-notices"))


@never_cache
@resolve.signed_in
@require_POST
def secret(request: HttpRequest, uid: str) -> HttpResponse:
    """Give a webhook a new secret, and show it once."""
    rule = resolve.managed_notice_rule(request, uid)
    changed = notice_rules.renew_secret(
        actor=resolve.person(request), rule=rule, now=timezone.now()
    )
    return _secret(request, changed)


@never_cache
@resolve.signed_in
@require_POST
def delete(request: HttpRequest, uid: str) -> HttpResponse:
    """Delete a rule, with what waits to be told by it."""
    rule = resolve.managed_notice_rule(request, uid)
    notice_rules.delete_rule(actor=resolve.person(request), rule=rule, now=timezone.now())
    messages.success(request, _("The rule is deleted."))
    return SeeOther(reverse("team-notices"))


def _managed(request: HttpRequest) -> resolve.Scope:
    """The chosen team, if the person manages it. Raises Http404."""
    scope = resolve.scope(request)
    if scope is None or not resolve.may(request, Permission.TEAM_MANAGE, scope):
        raise Http404
    return scope


def _shown(rule: NoticeRule) -> _Rule:
    return _Rule(rule, notice_rules.shown_target(rule), rule.kind == NoticeRule.Kind.WEBHOOK)


def _form(request: HttpRequest, form: NoticeForm, rule: NoticeRule | None) -> HttpResponse:
    context: dict[str, Any] = {
        "form": form,
        "rule": rule,
        "regions": Region.objects.all(),
        "kinds": NoticeRule.Kind.choices,
        "whens": NoticeRule.When.choices,
    }
    status = 422 if form.errors else 200
    return render(request, "team_notices/form.html", context, status=status)


def _secret(request: HttpRequest, rule: NoticeRule) -> HttpResponse:
    context = {"rule": rule, "target": notice_rules.shown_target(rule)}
    return render(request, "team_notices/secret.html", context)
