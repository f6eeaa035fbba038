"""The key reader: asks hosts that somebody is about to import for their keys, a thread for each."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from django.conf import settings
from django.utils import timezone

from commands.errors import ConnectFailed
from commands.execution import hostkey
from commands.services import importing
from commands.services.errands import Errands
from commands.services.importing import Key, KeyTarget

AT_ONCE = 32
"""Hosts that one worker process asks at the same time."""


class KeyReader(Errands[KeyTarget, Key]):
    """Asks hosts for their keys, whenever it is asked to."""

    name = "key reader"
    errand = "read the host key of row"

    def __init__(self) -> None:
        super().__init__(AT_ONCE)

    def claim(self, busy: AbstractSet[int], room: int) -> list[tuple[int, KeyTarget]]:
        """See ``Errands.claim``."""
        targets = importing.claim_keys(busy=busy, limit=room, now=timezone.now())
        return [(target.row_id, target) for target in targets]

    def run(self, target: KeyTarget) -> Key:
        """See ``Errands.run``."""
        if target.obstacle:
            return Key(target.row_id, problem=target.obstacle)
        try:
            key = hostkey.read(
                target.host, target.port, target.jump, allowed=settings.CONSOLE_ALLOWED_NETWORKS
            )
            return Key(target.row_id, key)
        except ConnectFailed as error:
            return Key(target.row_id, problem=error.message)

    def record(self, results: Sequence[Key]) -> None:
        """See ``Errands.record``."""
        importing.record_keys(keys=results)
