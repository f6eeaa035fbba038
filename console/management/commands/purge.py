"""``manage.py purge``: delete tasks, output and ended access keys that are kept no longer."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from commands.services import access_keys, retention
from console.management.audited import AuditedCommand


class Command(AuditedCommand):
    """Deletes all that is due, however long it takes; the beat does the same in small steps."""

    help = (
        "Delete tasks and their output that are past their team's retention time, "
        "and access keys that ended long ago."
    )

    def handle(self, **_options: Any) -> None:
        """Purge, and say what went."""
        done = retention.purge(now=timezone.now(), patience_s=float("inf"))
        self.stdout.write(f"Deleted {done.tasks:,} tasks with {done.chunks:,} pieces of output.")
        keys = access_keys.forget_ended(now=timezone.now())
        self.stdout.write(f"Deleted {keys:,} access keys that had ended.")
