"""An import of instances in preparation: what a file says, until it is done or forgotten."""

from __future__ import annotations

from django.db import models

from commands.models.ids import new_import_uid
from commands.models.instance import Credential
from commands.models.team import Region, Team, User
from commands.rules import limits


class KeySource(models.TextChoices):
    """Where the host key of a row is from."""

    NONE = "none", "none"
    FILE = "file", "file"
    KNOWN_HOSTS = "known_hosts", "known_hosts"
    READ = "read", "read"


class Import(models.Model):
    """An import in preparation. Nothing of it is an instance yet.

    ``credential`` and ``user`` are for rows that name none. ``notes`` are pairs of a line and a
    sentence, about what became no row.
    """

    uid = models.CharField(max_length=32, unique=True, default=new_import_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="imports")
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="imports")
    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="imports")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    credential = models.ForeignKey(
        Credential, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    user = models.CharField(max_length=limits.INSTANCE_USER_CHARS, blank=True, default="")
    notes = models.JSONField(default=list)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.uid


class ImportRow(models.Model):
    """One server of an import, as its file says; empty is what that does not say.

    ``tags`` is None where the file says nothing of tags. ``problems`` are sentences. ``revoked``
    are host keys that must never be pinned. ``wanted`` is whether the host is asked for its key,
    and ``unanswered`` why that did not work.
    """

    KeySource = KeySource

    origin = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="rows")
    line = models.PositiveIntegerField()
    name = models.CharField(max_length=limits.INSTANCE_NAME_CHARS, blank=True)
    host = models.CharField(max_length=limits.INSTANCE_HOST_CHARS, blank=True)
    port = models.PositiveIntegerField(default=22)
    user = models.CharField(max_length=limits.INSTANCE_USER_CHARS, blank=True, default="")
    credential = models.CharField(max_length=100, blank=True, default="")
    credential_guessed = models.BooleanField(default=False)
    tags = models.JSONField(null=True)
    jump_host = models.CharField(max_length=320, blank=True, default="")
    os_type = models.CharField(max_length=16, blank=True, default="")
    host_key = models.TextField(blank=True, default="")
    key_source = models.CharField(max_length=16, default=KeySource.NONE.value)
    revoked = models.JSONField(default=list)
    problems = models.JSONField(default=list)
    chosen = models.BooleanField(default=True)
    wanted = models.BooleanField(default=False)
    claimed_until = models.DateTimeField(null=True)
    unanswered = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["line", "pk"]
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(wanted=True), name="import_row_key_wanted"
            )
        ]

    def __str__(self) -> str:
        return self.name or self.host
