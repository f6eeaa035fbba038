"""What narrows a membership: its holder may do less than the role says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.team import Membership

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_stubs_ext import StrOrPromise


class RestrictionKind(models.TextChoices):
    """What a restriction is about."""

    INSTANCE_TAG = "instance_tag", _("Only instances with the tag")
    COMMAND = "command", _("Only the saved command")
    RUN_AS = "run_as", _("Only as the user")
    NOT_RUN_AS = "not_run_as", _("Never as the user")


def restriction_choices() -> Sequence[tuple[str, StrOrPromise]]:
    """Kinds for forms; a function, so that migrations hold no copy of them."""
    return RestrictionKind.choices


class Restriction(models.Model):
    """One value of one kind. Several of a kind: any of them will do; of each kind one must.

    ``value`` is a tag (``key=value``, or ``key`` for any value), the id of a saved command, or a
    user's name on the instance. ``commands.access`` applies them.
    """

    Kind = RestrictionKind

    membership = models.ForeignKey(
        Membership, on_delete=models.CASCADE, related_name="restrictions"
    )
    kind = models.CharField(max_length=16, choices=restriction_choices)
    value = models.CharField(max_length=200)

    class Meta:
        ordering = ["membership", "kind", "value"]
        constraints = [
            models.UniqueConstraint(
                fields=["membership", "kind", "value"], name="restriction_once"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["instance_tag", "command", "run_as", "not_run_as"]),
                name="restriction_kind",
            ),
            models.CheckConstraint(condition=~Q(value=""), name="restriction_has_value"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.value}"
