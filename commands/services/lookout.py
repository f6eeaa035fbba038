"""The lookout: looks at silent runs, whether they wait for input, a thread for each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Executor
from commands.services import stalls
from commands.services.errands import Errands
from commands.services.stalls import Look, Silent

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Runs that one worker process looks at at the same time: nobody waits for it."""


class Lookout(Errands[Silent, Look]):
    """Looks at silent runs, whenever it is asked to."""

    name = "lookout"
    errand = "look at run"

    def __init__(self, executor: Executor) -> None:
        super().__init__(AT_ONCE)
        self._executor = executor

    def claim(self, busy: AbstractSet[int], room: int) -> list[tuple[int, Silent]]:
        """See ``Errands.claim``."""
        found = stalls.claim(busy=busy, limit=room, now=timezone.now())
        return [(each.run_id, each) for each in found]

    def run(self, target: Silent) -> Look | None:
        """See ``Errands.run``."""
        try:
            process = self._executor.waits_for(target.endpoint, target.handle)
        except (ConnectFailed, ConnectionLost) as error:
            log.info("Run %s was not looked at: %s", target.handle.run_id, error)
            return None
        return Look(target, process)

    def record(self, results: Sequence[Look]) -> None:
        """See ``Errands.record``."""
        stalls.record(looks=results, now=timezone.now())
