"""The table of actions: a name of Cloud Assistant, and what does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from console.api import account, commands, instances, tasks
from console.api.caller import Caller
from console.api.wire import Parameters

Action = Callable[[Caller, Parameters], dict[str, Any]]
VERSION: Final = "2014-05-26"
"""The version of the API, as every call names it."""

ACTIONS: Mapping[str, Action] = {
    "CreateCommand": commands.create,
    "ModifyCommand": commands.modify,
    "DeleteCommand": commands.delete,
    "DescribeCommands": commands.describe,
    "RunCommand": tasks.run,
    "InvokeCommand": tasks.invoke,
    "StopInvocation": tasks.stop,
    "DescribeInvocations": tasks.describe,
    "DescribeInvocationResults": tasks.describe_results,
    "DescribeInstances": instances.describe,
    "DescribeCloudAssistantStatus": instances.describe_assistant,
    "DescribeAccountAttributes": account.describe_attributes,
}
