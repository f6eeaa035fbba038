"""Servers the console can reach over SSH, how it signs in there, and who else may use them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from commands.models.fields import EncryptedTextField
from commands.models.ids import new_instance_uid
from commands.models.resource_group import ResourceGroup
from commands.models.team import Region, Team, User
from commands.rules import limits
from commands.rules.connection import USABLE, Connection
from commands.rules.content import OsType

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from django.contrib.auth.models import AnonymousUser
    from django_stubs_ext import StrOrPromise


_TAG = "tag:"
_WORD = re.compile(r'(?:"[^"]*"|[^\s"])+')


class CredentialKind(models.TextChoices):
    """What a credential's secret is."""

    PRIVATE_KEY = "private_key", _("Private key")
    PASSWORD = "password", _("Password")


class Os(models.TextChoices):
    """Operating systems, as people read them."""

    LINUX = OsType.LINUX.value, "Linux"
    WINDOWS = OsType.WINDOWS.value, "Windows"


class ConnectionState(models.TextChoices):
    """What the last light check found, as people read it."""

    UNKNOWN = Connection.UNKNOWN.value, _("Not checked yet")
    REACHABLE = Connection.REACHABLE.value, _("Reachable")
    UNREACHABLE = Connection.UNREACHABLE.value, _("Unreachable")
    HOST_KEY_CHANGED = Connection.HOST_KEY_CHANGED.value, _("Host key changed")
    SIGN_IN_REFUSED = Connection.SIGN_IN_REFUSED.value, _("Sign-in refused")


def connection_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """Connections for forms; a function, so that migrations hold no copy of them."""
    return ConnectionState.choices


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


def storable(text: str) -> str:
    """``text`` without what a database can't compare: NUL, and halves of surrogate pairs."""
    return text.replace("\0", " ").encode(errors="ignore").decode()


def _words(text: str) -> list[str]:
    words = (word.replace('"', "") for word in _WORD.findall(storable(text)))
    return [word for word in words if word][: limits.SEARCH_WORDS]


def _tagged(text: str) -> models.QuerySet[InstanceTag, Any]:
    """Keys of instances with the tag that somebody looks for."""
    key, equals, value = text.partition("=")
    fits = (
        Q(key__iexact=key, value__iexact=value)
        if equals
        else Q(key__iexact=key) | Q(value__iexact=key)
    )
    return InstanceTag.objects.filter(fits).values("instance")


class InstanceQuerySet(models.QuerySet["Instance"]):
    """Instances, and who may see and use them."""

    def usable_by(self, team: Team) -> InstanceQuerySet:
        """Instances that ``team`` owns, or was lent and has accepted."""
        lent = Grant.objects.accepted().filter(team=team).values("instance")
        return self.filter(Q(team=team) | Q(pk__in=lent))

    def visible_to(self, user: User | AnonymousUser) -> InstanceQuerySet:
        """Instances of the teams of ``user``, and those lent to them."""
        teams = Team.objects.of(user)
        lent = Grant.objects.accepted().filter(team__in=teams).values("instance")
        return self.filter(Q(team__in=teams) | Q(pk__in=lent))

    def tagged(self, tags: Collection[str]) -> InstanceQuerySet:
        """Those with one of ``tags``: ``key=value``, or ``key`` for any value."""
        wanted = Q()
        for tag in tags:
            key, equals, value = storable(tag).partition("=")
            wanted |= Q(key=key, value=value) if equals else Q(key=key)
        # Without tags nothing is wanted, and nothing fits.
        found = InstanceTag.objects.filter(wanted) if tags else InstanceTag.objects.none()
        return self.filter(pk__in=found.values("instance"))

    def running(self) -> InstanceQuerySet:
        """Instances that are enabled and not known to be out of reach."""
        return self.filter(enabled=True, connection__in=sorted(USABLE))

    def search(self, text: str) -> InstanceQuerySet:
        """Those that every word of ``text`` fits, in any case.

        A word is part of a name, an id or a host. ``tag:web`` is a whole key or value of a tag,
        ``tag:role=web`` both. What has spaces goes in double quotes: ``tag:"team=web shop"``.
        """
        found = self
        for word in _words(text):
            if word.lower().startswith(_TAG):
                found = found.filter(pk__in=_tagged(word[len(_TAG) :]))
            else:
                found = found.filter(
                    Q(name__icontains=word) | Q(uid__icontains=word) | Q(host__icontains=word)
                )
        return found

    def facet(
        self,
        *,
        os_type: str = "",
        connection: str = "",
        tags: Collection[str] = (),
        group: ResourceGroup | None = None,
    ) -> InstanceQuerySet:
        """Those of an operating system, in a state of connection, with tags, in a resource group.

        Each is left out if it is empty. ``tags`` are ``key=value`` or ``key``: of one key any
        value will do, of each key there must be one.
        """
        found = self.filter(os_type=os_type) if os_type else self
        found = found.filter(connection=connection) if connection else found
        found = found.filter(resource_group=group) if group else found
        values: dict[str, list[str]] = {}
        for tag in tags:
            key, _equals, value = storable(tag).partition("=")
            values.setdefault(key, []).append(value)
        for key, any_of in values.items():
            found = found.filter(
                pk__in=InstanceTag.objects.filter(key=key, value__in=any_of).values("instance")
            )
        return found


