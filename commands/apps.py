"""The Django app of the domain: commands, instances, teams and what was run."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext, ngettext

from commands import words


class CommandsConfig(AppConfig):
    """Registers the domain's models and system checks, and teaches it languages."""

    name = "commands"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hand over a translator; register the system checks, which are a module of their own."""
        words.speak(gettext, ngettext)
        from commands import checks  # noqa: F401, PLC0415 - models must be loaded first
