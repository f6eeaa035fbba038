"""Quotas of a team in a region: limits that differ from the default, and what is used up."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.team import Region, Team
from commands.rules.quotas import DEFINITIONS


def quota_choices() -> list[tuple[str, str]]:
    """Quotas for forms; a function, so that migrations hold no copy of them."""
    return [(key.value, definition.label) for key, definition in DEFINITIONS.items()]


class QuotaOverride(models.Model):
    """A limit of one team in one region that stands instead of the default."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="quota_overrides")
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="quota_overrides")
    key = models.CharField(max_length=40, choices=quota_choices)
    limit = models.PositiveIntegerField()

    class Meta:
        verbose_name = _("quota")
        verbose_name_plural = _("quotas")
        ordering = ["team", "region", "key"]
        constraints = [
            models.UniqueConstraint(fields=["team", "region", "key"], name="quota_override_once"),
            models.CheckConstraint(condition=~Q(key=""), name="quota_override_has_key"),
            models.CheckConstraint(condition=Q(limit__gte=1), name="quota_override_from_1"),
        ]

    def __str__(self) -> str:
        return f"{self.key} of {self.team} in {self.region}: {self.limit:,}"


class QuotaLedger(models.Model):
    """What a team uses in a region: the row that is locked while its use is counted.

    ``tasks`` is the number begun on ``day``, a day of the site's time zone. It is counted and not
    looked up, because tasks are deleted after a while and still count on the day they were made.
    """

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="quota_ledgers")
    region = models.ForeignKey(Region, on_delete=models.CASCADE, related_name="quota_ledgers")
    day = models.DateField(null=True)
    tasks = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["team", "region"]
        constraints = [
            models.UniqueConstraint(fields=["team", "region"], name="quota_ledger_once"),
            models.CheckConstraint(
                condition=Q(day__isnull=False) | Q(tasks=0), name="quota_ledger_has_day"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.team} in {self.region}"
