"""The checker: asks the instances that are due whether they answer, a thread for each."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Executor
from commands.rules.connection import Connection, of_error
from commands.services import connections
from commands.services.connections import Finding, Target
from commands.services.errands import Errands

AT_ONCE = 32
"""Instances that one worker process checks at the same time."""


class Checker(Errands[Target, Finding]):
    """Checks instances that are due, whenever it is asked to."""

    name = "checker"
    errand = "check instance"

    def __init__(self, executor: Executor) -> None:
        super().__init__(AT_ONCE)
        self._executor = executor

    def claim(self, busy: AbstractSet[int], room: int) -> list[tuple[int, Target]]:
        """See ``Errands.claim``."""
        now = timezone.now()
        # A claim may run out while its probe goes on here, so more are read than are needed.
        waiting = connections.due(now=now, limit=AT_ONCE)
        fresh = [key for key in waiting if key not in busy][:room]
        targets = connections.claim(instance_ids=fresh, now=now) if fresh else []
        return [(target.instance_id, target) for target in targets]

    def run(self, target: Target) -> Finding | None:
        """See ``Errands.run``."""
        return _find(self._executor, target)

    def record(self, results: Sequence[Finding]) -> None:
        """See ``Errands.record``."""
        connections.record(findings=results)


def _find(executor: Executor, target: Target) -> Finding | None:
    """What a probe finds; None if this process lets go of it."""
    if target.endpoint is None:
        return Finding(target, target.state, timezone.now(), info=target.obstacle)
    try:
        system = executor.probe(target.endpoint)
    except ConnectFailed as error:
        return Finding(target, of_error(error.code), timezone.now(), info=error.message)
    except ConnectionLost:
        return None  # the executor was closed: that is no word on the instance
    return Finding(target, Connection.REACHABLE, timezone.now(), system=system)
