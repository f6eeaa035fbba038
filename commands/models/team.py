"""Who uses the console: users, teams, and as what a user belongs to a team."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from commands.models.ids import new_team_uid
from commands.rules import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.contrib.auth.models import AnonymousUser
    from django_stubs_ext import StrOrPromise


_SHOWN_CHARS = 150
"""As much of a name as fits into every column that keeps one; Django's are up to 301 long."""


class Theme(models.TextChoices):
    """Colours that somebody chose; without a choice they are those of the system."""

    LIGHT = "light", _("Light")
    DARK = "dark", _("Dark")


class User(AbstractUser):
    """A person (or program) that signs in, and how pages look to them.

    ``language``, ``theme`` and ``time_zone`` are empty where nothing was chosen: then the browser,
    the system and the site decide. ``compact`` asks for lower rows, ``shortcuts`` for keys that
    work alone. Failures up to ``looked_at`` were looked at. A new ``session_generation`` ends all
    sessions that began with an older one.
    """

    language = models.CharField(max_length=16, blank=True, default="")
    theme = models.CharField(max_length=8, blank=True, default="")
    time_zone = models.CharField(max_length=64, blank=True, default="")
    compact = models.BooleanField(default=False)
    shortcuts = models.BooleanField(default=True)
    looked_at = models.DateTimeField(null=True, blank=True)
    session_generation = models.PositiveIntegerField(default=0)

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What a session is bound to, besides the password; Django asks at every request."""
        key_salt = f"commands.models.User.sessions.{self.session_generation}"
        return salted_hmac(key_salt, self.password, secret=secret, algorithm="sha256").hexdigest()

    @property
    def shown_name(self) -> str:
        """Full name where known, else the user name; never longer than columns that keep it."""
        return (self.get_full_name() or self.username)[:_SHOWN_CHARS]


class Role(models.TextChoices):
    """What a member may do in a team; ``commands.access`` says what that is."""

    VIEWER = "viewer", _("Viewer")
    RUNNER = "runner", _("Runner")
    OPERATOR = "operator", _("Operator")
    TEAM_ADMIN = "team_admin", _("Team admin")


def role_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """Roles for forms; a function, so that migrations hold no copy of them."""
    return Role.choices


class TeamQuerySet(models.QuerySet["Team"]):
    """Teams, and which of them somebody belongs to."""

    def of(self, user: User | AnonymousUser) -> TeamQuerySet:
        """Teams that ``user`` is an active member of."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        return self.filter(memberships__user=user)


class Team(models.Model):
    """Owns commands, instances, tasks and quotas; the "account" of the Cloud Assistant API.

    Its tasks are kept for ``keep_days`` after they have ended (``services.retention``).
    """

    uid = models.CharField(max_length=16, unique=True, default=new_team_uid, editable=False)
    name = models.CharField(max_length=100, unique=True)
    members = models.ManyToManyField(User, through="Membership", related_name="teams")
    keep_days = models.PositiveSmallIntegerField(default=limits.KEEP_DAYS)
    second_factor_required = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TeamQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="team_has_name"),
            models.CheckConstraint(condition=Q(uid__regex=r"^[1-9][0-9]{15}$"), name="team_uid"),
            models.CheckConstraint(
                condition=Q(
                    keep_days__gte=limits.KEEP_DAYS_MIN, keep_days__lte=limits.KEEP_DAYS_MAX
                ),
                name="team_keep_days",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """One user in one team, in one role."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=role_choices, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["team", "user"]
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="membership_once"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.team} as {self.get_role_display()}"


class Region(models.Model):
    """A place that instances, commands and tasks belong to, such as a data centre."""

    uid = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=100)

    class Meta:
        ordering = ["uid"]
        constraints = [models.CheckConstraint(condition=~Q(uid=""), name="region_has_uid")]

    def __str__(self) -> str:
        return self.uid
