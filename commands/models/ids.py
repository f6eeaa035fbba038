"""Public identifiers: a letter that says what it is, a hyphen, 20 random hexadecimal digits."""

from __future__ import annotations

import secrets
import string

_SIGNS = string.ascii_letters + string.digits


def new_command_uid() -> str:
    """A new command id, ``c-…``."""
    return f"c-{secrets.token_hex(10)}"


def new_instance_uid() -> str:
    """A new instance id, ``i-…``."""
    return f"i-{secrets.token_hex(10)}"


def new_invocation_uid() -> str:
    """A new task id, ``t-…``."""
    return f"t-{secrets.token_hex(10)}"


def new_preflight_uid() -> str:
    """A new id of a preflight, ``p-…``."""
    return f"p-{secrets.token_hex(10)}"


def new_import_uid() -> str:
    """A new id of an import, ``m-…``."""
    return f"m-{secrets.token_hex(10)}"


def new_resource_group_uid() -> str:
    """A new id of a resource group, ``rg-…``."""
    return f"rg-{secrets.token_hex(10)}"


def new_team_uid() -> str:
    """A new team id: 16 digits, the first not zero (Cloud Assistant's AccountId)."""
    return str(10**15 + secrets.randbelow(9 * 10**15))


def new_invitation_uid() -> str:
    """A new invitation id, ``v-…``; it lets nobody in, which the token of the link does."""
    return f"v-{secrets.token_hex(10)}"


def new_access_key_uid() -> str:
    """A new id of an access key: ``LTAI``, as Alibaba Cloud's begin, and 20 letters and digits."""
    return f"LTAI{letters_and_digits(20)}"


def access_key_uid(digest: bytes) -> str:
    """The id of an access key that is always the same for ``digest``, of 20 bytes or more."""
    return "LTAI" + "".join(_SIGNS[byte % len(_SIGNS)] for byte in digest[:20])


def letters_and_digits(number: int) -> str:
    """So many random letters and digits, each with almost 6 bits."""
    return "".join(secrets.choice(_SIGNS) for _ in range(number))
