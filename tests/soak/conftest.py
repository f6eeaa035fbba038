"""The engine's fixtures serve here too."""

from tests.execution.conftest import executor, rig, sshd

__all__ = ["executor", "rig", "sshd"]
