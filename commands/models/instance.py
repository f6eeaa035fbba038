"""Servers the console can reach over SSH, how it signs in there, and who else may use them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.fields import EncryptedTextField
from commands.models.ids import new_instance_uid
from commands.models.team import Region, Team, User
from commands.rules.content import OsType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.contrib.auth.models import AnonymousUser
    from django_stubs_ext import StrOrPromise


class CredentialKind(models.TextChoices):
    """What a credential's secret is."""

    PRIVATE_KEY = "private_key", _("Private key")
    PASSWORD = "password", _("Password")


class Os(models.TextChoices):
    """Operating systems, as people read them."""

    LINUX = OsType.LINUX.value, "Linux"
    WINDOWS = OsType.WINDOWS.value, "Windows"


def kind_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """Kinds of credential for forms; a function, so that migrations hold no copy of them."""
    return CredentialKind.choices


def os_choices() -> list[tuple[str, str]]:
    """Operating systems for forms; a function, so that migrations hold no copy of them."""
    return Os.choices


class Credential(models.Model):
    """A private key or a password to sign in with. The secret is encrypted at rest."""

    Kind = CredentialKind

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="credentials")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="credentials")
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=16, choices=kind_choices)
    secret = EncryptedTextField()
    passphrase = EncryptedTextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["team", "region", "name"], name="credential_name"),
            models.CheckConstraint(
                condition=Q(kind__in=["private_key", "password"]), name="credential_kind"
            ),
            models.CheckConstraint(condition=~Q(secret=""), name="credential_has_secret"),
            models.CheckConstraint(
                condition=Q(kind="private_key") | Q(passphrase=""),
                name="credential_passphrase_of_key",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class InstanceQuerySet(models.QuerySet["Instance"]):
    """Instances, and who may see and use them."""

    def usable_by(self, team: Team) -> InstanceQuerySet:
        """Instances that ``team`` owns or was lent."""
        lent = Grant.objects.filter(team=team).values("instance")
        return self.filter(Q(team=team) | Q(pk__in=lent))

    def visible_to(self, user: User | AnonymousUser) -> InstanceQuerySet:
        """Instances of the teams of ``user``, and those lent to them."""
        teams = Team.objects.of(user)
        lent = Grant.objects.filter(team__in=teams).values("instance")
        return self.filter(Q(team__in=teams) | Q(pk__in=lent))


class Instance(models.Model):
    """A server that the console can reach over SSH."""

    Os = Os

    uid = models.CharField(max_length=32, unique=True, default=new_instance_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="instances")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="instances")
    name = models.CharField(max_length=128)
    os_type = models.CharField(max_length=16, choices=os_choices, default=Os.LINUX)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField(default=22)
    user = models.CharField(max_length=64)
    credential = models.ForeignKey(Credential, on_delete=models.PROTECT, related_name="instances")
    host_key = models.TextField(help_text=_("Pinned public key, such as ssh-ed25519 AAAA…"))
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = InstanceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "uid"]
        indexes = [models.Index(fields=["team", "region", "name"], name="instance_listing")]
        constraints = [
            models.CheckConstraint(condition=Q(uid__startswith="i-"), name="instance_uid"),
            models.CheckConstraint(
                condition=~Q(name="") & ~Q(host="") & ~Q(user="") & ~Q(host_key=""),
                name="instance_complete",
            ),
            models.CheckConstraint(
                condition=Q(port__gte=1) & Q(port__lte=65535), name="instance_port"
            ),
            models.CheckConstraint(
                condition=Q(os_type__in=["linux", "windows"]), name="instance_os_type"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> str:
        """Host and port, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def fingerprint(self) -> str:
        """The pinned host key's fingerprint as OpenSSH prints it, ``SHA256:…``."""
        return fingerprint(self.host_key)


def fingerprint(public_key: str) -> str:
    """OpenSSH's SHA-256 fingerprint of ``"type base64 [comment]"``; "" if it is none."""
    parts = public_key.split()
    try:
        digest = hashlib.sha256(base64.b64decode(parts[1], validate=True)).digest()
    except (IndexError, binascii.Error):
        return ""
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class InstanceTag(models.Model):
    """A label on an instance, to find and grant by."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="tags")
    key = models.CharField(max_length=64)
    value = models.CharField(max_length=128, blank=True, default="")

    class Meta:
        ordering = ["key"]
        constraints = [
            models.UniqueConstraint(fields=["instance", "key"], name="instance_tag_once"),
            models.CheckConstraint(condition=~Q(key=""), name="instance_tag_key"),
        ]

    def __str__(self) -> str:
        return f"{self.key}={self.value}" if self.value else self.key


class Grant(models.Model):
    """Lends an instance to a team that does not own it."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="grants")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="grants")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["instance", "team"]
        constraints = [models.UniqueConstraint(fields=["instance", "team"], name="grant_once")]

    def __str__(self) -> str:
        return f"{self.instance} lent to {self.team}"
