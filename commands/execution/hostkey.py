"""Reading the host key that an instance shows, for a person to confirm before it is pinned."""

from __future__ import annotations

import socket

import paramiko

from commands.errors import ConnectFailed
from commands.rules.status import ErrorCode

TIMEOUT_S = 10.0


def read(host: str, port: int) -> str:
    """The public key that ``host`` shows now, as ``"type base64"``. Raises ConnectFailed.

    Nothing is proved by it: whoever answers at that address may show any key. Its fingerprint
    must be compared with one that was read on the instance itself.
    """
    try:
        connection = socket.create_connection((host, port), timeout=TIMEOUT_S)
    except OSError as error:
        raise ConnectFailed(
            f"{host} does not answer on port {port} ({error.strerror or error}). Check the "
            "address, and that its SSH server runs.",
            code=ErrorCode.INSTANCE_UNREACHABLE,
        ) from None
    with connection:
        transport = paramiko.Transport(connection)
        try:
            transport.start_client(timeout=TIMEOUT_S)
            key = transport.get_remote_server_key()
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ConnectFailed(
                f"What answers at {host}, port {port}, is no usable SSH server ({error}).",
                code=ErrorCode.PROTOCOL_ERROR,
            ) from None
        finally:
            transport.close()
    return f"{key.get_name()} {key.get_base64()}"
