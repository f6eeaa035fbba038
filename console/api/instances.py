"""Actions that tell of instances."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Count, Max, Q

from commands.access import Permission
from commands.models import Run
from commands.models.instance import InstanceQuerySet
from commands.rules import limits
from console.api import commands, paging, shapes
from console.api.caller import Caller, storable
from console.api.commands import Answer
from console.api.errors import ApiError
from console.api.wire import Parameters

MOST = limits.API_INSTANCES_PAGE_MAX


def describe(caller: Caller, parameters: Parameters) -> Answer:
    """DescribeInstances: what the console knows of them."""
    caller.require(Permission.INSTANCE_READ)
    rows = caller.grouped(caller.instances(), parameters)
    rows = rows.select_related("region", "resource_group").prefetch_related("tags")
    if "InstanceIds" in parameters:
        rows = rows.filter(uid__in=_uids(parameters.text("InstanceIds")))
    if "InstanceName" in parameters:
        rows = commands.like(rows, "name", parameters, "InstanceName")
    for key, value in parameters.pairs("Tag"):
        rows = rows.tagged([f"{key}={value}" if value else key])
    if "Status" in parameters:
        rows = _of_status(rows, parameters.text("Status"))
    found, told = paging.page(parameters, rows, most=MOST)
    shown = [shapes.instance(row, caller.team) for row in found]
    return {"Instances": {"Instance": shown}, **told}


def describe_assistant(caller: Caller, parameters: Parameters) -> Answer:
    """DescribeCloudAssistantStatus: whether commands can run on instances."""
    caller.require(Permission.INSTANCE_READ)
    rows = caller.grouped(caller.instances(), parameters)
    wanted = parameters.listed("InstanceId")
    if len(wanted) > MOST:
        raise ApiError(
            "InstanceIds.ExceedLimit", "The number of instance IDs exceeds the upper limit."
        )
    if wanted:
        rows = rows.filter(uid__in=[storable(uid) for uid in wanted])
        if rows.count() < len(set(wanted)):
            raise ApiError("InvalidInstance.NotFound", "The specified instance does not exist.")
    if "OSType" in parameters:
        rows = rows.filter(os_type=storable(parameters.text("OSType")).lower())
    if wanted:  # all of them, whatever the size of a page
        values = {**parameters.values, "PageNumber": "1", "PageSize": str(MOST)}
        values = {name: values[name] for name in values if name not in {"MaxResults", "NextToken"}}
        parameters = Parameters(values)
    found, told = paging.page(parameters, _counted(caller, rows), most=MOST)
    shown = [shapes.assistant(row) for row in found]
    return {"InstanceCloudAssistantStatusSet": {"InstanceCloudAssistantStatus": shown}, **told}


def _counted(caller: Caller, rows: InstanceQuerySet) -> Any:
    """With the numbers of the team's runs there: an instance may be lent to others, too."""
    own = Q(runs__invocation__team=caller.team)
    unfinished = Q(runs__in=Run.objects.unfinished())
    return rows.annotate(
        ran=Count("runs", filter=own),
        running_now=Count("runs", filter=own & unfinished),
        last_run=Max("runs__invocation__created_at", filter=own),
    )


def _of_status(rows: InstanceQuerySet, status: str) -> InstanceQuerySet:
    running = rows.running().values("pk")
    if status == "Running":
        return rows.filter(pk__in=running)
    return rows.exclude(pk__in=running) if status == "Stopped" else rows.none()


def _uids(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(uid, str) for uid in found):
        raise ApiError("InvalidParameter", 'InstanceIds is a JSON list, such as ["i-…"].')
    if len(found) > MOST:
        raise ApiError(
            "InstanceIds.ExceedLimit", "The number of instance IDs exceeds the upper limit."
        )
    return [storable(uid) for uid in found]
