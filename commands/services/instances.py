"""Instances and the credentials to sign in there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import RestrictedError
from django.utils import timezone

from commands import access
from commands.errors import Conflict, ConnectFailed, Denied, Invalid
from commands.execution import dialing, hostkey
from commands.models import (
    Credential,
    HostKeyChange,
    Instance,
    InstanceTag,
    Region,
    ResourceGroup,
    Team,
    User,
)
from commands.models.instance import fingerprint
from commands.rules import addressing
from commands.rules.tags import check_tags
from commands.services import audit, connections, jumps, resource_groups, runs, teams
from commands.words import gettext as _
from commands.words import kept

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

_MOVED = kept("Now at %(address)s.")
_TOLD_BORROWERS = frozenset({"name", "host", "port", "user", "address", "os", "tags", "host_key"})
"""What of a change is told those who borrow an instance; of all else they learn what it was."""


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A private key or a password that is kept once the instance is."""

    name: str
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance is, what it is called, and how the console signs in there."""

    name: str
    host: str
    port: int
    user: str
    credential: Credential | NewCredential
    os_type: str
    jump_host: Instance | None = None


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
    credential: Credential | NewCredential,
    host_key: str,
    tags: Mapping[str, str] | None = None,
    os_type: str = Instance.Os.LINUX,
    jump_host: Instance | None = None,
    group: ResourceGroup | None = None,
) -> Instance:
    """Make a server known to the console.

    ``host_key`` is its public key as ``"type base64"``, read and confirmed by a person; no
    other key will be accepted. ``jump_host`` is the instance through which it is reached, if
    not directly. It goes to the team's default resource group unless ``group`` names another.
    Raises Denied, Invalid; Conflict if a new credential's name is taken.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, team)
    jumps.check(team=team, region=region, jump_host=jump_host)
    access.require(actor, access.Permission.INSTANCE_MANAGE, team)  # it may have waited for rows
    checked_tags = check_tags((tags or {}).items())
    held = resource_groups.hold(team=team, group=group)
    instance = Instance(team=team, region=region, resource_group=held)
    place = Place(name, host, port, user, credential, os_type, jump_host)
    _place(instance, place, _credential(actor, team, region, credential))
    _pin(instance, host_key, by=actor.shown_name, now=timezone.now())
    kept = _keep(instance, checked_tags)
    details = {**_told(kept), "tags": _shown(checked_tags), "host_key": kept.fingerprint}
    _record(actor, "instance:add", kept, details)
    return kept


