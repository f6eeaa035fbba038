"""``manage.py describe_states``: the page of states, from the code."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from commands.rules import states_page


class Command(BaseCommand):
    """Prints ``docs/states.md``, or writes it."""

    help = "Print the table and the diagram of states, or write them to a file."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One option: where to write."""
        parser.add_argument(
            "--write", metavar="FILE", help="write it there, such as docs/states.md"
        )

    def handle(self, **options: Any) -> None:
        """Print or write the page."""
        text = states_page.page()
        if options["write"]:
            Path(options["write"]).write_text(text, encoding="utf-8")
        else:
            self.stdout.write(text, ending="")
