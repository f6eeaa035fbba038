"""Actions on tasks: creating, stopping, and telling how they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from commands.access import Permission
from commands.models import Invocation, Run
from commands.models.invocation import InvocationQuerySet
from commands.rules import limits, status
from commands.rules.schema import looks_secret
from commands.rules.status import LegacyStatus, RunStatus, TaskStatus
from commands.services import invocations
from commands.services.plans import SavedInput, Values
from console.api import commands, output, paging, shapes, wire
from console.api.caller import Caller, storable
from console.api.commands import NO_TAGS, NOT_HERE, Answer
from console.api.errors import ApiError
from console.api.shapes import BASE64, PLAIN
from console.api.wire import Parameters

NOT_FOUND = "The specified invoke ID does not exist."
BY_TAGS = {"ResourceTag": ("InvalidParameter", "name instances by InstanceId.N.")}
FREQUENCY = "There are no schedules here: call it when it is to run."
OF_THE_COMMAND = "a saved command says this itself; change the command."
"""Why InvokeCommand does not take it."""
AS_SAVED = dict.fromkeys(
    ("Username", "Launcher", "TerminationMode", "Tag"), ("InvalidParameter", OF_THE_COMMAND)
)


def run(caller: Caller, parameters: Parameters) -> Answer:
    """RunCommand: run a new command, and keep it if that is asked for."""
    _refuse_schedules(parameters)
    parameters.refuse(BY_TAGS)
    command = commands.definition(parameters, usual=PLAIN, name=caller.key_name)
    task = invocations.run_command(
        actor=caller.actor,
        team=caller.team,
        region=caller.region,
        command=command,
        values=_values(parameters, enabled=command.use_params),
        save=parameters.flag("KeepCommand"),
        instance_uids=_instances(parameters),
        group=caller.group(parameters),
        client_token=parameters.text("ClientToken"),
        now=caller.now,
    )
    return {"CommandId": task.command_uid, "InvokeId": task.uid}


def invoke(caller: Caller, parameters: Parameters) -> Answer:
    """InvokeCommand: run a saved command."""
    _refuse_schedules(parameters)
    parameters.refuse(BY_TAGS | NOT_HERE | AS_SAVED)
    version = commands.find(caller, parameters.need("CommandId"))
    task = invocations.invoke_command(
        actor=caller.actor,
        team=caller.team,
        region=caller.region,
        command=SavedInput(
            uid=parameters.text("CommandId"),
            workdir=parameters.text("WorkingDir") if "WorkingDir" in parameters else None,
            timeout=parameters.text("Timeout") if "Timeout" in parameters else None,
        ),
        values=_values(parameters, enabled=version.use_params),
        instance_uids=_instances(parameters),
        group=caller.group(parameters),
        client_token=parameters.text("ClientToken"),
        now=caller.now,
    )
    return {"InvokeId": task.uid}


def stop(caller: Caller, parameters: Parameters) -> Answer:
    """StopInvocation: on all instances, or on some."""
    caller.require(Permission.INVOCATION_READ)
    uid = parameters.need("InvokeId")
    found = Invocation.objects.filter(team=caller.team, region=caller.region).defer("values")
    task = found.filter(uid=storable(uid)).first()
    if task is None:
        raise ApiError("InvalidInvokeId.NotFound", NOT_FOUND)
    some = parameters.listed("InstanceId")
    if len(some) > max(limits.INSTANCES_PER_TASK, task.runs.count()):
        raise ApiError(
            "InstanceIds.ExceedLimit", "The number of instance IDs exceeds the upper limit."
        )
    invocations.stop_invocation(
        actor=caller.actor, invocation=task, instance_uids=some or None, now=caller.now
    )
    return {}


def describe(caller: Caller, parameters: Parameters) -> Answer:
    """DescribeInvocations: tasks, newest first, each with its instances."""
    caller.require(Permission.INVOCATION_READ)
    parameters.refuse(NO_TAGS)
    encoding = wire.encoding(parameters, BASE64, known=(BASE64, PLAIN))
    with_output = parameters.flag("IncludeOutput")
    if with_output and "InvokeId" not in parameters and "InstanceId" not in parameters:
        raise ApiError("InvalidParameter", "IncludeOutput takes an InvokeId or an InstanceId.")
    rows = _wanted(caller, parameters).select_related("version").prefetch_related("runs")
    found, told = paging.page(parameters, rows)
    runs = {task.pk: list(task.runs.all()) for task in found}
    printed = output.of(_asked(parameters, runs)) if with_output else {}
    shown = [shapes.invocation(task, runs[task.pk], encoding, printed) for task in found]
    return {"Invocations": {"Invocation": shown}, **told}


def describe_results(caller: Caller, parameters: Parameters) -> Answer:
    """DescribeInvocationResults: how it went on each instance, with output."""
    caller.require(Permission.INVOCATION_READ)
    parameters.refuse(NO_TAGS)
    if parameters.flag("IncludeHistory"):
        raise ApiError("InvalidParameter", "IncludeHistory is for schedules, of which are none.")
    encoding = wire.encoding(parameters, BASE64, known=(BASE64, PLAIN))
    rows = Run.objects.filter(invocation__team=caller.team, invocation__region=caller.region)
    rows = caller.grouped(rows, parameters, "invocation__resource_group")
    columns = {
        "InvokeId": "invocation__uid",
        "InstanceId": "instance_uid",
        "CommandId": "invocation__command_uid",
    }
    for name, column in columns.items():
        if name in parameters:
            rows = rows.filter(**{column: storable(parameters.text(name))})
    if "InvokeRecordStatus" in parameters:
        rows = rows.filter(status__in=_of_record(parameters.text("InvokeRecordStatus")))
    rows = rows.select_related("invocation").defer("invocation__values", "invocation__content")
    found, told = paging.page(parameters, rows)
    printed = output.of(found)
    shown = [shapes.result(run, encoding, printed[run.pk]) for run in found]
    return {"Invocation": {"InvocationResults": {"InvocationResult": shown}, **told}}


def _wanted(caller: Caller, parameters: Parameters) -> InvocationQuerySet:
    # Values are read one by one: some may not be there to be decrypted.
    rows = Invocation.objects.filter(team=caller.team, region=caller.region).defer("values")
    rows = caller.grouped(rows, parameters)
    columns = {"InvokeId": "uid", "CommandId": "command_uid", "CommandType": "type"}
    for name, column in columns.items():
        if name in parameters:
            rows = rows.filter(**{column: storable(parameters.text(name))})
    if "InstanceId" in parameters:
        uid = storable(parameters.text("InstanceId"))
        rows = rows.filter(pk__in=Run.objects.filter(instance_uid=uid).values("invocation"))
    else:  # with an InstanceId these are not looked at
        if "CommandName" in parameters:
            rows = commands.like(rows, "name", parameters, "CommandName")
        if parameters.text("RepeatMode") not in {"Once", ""}:
            return rows.none()
    if "Timed" in parameters and parameters.flag("Timed"):
        return rows.none()
    wanted = parameters.text("InvokeStatus")
    if not wanted:
        return rows
    if wanted == LegacyStatus.FINISHED:
        return rows.finished()
    return rows.in_state(wanted) if wanted in tuple(TaskStatus) else rows.none()


def _asked(parameters: Parameters, runs: Mapping[int, list[Run]]) -> list[Run]:
    """Of the runs of tasks those whose output is asked for: only one instance's if it is named."""
    uid = parameters.text("InstanceId")
    return [run for each in runs.values() for run in each if uid in {"", run.instance_uid}]


