"""``manage.py verify_audit``: whether anybody altered the audit trail."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from commands.services import audit


class Command(BaseCommand):
    """Recomputes the chain. Fails, and says where, if it does not hold."""

    help = "Verify the chain of the audit trail, and print since when it goes, and its head."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One option: what an earlier verification printed."""
        parser.add_argument(
            "--expect",
            default="",
            metavar="NUMBER:DIGEST",
            help="the head that an earlier verification printed and you kept elsewhere",
        )

    def handle(self, **options: Any) -> None:
        """Verify and report."""
        found = audit.verify(expected=options["expect"])
        for finding in found.findings:
            self.stderr.write(finding)
        if found.findings:
            raise CommandError("The audit trail does not hold.")
        since = f" since {found.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if found.since else ""
        self.stdout.write(
            f"{found.events:,} events hold{since}. Keep this head elsewhere: {found.head}"
        )
