"""Tasks in any state, made for pages to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import pytest
from django.utils import timezone

from commands.models import Invocation, Run, User
from commands.rules.status import is_final
from commands.services import invocations
from commands.services.definitions import CommandInput


@pytest.fixture
def make_task(cast, fleet) -> Callable[..., Invocation]:
    """Make a task of which each run is in one of the states given."""

    def make(
        *statuses: str,
        name: str = "Hello",
        actor: User | None = None,
        at: datetime | None = None,
        instances: Sequence = (),
    ) -> Invocation:
        chosen = instances or fleet[: max(1, len(statuses))]
        task = invocations.run_command(
            actor=actor or cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name=name, type="RunShellScript", content="echo hi"),
            instance_uids=[instance.uid for instance in chosen],
            now=at or timezone.now(),
        )
        for run, status in zip(task.runs.all(), statuses, strict=False):
            set_status(run, status)
        return task

    return make


def set_status(run: Run, status: str) -> None:
    """Put ``run`` into a state, with the columns that belong to it."""
    codes = {"Success": 0, "Failed": 3}
    Run.objects.filter(pk=run.pk).update(
        status=status,
        phase="finished" if is_final(status) else "queued",
        exit_code=codes.get(status),
        error_code="" if status == "Success" else run.error_code,
        finished_at=timezone.now() if is_final(status) else None,
    )
