"""``manage.py purge``: delete tasks, output, access keys and sessions that are kept no longer."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from commands.services import access_keys, retention, sessions
from console.management.audited import AuditedCommand


class Command(AuditedCommand):
    """Deletes all that is due, however long it takes; the beat does the same in small steps."""

    help = (
        "Delete tasks and their output that are past their team's retention time, "
        "access keys that ended long ago, and sessions that are over."
    )

    def handle(self, **_options: Any) -> None:
        """Purge, and say what went."""
        done = retention.purge(now=timezone.now(), patience_s=float("inf"))
        self.stdout.write(f"Deleted {done.tasks:,} tasks with {done.chunks:,} pieces of output.")
        keys = access_keys.forget_ended(now=timezone.now())
        self.stdout.write(f"Deleted {keys:,} access keys that had ended.")
        sessions.forget_expired()
        self.stdout.write("Deleted the sessions that were over.")
