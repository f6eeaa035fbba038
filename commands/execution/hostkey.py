"""Reading the host key that an instance shows, for a person to confirm before it is pinned."""

from __future__ import annotations

import socket

import paramiko

from commands.errors import ConnectFailed
from commands.execution.remote import clean
from commands.rules.status import ErrorCode

TIMEOUT_S = 10.0


def read(host: str, port: int) -> str:
    """The public key that ``host`` shows now, as ``"type base64"``. Raises ConnectFailed.

    Nothing is proved by it: whoever answers at that address may show any key. Its fingerprint
    must be compared with one that was read on the instance itself.
    """
    try:
        connection = socket.create_connection((host, port), timeout=TIMEOUT_S)
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise _failed(
            f"{host} does not answer on port {port} ({reason}). Check the address, and that its "
            "SSH server runs.",
            ErrorCode.INSTANCE_UNREACHABLE,
        ) from None
    with connection:
        try:
            key = _shown(connection)
        except Exception as error:
            # Whatever the transport's thread died of is raised here, not only SSHException.
            raise _failed(
                f"What answers at {host}, port {port}, is no usable SSH server ({error}).",
                ErrorCode.PROTOCOL_ERROR,
            ) from None
    return f"{key.get_name()} {key.get_base64()}"


def _shown(connection: socket.socket) -> paramiko.PKey:
    transport = paramiko.Transport(connection)
    try:
        transport.start_client(timeout=TIMEOUT_S)
        return transport.get_remote_server_key()
    finally:
        # Its timer thread would outlive a handshake that failed.
        transport.packetizer.complete_handshake()
        transport.close()


def _failed(text: str, code: ErrorCode) -> ConnectFailed:
    return ConnectFailed(clean(text, 1000), code=code)
