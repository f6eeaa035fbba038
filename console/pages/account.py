"""``/account/``: language, theme, time zone, density, keys; ``/look/``: the top bar's buttons."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST

from commands.models import Theme, User
from commands.services import accounts
from commands.services.accounts import Preferences
from console import preferences, resolve
from console.forms.account import AccountForm
from console.pages.answers import SeeOther, local


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def account(request: HttpRequest) -> HttpResponse:
    """Show what somebody chose, and keep what they choose (POST, 303)."""
    person = resolve.person(request)
    if request.method != "POST":
        return render(request, "account.html", {"form": AccountForm.of(person)})
    form = AccountForm(request.POST)
    if not form.is_valid():
        return render(request, "account.html", {"form": form}, status=422)
    chosen = form.preferences()
    accounts.set_preferences(actor=person, preferences=chosen)
    with translation.override(chosen.language or translation.get_language()):
        messages.success(request, _("Saved. All pages look like this from now on."))
    response = SeeOther(reverse("account"))
    preferences.remember(response, chosen)
    return response


@require_POST
def look(request: HttpRequest) -> HttpResponse:
    """Change language or theme, for somebody who is signed in or not, and go back to the page."""
    chosen = Preferences(
        language=_offered(request, "language", dict(settings.LANGUAGES)),
        theme=_offered(request, "theme", {"": "", **dict(Theme.choices)}),
    )
    if isinstance(request.user, User):
        accounts.set_preferences(actor=request.user, preferences=chosen)
    response = SeeOther(local(request, request.POST.get("next", ""), "/"))
    preferences.remember(response, chosen)
    return response


def _offered(request: HttpRequest, name: str, offered: dict[str, object]) -> str | None:
    value = request.POST.get(name)
    return value if value in offered else None
