"""``manage.py import_instances``: make the servers of a file known to the console."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from commands.errors import CommandConsoleError
from commands.models import Credential, Import, Region, Role, Team, User
from commands.rules import inventory_files, known_hosts, ssh_config
from commands.services import importing, keyreading, teams
from commands.services.judging import Line, State


class Command(BaseCommand):
    """Says what every line means, then imports all that can be, or nothing."""

    help = "Import servers from a CSV file or an OpenSSH client configuration."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The file; everything else has a default."""
        parser.add_argument("file", type=Path, help="the file; see docs/import.md")
        parser.add_argument("--ssh-config", action="store_true", help="it is no CSV file")
        parser.add_argument(
            "--known-hosts", type=Path, metavar="FILE", help="host keys that you trust"
        )
        parser.add_argument(
            "--read-keys", action="store_true", help="ask hosts for keys, and you to confirm them"
        )
        parser.add_argument("--credential", metavar="NAME", help="for lines that name none")
        parser.add_argument("--user", default="", help="to sign in as, for lines that name none")
        parser.add_argument("--skip-wrong", action="store_true", help="import the others")
        parser.add_argument("--dry-run", action="store_true", help="only say what it would do")
        parser.add_argument("--team", help="team that owns them (default: the first team)")
        parser.add_argument("--region", help="region they belong to (default: local)")

    def handle(self, **options: Any) -> None:
        """Import, or say in a sentence why not."""
        try:
            actor, origin = _begun(options)
        except CommandConsoleError as error:
            raise CommandError(error.message) from error
        try:
            self._import(actor, origin, options)
        except CommandConsoleError as error:
            raise CommandError(error.message) from error
        finally:
            if Import.objects.filter(pk=origin.pk).exists():
                importing.give_up(actor=actor, origin=origin)

    def _import(self, actor: User, origin: Import, options: dict[str, Any]) -> None:
        if options["read_keys"]:
            _read_keys(actor, origin)
        lines = importing.review(origin).lines
        for line, text in origin.notes:
            self.stdout.write(f"line {line}: {text}")
        for line in lines:
            self.stdout.write(_told(line))
        if options["dry_run"]:
            return
        wrong = sum(line.state is State.WRONG for line in lines)
        if wrong and not options["skip_wrong"]:
            raise CommandError(
                f"{wrong} of {len(lines)} are wrong, so nothing was imported. --skip-wrong imports "
                "the others."
            )
        if not any(line.importable for line in lines):
            self.stdout.write("There is nothing to import.")
            return
        report = importing.finish(
            actor=actor,
            origin=origin,
            shown={line.row.pk: line.mark for line in lines if line.row.chosen},
            confirmed=self._confirmed(lines),
            now=timezone.now(),
        )
        self.stdout.write(
            f"Added {report.new:,}, changed {report.changed:,}, left out {report.left_out:,} "
            "without a host key."
        )

    def _confirmed(self, lines: list[Line]) -> bool:
        """Whether a person has compared the keys that hosts showed, if any did."""
        read = [line for line in lines if line.importable and line.row.key_source == "read"]
        if not read:
            return False
        self.stdout.write("On each of these servers: ssh-keygen -lf <public key file>")
        if not sys.stdin.isatty():
            raise CommandError("Nothing was imported: nobody is here to compare fingerprints.")
        if input("Do they all print the same? [y/N] ").strip().lower() != "y":
            raise CommandError("Nothing was imported.")
        return True


def _told(line: Line) -> str:
    """A line of the report: what a row means, its key, and why."""
    key = line.fingerprint or line.row.unanswered or "no host key yet"
    left_out = "" if line.row.chosen or not line.importable else " (left out)"
    parts = [
        f"line {line.row.line}: {line.state}{left_out}",
        f"{line.row.name or '-'} {line.row.host}:{line.row.port}",
        *([] if line.state is State.WRONG else [key]),
        *line.reasons,
    ]
    return "  ".join(parts)


def _begun(options: dict[str, Any]) -> tuple[User, Import]:
    team = _team(options["team"])
    region = _region(options["region"])
    actor = _admin(team)
    read = ssh_config.read if options["ssh_config"] else inventory_files.read_csv
    origin = importing.begin(
        actor=actor,
        team=team,
        region=region,
        inventory=read(_text(options["file"])),
        known=known_hosts.read(_text(options["known_hosts"]) if options["known_hosts"] else ""),
        credential=_credential(team, region, options["credential"]),
        user=inventory_files.check_user(options["user"]),
        now=timezone.now(),
    )
    return actor, origin


def _text(path: Path) -> str:
    try:
        return inventory_files.text_of(path.expanduser().read_bytes())
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}.") from None


def _read_keys(actor: User, origin: Import) -> None:
    """Ask all hosts at once; workers may take some of them."""
    importing.ask_for_keys(actor=actor, origin=origin)
    reader = keyreading.KeyReader()
    with ThreadPoolExecutor(keyreading.AT_ONCE) as threads:
        while origin.rows.filter(wanted=True).exists():
            targets = [target for _, target in reader.claim(frozenset(), keyreading.AT_ONCE)]
            reader.record(list(threads.map(reader.run, targets)))
            if not targets:
                time.sleep(0.2)


def _team(name: str | None) -> Team:
    team = Team.objects.filter(name=name).first() if name else teams.first_team()
    if team is None:
        raise CommandError("There is no such team. Make it on the admin site.")
    return team


def _region(uid: str | None) -> Region:
    region = Region.objects.filter(uid=uid).first() if uid else teams.default_region()
    if region is None:
        raise CommandError("There is no such region. Make it on the admin site.")
    return region


def _admin(team: Team) -> User:
    """Whoever runs commands on this machine acts as the team's first admin."""
    admin = User.objects.filter(
        memberships__team=team, memberships__role=Role.TEAM_ADMIN, is_active=True
    ).first()
    if admin is None:
        raise CommandError(f"{team.name} has no team admin. Add one on the admin site.")
    return admin


def _credential(team: Team, region: Region, name: str | None) -> Credential | None:
    if not name:
        return None
    found = Credential.objects.filter(team=team, region=region, name=name).first()
    if found is None:
        raise CommandError(f"{team.name} has no credential called {name} in this region.")
    return found
