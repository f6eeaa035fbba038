"""Four eyes: which tasks of a team wait for another member, and what that member decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.invocation import Invocation
from commands.models.team import Team, User
from commands.rules import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_stubs_ext import StrOrPromise


class ApprovalState(models.TextChoices):
    """What became of a task that another member has to approve."""

    WAITING = "waiting", _("Waiting for approval")
    APPROVED = "approved", _("Approved")
    DECLINED = "declined", _("Declined")
    WITHDRAWN = "withdrawn", _("Withdrawn")
    STOPPED = "stopped", _("Stopped")
    EXPIRED = "expired", _("Expired")
    OUTDATED = "outdated", _("No longer what was asked for")


def approval_state_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """States; a function, so that migrations hold no copy of them."""
    return ApprovalState.choices


class ApprovalRule(models.Model):
    """Which tasks of a team another member has to approve; any part that fits is enough.

    ``tags`` are instances' (``key=value``, or ``key`` for any value), ``run_as`` names of users
    on instances; ``more_than`` is a number of instances, None for no such part. A task that nobody
    has decided on after ``expires_hours`` never runs.
    """

    team = models.OneToOneField(Team, on_delete=models.CASCADE, related_name="approval_rule")
    tags = models.JSONField(default=list, blank=True)
    run_as = models.JSONField(default=list, blank=True)
    more_than = models.PositiveIntegerField(null=True, blank=True)
    expires_hours = models.PositiveSmallIntegerField(default=limits.APPROVAL_HOURS)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_hours__gte=1, expires_hours__lte=limits.APPROVAL_HOURS_MAX),
                name="approval_rule_hours",
            ),
        ]

    def __str__(self) -> str:
        return f"tags {self.tags}, run as {self.run_as}, more than {self.more_than}"


class ApprovalQuerySet(models.QuerySet["Approval"]):
    """Approvals, and which of them somebody has to decide."""

    def waiting(self) -> ApprovalQuerySet:
        """Those that nobody has decided on."""
        return self.filter(state=ApprovalState.WAITING)


class Approval(models.Model):
    """That a task needs another member's word, and that word.

    ``why`` are sentences about the rule that fits, as they were stored; ``digest`` binds what was
    asked for, and is what is approved; ``parts`` does so for each instance (``services.approved``).
    Of what is outdated ``decided_by`` is who had approved it, if anybody had.
    """

    State = ApprovalState

    invocation = models.OneToOneField(Invocation, on_delete=models.CASCADE, related_name="approval")
    state = models.CharField(
        max_length=10, choices=approval_state_choices, default=ApprovalState.WAITING
    )
    why = models.JSONField(default=list)
    digest = models.CharField(max_length=64)
    parts = models.JSONField(default=list)
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    decided_by_name = models.CharField(max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(null=True)
    comment = models.CharField(max_length=limits.APPROVAL_COMMENT_CHARS, blank=True, default="")

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        indexes = [
            models.Index(
                fields=["expires_at"], condition=Q(state="waiting"), name="approval_waiting"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="waiting", decided_at=None)
                | Q(
                    state__in=[
                        "approved",
                        "declined",
                        "withdrawn",
                        "stopped",
                        "expired",
                        "outdated",
                    ],
                    decided_at__isnull=False,
                ),
                name="approval_state",
            ),
            models.CheckConstraint(
                condition=~Q(state="declined") | ~Q(comment=""), name="approval_says_why_not"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.invocation_id}: {self.state}"

    @property
    def waits(self) -> bool:
        """Whether nobody has decided yet."""
        return self.state == ApprovalState.WAITING
