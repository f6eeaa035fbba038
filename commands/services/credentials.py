"""Credentials that the console makes itself, and what of a credential may be shown."""

from __future__ import annotations

import re

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from commands import access
from commands.errors import ConnectFailed, Invalid
from commands.execution import keys
from commands.models import Credential, Region, Team, User
from commands.services import audit, connections, instances
from commands.words import gettext as _


def generate_credential(*, actor: User, team: Team, region: Region, name: str) -> Credential:
    """Make an Ed25519 key pair and keep its private half, which nobody ever sees.

    Raises Denied; Conflict if the name is taken.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, team)
    return instances.add_credential(
        actor=actor, team=team, region=region, name=name, private_key=keys.generate()
    )


@transaction.atomic
def replace_secret(
    *,
    actor: User,
    credential: Credential,
    private_key: str = "",
    passphrase: str = "",
    password: str = "",
) -> Credential:
    """Keep another private key, or password, in the place of the one that is there.

    Its instances are checked anew. Raises Denied; Invalid unless exactly one of ``private_key``
    and ``password`` is given, and one can sign in with it.
    """
    access.require(actor, access.Permission.INSTANCE_MANAGE, credential.team)
    if bool(private_key) == bool(password):
        raise Invalid(_("Give either a private key or a password."), field="secret")
    if private_key:
        instances.check_private_key(private_key, passphrase)
    kind = Credential.Kind.PRIVATE_KEY if private_key else Credential.Kind.PASSWORD
    credential.kind = kind
    credential.secret = private_key or password
    credential.passphrase = passphrase if private_key else ""
    credential.save(update_fields=["kind", "secret", "passphrase"])
    for instance in credential.instances.order_by("pk"):
        row = instances.held(actor, instance)
        connections.forget(row)
        row.save()
    audit.record(
        actor=actor,
        action="credential:replace",
        team=credential.team,
        target_name=credential.name,
        details={"region": credential.region.uid, "kind": kind.value},
    )
    return credential


def public_line(credential: Credential) -> str:
    """The line for ``authorized_keys`` on instances; "" for a password or an unreadable key."""
    if credential.kind != Credential.Kind.PRIVATE_KEY:
        return ""
    try:
        public = keys.public_half(credential.secret, credential.passphrase)
    except ConnectFailed:
        return ""
    comment = re.sub(r"[^\w.@]+", "-", credential.name, flags=re.ASCII).strip("-")
    return f"{public} command-console-{comment}".removesuffix("-")


def readable(credential_id: int) -> Credential | None:
    """The credential, if the console has the key that it was encrypted with."""
    try:
        return Credential.objects.filter(pk=credential_id).first()
    except ImproperlyConfigured:
        return None
