"""Inviting people, and ``/invitation/<token>/``, where they accept."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from commands.access import Permission
from commands.errors import CommandConsoleError, Conflict, Invalid
from commands.models import Invitation, User
from commands.services import invitations as service
from commands.services import mail
from console import errors, resolve
from console.forms.team import AccountForm, InviteForm, refuse
from console.pages import signing
from console.pages.answers import SeeOther
from console.pages.team import members, place


@never_cache
@resolve.signed_in
@require_POST
def invite(request: HttpRequest) -> HttpResponse:
    """Invite somebody; the link is shown this once, as it is kept nowhere."""
    scope = place.chosen(request, needs=Permission.TEAM_MANAGE)
    form = InviteForm(request.POST)
    form.is_valid()
    try:
        invited = service.invite(
            actor=resolve.person(request),
            team=scope.team,
            email=form.cleaned_data["email"],
            role=form.cleaned_data["role"],
            link=lambda token: _address(request, token),
            now=timezone.now(),
        )
    except (Invalid, Conflict) as error:
        refuse(form, error)
        shown = members.context(request, scope, form)
        return place.show(request, "members", shown, form=form, error=error)
    shown = members.context(request, scope) | {
        "invited": invited,
        "was_sent": invited.mailed and mail.reaches_people(),
    }
    return render(request, "team/members.html", shown)


@resolve.signed_in
@require_POST
def revoke(request: HttpRequest, uid: str) -> HttpResponse:
    """Make an invitation worthless."""
    invitation = resolve.invitation(request, uid)
    try:
        service.revoke(actor=resolve.person(request), invitation=invitation, now=timezone.now())
    except Conflict as error:
        messages.error(request, error.message)
    else:
        said = _("The invitation to %(email)s is revoked.")
        messages.success(request, said % {"email": invitation.email})
    return SeeOther(reverse("team-members"))


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def accept(request: HttpRequest, token: str) -> HttpResponse:
    """Join a team: with the account that is signed in, or with a new one.

    A link that is unknown, used, revoked or too old is answered alike.
    """
    invitation = service.find(token=token, now=timezone.now())
    if invitation is None:
        return render(request, "team/invitation_over.html", {}, status=404)
    if isinstance(request.user, User):
        return _join(request, request.user, invitation, token)
    return _register(request, invitation, token)


def _address(request: HttpRequest, token: str) -> str:
    """Where the invitation is accepted: at the console's own address, where that is known."""
    path = reverse("invitation", args=[token])
    own: str = settings.CONSOLE_URL
    return f"{own}{path}" if own else request.build_absolute_uri(path)


def _join(request: HttpRequest, user: User, invitation: Invitation, token: str) -> HttpResponse:
    shown: dict[str, object] = {"invitation": invitation}
    if request.method != "POST":
        return render(request, "team/invitation.html", shown)
    try:
        service.accept(actor=user, token=token, now=timezone.now())
    except Conflict as error:
        shown["error"] = error.message
        return render(request, "team/invitation.html", shown, status=errors.status_code(error))
    return _welcome(request, invitation)


def _register(request: HttpRequest, invitation: Invitation, token: str) -> HttpResponse:
    if request.method != "POST":
        return _account(request, invitation, AccountForm())
    form = AccountForm(request.POST)
    if not form.is_valid():
        return _account(request, invitation, form)
    try:
        user = service.register(token=token, now=timezone.now(), **form.cleaned_data)
    except (Invalid, Conflict) as error:
        refuse(form, error)
        return _account(request, invitation, form, error)
    login(request, user, backend=signing.BACKEND)
    return _welcome(request, invitation)


def _account(
    request: HttpRequest,
    invitation: Invitation,
    form: AccountForm,
    error: CommandConsoleError | None = None,
) -> HttpResponse:
    shown = {"invitation": invitation, "form": form}
    return place.show(request, "invitation", shown, form=form, error=error)


def _welcome(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    """Go on as a member, with the new team chosen."""
    resolve.choose_team(request, invitation.team)
    said = _("Welcome to %(team)s. You are %(role)s.")
    names = {"team": invitation.team.name, "role": invitation.get_role_display()}
    messages.success(request, said % names)
    return SeeOther(reverse("home"))
