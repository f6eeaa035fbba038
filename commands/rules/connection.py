"""What the console knows of an instance's connection, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from commands.rules.status import ErrorCode


class Connection(StrEnum):
    """What the last light check of an instance found."""

    UNKNOWN = "unknown"
    """Not checked yet. Such an instance can be chosen: nothing speaks against it."""
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"
    HOST_KEY_CHANGED = "host_key_changed"
    SIGN_IN_REFUSED = "sign_in_refused"


USABLE = frozenset({Connection.UNKNOWN, Connection.REACHABLE})
"""Connections that a task may count on: what is called "running" in Cloud Assistant."""

_OF_ERROR: Mapping[str, Connection] = {
    ErrorCode.HOST_KEY_CHANGED: Connection.HOST_KEY_CHANGED,
    ErrorCode.HOST_KEY_UNKNOWN: Connection.HOST_KEY_CHANGED,
    ErrorCode.SIGN_IN_REFUSED: Connection.SIGN_IN_REFUSED,
    ErrorCode.CREDENTIAL_UNUSABLE: Connection.SIGN_IN_REFUSED,
    ErrorCode.NO_FREE_SESSION: Connection.REACHABLE,
}


def of_error(code: str) -> Connection:
    """The connection that a ``ConnectFailed`` with this code stands for."""
    return _OF_ERROR.get(code, Connection.UNREACHABLE)
