"""What the threads that follow runs tell the recorder, and how it answers them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from commands.execution.executor import Stream


class Receipt:
    """Tells a waiting thread what became of an event. ``stored`` is None until it is known."""

    def __init__(self) -> None:
        self.stored: bool | None = None
        self._known = threading.Event()

    def resolve(self, *, stored: bool) -> None:
        """Say whether it was stored. The first word counts."""
        if not self._known.is_set():
            self.stored = stored
            self._known.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is known by now, after at most ``timeout_s``."""
        return self._known.wait(timeout_s)


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes that a run printed, from ``offset`` in their stream."""

    run_id: int
    stream: Stream
    offset: int
    data: bytes = field(repr=False)
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class Dropped:
    """Bytes ``start`` to ``end`` of a stream that the instance has dropped: they never come."""

    run_id: int
    stream: Stream
    start: int
    end: int
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class Changed:
    """New values for columns of a run; ``receipt`` learns whether they were stored.

    With a status that is final there must be ``finished_at``.
    """

    run_id: int
    values: dict[str, Any]
    receipt: Receipt | None = None


Event = Received | Dropped | Changed
