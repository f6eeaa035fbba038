"""The audit trail: what was done, by whom, from where, on what, and how it ended.

Rows are copies: what they name may be renamed or deleted later. They are added and never changed;
``services.audit`` numbers them, one after the other, and binds each to the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.team import Team

if TYPE_CHECKING:
    from commands.models.team import User


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Events, and who may see them."""

    def administered_by(self, user: User) -> AuditEventQuerySet:
        """Events of the teams that ``user`` is an admin of."""
        teams = Team.objects.of(user).filter(memberships__user=user, memberships__role="team_admin")
        return self.filter(team_uid__in=teams.values("uid"))


class AuditEvent(models.Model):
    """One thing that was done or refused.

    ``number`` counts from 1 once the event is sealed; ``digest`` is keyed and covers all columns
    and ``previous``, the digest of the event before.
    """

    class Outcome(models.TextChoices):
        """How it ended."""

        DONE = "done", _("done")
        REFUSED = "refused", _("refused")
        FAILED = "failed", _("failed")

    at = models.DateTimeField()
    actor_id = models.BigIntegerField(null=True)
    actor_name = models.CharField(max_length=150, blank=True, default="")
    origin = models.CharField(max_length=64, blank=True, default="")
    action = models.CharField(max_length=64)
    outcome = models.CharField(max_length=8, default="done")
    team_uid = models.CharField(max_length=16, blank=True, default="")
    team_name = models.CharField(max_length=100, blank=True, default="")
    target_uid = models.CharField(max_length=64, blank=True, default="")
    target_name = models.CharField(max_length=150, blank=True, default="")
    details = models.JSONField(default=dict, blank=True)

    number = models.BigIntegerField(null=True, unique=True)
    previous = models.CharField(max_length=64, blank=True, default="")
    digest = models.CharField(max_length=64, blank=True, default="")

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("audit trail")
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["team_uid", "-id"], name="audit_of_team"),
            models.Index(fields=["id"], condition=Q(number=None), name="audit_unsealed"),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(action=""), name="audit_has_action"),
            models.CheckConstraint(
                condition=Q(outcome__in=["done", "refused", "failed"]), name="audit_outcome"
            ),
            models.CheckConstraint(
                condition=Q(number__isnull=True, digest="") | Q(number__gte=1) & ~Q(digest=""),
                name="audit_sealed_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_name or 'nobody'}: {self.outcome}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert. Raises TypeError for a stored event: those never change."""
        if not self._state.adding:
            raise TypeError("An audit event never changes.")
        super().save(*args, **kwargs)

    def delete(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Raises TypeError: events stay."""
        raise TypeError("An audit event is never deleted.")


class AuditHead(models.Model):
    """The end of the chain, in a single row that is locked while events are sealed.

    ``seal`` is keyed and covers the rest, so that the chain can't be cut short without the key.
    """

    number = models.BigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True, default="")
    seal = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(pk=1), name="audit_head_is_one")]

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"