def _of_record(wanted: str) -> list[str]:
    """Statuses of runs that an InvokeRecordStatus stands for."""
    if wanted == RunStatus.SUCCESS:
        return [RunStatus.SUCCESS.value]
    return [each.value for each in RunStatus if status.legacy(each) == wanted]


def _refuse_schedules(parameters: Parameters) -> None:
    if "Frequency" in parameters:
        raise ApiError("InvalidParam.Frequency", FREQUENCY)
    if parameters.text("RepeatMode", "Once") not in {"Once", ""}:
        raise ApiError("InvalidRepeatMode.NotFound", f"The only RepeatMode is Once. {FREQUENCY}")


def _instances(parameters: Parameters) -> Sequence[str]:
    found = parameters.listed("InstanceId")
    if not found:
        raise ApiError("MissingParam.InstanceId", "The parameter instanceId is missing or empty.")
    return found


def _values(parameters: Parameters, *, enabled: bool) -> Values:
    """The values of the parameters; those that are secret by their names are hidden."""
    text = parameters.text("Parameters")
    given = _object(text) if text else {}
    if given and not enabled:
        raise ApiError(
            "Parameter.Disabled",
            "Parameters cannot be passed in when the command customization function is disabled.",
        )
    if any(not isinstance(value, str) for value in given.values()):
        raise ApiError(
            "ParameterType.NotSupported", "The type of parameter value is not supported."
        )
    return Values(given, [name for name in given if looks_secret(name)])


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ApiError(
            "InvalidParameter.Parameters", "Parameters is a JSON object of names and texts."
        )
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ApiError("ParameterKey.Duplicate", "Parameter names cannot be duplicated.")
    return found
