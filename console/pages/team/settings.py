"""``/team/settings/``: its name, how long tasks are kept, whether a second factor must be."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods

from commands.access import Permission
from commands.errors import Invalid
from commands.rules import limits
from commands.services import second_factor, team_settings
from console import resolve
from console.forms.team import SettingsForm, refuse, whole
from console.pages.answers import SeeOther
from console.pages.team import place


@resolve.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
@cache_control(private=True)
def settings(request: HttpRequest) -> HttpResponse:
    """The form (GET), and to keep what it says (POST, 303)."""
    scope = place.chosen(request, needs=Permission.TEAM_MANAGE)
    team, person = scope.team, resolve.person(request)
    shown = {
        "team": team,
        "least": limits.KEEP_DAYS_MIN,
        "most": limits.KEEP_DAYS_MAX,
        "own_factor": second_factor.is_on(person),
    }
    if request.method != "POST":
        columns = ("name", "keep_days", "second_factor_required")
        form = SettingsForm(initial={name: getattr(team, name) for name in columns})
        return place.show(request, "settings", {**shown, "form": form})
    form = SettingsForm(request.POST)
    form.is_valid()
    data = form.cleaned_data
    try:
        team_settings.change(
            actor=person,
            team=team,
            name=data["name"],
            keep_days=whole(data["keep_days"]),
            second_factor_required=data["second_factor_required"],
        )
    except Invalid as error:
        refuse(form, error)
        return place.show(request, "settings", {**shown, "form": form}, form=form, error=error)
    messages.success(request, _("The settings are saved."))
    return SeeOther(reverse("team-settings"))
