"""The script that really runs on one instance: the task's text with all values in place."""

from __future__ import annotations

import json
from collections.abc import Mapping

from commands.models import Instance, Invocation, Run
from commands.rules import content as rules
from commands.rules import parameters
from commands.rules.parameters import Builtin

_LONGEST_UID = "x" * 22
"""Ids of tasks and commands are assigned at creation; all have this length."""


def check_values(content: str, given: Mapping[str, str]) -> dict[str, str]:
    """The value of every parameter of ``content``, by key. Raises Invalid, InvalidFields."""
    scan = parameters.scan(content).check()
    return parameters.check_values(scan.parameters, given, {})


def check_filled(
    content: str,
    values: Mapping[str, str],
    kind: rules.CommandType,
    instance: Instance,
    account: str,
) -> None:
    """Raise Invalid if the script gets too long by the values it has on ``instance``."""
    known = {
        Builtin.REGION_ID: instance.region.uid,
        Builtin.ACCOUNT_ID: account,
        Builtin.INSTANCE_ID: instance.uid,
        Builtin.INSTANCE_NAME: instance.name,
        Builtin.INVOKE_ID: _LONGEST_UID,
        Builtin.COMMAND_ID: _LONGEST_UID,
    }
    filled = parameters.fill(content, values, known, {}, command_type=kind)
    rules.check_size(filled, what="Command with its values")


def render(run: Run) -> bytes:
    """The exact bytes that run, for a run with its invocation, team, region and command.

    Raises ImproperlyConfigured if the values can't be decrypted.
    """
    invocation = run.invocation
    if not invocation.use_params:
        return invocation.content.encode()
    values = json.loads(invocation.values or "{}")
    known = _builtins(invocation, run)
    kind = rules.CommandType(invocation.type)
    return parameters.fill(invocation.content, values, known, {}, command_type=kind).encode()


def _builtins(invocation: Invocation, run: Run) -> dict[Builtin, str]:
    return {
        Builtin.REGION_ID: invocation.region.uid,
        Builtin.ACCOUNT_ID: invocation.team.uid,
        Builtin.INSTANCE_ID: run.instance_uid,
        Builtin.INSTANCE_NAME: run.instance_name,
        Builtin.INVOKE_ID: invocation.uid,
        Builtin.COMMAND_ID: invocation.command.uid if invocation.command else "",
    }
