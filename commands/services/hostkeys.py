"""Host keys that people look at, compare, and accept in the place of others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from commands import access
from commands.access import Permission
from commands.errors import Conflict
from commands.models import HostKeyChange, Instance, Region, Team, User
from commands.models.instance import fingerprint
from commands.rules import addressing
from commands.services import connections, instances, jumps, trying
from commands.words import gettext as _


@dataclass(frozen=True, slots=True)
class ShownKey:
    """The public key that a server showed, ``"type base64"``."""

    key: str

    @property
    def kind(self) -> str:
        """Its type, such as ``ssh-ed25519``."""
        return self.key.split()[0]

    @property
    def fingerprint(self) -> str:
        """Its fingerprint as OpenSSH prints it."""
        return fingerprint(self.key)

    @property
    def compare_with(self) -> str:
        """What prints the same fingerprint on the server itself."""
        name = {"ssh-rsa": "rsa", "ssh-ed25519": "ed25519"}.get(self.kind, "ecdsa")
        return f"ssh-keygen -lf /etc/ssh/ssh_host_{name}_key.pub"


def ask_host_key(
    *,
    actor: User,
    team: Team,
    region: Region,
    host: str,
    port: int,
    jump_host: Instance | None = None,
) -> ShownKey:
    """The key that a server shows, before it is known. Raises Denied, ConnectFailed, Conflict.

    Not within a transaction: it waits for the network.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, team)
    with transaction.atomic():
        jumps.check(team=team, region=region, jump_host=jump_host)
    with trying.turn():
        key, _way = instances.read_host_key(host=host, port=port, jump_host=jump_host)
    return ShownKey(key)


def shown_now(*, actor: User, instance: Instance) -> ShownKey:
    """The key that an instance shows now, of the pinned one's type if it has one.

    Raises Denied, ConnectFailed, Conflict. Not within a transaction.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, instance.team)
    with trying.turn():
        key, _way = instances.read_host_key(
            host=instance.host,
            port=instance.port,
            jump_host=instance.jump_host,
            kind=instance.host_key.split()[0],
        )
    return ShownKey(key)


def accept_host_key(
    *, actor: User, instance: Instance, host_key: str, reason: str, now: datetime
) -> HostKeyChange | None:
    """Pin ``host_key``, which a person has compared, instead of the one that is pinned.

    It is read once more: where the instance shows another one by now, or was changed meanwhile,
    nothing is pinned. None if it is the pinned one already. Raises Denied, Invalid, Conflict,
    ConnectFailed. Not within a transaction.
    """
    why = addressing.check_reason(reason)
    compared = instances.checked_host_key(host_key)
    if shown_now(actor=actor, instance=instance).key != compared:
        raise Conflict(_("The server shows yet another key now. Compare again before you accept."))
    with transaction.atomic():
        row = instances.held(actor, instance)
        if _asked(row) != _asked(instance):
            raise Conflict(_("The instance was changed in the meantime. Compare again."))
        change = instances.pin(actor=actor, instance=row, host_key=compared, reason=why, now=now)
        connections.forget(row)
        row.save()
    return change


def _asked(instance: Instance) -> tuple[object, ...]:
    return instance.host, instance.port, instance.jump_host_id, instance.host_key
