"""``manage.py rotate_encryption_key``: encrypt all secrets with the newest key."""

from __future__ import annotations

from collections.abc import Iterator
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
        """Report each column; fail if a secret can't be read, or is under another key still."""
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
        left = encryption.remaining()
        for column, number in left.items():
            self.stderr.write(f"{column}: {number:,} encrypted with another key again")
        audit.record(
            actor=None,
            action="encryption-keys:rotate",
            details={"renewed": renewed, "unreadable": unreadable, "left": sum(left.values())},
        )
        if wrong := [*_too_late(sum(left.values())), *_unreadable(unreadable)]:
            raise CommandError(" ".join(wrong))
        self.stdout.write("Every secret is encrypted with the newest key. The others can go.")


def _too_late(number: int) -> Iterator[str]:
    if number:
        yield (
            f"{number:,} secrets were changed meanwhile by a process that has another key first. "
            "Keep all keys, restart every web and worker process with the newest key first, and "
            "run this again."
        )


def _unreadable(number: int) -> Iterator[str]:
    if number:
        yield (
            f"{number:,} secrets were left as they are. Add the key that they were "
            "encrypted with to the end of CONSOLE_ENCRYPTION_KEYS, and run this again."
        )