class Instance(models.Model):
    """A server that the console can reach over SSH.

    ``connection`` is what the last light check found, at ``checked_at``; it has been so since
    ``connection_since``, and ``connection_info`` says why. ``system`` is the operating system
    as the instance calls it. ``jump_host`` is what the console connects through, if not directly;
    that one is always reached directly (``services.jumps``). The host key was pinned by
    ``host_key_by`` ("" for the console itself) at ``host_key_at``, None if nobody noted it.
    """

    Os = Os
    Connection = ConnectionState

    uid = models.CharField(max_length=32, unique=True, default=new_instance_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="instances")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="instances")
    resource_group = models.ForeignKey(
        ResourceGroup, on_delete=models.PROTECT, related_name="instances"
    )
    name = models.CharField(max_length=128)
    os_type = models.CharField(max_length=16, choices=os_choices, default=Os.LINUX)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField(default=22)
    user = models.CharField(max_length=64)
    credential = models.ForeignKey(Credential, on_delete=models.PROTECT, related_name="instances")
    jump_host = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.RESTRICT, related_name="behind"
    )
    host_key = models.TextField(help_text=_("Pinned public key, such as ssh-ed25519 AAAA…"))
    host_key_at = models.DateTimeField(null=True)
    host_key_by = models.CharField(max_length=limits.PERSON_CHARS, blank=True, default="")
    enabled = models.BooleanField(default=True)
    connection = models.CharField(
        max_length=24, choices=connection_choices, default=ConnectionState.UNKNOWN
    )
    connection_since = models.DateTimeField(null=True)
    connection_info = models.TextField(blank=True, default="")
    checked_at = models.DateTimeField(null=True)
    system = models.CharField(max_length=limits.SYSTEM_CHARS, blank=True, default="")
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
            models.CheckConstraint(
                condition=~Q(jump_host=F("pk")), name="instance_jump_host_is_another"
            ),
            models.CheckConstraint(
                condition=Q(connection__in=[state.value for state in Connection]),
                name="instance_connection",
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


class HostKeyChange(models.Model):
    """Another host key was pinned for an instance: which, why, by whom. Rows are only added.

    It outlives its instance, whose name and id it keeps, and everybody else.
    """

    team = models.ForeignKey(
        Team, null=True, on_delete=models.SET_NULL, related_name="host_key_changes"
    )
    instance = models.ForeignKey(
        Instance, null=True, on_delete=models.SET_NULL, related_name="host_key_changes"
    )
    instance_uid = models.CharField(max_length=32)
    instance_name = models.CharField(max_length=128)
    old_key = models.TextField()
    new_key = models.TextField()
    reason = models.CharField(max_length=limits.REASON_CHARS)
    by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    by_name = models.CharField(max_length=limits.PERSON_CHARS)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(reason="") & ~Q(old_key="") & ~Q(new_key=""),
                name="host_key_change_complete",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instance_name}: {fingerprint(self.new_key)}"

    @property
    def old_fingerprint(self) -> str:
        """The old key's fingerprint as OpenSSH prints it."""
        return fingerprint(self.old_key)

    @property
    def new_fingerprint(self) -> str:
        """The new key's fingerprint as OpenSSH prints it."""
        return fingerprint(self.new_key)


class GrantQuerySet(models.QuerySet["Grant"]):
    """Loans: those in force, and those that are only offered."""

    def accepted(self) -> GrantQuerySet:
        """Those that an admin of the borrowing team accepted: no others count anywhere."""
        return self.exclude(accepted_at=None)

    def offered(self) -> GrantQuerySet:
        """Those that wait for that."""
        return self.filter(accepted_at=None)


class Grant(models.Model):
    """Lends an instance to a team that does not own it, once that team has accepted it.

    ``accepted_tags`` are pairs of key and value, as they were then: they go on to count for the
    borrower's rule on approvals, whatever the owner makes of the tags later.
    """

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="grants")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="grants")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    accepted_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    accepted_at = models.DateTimeField(null=True)
    accepted_tags = models.JSONField(default=list, blank=True)

    objects = GrantQuerySet.as_manager()

    class Meta:
        ordering = ["instance", "team"]
        constraints = [models.UniqueConstraint(fields=["instance", "team"], name="grant_once")]

    def __str__(self) -> str:
        return f"{self.instance} lent to {self.team}"


class RefusedLender(models.Model):
    """A team whose offers of instances another one does not want."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="refused_lenders")
    lender = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()

    class Meta:
        ordering = ["team", "lender"]
        constraints = [
            models.UniqueConstraint(fields=["team", "lender"], name="refused_lender_once"),
        ]

    def __str__(self) -> str:
        return f"{self.team} takes nothing from {self.lender}"
