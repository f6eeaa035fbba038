"""Access keys: programs sign requests with them, in the name of a member of a team."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from commands.models.fields import EncryptedTextField
from commands.models.ids import new_access_key_uid
from commands.models.invitation import Departure
from commands.models.team import Membership, Team, User
from commands.rules import limits

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


class AccessKeyQuerySet(models.QuerySet["AccessKey"]):
    """Access keys, and which of them open anything."""

    def live(self, now: datetime) -> AccessKeyQuerySet:
        """Neither revoked nor expired, of somebody active who is still in the team."""
        return self.unended(now).filter(owner__is_active=True)

    def unended(self, now: datetime) -> AccessKeyQuerySet:
        """As ``live``, also of somebody who is deactivated: nothing has ended these for good."""
        unexpired = Q(expires_at=None) | Q(expires_at__gt=now)
        return self.filter(unexpired, revoked_at=None, membership__isnull=False)

    def ended_before(self, when: datetime) -> AccessKeyQuerySet:
        """Revoked or expired before ``when``, or of somebody who had left the team by then."""
        since = Departure.objects.filter(
            team=OuterRef("team"), user=OuterRef("owner"), at__gte=when
        )
        left = Q(membership=None, created_at__lt=when) & ~Exists(since)
        return self.filter(left | Q(revoked_at__lt=when) | Q(expires_at__lt=when))

    def visible_to(self, user: User | AnonymousUser) -> AccessKeyQuerySet:
        """Their own in teams that they are in, and all of those that they lead; no secrets."""
        teams = Team.objects.of(user)
        led = teams.filter(memberships__user=user.pk, memberships__role="team_admin")
        own = Q(team__in=teams, owner=user.pk)
        return self.filter(own | Q(team__in=led.values("pk"))).defer("secret")


class AccessKey(models.Model):
    """A key of a member: its holder acts as ``owner`` in ``team``, narrowing included.

    The secret is encrypted and not digested: checking an HMAC takes the secret itself. It hangs on
    the membership it was made in, and stays dead if its owner leaves the team and comes back.
    """

    uid = models.CharField(
        _("access key id"), max_length=32, unique=True, default=new_access_key_uid, editable=False
    )
    secret = EncryptedTextField()
    owner = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="access_keys", verbose_name=_("owner")
    )
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="access_keys")
    membership = models.ForeignKey(
        Membership, null=True, on_delete=models.SET_NULL, related_name="access_keys"
    )
    name = models.CharField(max_length=limits.ACCESS_KEY_NAME_CHARS)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    last_used_from = models.CharField(max_length=64, blank=True, default="")
    revoked_at = models.DateTimeField(null=True)
    revoked_by_name = models.CharField(max_length=limits.PERSON_CHARS, blank=True, default="")

    objects = AccessKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("access key")
        verbose_name_plural = _("access keys")
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(secret="") & ~Q(name=""), name="access_key_complete"
            ),
            models.CheckConstraint(condition=Q(uid__startswith="LTAI"), name="access_key_uid"),
        ]

    def __str__(self) -> str:
        return f"{self.uid} {self.name}"

    def end(self, now: datetime) -> str:
        """Why it opens nothing: ``revoked``, ``expired`` or ``left``; "" if it does."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "" if self.membership_id is not None and self.owner.is_active else "left"


class AccessNonce(models.Model):
    """A request that was signed with a key: its nonce, as a digest, is not taken twice.

    Rows are also what calls a minute are counted by. All web processes share them.
    """

    key = models.ForeignKey(AccessKey, on_delete=models.CASCADE, related_name="nonces")
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField()

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["key", "used_at"], name="access_nonce_recent"),
            models.Index(fields=["used_at"], name="access_nonce_old"),
        ]
        constraints = [models.UniqueConstraint(fields=["key", "digest"], name="access_nonce_once")]

    def __str__(self) -> str:
        return f"{self.key_id} {self.used_at}"
