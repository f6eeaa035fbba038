"""``/sign-in/`` and ``/sign-out/``."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _

from commands.models import User
from console import kept


class SignInForm(AuthenticationForm):
    """One sentence for every reason, so that nobody learns which names exist."""

    error_messages = {
        "invalid_login": _("That username and password don't match."),
        "inactive": _("That username and password don't match."),
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
        """Sign in; somebody else's form is not kept any longer."""
        response = super().form_valid(form)
        kept.settle(self.request)
        return response

    def form_invalid(self, form: AuthenticationForm) -> Any:
        """Show the form again, as an error."""
        response = super().form_invalid(form)
        response.status_code = 422
        return response


class SignOut(LogoutView):
    """End the session (POST only)."""

    http_method_names = ["post", "options"]
