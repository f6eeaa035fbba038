"""Between the password and the code: who has proved which, and who has to set a factor up."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from commands.models import User
from commands.services import second_factor

PENDING_S = 600
"""Seconds that somebody has, after the password, to enter the code."""
_PENDING = "second_factor.pending"
PROVED = "second_factor.proved"
"""In a session that began with a second factor."""
_BEGUN = "second_factor.begun"
"""When a session was shown a secret for a new app."""
_OPEN = ("second-factor", "second-factor-codes", "sign-out", "sign-in", "healthz")
"""Pages for people who have to set it up first."""
_ASKED = ("events", "status")
"""What pages and programs ask for again and again: they want a status, not another page."""


class SecondFactorMiddleware:
    """Lets members of a team that requires a second factor set it up before anything else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass on; see ``process_view``."""
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, *_view: object
    ) -> HttpResponse | HttpResponseRedirect | None:
        """Send them to the page where it is set up; scripts and programs are told so."""
        match = request.resolver_match
        if not isinstance(request.user, User) or request.session.get(PROVED):
            return None
        if match is None or match.url_name in _OPEN or not second_factor.is_missing(request.user):
            return None
        if request.headers.get("HX-Request") == "true":
            return HttpResponse(status=403, headers={"HX-Redirect": reverse("second-factor")})
        if match.url_name in _ASKED:
            text = _("Your team requires a second factor. Set it up first: %(url)s")
            told = text % {"url": reverse("second-factor")}
            return HttpResponse(told, status=403, content_type="text/plain; charset=utf-8")
        return HttpResponseRedirect(reverse("second-factor"))


def expect(request: HttpRequest, user: User) -> None:
    """Remember that ``user`` gave the right password, and has to give a code."""
    request.session[_PENDING] = [user.pk, user.get_session_auth_hash(), time.time()]


def expected(request: HttpRequest) -> User | None:
    """Who has to give a code here; None once too much time has passed, or much has changed."""
    pk, hashed, since = request.session.get(_PENDING) or (0, "", 0.0)
    user = User.objects.filter(pk=pk, is_active=True).first()
    if user is None or time.time() - since > PENDING_S:
        return None
    return user if constant_time_compare(hashed, user.get_session_auth_hash()) else None


def is_begun(request: HttpRequest) -> bool:
    """Whether this session was shown a secret for a new app a moment ago, which stays the same.

    To another session, or much later, another one is shown.
    """
    since: float = request.session.get(_BEGUN, 0.0)
    return time.time() - since <= PENDING_S


def note_begun(request: HttpRequest) -> None:
    """Remember that this session was shown one now."""
    request.session[_BEGUN] = time.time()


def prove(request: HttpRequest) -> None:
    """Remember that the app that was begun here is in force, and was used."""
    request.session.pop(_BEGUN, None)
    request.session[PROVED] = True


def forget(request: HttpRequest) -> None:
    """Begin with the password again."""
    request.session.pop(_PENDING, None)
