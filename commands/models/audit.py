"""The audit trail: what was done, by whom, from where, on what, and how it ended.

Rows are copies: what they name may be renamed or deleted later. They are added and never changed;
``services.audit`` marks them as its own, numbers them, one after the other, and binds each to the
one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from django.db import models
from django.db.models import F, Func, Q
from django.utils.translation import gettext_lazy as _

from commands.models.team import Team

if TYPE_CHECKING:
    from commands.models.team import User


UNNUMBERED = 2**63 - 1
"""Where an event stands that is not sealed yet: behind all that are."""
PLACE = Func(
    "number",
    # Not ``Coalesce``: SQLite finds the index only if the number stands in the query itself.
    template=f"COALESCE(%(expressions)s, {UNNUMBERED})",
    output_field=models.BigIntegerField(),
)
"""Where an event stands in the trail. Unlike its key a digest covers this."""


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Events, and who may see them."""

    def administered_by(self, user: User) -> AuditEventQuerySet:
        """Events of the teams that ``user`` is an admin of."""
        teams = Team.objects.of(user).filter(memberships__user=user, memberships__role="team_admin")
        return self.filter(team_uid__in=teams.values("uid"))

    def before(self, event: AuditEvent) -> AuditEventQuerySet:
        """Those that come behind ``event`` in the order of the trail, which is newest first."""
        place = UNNUMBERED if event.number is None else event.number
        found = self.alias(place=PLACE).filter(place__lte=place)
        return found.exclude(place=place, pk__gte=event.pk)


class AuditEvent(models.Model):
    """One thing that was done or refused.

    ``mark`` is keyed and covers all columns: only the console itself can have put the event in. It
    goes when the event is sealed, so that the same one can't be sealed again; ``nonce`` makes equal
    events differ. ``number`` counts from 1 once the event is sealed; ``digest`` is keyed and covers
    all columns and ``previous``, the digest of the event before. What was sealed before there were
    marks has no ``nonce``.
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

    nonce = models.CharField(max_length=32, blank=True, default="")
    mark = models.CharField(max_length=64, blank=True, default="")
    number = models.BigIntegerField(null=True, unique=True)
    previous = models.CharField(max_length=64, blank=True, default="")
    digest = models.CharField(max_length=64, blank=True, default="")

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("audit trail")
        ordering = [PLACE.desc(), "-pk"]
        indexes = [
            models.Index(F("team_uid"), PLACE.desc(), F("id").desc(), name="audit_of_a_team"),
            models.Index(PLACE.desc(), F("id").desc(), name="audit_in_order"),
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
            models.UniqueConstraint(
                fields=["nonce"], condition=~Q(nonce=""), name="audit_nonce_once"
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
