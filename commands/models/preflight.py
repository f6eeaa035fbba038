"""A look at instances before a task is created there: what was asked, and what was found."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from commands.models.ids import new_preflight_uid
from commands.models.instance import Instance
from commands.models.team import Region, Team, User
from commands.rules import limits


class Preflight(models.Model):
    """What a person wants to know of some instances, for a while (``expires_at``).

    It holds what of a command decides whether it can start: nothing of its text or its values.
    ``permission`` is what running the command takes, ``launcher`` the program it begins with.
    """

    uid = models.CharField(max_length=32, unique=True, default=new_preflight_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="preflights")
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="preflights")
    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="preflights")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    permission = models.CharField(max_length=32)
    workdir = models.CharField(max_length=limits.WORKDIR_CHARS, blank=True, default="")
    run_as = models.CharField(max_length=limits.RUN_AS_CHARS, blank=True, default="")
    launcher = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.uid


class PreflightCheck(models.Model):
    """One instance of a preflight. ``problems`` are pairs of an error code and a sentence.

    ``interpreter`` and ``program`` are those of the script there; both are empty where nobody
    can say. ``free`` are the bytes that can still be written in ``base``; ``whole`` is False where
    only the connection could be looked at.
    """

    preflight = models.ForeignKey(Preflight, on_delete=models.CASCADE, related_name="checks")
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="+")
    interpreter = models.TextField(blank=True, default="")
    program = models.TextField(blank=True, default="")
    claimed_until = models.DateTimeField(null=True)
    done = models.BooleanField(default=False)
    problems = models.JSONField(default=list)
    base = models.CharField(max_length=255, blank=True, default="")
    free = models.BigIntegerField(null=True)
    whole = models.BooleanField(default=True)

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(fields=["id"], condition=Q(done=False), name="preflight_check_waiting")
        ]
        constraints = [
            models.UniqueConstraint(fields=["preflight", "instance"], name="preflight_check_once")
        ]

    def __str__(self) -> str:
        return f"{self.instance} in {self.preflight}"
