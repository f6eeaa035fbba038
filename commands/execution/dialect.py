"""What differs between the systems of instances: what is executed there, and what is sent."""

from __future__ import annotations

from typing import Protocol

from commands.execution import remote, windows
from commands.execution.executor import Handle, RunSpec, System


class Dialect(Protocol):
    """A module that builds programs for one kind of system. All raise ValueError."""

    def command_as(self, user: str, run_as: str) -> str:
        """What to execute, signed in as ``user``, for ``run_as`` ("": the same)."""
        ...

    def start_program(self, nonce: str, spec: RunSpec) -> bytes:
        """What starts a run once, then takes requests."""
        ...

    def start_request(self, nonce: str, spec: RunSpec) -> bytes | None:
        """The same as a request on a channel that has served another run; None: not possible."""
        ...

    def converse_program(self, nonce: str, handle: Handle) -> bytes:
        """What takes requests about a run that was started before."""
        ...

    def cancel_program(self, nonce: str, handle: Handle) -> bytes:
        """What ends a run, or keeps it from ever starting."""
        ...

    def system_program(self, nonce: str) -> bytes:
        """What says what the system is called."""
        ...


def of(system: System) -> Dialect:
    """The dialect of instances that run ``system``."""
    return windows if system == "windows" else remote