@transaction.atomic
def update_instance(
    *,
    actor: User,
    instance: Instance,
    place: Place,
    tags: Iterable[tuple[str, str]],
    host_key: str = "",
    now: datetime,
) -> Instance:
    """Change where an instance is, what it is called and tagged, how the console signs in there.

    With another host or port comes ``host_key``, the key that was read there and confirmed by a
    person. Runs that are followed are attached again where it is from now on. Raises Denied,
    Invalid, Conflict.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    credential = _credential(actor, instance.team, instance.region, place.credential)
    if place.jump_host != instance.jump_host:
        check_jump_host(actor=actor, instance=instance, jump_host=place.jump_host)
    row = held(actor, instance)
    before, told = _reach(row), _told(row)
    _place(row, place, credential)
    if (row.host, row.port) != (before[0], before[1]):
        if not host_key:
            raise Invalid(
                _("Host or port changed: read and confirm the host key there."), field="host_key"
            )
        reason = _MOVED % {"address": row.address}
        pin(actor=actor, instance=row, host_key=host_key, reason=reason, now=now)
    if _reach(row) != before:
        connections.forget(row)
    row.save()
    now_told = _told(row)
    changes = {name: [was, now_told[name]] for name, was in told.items() if was != now_told[name]}
    if retagged := _set_tags(row, tags):
        changes["tags"] = list(retagged)
    if changes:
        _record(actor, "instance:edit", row, changes)
    return row


@transaction.atomic
def set_tags(*, actor: User, instance: Instance, tags: Iterable[tuple[str, str]]) -> None:
    """Give an instance these tags instead of those it has. Raises Denied, Invalid."""
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    row = held(actor, instance)
    if retagged := _set_tags(row, tags):
        _record(actor, "instance:tags", row, {"tags": list(retagged)})


@transaction.atomic
def set_enabled(*, actor: User, instance: Instance, enabled: bool) -> Instance:
    """Let tasks start on an instance, or no longer. What runs there goes on. Raises Denied."""
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    row = held(actor, instance)
    if row.enabled != enabled:
        row.enabled = enabled
        connections.forget(row)
        row.save()
        _record(actor, "instance:enable" if enabled else "instance:disable", row, {})
    return row


@transaction.atomic
def set_jump_host(*, actor: User, instance: Instance, jump_host: Instance | None) -> Instance:
    """Reach ``instance`` through ``jump_host`` from now on, or directly (None).

    Runs that are followed are attached again as soon as their connection ends. Raises Denied,
    Invalid, Conflict.
    """
    check_jump_host(actor=actor, instance=instance, jump_host=jump_host)
    row = held(actor, instance)  # whatever else was changed since it was read stays changed
    row.jump_host = jump_host
    connections.forget(row)
    row.save()
    through = jump_host.name if jump_host else ""
    _record(actor, "instance:jump-host", row, {"jump_host": through})
    return row


@transaction.atomic
def check_jump_host(*, actor: User, instance: Instance, jump_host: Instance | None) -> None:
    """Raise what ``set_jump_host`` would, and change nothing."""
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    jumps.check(team=instance.team, region=instance.region, jump_host=jump_host, instance=instance)
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)


@transaction.atomic
def remove_instance(*, actor: User | AnonymousUser, instance: Instance) -> None:
    """Forget a server. Its runs stay, and those that go on can't be followed any longer.

    Raises Denied; Conflict where others are reached through it.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, instance.team)
    held(actor, instance)
    _record(actor, "instance:remove", instance, {"address": instance.address})
    try:
        instance.delete()
    except RestrictedError:
        names = jumps.names_behind(instance)
        raise Conflict(
            _("%(name)s is the jump host of %(names)s. Have them reached in another way first.")
            % {"name": instance.name, "names": names}
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
        raise Invalid(_("Give either a private key or a password."), field="secret")
    if Credential.objects.filter(team=team, region=region, name=name).exists():
        raise Conflict(
            _("There is a credential called %(name)s already. Choose another name.")
            % {"name": name}
        )
    credential = Credential.objects.create(
        team=team,
        region=region,
        name=name,
        kind=Credential.Kind.PRIVATE_KEY if private_key else Credential.Kind.PASSWORD,
        secret=private_key or password,
        passphrase=passphrase,
    )
    details = {"region": region.uid, "kind": credential.kind}
    audit.record(actor=actor, action="credential:add", team=team, target_name=name, details=details)
    return credential


def check_private_key(private_key: str, passphrase: str = "") -> None:
    """Raise Invalid, and say why, where nobody can sign in with a key."""
    try:
        dialing.private_key(private_key, passphrase)
    except ConnectFailed as error:
        raise Invalid(error.message, field="secret") from None


def read_host_key(
    *, host: str, port: int, jump_host: Instance | None = None, kind: str = ""
) -> tuple[str, str]:
    """The key that a server shows now, and its fingerprint, for a person to compare.

    Of several keys it is the one of type ``kind``, if there is such a one. It is asked through
    ``jump_host``, if there is one. Raises ConnectFailed; Conflict if that one's credential can't
    be decrypted. Do not call it inside a transaction: it waits for the network.
    """
    try:
        jump = None if jump_host is None else runs.endpoint(jump_host)
    except ImproperlyConfigured:
        raise Conflict(_(connections.UNDECIPHERABLE)) from None
    connections.let_go_of_database()
    allowed = settings.CONSOLE_ALLOWED_NETWORKS
    key = hostkey.read(host, port, jump, kind=kind, allowed=allowed)
    return key, fingerprint(key)


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
    instance = Instance.objects.filter(**columns).first() or Instance(
        **columns, resource_group=resource_groups.default_of(team)
    )
    _place(instance, Place(name, host, port, user, credential, instance.os_type), credential)
    _pin(instance, host_key, by="", now=timezone.now())
    return _keep(instance, {"demo": ""})


def check_credential(*, team: Team, region: Region, credential: Credential) -> None:
    """Raise Denied for a credential of another team or region."""
    if credential.team_id != team.pk or credential.region_id != region.pk:
        raise Denied(_("That credential belongs to another team or region."))


def held(person: User | AnonymousUser, instance: Instance) -> Instance:
    """As ``locked``, for ``person``, who may have lost the right while this waited for the row.

    Raises Denied, Conflict.
    """
    row = locked(instance)
    access.require(person, access.Permission.INSTANCE_MANAGE, row.team)
    return row


def locked(instance: Instance) -> Instance:
    """The instance as it is now, and stays until the transaction ends. Raises Conflict."""
    rows = Instance.objects.select_for_update(no_key=True)
    row = rows.filter(pk=instance.pk).first()
    if row is None:
        raise Conflict(_("%(name)s was removed in the meantime.") % {"name": instance.name})
    return row


def pin(
    *, actor: User, instance: Instance, host_key: str, reason: str, now: datetime
) -> HostKeyChange | None:
    """Pin a key that a person confirmed, and note it; None if it is the pinned one already.

    The caller has asked for permission, holds the row (``locked``) and saves it. Raises Invalid.
    """
    old = instance.host_key
    _pin(instance, host_key, by=actor.shown_name, now=now)
    if instance.host_key == old:
        return None
    _record(
        actor,
        "instance:host-key",
        instance,
        {"host_key": [fingerprint(old), instance.fingerprint], "reason": reason},
    )
    return HostKeyChange.objects.create(
        team=instance.team,
        instance=instance,
        instance_uid=instance.uid,
        instance_name=instance.name,
        old_key=old,
        new_key=instance.host_key,
        reason=reason,
        by=actor,
        by_name=actor.shown_name,
        at=now,
    )


def _credential(
    actor: User, team: Team, region: Region, given: Credential | NewCredential
) -> Credential:
    """The credential that was given, kept from now on if it is new."""
    if isinstance(given, Credential):
        check_credential(team=team, region=region, credential=given)
        return given
    return add_credential(
        actor=actor,
        team=team,
        region=region,
        name=addressing.check_credential_name(given.name),
        private_key=given.private_key,
        passphrase=given.passphrase,
        password=given.password,
    )


def _place(instance: Instance, place: Place, credential: Credential) -> None:
    """Take in where an instance is. Raises Invalid."""
    instance.name = addressing.check_name(place.name)
    instance.host = addressing.check_host(place.host, settings.CONSOLE_ALLOWED_NETWORKS)
    instance.port = addressing.check_port(place.port)
    instance.user = addressing.check_user(place.user)
    if place.os_type not in Instance.Os.values:
        raise Invalid(_("Choose an operating system."), field="os")
    instance.os_type, instance.credential = place.os_type, credential
    instance.jump_host = place.jump_host


def _reach(instance: Instance) -> tuple[object, ...]:
    """All that decides on whom the console reaches there, and as whom."""
    return (
        instance.host,
        instance.port,
        instance.user,
        instance.credential_id,
        instance.jump_host_id,
        instance.os_type,
    )


def _told(instance: Instance) -> dict[str, Any]:
    """What the audit trail says of an instance: no secret, and no key of a database."""
    return {
        "name": instance.name,
        "host": instance.host,
        "port": instance.port,
        "user": instance.user,
        "credential": Credential.objects.values_list("name", flat=True).get(
            pk=instance.credential_id
        ),
        "jump_host": instance.jump_host.name if instance.jump_host else "",
        "os": instance.os_type,
    }


def _record(
    actor: User | AnonymousUser, action: str, instance: Instance, details: dict[str, Any]
) -> None:
    """Note what was done, for who owns the instance and for who borrows it."""
    audit.record(actor=actor, action=action, team=instance.team, target=instance, details=details)
    told = {name: value for name, value in details.items() if name in _TOLD_BORROWERS}
    if rest := sorted(details.keys() - told.keys()):
        told["also"] = rest
    for grant in instance.grants.accepted().select_related("team"):
        audit.record(
            actor=actor,
            action=action,
            team=grant.team,
            target=instance,
            details={"lent_by": instance.team.name, **told},
        )


def _pin(instance: Instance, host_key: str, *, by: str, now: datetime) -> None:
    key = checked_host_key(host_key)
    if key != instance.host_key:
        instance.host_key_at, instance.host_key_by = now, by
    instance.host_key = key


def _keep(instance: Instance, tags: Mapping[str, str]) -> Instance:
    """Save an instance that is new, or refreshed, and have it checked."""
    connections.forget(instance)
    instance.save()
    _tag(instance, tags)
    return instance


def _set_tags(
    instance: Instance, tags: Iterable[tuple[str, str]]
) -> tuple[list[str], list[str]] | None:
    """Give an instance these tags; which it had and has, None if they are the same."""
    checked = check_tags(tags)
    before, after = sorted(str(tag) for tag in instance.tags.all()), _shown(checked)
    if before == after:
        return None
    instance.tags.all().delete()
    _tag(instance, checked)
    return before, after


def _shown(tags: Mapping[str, str]) -> list[str]:
    return sorted(f"{key}={value}" if value else key for key, value in tags.items())


def _tag(instance: Instance, tags: Mapping[str, str]) -> None:
    InstanceTag.objects.bulk_create(
        (InstanceTag(instance=instance, key=key, value=value) for key, value in tags.items()),
        ignore_conflicts=True,
    )


def checked_host_key(host_key: str) -> str:
    """A public key as it is pinned, ``"type base64"``. Raises Invalid."""
    # Comments are dropped, so that keys compare by what identifies the host.
    parts = host_key.split()[:2]
    if len(parts) < 2 or not fingerprint(" ".join(parts)):
        raise Invalid(
            _("A host key reads like ssh-ed25519 AAAA…; get it with ssh-keyscan."), field="host_key"
        )
    return " ".join(parts)
