"""``/sign-in/`` and ``/sign-out/``."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.utils.translation import gettext_lazy as _

from commands.models import User


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
        """Add whether there is anybody who could sign in."""
        return super().get_context_data(**kwargs, no_users=not User.objects.exists())

    def form_invalid(self, form: AuthenticationForm) -> Any:
        """Show the form again, as an error."""
        response = super().form_invalid(form)
        response.status_code = 422
        return response


class SignOut(LogoutView):
    """End the session (POST only)."""

    http_method_names = ["post", "options"]
