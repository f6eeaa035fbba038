"""How a page looks to its reader: language, colours, time zone; of the account, else of a cookie.

Language: the account's, else the cookie's, else what the browser asks for (Django's middleware
sees to the latter two). Theme: the account's, else the cookie's, else the system's. Time zone: the
account's, else the site's.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone, translation
from django.utils.deprecation import MiddlewareMixin

from commands.models import Theme, User
from commands.services.accounts import Preferences, zone

THEME_COOKIE = "theme"


@dataclass(frozen=True, slots=True)
class Voice:
    """The language and the time zone that something is said in."""

    language: str
    zone: str

    @classmethod
    def of_request(cls) -> Voice:
        """Those of the request that is being answered."""
        language = translation.get_language() or settings.LANGUAGE_CODE
        return cls(language, timezone.get_current_timezone_name())

    def speak(self) -> None:
        """Say everything in them from now on, in this thread."""
        translation.activate(self.language)
        timezone.activate(zone(self.zone) or timezone.get_default_timezone())


class PreferencesMiddleware(MiddlewareMixin):
    """Speaks the language of the account, and tells times in its zone."""

    def process_request(self, request: HttpRequest) -> None:
        """Turn both on, or off what a request before this one turned on."""
        timezone.deactivate()
        user = request.user
        if not isinstance(user, User):
            return
        if user.language in dict(settings.LANGUAGES):
            translation.activate(user.language)
            request.LANGUAGE_CODE = translation.get_language()
        if chosen := zone(user.time_zone):
            timezone.activate(chosen)


def theme(request: HttpRequest) -> str:
    """The theme that somebody chose, or "" for the system's."""
    user = getattr(request, "user", None)
    chosen = user.theme if isinstance(user, User) else request.COOKIES.get(THEME_COOKIE, "")
    return chosen if chosen in Theme.values else ""


def remember(response: HttpResponseBase, preferences: Preferences) -> None:
    """Keep language and theme in cookies, for this browser while nobody is signed in."""
    cookies = {settings.LANGUAGE_COOKIE_NAME: preferences.language, THEME_COOKIE: preferences.theme}
    for name, value in cookies.items():
        if value:
            response.set_cookie(
                name,
                value,
                max_age=settings.LANGUAGE_COOKIE_AGE,
                samesite="Lax",
                secure=settings.LANGUAGE_COOKIE_SECURE,
            )
        elif value == "":
            response.delete_cookie(name, samesite="Lax")
