"""Requests for a higher limit, and what a team used day by day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.quota import quota_choices
from commands.models.team import Region, Team, User
from commands.rules.quotas import DEFINITIONS, Quota
from commands.words import gettext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_stubs_ext import StrOrPromise


class RequestState(models.TextChoices):
    """What became of a request."""

    PENDING = "pending", _("Waiting")
    APPROVED = "approved", _("Approved")
    DECLINED = "declined", _("Declined")
    WITHDRAWN = "withdrawn", _("Withdrawn")


def request_state_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """States for forms; a function, so that migrations hold no copy of them."""
    return RequestState.choices


class QuotaRequest(models.Model):
    """A team asks for a higher limit; the console's administrators decide.

    ``granted`` is the limit that was given, which may differ from ``wanted``. ``told_at`` is when
    who asked was shown the decision.
    """

    State = RequestState

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="quota_requests")
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="quota_requests")
    key = models.CharField(max_length=40, choices=quota_choices)
    wanted = models.PositiveIntegerField()
    reason = models.TextField()
    state = models.CharField(
        max_length=16, choices=request_state_choices, default=RequestState.PENDING
    )
    asked_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    asked_by_name = models.CharField(max_length=150)
    asked_at = models.DateTimeField()
    granted = models.PositiveIntegerField(null=True, blank=True)
    comment = models.TextField(blank=True, default="")
    decided_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    decided_by_name = models.CharField(max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-asked_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "region", "key"],
                condition=Q(state="pending"),
                name="quota_request_one_waits",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "approved", "declined", "withdrawn"]),
                name="quota_request_state",
            ),
            models.CheckConstraint(
                condition=Q(state="pending", decided_at=None)
                | ~Q(state="pending") & Q(decided_at__isnull=False),
                name="quota_request_decided_when_settled",
            ),
            models.CheckConstraint(
                condition=~Q(state="approved") | Q(granted__gte=1),
                name="quota_request_approved_grants",
            ),
            models.CheckConstraint(
                condition=~Q(state="declined") | ~Q(comment=""),
                name="quota_request_declined_says_why",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.team} in {self.region}: {self.key} to {self.wanted:,}"

    @property
    def verdict(self) -> str:
        """What was decided, in a sentence for who asked."""
        if self.state == RequestState.DECLINED:
            return gettext("Declined: %(comment)s") % {"comment": self.comment}
        label = gettext(DEFINITIONS[Quota(self.key)].label)
        return gettext("Approved: %(quota)s is now %(limit)s") % {
            "quota": label.lower(),
            "limit": f"{self.granted or 0:,}",
        }


class QuotaDay(models.Model):
    """The most that a team used of a quota on one day of the site's time zone."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="quota_days")
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="quota_days")
    key = models.CharField(max_length=40, choices=quota_choices)
    day = models.DateField()
    used = models.PositiveIntegerField()

    class Meta:
        ordering = ["day"]
        constraints = [
            models.UniqueConstraint(fields=["team", "region", "key", "day"], name="quota_day_once")
        ]

    def __str__(self) -> str:
        return f"{self.key} of {self.team} on {self.day}: {self.used:,}"
