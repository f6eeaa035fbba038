"""The form of ``/account/``: how pages look to somebody."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from commands.models import Theme, User
from commands.services.accounts import Preferences, time_zones


def zone_choices() -> list[tuple[str, Any]]:
    """The site's zone, and all others in groups by the first part of their names."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in time_zones():
        area, _slash, place = name.partition("/")
        groups[area].append((name, place.replace("_", " ") or name))
    site = _("The site's (%(zone)s)") % {"zone": settings.TIME_ZONE}
    return [("", site), *sorted(groups.items())]


class AccountForm(forms.Form):
    """What somebody may choose for themselves."""

    language = forms.ChoiceField(
        required=False,
        choices=lambda: [("", _("The browser's")), *settings.LANGUAGES],
        label=_("Language"),
    )
    theme = forms.ChoiceField(
        required=False,
        choices=lambda: [("", _("The system's")), *Theme.choices],
        label=_("Theme"),
    )
    time_zone = forms.ChoiceField(
        required=False,
        choices=zone_choices,
        label=_("Time zone"),
        help_text=_("Days and times on all pages are those of this zone."),
    )
    density = forms.ChoiceField(
        choices=[("comfortable", _("Comfortable")), ("compact", _("Compact"))],
        label=_("Density"),
        help_text=_("Compact lists have lower rows and leave out second lines."),
    )
    shortcuts = forms.BooleanField(
        required=False,
        label=_("Keys that work alone"),
        help_text=_("Such as / to find something and C to run a command, where nobody types."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if isinstance(field, forms.ChoiceField):
                field.widget.attrs["class"] = "in"

    @classmethod
    def of(cls, user: User) -> AccountForm:
        """The form with what ``user`` chose before."""
        return cls(
            initial={
                "language": user.language,
                "theme": user.theme,
                "time_zone": user.time_zone,
                "density": "compact" if user.compact else "comfortable",
                "shortcuts": user.shortcuts,
            }
        )

    def preferences(self) -> Preferences:
        """What was chosen."""
        data = self.cleaned_data
        return Preferences(
            language=data["language"],
            theme=data["theme"],
            time_zone=data["time_zone"],
            compact=data["density"] == "compact",
            shortcuts=data["shortcuts"],
        )
