"""Instances and the credentials to sign in there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import RestrictedError

from commands import access
from commands.errors import Conflict, ConnectFailed, Denied, Invalid
from commands.execution import dialing, hostkey
from commands.models import Credential, Grant, Instance, InstanceTag, Region, Team, User
from commands.models.instance import fingerprint
from commands.services import connections, jumps, runs, teams

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

_NAME = re.compile(r"[\w .:@-]{1,128}")


@transaction.atomic
def add_instance(
    *,
    actor: User,
    team: Team,
    region: Region,
    name: str,
    host: str,
    port: int = 22,
    user: str,
    credential: Credential,
    host_key: str,
    tags: dict[str, str] | None = None,
    os_type: str = Instance.Os.LINUX,
    jump_host: Instance | None = None,
) -> Instance:
    """Make a server known to the console.

    ``host_key`` is its public key as ``"type base64"``, read and confirmed by a person; no
    other key will be accepted. ``jump_host`` is the instance through which it is reached, if
    not directly. Raises Denied, Invalid.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, team)
    if credential.team_id != team.pk or credential.region_id != region.pk:
        raise Denied("That credential belongs to another team or region.")
    jumps.check(team=team, region=region, jump_host=jump_host)
    instance = Instance(
        team=team,
        region=region,
        name=name,
        credential=credential,
        os_type=os_type,
        jump_host=jump_host,
    )
    return _keep(instance, host=host, port=port, user=user, host_key=host_key, tags=tags or {})


@transaction.atomic
def set_jump_host(*, actor: User, instance: Instance, jump_host: Instance | None) -> Instance:
    """Reach ``instance`` through ``jump_host`` from now on, or directly (None).

    Runs that are followed are attached again as soon as their connection ends. Raises Denied,
    Invalid.
    """
    check_jump_host(actor=actor, instance=instance, jump_host=jump_host)
    instance.jump_host = jump_host
    connections.forget(instance)
    instance.save()
    return instance


@transaction.atomic
def check_jump_host(*, actor: User, instance: Instance, jump_host: Instance | None) -> None:
    """Raise what ``set_jump_host`` would, and change nothing."""
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    jumps.check(team=instance.team, region=instance.region, jump_host=jump_host, instance=instance)


@transaction.atomic
def remove_instance(*, actor: User | AnonymousUser, instance: Instance) -> None:
    """Forget a server. Its runs stay, and those that go on can't be followed any longer.

    Raises Denied; Conflict where others are reached through it.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    try:
        instance.delete()
    except RestrictedError:
        names = jumps.names_behind(instance)
        raise Conflict(
            f"{instance.name} is the jump host of {names}. Have them reached in another way first."
        ) from None


@transaction.atomic
def add_credential(
    *,
    actor: User,
    team: Team,
    region: Region,
    name: str,
    private_key: str = "",
    passphrase: str = "",
    password: str = "",
) -> Credential:
    """Keep a private key (with its passphrase, if it has one) or a password, encrypted.

    Raises Denied; Invalid unless exactly one of ``private_key`` and ``password`` is given;
    Conflict if the name is taken.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, team)
    if bool(private_key) == bool(password):
        raise Invalid("Give either a private key or a password.", field="secret")
    if Credential.objects.filter(team=team, region=region, name=name).exists():
        raise Conflict(f"There is a credential called {name} already. Choose another name.")
    return Credential.objects.create(
        team=team,
        region=region,
        name=name,
        kind=Credential.Kind.PRIVATE_KEY if private_key else Credential.Kind.PASSWORD,
        secret=private_key or password,
        passphrase=passphrase,
    )


def check_private_key(private_key: str, passphrase: str = "") -> None:
    """Raise Invalid, and say why, where nobody can sign in with a key."""
    try:
        dialing.private_key(private_key, passphrase)
    except ConnectFailed as error:
        raise Invalid(error.message, field="secret") from None


def read_host_key(*, host: str, port: int, jump_host: Instance | None = None) -> tuple[str, str]:
    """The key that a server shows now, and its fingerprint, for a person to compare.

    It is asked through ``jump_host``, if there is one. Raises ConnectFailed; Conflict if that
    one's credential can't be decrypted. Do not call it inside a transaction: it waits for the
    network.
    """
    try:
        jump = None if jump_host is None else runs.endpoint(jump_host)
    except ImproperlyConfigured:
        raise Conflict(connections.UNDECIPHERABLE) from None
    key = hostkey.read(host, port, jump)
    return key, fingerprint(key)


@transaction.atomic
def lend_instance(*, actor: User, instance: Instance, team: Team) -> Grant:
    """Let another team run tasks on an instance of one's own team. Raises Denied, Invalid."""
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    if instance.team_id == team.pk:
        raise Invalid("An instance can't be lent to the team that owns it.", field="team")
    grant, _ = Grant.objects.get_or_create(
        instance=instance, team=team, defaults={"created_by": actor}
    )
    return grant


@transaction.atomic
def ensure_demo_instance(
    *, team: Team, name: str, host: str, port: int, user: str, private_key: str, host_key: str
) -> Instance:
    """Make or refresh a demo instance, found by its name among the team's demo instances."""
    region = teams.default_region()
    credential, _ = Credential.objects.update_or_create(
        team=team,
        region=region,
        name="Demo key",
        defaults={"kind": Credential.Kind.PRIVATE_KEY, "secret": private_key},
    )
    columns = {"team": team, "region": region, "name": name, "credential": credential}
    instance = Instance.objects.filter(**columns).first() or Instance(**columns)
    return _keep(instance, host=host, port=port, user=user, host_key=host_key, tags={"demo": ""})


def _keep(
    instance: Instance, *, host: str, port: int, user: str, host_key: str, tags: dict[str, str]
) -> Instance:
    """Save an instance with where it is from now on, and have it checked. Raises Invalid."""
    instance.name, instance.host = instance.name.strip(), host.strip()
    if not instance.name or not instance.host:
        raise Invalid("An instance needs a name and a host.", field="name")
    if not _NAME.fullmatch(instance.name):
        # Scripts may contain it, so it must not be able to become code there.
        raise Invalid(
            "An instance's name has letters, digits, spaces and . _ - : @ only.", field="name"
        )
    if not 1 <= port <= 65_535:
        raise Invalid("Port must be between 1 and 65,535.", field="port")
    instance.port, instance.user = port, user
    instance.host_key = _checked_host_key(host_key)
    connections.forget(instance)
    instance.save()
    InstanceTag.objects.bulk_create(
        (InstanceTag(instance=instance, key=key, value=value) for key, value in tags.items()),
        ignore_conflicts=True,
    )
    return instance


def _checked_host_key(host_key: str) -> str:
    # Comments are dropped, so that keys compare by what identifies the host.
    parts = host_key.split()[:2]
    if len(parts) < 2 or not fingerprint(" ".join(parts)):
        raise Invalid(
            "A host key reads like ssh-ed25519 AAAA…; get it with ssh-keyscan.", field="host_key"
        )
    return " ".join(parts)
