"""Reading the host key that an instance shows, for a person to confirm before it is pinned."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import paramiko

from commands.errors import ConnectFailed
from commands.execution.dialing import Link, Timing
from commands.execution.executor import Endpoint
from commands.execution.forwarding import Transport
from commands.execution.pool import Pool
from commands.execution.remote import clean
from commands.rules.status import ErrorCode

TIMEOUT_S = 10.0


def read(host: str, port: int, jump: Endpoint | None = None) -> str:
    """The public key that ``host`` shows now, as ``"type base64"``. Raises ConnectFailed.

    It is asked through ``jump``, if there is one; that one's key must be the pinned one.

    Nothing is proved by it: whoever answers at that address may show any key. Its fingerprint
    must be compared with one that was read on the instance itself.
    """
    with _reached(host, port, jump) as link:
        try:
            key = _shown(link)
        except Exception as error:
            # Whatever the transport's thread died of is raised here, not only SSHException.
            raise _failed(
                f"What answers at {host}, port {port}, is no usable SSH server ({error}).",
                ErrorCode.PROTOCOL_ERROR,
            ) from None
    return f"{key.get_name()} {key.get_base64()}"


@contextlib.contextmanager
def _reached(host: str, port: int, jump: Endpoint | None) -> Iterator[Link]:
    if jump is None:
        with _dialed(host, port) as connection:
            yield connection
        return
    pool = Pool(Timing(connect=TIMEOUT_S))
    try:
        try:
            link = pool.tunnel(jump, host, port)
        except ConnectFailed as error:
            raise _failed(error.message, error.code) from None
        yield link
    finally:
        pool.close()


def _dialed(host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=TIMEOUT_S)
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise _failed(
            f"{host} does not answer on port {port} ({reason}). Check the address, and that its "
            "SSH server runs.",
            ErrorCode.INSTANCE_UNREACHABLE,
        ) from None


def _shown(link: Link) -> paramiko.PKey:
    transport = Transport(link)
    try:
        transport.start_client(timeout=TIMEOUT_S)
        return transport.get_remote_server_key()
    finally:
        # Its timer thread would outlive a handshake that failed.
        transport.packetizer.complete_handshake()
        transport.close()


def _failed(text: str, code: str) -> ConnectFailed:
    return ConnectFailed(clean(text, 1000), code=code)
