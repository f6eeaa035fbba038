"""Commands and their versions. Every run has a Command row, kept or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q

from commands.models.ids import new_command_uid
from commands.models.team import Region, Team, User
from commands.rules import limits
from commands.rules.content import CommandType

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


class Type(models.TextChoices):
    """Kinds of script, as people read them."""

    SHELL = CommandType.SHELL.value, "Shell"
    BAT = CommandType.BAT.value, "Bat"
    POWERSHELL = CommandType.POWERSHELL.value, "PowerShell"


def type_choices() -> list[tuple[str, str]]:
    """Kinds of script for forms; a function, so that migrations hold no copy of them."""
    return Type.choices


class CommandQuerySet(models.QuerySet["Command"]):
    """Commands, and who may see them."""

    def kept(self) -> CommandQuerySet:
        """Commands in the library: the only ones that are listed and counted."""
        return self.filter(kept=True)

    def visible_to(self, user: User | AnonymousUser) -> CommandQuerySet:
        """Commands of the teams of ``user``."""
        return self.filter(team__in=Team.objects.of(user))


class Command(models.Model):
    """A script with a name. With Save Command off it has ``kept=False`` and is listed nowhere."""

    Type = Type

    uid = models.CharField(max_length=40, unique=True, default=new_command_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="commands")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="commands")
    name = models.CharField(max_length=limits.NAME_CHARS)
    description = models.CharField(max_length=limits.DESCRIPTION_CHARS, blank=True, default="")
    type = models.CharField(max_length=24, choices=type_choices)
    kept = models.BooleanField(default=False)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()

    objects = CommandQuerySet.as_manager()

    class Meta:
        ordering = ["name", "uid"]
        indexes = [models.Index(fields=["team", "region", "kept"], name="command_library")]
        constraints = [
            models.CheckConstraint(condition=Q(uid__startswith="c-"), name="command_uid"),
            models.CheckConstraint(condition=~Q(name=""), name="command_has_name"),
            models.CheckConstraint(
                condition=Q(type__in=[kind.value for kind in CommandType]), name="command_type"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CommandVersion(models.Model):
    """What a command said at one time. Versions are immutable: an edit adds one."""

    command = models.ForeignKey(Command, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    content = models.TextField()
    workdir = models.CharField(max_length=limits.WORKDIR_CHARS, blank=True, default="")
    timeout = models.PositiveIntegerField(default=limits.TIMEOUT_DEFAULT)
    use_params = models.BooleanField(default=False)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["command", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["command", "number"], name="command_version_number"),
            models.CheckConstraint(condition=Q(number__gte=1), name="command_version_from_1"),
            models.CheckConstraint(
                condition=Q(timeout__gte=limits.TIMEOUT_MIN, timeout__lte=limits.TIMEOUT_MAX),
                name="command_version_timeout",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.command} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert. Raises TypeError for a stored version: those never change."""
        if not self._state.adding:
            raise TypeError("A command version is immutable; add a new one.")
        super().save(*args, **kwargs)
