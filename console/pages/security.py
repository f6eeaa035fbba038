"""``/account/security/``: the second factor, the password, and ending other sessions."""

from __future__ import annotations

import time
from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from commands.errors import CommandConsoleError
from commands.models import User
from commands.services import access_keys, sessions
from commands.services import second_factor as services
from console import resolve, second_factor
from console import sessions as limits
from console.pages import signing
from console.pages.answers import SeeOther

REVOKE_KEYS = "revoke_keys"
"""The field that is there if access keys are to end, too."""


@never_cache
@resolve.signed_in
@require_safe
def security(request: HttpRequest) -> HttpResponse:
    """How the person signs in."""
    user = resolve.person(request)
    context = {
        "keys": access_keys.working(user=user, now=timezone.now()),
        "on": services.is_on(user),
        "missing": services.is_missing(user),
        "left": services.codes_left(user),
    }
    return render(request, "account/security.html", context)


@sensitive_post_parameters("code", "password")
@never_cache
@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def set_up(request: HttpRequest) -> HttpResponse:
    """Show the secret of a new authenticator app; put it in force once it shows the right code.

    Unless somebody has just signed in they give the password, too: who finds a browser signed in
    could lock its owner out otherwise, and prove with that app whatever asks for proof.
    """
    user = resolve.person(request)
    if services.is_on(user):
        return SeeOther(reverse("security"))
    if request.method != "POST":
        return _set_up(request, user, anew=not second_factor.is_begun(request))
    if _asks_password(request):
        given = request.POST.get("password", "")
        if refusal := signing.password_refusal(request, user, given):
            answer = _set_up(request, user, refusal)
            if signing.must_wait(request, user):
                answer.status_code = 429
                return signing.waiting(answer)
            return answer
    now = timezone.now()
    try:
        codes = services.confirm(actor=user, code=_code(request), now=now)
    except CommandConsoleError as error:
        return _set_up(request, user, error.message)
    # Whoever signed in with the password alone has to come again, with a code.
    sessions.end_all(actor=user, now=now)
    update_session_auth_hash(request, user)
    second_factor.prove(request)
    return render(request, "account/recovery_codes.html", {"codes": codes, "new": True})


@sensitive_post_parameters("code")
@never_cache
@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def renew_codes(request: HttpRequest) -> HttpResponse:
    """Ask for a code, then show new recovery codes in place of all old ones."""
    if request.method != "POST":
        return _ask(request, "codes")
    try:
        codes = services.renew_codes(
            actor=resolve.person(request), code=_code(request), now=timezone.now()
        )
    except CommandConsoleError as error:
        return _ask(request, "codes", error.message)
    return render(request, "account/recovery_codes.html", {"codes": codes})


@sensitive_post_parameters("code")
@never_cache
@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest) -> HttpResponse:
    """Ask for a code, then do without the second factor."""
    if request.method != "POST":
        return _ask(request, "remove")
    user = resolve.person(request)
    try:
        services.remove(actor=user, code=_code(request), now=timezone.now())
    except CommandConsoleError as error:
        return _ask(request, "remove", error.message)
    request.session.pop(second_factor.PROVED, None)
    update_session_auth_hash(request, user)
    messages.success(request, _("You sign in with your password alone now."))
    return SeeOther(reverse("security"))


@never_cache
@resolve.signed_in
@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """Sign the person out everywhere but here, and revoke access keys if that was ticked."""
    user = resolve.person(request)
    revoked = sessions.end_all(actor=user, keys=REVOKE_KEYS in request.POST, now=timezone.now())
    update_session_auth_hash(request, user)
    messages.success(request, _("You are signed out everywhere else."))
    _tell_revoked(request, revoked)
    return SeeOther(reverse("security"))


@sensitive_post_parameters()
@never_cache
@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """Change the password, which ends all other sessions, and access keys unless unticked."""
    user = resolve.person(request)
    if request.method == "POST" and signing.must_wait(request, user):
        return _wait(request, user)
    form = PasswordChangeForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data["new_password1"]
        ticked = REVOKE_KEYS in request.POST
        revoked = sessions.set_password(
            actor=user, password=chosen, keys=ticked, now=timezone.now()
        )
        update_session_auth_hash(request, user)
        messages.success(request, _("Your password is changed. All other sessions have ended."))
        _tell_revoked(request, revoked)
        return SeeOther(reverse("security"))
    if form.has_error("old_password", "password_incorrect"):
        signing.note_wrong(request, user)
        if signing.must_wait(request, user):
            return _wait(request, user)
    context = {"form": form, **_keys_of(request, user)}
    status = 422 if form.is_bound else 200
    return render(request, "account/password.html", context, status=status)


def _wait(request: HttpRequest, user: User) -> HttpResponse:
    """The page for somebody who tried too many passwords: 429."""
    form = PasswordChangeForm(user)
    context = {"form": form, "locked": signing.too_often(), **_keys_of(request, user)}
    return signing.waiting(render(request, "account/password.html", context, status=429))


def _keys_of(request: HttpRequest, user: User) -> dict[str, Any]:
    """How many access keys could go with the password, and whether they are to, as was ticked."""
    ticked = request.method != "POST" or REVOKE_KEYS in request.POST
    return {"keys": access_keys.working(user=user, now=timezone.now()), "ticked": ticked}


def _tell_revoked(request: HttpRequest, number: int) -> None:
    if number:
        text = ngettext("%(n)d access key is revoked.", "%(n)d access keys are revoked.", number)
        messages.success(request, text % {"n": number})


def _asks_password(request: HttpRequest) -> bool:
    return not limits.is_recent(request.session, time.time())


def _code(request: HttpRequest) -> str:
    return request.POST.get("code", "")


def _set_up(
    request: HttpRequest, user: User, error: str = "", *, anew: bool = False
) -> HttpResponse:
    factor = services.begin(actor=user, anew=anew)
    if anew:
        second_factor.note_begun(request)
    context: dict[str, Any] = {
        "qr": _qr(services.address(factor)),
        "secret": " ".join(factor.secret[at : at + 4] for at in range(0, len(factor.secret), 4)),
        "missing": services.is_missing(user),
        "asks_password": _asks_password(request),
        "error": error,
    }
    return render(request, "account/set_up.html", context, status=422 if error else 200)


def _ask(request: HttpRequest, what: str, error: str = "") -> HttpResponse:
    context = {"what": what, "error": error}
    return render(request, "account/prove.html", context, status=422 if error else 200)


def _qr(text: str) -> SafeString:
    """``text`` as a picture in the page itself: it is a secret, and no address may lead to it."""
    rows = list(segno.make_qr(text, error="m").matrix_iter(border=4))
    squares = "".join(
        f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark
    )
    return format_html(
        '<svg class="qr" viewBox="0 0 {0} {0}" role="img" aria-label="{1}" '
        'shape-rendering="crispEdges"><rect width="{0}" height="{0}" fill="#fff"/>'
        '<path d="{2}" fill="#000"/></svg>',
        len(rows),
        _("QR code for an authenticator app"),
        squares,
    )
