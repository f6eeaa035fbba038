"""Groups that a team sorts its instances, commands and tasks into."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from commands.models.ids import new_resource_group_uid
from commands.models.team import Team
from commands.rules import limits


class ResourceGroup(models.Model):
    """A part of what a team has, in all regions; a name to list and filter by, and no permission.

    Each team has one that ``is_default``, from its beginning on: what nobody sorts is there.
    """

    uid = models.CharField(
        max_length=32, unique=True, default=new_resource_group_uid, editable=False
    )
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="resource_groups")
    name = models.CharField(max_length=limits.RESOURCE_GROUP_NAME_CHARS)
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("resource group")
        verbose_name_plural = _("resource groups")
        ordering = ["team", "-is_default", "name"]
        constraints = [
            models.CheckConstraint(condition=Q(uid__startswith="rg-"), name="resource_group_uid"),
            models.CheckConstraint(condition=~Q(name=""), name="resource_group_has_name"),
            models.UniqueConstraint(fields=["team", "name"], name="resource_group_name"),
            models.UniqueConstraint(
                fields=["team"], condition=Q(is_default=True), name="resource_group_one_default"
            ),
        ]

    def __str__(self) -> str:
        return self.name
