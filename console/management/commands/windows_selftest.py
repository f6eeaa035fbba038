"""``manage.py windows_selftest``: whether what the console needs works on a Windows instance."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from commands.errors import CommandConsoleError
from commands.models import Instance
from commands.services import selftest
from console.management.audited import AuditedCommand


class Command(AuditedCommand):
    """Runs small scripts on one instance and says of each check whether it passed."""

    help = (
        "Check on a real Windows instance that commands can run there, before CONSOLE_WINDOWS is "
        "set. It runs about 20 small scripts and takes a minute or two."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The instance."""
        parser.add_argument("instance", help="its id (i-…) or its name")

    def handle(self, **options: Any) -> None:
        """Check, and end with an error if anything failed."""
        instance = _instance(options["instance"])
        self.stdout.write(f"{instance.name} ({instance.address}):")
        results = []
        try:
            for result in selftest.windows(instance):
                self._tell(result)
                results.append(result.passed)
        except (CommandConsoleError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        if not all(results):
            raise CommandError(f"{results.count(False)} of {len(results)} checks failed.")
        self.stdout.write(
            f"All {len(results)} checks passed. Set CONSOLE_WINDOWS=true to let people run "
            "commands on Windows instances."
        )

    def _tell(self, result: selftest.Result) -> None:
        self.stdout.write(f"{'ok  ' if result.passed else 'FAIL'}  {result.name}")
        for line in (result.found, result.advice):
            if line:
                self.stdout.write(f"      {line}")


def _instance(name: str) -> Instance:
    found = Instance.objects.select_related("credential")
    matches = list(found.filter(uid=name) or found.filter(name=name))
    if not matches:
        raise CommandError(f"There is no instance {name}.")
    if len(matches) > 1:
        raise CommandError(f"Several instances are called {name}. Give the id of one.")
    return matches[0]
