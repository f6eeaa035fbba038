"""Invitations: somebody who has the link may join a team, once and for some days."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.ids import new_invitation_uid
from commands.models.team import Role, Team, User, role_choices


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Invitations, and which of them still wait."""

    def open(self) -> InvitationQuerySet:
        """Neither accepted nor revoked; their time may be over."""
        return self.filter(accepted_at=None, revoked_at=None)

    def pending(self, now: datetime) -> InvitationQuerySet:
        """Those that somebody can still accept."""
        return self.open().filter(expires_at__gt=now)


class Invitation(models.Model):
    """An offer to join ``team`` as ``role``, sent to ``email``.

    The link has a random token; ``digest`` is its SHA-256, from which nobody gets the token back.
    """

    uid = models.CharField(max_length=32, unique=True, default=new_invitation_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField(_("E-mail address"))
    role = models.CharField(max_length=16, choices=role_choices, default=Role.VIEWER)
    digest = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    invited_by_name = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    accepted_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "email"],
                condition=Q(accepted_at=None, revoked_at=None),
                name="invitation_one_waits",
            ),
            models.CheckConstraint(condition=~Q(email=""), name="invitation_has_email"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="invitation_role"),
            models.CheckConstraint(
                condition=Q(accepted_at=None) | Q(revoked_at=None), name="invitation_settled_once"
            ),
        ]

    def __str__(self) -> str:
        return self.email


class Departure(models.Model):
    """When somebody was last in a team: no invitation from before lets them in again.

    Else who was narrowed could leave and come back with a link that nobody gave to who they were.
    """

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="departures")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="departures")
    at = models.DateTimeField()

    class Meta:
        ordering = ["team", "user"]
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="departure_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user} left {self.team}"
