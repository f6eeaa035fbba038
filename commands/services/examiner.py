"""The examiner: looks at the instances that a preflight is about, a thread for each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Endpoint, Executor
from commands.rules.status import ErrorCode
from commands.services import preflight
from commands.services.errands import Errands
from commands.services.preflight import Answer, Probe
from commands.words import gettext_noop

log = logging.getLogger(__name__)

AT_ONCE = 25
"""Instances that one worker process looks at at the same time: half a task."""
TRIES = 2
"""How often an instance is asked whose connection breaks meanwhile."""
_BROKE = (
    ErrorCode.EXECUTION_EXCEPTION.value,
    gettext_noop("The connection broke each time the instance was looked at. Check it again."),
)


class Examiner(Errands[Probe, Answer]):
    """Looks at instances, whenever it is asked to."""

    name = "examiner"
    errand = "examine instance of check"

    def __init__(self, executor: Executor) -> None:
        super().__init__(AT_ONCE)
        self._executor = executor

    def claim(self, busy: AbstractSet[int], room: int) -> list[tuple[int, Probe]]:
        """See ``Errands.claim``."""
        probes = preflight.claim(busy=busy, limit=room, now=timezone.now())
        return [(probe.check_id, probe) for probe in probes]

    def run(self, target: Probe) -> Answer | None:
        """See ``Errands.run``."""
        if target.endpoint is None:
            return Answer(target.check_id, (target.problem,))
        return self._examine(target, target.endpoint)

    def record(self, results: Sequence[Answer]) -> None:
        """See ``Errands.record``."""
        preflight.record(answers=results)

    def _examine(self, target: Probe, endpoint: Endpoint) -> Answer | None:
        """What is found; None if this process lets go of it."""
        for _ in range(TRIES):
            try:
                found = self._executor.examine(endpoint, target.needs)
            except ConnectFailed as error:
                return Answer(target.check_id, ((error.code, error.message),))
            except ConnectionLost as error:
                log.info("Check %s was broken off: %s", target.check_id, error)
            else:
                return Answer.of(target.check_id, found)
        return None if self.stopping else Answer(target.check_id, (_BROKE,))
