"""What people choose for themselves: language, colours, time zone, and what they have looked at."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cache

from django.conf import settings

from commands.errors import Invalid
from commands.models import Theme, User
from commands.words import gettext as _


@dataclass(frozen=True, slots=True)
class Preferences:
    """How pages look to somebody; None leaves a choice as it is, "" takes it back."""

    language: str | None = None
    theme: str | None = None
    time_zone: str | None = None
    compact: bool | None = None
    shortcuts: bool | None = None


@cache
def time_zones() -> tuple[str, ...]:
    """Names of the time zones that can be chosen: places, and UTC."""
    known = (name for name in zoneinfo.available_timezones() if "/" in name or name == "UTC")
    return tuple(sorted(name for name in known if not name.startswith(("Etc/", "SystemV/"))))


def zone(name: str) -> tzinfo | None:
    """The time zone that somebody chose; None for none, or one that is there no more."""
    try:
        return zoneinfo.ZoneInfo(name) if name else None
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return None


def set_preferences(*, actor: User, preferences: Preferences) -> None:
    """Keep what ``actor`` chose. Raises Invalid for a choice that is not offered."""
    offered = {
        "language": {code for code, _name in settings.LANGUAGES},
        "theme": set(Theme.values),
        "time_zone": set(time_zones()),
    }
    changed = []
    for name in Preferences.__dataclass_fields__:
        value = getattr(preferences, name)
        if value is None:
            continue
        if value and name in offered and value not in offered[name]:
            raise Invalid(_("Choose one from the list."), field=name)
        setattr(actor, name, value)
        changed.append(name)
    actor.save(update_fields=changed)


def mark_looked_at(*, actor: User, now: datetime) -> None:
    """Remember that ``actor`` has looked at all failures up to ``now``."""
    actor.looked_at = now
    actor.save(update_fields=["looked_at"])
