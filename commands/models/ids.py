"""Public identifiers: a letter that says what it is, a hyphen, 20 random hexadecimal digits."""

from __future__ import annotations

import secrets


def new_command_uid() -> str:
    """A new command id, ``c-…``."""
    return f"c-{secrets.token_hex(10)}"


def new_instance_uid() -> str:
    """A new instance id, ``i-…``."""
    return f"i-{secrets.token_hex(10)}"


def new_invocation_uid() -> str:
    """A new task id, ``t-…``."""
    return f"t-{secrets.token_hex(10)}"


def new_team_uid() -> str:
    """A new team id: 16 digits, the first not zero (Cloud Assistant's AccountId)."""
    return str(10**15 + secrets.randbelow(9 * 10**15))
