"""Actions that tell of the account, which here is a team in a region."""

from __future__ import annotations

from typing import Any, Final

from commands.access import Permission
from commands.rules.quotas import DEFINITIONS
from commands.services import quotas
from console.api.caller import Caller
from console.api.errors import ApiError
from console.api.wire import Parameters

NAMES: Final = 8
"""Most attributes that are asked for by name."""
NO_ZONES: Final = {"ZoneId": ("InvalidParameter", "there are no zones here.")}


def describe_attributes(caller: Caller, parameters: Parameters) -> dict[str, Any]:
    """DescribeAccountAttributes: how much the team may use here, of what has such a name."""
    caller.require(Permission.COMMAND_READ)
    parameters.refuse(NO_ZONES)
    wanted = parameters.listed("AttributeName")
    if len(wanted) > NAMES:
        raise ApiError("InvalidParameter", f"There may be up to {NAMES} names of attributes.")
    shown = [
        _item(each.attribute, quotas.limit(team=caller.team, region=caller.region, key=each.key))
        for each in DEFINITIONS.values()
        if each.attribute and (not wanted or each.attribute in wanted)
    ]
    return {"AccountAttributeItems": {"AccountAttributeItem": shown}}


def _item(name: str, value: int) -> dict[str, Any]:
    """An attribute with one value: values are texts."""
    return {"AttributeName": name, "AttributeValues": {"ValueItem": [{"Value": str(value)}]}}
