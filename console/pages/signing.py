"""``/sign-in/``, ``/sign-in/code/`` and ``/sign-out/``."""

from __future__ import annotations

from math import ceil
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.signals import user_login_failed
from django.contrib.auth.views import LoginView, LogoutView, RedirectURLMixin
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from commands.models import User
from commands.services import second_factor as services
from console import (
    kept,
    second_factor,
    sign_ins,  # noqa: F401 - notes who signs in, and out
)
from console.pages.answers import SeeOther

BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignInForm(AuthenticationForm):
    """One sentence for every reason, so that nobody learns which names exist."""

    error_messages = {
        "invalid_login": gettext_lazy("That username and password don't match."),
        "inactive": gettext_lazy("That username and password don't match."),
    }


class SignIn(LoginView):
    """Ask for a username and a password."""

    template_name = "sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add whether there is anybody who could sign in, and what became of a form."""
        waiting = kept.waiting(self.request)
        return super().get_context_data(
            **kwargs,
            no_users=not User.objects.exists(),
            kept=waiting is kept.Waiting.KEPT,
            too_large=waiting is kept.Waiting.TOO_LARGE,
        )

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Sign in, or ask for a code; somebody else's form is not kept any longer."""
        user = form.get_user()
        if isinstance(user, User) and services.is_on(user):
            second_factor.expect(self.request, user)
            following = urlencode({"next": self.get_redirect_url()})
            return SeeOther(f"{reverse('sign-in-code')}?{following}")
        response = super().form_valid(form)
        kept.settle(self.request)
        return response

    def form_invalid(self, form: AuthenticationForm) -> Any:
        """Show the form again, as an error."""
        response = super().form_invalid(form)
        response.status_code = 422
        return response


@method_decorator([sensitive_post_parameters("code"), csrf_protect, never_cache], name="dispatch")
class SignInCode(RedirectURLMixin, View):
    """Ask somebody who gave the right password for a code of the second factor."""

    http_method_names = ["get", "head", "post", "options"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Back to the password if there is none, or it is too long ago."""
        if second_factor.expected(request) is None:
            second_factor.forget(request)
            return SeeOther(reverse("sign-in"))
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        """The form."""
        return self._form(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Sign in if the code is right. Wrong ones count like wrong passwords."""
        user = second_factor.expected(request)
        assert user is not None  # noqa: S101 - dispatch saw to it
        credentials = {"username": user.get_username()}
        if not AxesProxyHandler.is_allowed(request, credentials):
            return locked_out(request, None, credentials)
        before = services.codes_left(user)
        if not services.prove(user=user, code=request.POST.get("code", ""), now=timezone.now()):
            user_login_failed.send(sender=__name__, credentials=credentials, request=request)
            if not AxesProxyHandler.is_allowed(request, credentials):
                second_factor.forget(request)
                return locked_out(request, None, credentials)
            return self._form(request, _("That code doesn't match. Enter the one that shows now."))
        second_factor.forget(request)
        login(request, user, backend=BACKEND)
        request.session[second_factor.PROVED] = True
        kept.settle(request)
        _tell_codes(request, before, services.codes_left(user))
        return SeeOther(self.get_success_url())

    def get_default_redirect_url(self) -> str:
        """Where to go without ``next``."""
        return reverse(settings.LOGIN_REDIRECT_URL)

    def _form(self, request: HttpRequest, error: str = "") -> HttpResponse:
        context = {"error": error, "next": self.get_redirect_url()}
        return render(request, "sign_in_code.html", context, status=422 if error else 200)


class SignOut(LogoutView):
    """End the session (POST only)."""

    http_method_names = ["post", "options"]


def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """The admin site has no sign-in of its own, and nothing for who is signed in and no staff."""
    if request.user.is_authenticated:
        raise Http404
    return SeeOther(
        f"{reverse('sign-in')}?{urlencode({'next': request.GET.get('next', '/admin/')})}"
    )


def admin_password(_request: HttpRequest) -> HttpResponse:
    """The admin site has no page of its own for one's password: wrong ones count everywhere."""
    return SeeOther(reverse("password"))


def locked_out(
    request: HttpRequest, _response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """The sign-in page for somebody who tried too often from this address: 429."""
    context = {
        "form": SignInForm(initial={"username": (credentials or {}).get("username", "")}),
        "locked": too_often(),
        "next": request.POST.get("next", ""),
    }
    return waiting(render(request, "sign_in.html", context, status=429))


def password_refusal(request: HttpRequest, user: User, password: str) -> str:
    """Why a password that is asked for again is not taken, as a sentence; "" if it is right.

    Whoever finds a browser signed in is not to take more than that away. Wrong ones count like
    those of signing in; with ``must_wait`` the answer is 429.
    """
    if not must_wait(request, user):
        if user.check_password(password):
            return ""
        note_wrong(request, user)
    if must_wait(request, user):
        return too_often()
    return _("That is not your password. Enter the one that you sign in with.")


def must_wait(request: HttpRequest, user: User) -> bool:
    """Whether somebody tried too many passwords or codes of ``user`` from this address."""
    return not AxesProxyHandler.is_allowed(request, {"username": user.get_username()})


def note_wrong(request: HttpRequest, user: User) -> None:
    """Count a wrong password of somebody who is signed in, like one of signing in."""
    credentials = {"username": user.get_username()}
    user_login_failed.send(sender=__name__, credentials=credentials, request=request)
    # The page itself says it, not the sign-in page, which the middleware would put in its place.
    request.axes_locked_out = False  # type: ignore[attr-defined]  # axes sets it on any request


def too_often() -> str:
    """The sentence for who has to wait."""
    minutes = _pause_minutes()
    text = ngettext(
        "Too many tries. Try again in %(n)d minute.",
        "Too many tries. Try again in %(n)d minutes.",
        minutes,
    )
    return text % {"n": minutes}


def waiting(response: HttpResponse) -> HttpResponse:
    """The same answer, which says when to come again."""
    response.headers["Retry-After"] = str(_pause_minutes() * 60)
    return response


def _pause_minutes() -> int:
    return ceil(settings.AXES_COOLOFF_TIME.total_seconds() / 60)


def _tell_codes(request: HttpRequest, before: int, left: int) -> None:
    if left < before:
        text = ngettext(
            "You used a recovery code. %(n)d is left.",
            "You used a recovery code. %(n)d are left.",
            left,
        )
        messages.warning(request, text % {"n": left})
