"""``manage.py add_instance``: make a server known to the console, its host key confirmed."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction
from django.db.models import Q

from commands.errors import CommandConsoleError
from commands.models import Credential, Instance, Region, Role, Team, User
from commands.services import instances, teams
from console.management.audited import AuditedCommand


class Command(AuditedCommand):
    """Reads the server's host key, asks for confirmation, and stores it with the credential."""

    help = "Add a server that the console can reach over SSH."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name and address; everything else has a default or is asked for."""
        parser.add_argument("name", help="name that people will see")
        parser.add_argument("host", help="host name or IP address")
        parser.add_argument("--port", type=int, default=22)
        parser.add_argument("--user", default="root", help="user to sign in as (default: root)")
        parser.add_argument(
            "--key", type=Path, help="private key file; without it a password is asked for"
        )
        parser.add_argument("--passphrase", action="store_true", help="ask for the key's one")
        parser.add_argument(
            "--jump", metavar="NAME", help="name or id of the instance to reach it through"
        )
        parser.add_argument(
            "--os",
            choices=list(Instance.Os.values),
            default=Instance.Os.LINUX.value,
            help="its operating system (default: linux); see docs/windows.md for the other",
        )
        parser.add_argument("--team", help="team that owns it (default: the first team)")
        parser.add_argument("--region", help="region it belongs to (default: local)")
        parser.add_argument("--tag", action="append", default=[], help="key or key=value")
        parser.add_argument(
            "--fingerprint", help="expected SHA256:… of the host key, instead of being asked"
        )

    def handle(self, **options: Any) -> None:
        """Add the instance, or say in a sentence why not."""
        team, region = _team(options["team"]), _region(options["region"])
        jump_host = _jump_host(team, region, options["jump"])
        try:
            secret = _key(options)
            host_key = self._confirmed_host_key(options, jump_host)
            with transaction.atomic():
                instance = _add(team, region, host_key, jump_host, secret, options)
        except CommandConsoleError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"Added {instance.name} ({instance.uid}) to {team.name}.")

    def _confirmed_host_key(self, options: dict[str, Any], jump_host: Instance | None) -> str:
        key, seen = instances.read_host_key(
            host=options["host"], port=options["port"], jump_host=jump_host
        )
        if expected := options["fingerprint"]:
            if expected != seen:
                raise CommandError(f"The server shows {seen}, not {expected}. Nothing was added.")
            return key
        self.stdout.write(f"The server shows this host key: {key.split()[0]} {seen}")
        self.stdout.write("On the server, this prints the same: ssh-keygen -lf <public key file>")
        if not sys.stdin.isatty() or input("Is it the same? [y/N] ").strip().lower() != "y":
            raise CommandError("Nothing was added. --fingerprint confirms without being asked.")
        return key


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


def _jump_host(team: Team, region: Region, name: str | None) -> Instance | None:
    if not name:
        return None
    usable = Instance.objects.usable_by(team).filter(region=region)
    found = list(usable.filter(Q(name=name) | Q(uid=name))[:2])
    if not found:
        raise CommandError(f"{team.name} has no instance {name} in this region to jump through.")
    if len(found) > 1:
        raise CommandError(f"Several instances are called {name}. Give the id of one, i-….")
    return found[0]


def _admin(team: Team) -> User:
    """Whoever runs commands on this machine acts as the team's first admin."""
    admin = User.objects.filter(
        memberships__team=team, memberships__role=Role.TEAM_ADMIN, is_active=True
    ).first()
    if admin is None:
        raise CommandError(f"{team.name} has no team admin. Add one on the admin site.")
    return admin


def _add(
    team: Team,
    region: Region,
    host_key: str,
    jump_host: Instance | None,
    secret: tuple[str, str] | None,
    options: dict[str, Any],
) -> Instance:
    return instances.add_instance(
        actor=_admin(team),
        team=team,
        region=region,
        name=options["name"],
        host=options["host"],
        port=options["port"],
        user=options["user"],
        credential=_credential(team, region, secret, options),
        host_key=host_key,
        tags=dict(tag.partition("=")[::2] for tag in options["tag"]),
        jump_host=jump_host,
        os_type=options["os"],
    )


def _key(options: dict[str, Any]) -> tuple[str, str] | None:
    """Private key and passphrase, with which one can sign in; None if a password is meant."""
    path: Path | None = options["key"]
    if path is None:
        return None
    try:
        private_key = path.expanduser().read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandError(f"{path} can't be read: {reason}.") from None
    passphrase = getpass("Passphrase: ") if options["passphrase"] else ""
    instances.check_private_key(private_key, passphrase)
    return private_key, passphrase


def _credential(
    team: Team, region: Region, secret: tuple[str, str] | None, options: dict[str, Any]
) -> Credential:
    """The credential for a key file, shared by all instances added with the same file."""
    if secret is None:
        return instances.add_credential(
            actor=_admin(team),
            team=team,
            region=region,
            name=f"Password of {options['name']}",
            password=getpass(f"Password of {options['user']}@{options['host']}: "),
        )
    name = f"Key {options['key'].name}"
    known = Credential.objects.filter(team=team, region=region, name=name).first()
    if known is not None and (known.secret, known.passphrase) == secret:
        return known
    return instances.add_credential(
        actor=_admin(team),
        team=team,
        region=region,
        name=name if known is None else f"{name} of {options['name']}",
        private_key=secret[0],
        passphrase=secret[1],
    )
