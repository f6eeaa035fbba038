"""Whose portal it is: the chosen team, what the person may do there, and what all its pages do."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from commands.access import Permission
from commands.errors import CommandConsoleError
from commands.models import User
from console import errors, kept, resolve
from console.pages.answers import SeeOther
from console.resolve import Scope


@resolve.signed_in
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The portal begins with the members."""
    return SeeOther(reverse("team-members"))


def chosen(request: HttpRequest, *, needs: Permission | None = None) -> Scope:
    """The team and region: of a form those it was made for. Raises Http404 for who may not."""
    if request.method == "POST" and not resolve.adopt_scope(request, request.POST.get("scope", "")):
        raise Http404
    scope = resolve.scope(request)
    if scope is None or (needs is not None and not resolve.may(request, needs, scope)):
        raise Http404
    return scope


def show(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    form: forms.Form | None = None,
    error: CommandConsoleError | None = None,
) -> HttpResponse:
    """A page, or the page of a form with what is wrong and the status that says so."""
    status = 200
    if error is not None:
        status = errors.status_code(error)
    elif form is not None and form.is_bound and form.errors:
        status = 422
    if isinstance(request.user, User):
        context = {**context, "owner": kept.owner_mark(request.user)}
    return render(request, f"team/{template}.html", context, status=status)


def left(request: HttpRequest) -> QueryDict | None:
    """A form of this page that the person sent while they were signed out, if there is one."""
    body = kept.take(request)
    if body is not None:
        messages.info(request, _("Your form is back as you left it. Check it and save it."))
    return body


def nowhere(request: HttpRequest) -> HttpResponse:
    """For somebody who is in no team."""
    return render(request, "team/none.html", {})
