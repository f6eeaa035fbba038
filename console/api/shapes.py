"""Rows as the API tells them, in Cloud Assistant's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from commands.models import Command, CommandVersion, Instance, Invocation, Run, Team
from commands.rules import status
from commands.rules.connection import USABLE, Connection
from commands.rules.grammar import scan
from commands.rules.redaction import HIDDEN
from console.api import wire
from console.api.output import Printed

BASE64, PLAIN = "Base64", "PlainText"
NO_OUTPUT: Printed = b"", 0
_OS = {"linux": "Linux", "windows": "Windows"}
"""Names of operating systems."""


def command(row: Command, version: CommandVersion, encoding: str) -> dict[str, Any]:
    """A saved command; ``row`` comes with its use."""
    names = [each.name for each in scan(version.content).parameters] if version.use_params else []
    return {
        "CommandId": row.uid,
        "Name": row.name,
        "Description": row.description,
        "Type": row.type,
        "CommandContent": wire.told(version.content.encode(), encoding),
        "WorkingDir": version.workdir,
        "Timeout": version.timeout,
        "EnableParameter": version.use_params,
        "ParameterNames": {"ParameterName": names},
        "ParameterDefinitions": {"ParameterDefinition": _definitions(version, names)},
        "CreationTime": wire.moment(row.created_at),
        "InvokeTimes": getattr(row, "times_run", 0),
        "Category": "",
        "Provider": "",
        "ResourceGroupId": row.resource_group.uid,
        "Launcher": version.launcher,
        "Tags": tags(row.tags),
    }


def invocation(
    row: Invocation, runs: list[Run], encoding: str, printed: Mapping[int, Printed]
) -> dict[str, Any]:
    """A task with its runs, and with what those in ``printed`` printed."""
    states = [run.status for run in runs]
    return {
        "InvokeId": row.uid,
        "CommandId": row.command_uid,
        "CommandName": row.name,
        "CommandDescription": row.version.description if row.version else "",
        "CommandType": row.type,
        "CommandContent": wire.told(row.content.encode(), encoding),
        "CreationTime": wire.moment(row.created_at),
        "InvocationStatus": status.roll_up(states).value,
        "InvokeStatus": status.legacy_roll_up(states).value,
        "RepeatMode": "Once",
        "Frequency": "",
        "Timed": False,
        "Timeout": row.timeout,
        "Username": row.run_as,
        "WorkingDir": row.workdir,
        "Launcher": row.launcher,
        "TerminationMode": row.termination,
        "ContainerId": "",
        "ContainerName": "",
        "Parameters": json.dumps(_values(row), ensure_ascii=False),
        "Tags": tags(row.tags),
        "InvokeInstances": {
            "InvokeInstance": [
                invoke_instance(row, run, encoding, printed.get(run.pk, NO_OUTPUT)) for run in runs
            ]
        },
    }


def invoke_instance(row: Invocation, run: Run, encoding: str, printed: Printed) -> dict[str, Any]:
    """A run within its task."""
    return {
        **_outcome(run, encoding, printed),
        "InstanceInvokeStatus": status.legacy(run.status).value,
        "CreationTime": wire.moment(row.created_at),
        "FinishTime": wire.moment(run.finished_at),
        "UpdateTime": wire.moment(run.finished_at or run.started_at or row.created_at),
        "Timed": False,
    }


def result(run: Run, encoding: str, printed: Printed) -> dict[str, Any]:
    """A run by itself."""
    row = run.invocation
    return {
        **_outcome(run, encoding, printed),
        "CommandId": row.command_uid,
        "InvokeId": row.uid,
        "InvokeRecordStatus": status.legacy(run.status).value,
        "FinishedTime": wire.moment(run.finished_at),
        "Username": row.run_as,
        "Launcher": row.launcher,
        "TerminationMode": row.termination,
        "ContainerId": "",
        "ContainerName": "",
        "Tags": tags(row.tags),
    }


def instance(row: Instance, team: Team) -> dict[str, Any]:
    """An instance as ``team`` sees it; what the console does not know of it is left out.

    The group of one that another team lends is that team's matter.
    """
    return {
        "InstanceId": row.uid,
        "InstanceName": row.name,
        "Status": "Running" if is_running(row) else "Stopped",
        "OSType": row.os_type,
        "OSName": row.system,
        "RegionId": row.region.uid,
        "HostName": row.host,
        "ResourceGroupId": row.resource_group.uid if row.team_id == team.pk else "",
        "CreationTime": wire.moment(row.created_at),
        "Tags": tags({tag.key: tag.value for tag in row.tags.all()}),
    }


def assistant(row: Any) -> dict[str, Any]:
    """Whether commands can run on an instance; ``row`` comes with its numbers of runs."""
    return {
        "InstanceId": row.uid,
        "CloudAssistantStatus": "true" if is_running(row) else "false",
        "CloudAssistantVersion": "",
        "OSType": _OS[row.os_type],
        "InvocationCount": row.ran,
        "ActiveTaskCount": row.running_now,
        "LastInvokedTime": wire.moment(row.last_run),
        "LastHeartbeatTime": wire.moment(row.checked_at),
        "SupportSessionManager": False,
    }


def is_running(row: Instance) -> bool:
    """Whether it is enabled, and not known to be out of reach."""
    return row.enabled and Connection(row.connection) in USABLE


def tags(pairs: dict[str, str]) -> dict[str, Any]:
    """Tags as answers have them."""
    return {"Tag": [{"TagKey": key, "TagValue": value} for key, value in pairs.items()]}


def _outcome(run: Run, encoding: str, printed: Printed) -> dict[str, Any]:
    text, dropped = printed
    known = {} if run.exit_code is None else {"ExitCode": run.exit_code}
    return {
        "InstanceId": run.instance_uid,
        "InvocationStatus": run.status,
        **known,
        "Output": wire.told(text, encoding),
        "Dropped": dropped,
        "Repeats": int(status.is_final(run.status)),
        "ErrorCode": status.cloud_assistant_code(run.error_code),
        "ErrorInfo": run.error_info,
        "StartTime": wire.moment(run.started_at),
        "StopTime": wire.moment(run.stop_asked_at),
    }


def _values(row: Invocation) -> dict[str, str]:
    """The values of a task, of hidden ones a mark; none if they can't be decrypted."""
    if not row.use_params:
        return {}
    try:
        values: dict[str, str] = json.loads(row.values or "{}")
    except ImproperlyConfigured:
        return {}
    return {key: HIDDEN if key in row.hidden else value for key, value in values.items()}


def _definitions(version: CommandVersion, names: list[str]) -> list[dict[str, Any]]:
    schemas = version.schemas_as_kept()
    described = ((name, schemas.get(name.lower())) for name in names)
    return [
        {
            "ParameterName": name,
            "Description": schema.description,
            "DefaultValue": schema.default,
            "PatternRegex": schema.pattern,
            "PossibleValues": {"PossibleValue": list(schema.choices)},
            "Required": schema.required,
        }
        for name, schema in described
        if schema is not None
    ]
