"""In which ways a task repeats another one, and on which of its instances."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from commands.rules.status import FAILURES, STOPS, RunStatus


class Again(StrEnum):
    """How a task repeats the one that it points back to."""

    AGAIN = "again"
    """What ran then, on the same instances."""
    RETRY = "retry"
    """What ran then, on some of them: those on which it failed, for the most part."""
    LATEST = "latest"
    """What the saved command says now, with the same values."""


class Only(StrEnum):
    """Which instances of a task are meant, by how it ended there."""

    FAILED = "failed"
    STOPPED = "stopped"


ENDED: Mapping[Only, frozenset[RunStatus]] = {Only.FAILED: FAILURES, Only.STOPPED: STOPS}
"""The states that each word stands for; "failed" is also: timed out, and never delivered."""
