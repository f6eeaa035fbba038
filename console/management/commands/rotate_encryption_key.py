"""``manage.py rotate_encryption_key``: encrypt all secrets with the newest key."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from commands.services import audit, encryption
from console.management.audited import AuditedCommand


class Command(AuditedCommand):
    """Encrypts again what an older key encrypted. Run it again if it was cut short."""

    help = (
        "Encrypt all stored secrets with the first of CONSOLE_ENCRYPTION_KEYS, so that the others "
        "can be taken off the list."
    )

    def handle(self, **_options: Any) -> None:
        """Report each column; fail if a secret can't be read."""
        renewed = unreadable = 0
        for done in encryption.rotate():
            line = f"{done.model}.{done.field}: {done.renewed:,} renewed, {done.fresh:,} up to date"
            self.stdout.write(line)
            for key in done.unreadable:
                self.stderr.write(
                    f"{done.model} {key}: no configured key decrypts its {done.field}"
                )
            renewed += done.renewed
            unreadable += len(done.unreadable)
        audit.record(
            actor=None,
            action="encryption-keys:rotate",
            details={"renewed": renewed, "unreadable": unreadable},
        )
        if unreadable:
            raise CommandError(
                f"{unreadable:,} secrets were left as they are. Add the key that they were "
                "encrypted with to the end of CONSOLE_ENCRYPTION_KEYS, and run this again."
            )
        self.stdout.write("Every secret is encrypted with the newest key. The others can go.")
