"""Commands that change something: the audit trail says that it was done from a command line."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from commands.services import audit

ORIGIN = "command line"


class AuditedCommand(BaseCommand):
    """Lets everything that a command does be recorded with ``ORIGIN``."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command."""
        with audit.origin(ORIGIN):
            return super().execute(*args, **options)
