"""The Django app of the domain: commands, instances, teams and what was run."""

from __future__ import annotations

from django.apps import AppConfig


class CommandsConfig(AppConfig):
    """Registers the domain's models and system checks."""

    name = "commands"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, which live in a module of their own."""
        from commands import checks  # noqa: F401, PLC0415 - models must be loaded first
