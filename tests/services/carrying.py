"""What tests of the engine's services share: workers with the fake executor, and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.utils import timezone

from commands.models import Invocation
from commands.services import invocations
from commands.services.definitions import CommandInput
from commands.services.worker import Worker


def until(condition: Callable[[], object], *, within: float = 30.0) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)


def create_task(cast, instances, content, *, actor=None, rate=None, **columns) -> Invocation:
    """A task of ``content`` on ``instances``."""
    return invocations.run_command(
        actor=actor or cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="n", type="RunShellScript", content=content, **columns),
        instance_uids=[instance.uid for instance in instances],
        rate=rate,
        now=timezone.now(),
    )


def take(worker: Worker, task: Invocation) -> int:
    """Let ``worker`` take what it may of a task."""
    return worker.take([run.pk for run in task.runs.all()], now=timezone.now())


def finished(task: Invocation) -> list:
    """The runs of a task once all have ended."""
    until(lambda: not task.runs.unfinished().exists())
    return list(task.runs.order_by("pk"))


def statuses(task: Invocation) -> list[str]:
    """The states of a task's runs, in their order."""
    return list(task.runs.order_by("pk").values_list("status", flat=True))
