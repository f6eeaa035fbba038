"""What somebody proves besides the password: codes of an authenticator app, or recovery codes."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from commands.models.fields import EncryptedTextField
from commands.models.team import User


class SecondFactor(models.Model):
    """An authenticator app of one person, in force from ``confirmed_at`` on.

    ``last_step`` is the time step of the newest code that was accepted: none is accepted twice.
    After some ``failures``, from wherever, no code is right for a while.
    """

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="second_factor")
    secret = EncryptedTextField()
    confirmed_at = models.DateTimeField(null=True)
    last_step = models.BigIntegerField(default=0)
    failures = models.PositiveSmallIntegerField(default=0)
    failed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(secret=""), name="second_factor_has_secret")
        ]

    def __str__(self) -> str:
        return f"Authenticator app of {self.user}"


class RecoveryCode(models.Model):
    """A code that works once, for somebody whose app is lost. Only its digest is kept."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["user", "digest"], name="recovery_code_once")
        ]

    def __str__(self) -> str:
        return f"Recovery code of {self.user}"
