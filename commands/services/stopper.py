"""The stopper: asks instances to end runs that somebody wants stopped, a thread for each.

It needs nothing of the worker that carries the run, which may be dead or slow: any process with
a stopper can end it, over a connection of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Executor
from commands.services import stopping
from commands.services.errands import Errands
from commands.services.stopping import Answer, Order

log = logging.getLogger(__name__)

AT_ONCE = 50
"""Runs that one worker process stops at the same time: a whole task."""


class Stopper(Errands[Order, Answer]):
    """Stops runs, whenever it is asked to."""

    name = "stopper"
    errand = "stop run"

    def __init__(self, executor: Executor) -> None:
        super().__init__(AT_ONCE)
        self._executor = executor

    def claim(self, busy: AbstractSet[int], room: int) -> list[tuple[int, Order]]:
        """See ``Errands.claim``."""
        orders = stopping.claim(busy=busy, limit=room, now=timezone.now())
        return [(order.run_id, order) for order in orders]

    def run(self, target: Order) -> Answer:
        """See ``Errands.run``."""
        try:
            cancelled = self._executor.cancel(target.endpoint, target.handle)
        except (ConnectFailed, ConnectionLost) as error:
            log.info("Run %s was not stopped yet: %s", target.handle.run_id, error)
            return Answer(target.run_id, confirmed=False)
        return Answer(target.run_id, confirmed=True, left=cancelled.left)

    def record(self, results: Sequence[Answer]) -> None:
        """See ``Errands.record``."""
        stopping.record(answers=results, now=timezone.now())
