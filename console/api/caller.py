"""Who calls: the owner of an access key, in its team, in the region that the call names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import QuerySet

from commands import access
from commands.access import Narrowing, Permission
from commands.models import AccessKey, Instance, Region, ResourceGroup, Team, User
from commands.models.instance import InstanceQuerySet
from commands.services import resource_groups
from console.api.errors import ApiError
from console.api.wire import Parameters

Rows = TypeVar("Rows", bound=QuerySet[Any])


@dataclass(frozen=True, slots=True)
class Caller:
    """In whose name a call is made, and where. It knows no other team than the key's."""

    actor: User
    team: Team
    region: Region
    key_name: str
    now: datetime

    @classmethod
    def of(cls, key: AccessKey, parameters: Parameters, now: datetime) -> Caller:
        """Who calls with ``key``. Raises ApiError for a region that there is not."""
        uid = parameters.need("RegionId")
        region = Region.objects.filter(uid=storable(uid)).first()
        if region is None:
            raise ApiError(
                "InvalidRegionId.NotFound", "The RegionId provided does not exist in our records."
            )
        return cls(key.owner, key.team, region, key.name, now)

    @property
    def only(self) -> Narrowing:
        """What the owner's membership is narrowed to."""
        return access.narrowing(self.actor, self.team)

    def require(self, permission: Permission) -> None:
        """Raise Denied unless the owner may do this in the team."""
        access.require(self.actor, permission, self.team)

    def group(self, parameters: Parameters) -> ResourceGroup | None:
        """The team's resource group that a call names, if it does. Raises Invalid."""
        if "ResourceGroupId" not in parameters:
            return None
        return resource_groups.find(team=self.team, uid=parameters.text("ResourceGroupId"))

    def grouped(self, rows: Rows, parameters: Parameters, column: str = "resource_group") -> Rows:
        """Those of ``rows`` in the group that a call names; all if it names none."""
        group = self.group(parameters)
        return rows if group is None else rows.filter(**{column: group})

    def instances(self) -> InstanceQuerySet:
        """Instances that the caller sees here."""
        usable = self.only.instances(Instance.objects.usable_by(self.team))
        return usable.filter(region=self.region)


def storable(uid: str) -> str:
    """An id to look for; "" for what no database could compare, and no id is."""
    return uid if uid.isascii() and uid.isprintable() else ""
