"""Who is told when tasks end: rules of teams (NoticeRule), and what was told (Notice)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.fields import EncryptedTextField
from commands.models.invocation import Invocation
from commands.models.team import Region, Team

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_stubs_ext import StrOrPromise


class NoticeKind(models.TextChoices):
    """How somebody is told."""

    EMAIL = "email", _("E-mail")
    WEBHOOK = "webhook", _("Webhook")


class NoticeWhen(models.TextChoices):
    """Of which tasks somebody is told."""

    ALWAYS = "always", _("Every task that ends")
    PROBLEMS = "problems", _("Tasks with a problem")


class NoticeState(models.TextChoices):
    """What became of a notice."""

    WAITING = "waiting", _("Waiting")
    SENT = "sent", _("Sent")
    GIVEN_UP = "given_up", _("Given up")


class NoticeAbout(models.TextChoices):
    """What of a task is told."""

    ENDED = "ended", _("It has ended")
    ASKED = "asked", _("Approval asked")
    DECIDED = "decided", _("Approval decided")


def about_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """What is told, for forms; a function, so that migrations hold no copy of it."""
    return NoticeAbout.choices


def kind_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """Kinds for forms; a function, so that migrations hold no copy of them."""
    return NoticeKind.choices


def when_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """The tasks to choose from, likewise."""
    return NoticeWhen.choices


def state_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """States, likewise."""
    return NoticeState.choices


def new_rule_uid() -> str:
    """A new id of a rule, ``nr-…``."""
    return f"nr-{secrets.token_hex(10)}"


def new_notice_uid() -> str:
    """A new id of a notice, ``n-…``: receivers know by it what they have had already."""
    return f"n-{secrets.token_hex(10)}"


class NoticeRule(models.Model):
    """A team wants somebody told when tasks of it end, in one region or (None) in all.

    ``target`` is a webhook's URL, which often holds a token, or addresses separated by commas;
    "" stands for all members. ``secret`` signs what a webhook gets.
    """

    Kind = NoticeKind
    When = NoticeWhen

    uid = models.CharField(max_length=40, unique=True, default=new_rule_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="notice_rules")
    region = models.ForeignKey(
        Region, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    kind = models.CharField(max_length=8, choices=kind_choices)
    target = EncryptedTextField(blank=True, default="")
    secret = EncryptedTextField(blank=True, default="")
    when = models.CharField(max_length=8, choices=when_choices, default=NoticeWhen.ALWAYS)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="email", secret="")
                | Q(kind="webhook") & ~Q(secret="") & ~Q(target=""),
                name="notice_rule_kind",
            ),
            models.CheckConstraint(
                condition=Q(when__in=["always", "problems"]), name="notice_rule_when"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.uid} {self.kind}"


class NoticeQuerySet(models.QuerySet["Notice"]):
    """Notices, and which of them are to be sent."""

    def due(self, now: object) -> NoticeQuerySet:
        """Those to be sent (again) by now."""
        return self.filter(state=NoticeState.WAITING, next_at__lte=now)


class Notice(models.Model):
    """Something to be told to somebody, at least once.

    It is of a rule, or (None) for the person who created the task, or those who may approve it; of
    a task, of which ``about`` says what is told, or (None) a test. ``attempts`` counts those that
    began; ``next_at`` says when the next one may, also for one that began and of which nothing was
    heard.
    """

    State = NoticeState
    About = NoticeAbout

    uid = models.CharField(max_length=40, unique=True, default=new_notice_uid, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="notices")
    rule = models.ForeignKey(
        NoticeRule, null=True, on_delete=models.CASCADE, related_name="notices"
    )
    invocation = models.ForeignKey(
        Invocation, null=True, on_delete=models.CASCADE, related_name="notices"
    )
    # The database's own default: a worker of the version before does not know the column.
    about = models.CharField(
        max_length=8,
        choices=about_choices,
        default=NoticeAbout.ENDED,
        db_default=NoticeAbout.ENDED.value,
    )
    state = models.CharField(max_length=8, choices=state_choices, default=NoticeState.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True, default="")
    made_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-made_at", "-pk"]
        indexes = [
            models.Index(fields=["next_at"], condition=Q(state="waiting"), name="notice_waiting"),
            models.Index(fields=["team", "-made_at"], name="notice_of_team"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["rule", "invocation", "about"], name="notice_once"),
            models.UniqueConstraint(
                fields=["invocation", "about"],
                condition=Q(rule=None),
                name="notice_of_creator_once",
            ),
            models.CheckConstraint(
                condition=Q(rule__isnull=False) | Q(invocation__isnull=False),
                name="notice_of_something",
            ),
            models.CheckConstraint(
                condition=Q(state="waiting", next_at__isnull=False, ended_at=None)
                | Q(state__in=["sent", "given_up"], next_at=None, ended_at__isnull=False),
                name="notice_state",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.uid}: {self.state}"
