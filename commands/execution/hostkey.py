"""Reading the host key that an instance shows, for a person to confirm before it is pinned."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import paramiko

from commands.errors import ConnectFailed
from commands.execution import sentences
from commands.execution.dialing import RSA, Link, Timing, refuse, targets
from commands.execution.executor import Endpoint
from commands.execution.forwarding import Transport
from commands.execution.pool import Pool
from commands.execution.remote import clean
from commands.rules.status import ErrorCode

TIMEOUT_S = 10.0


def read(
    host: str,
    port: int,
    jump: Endpoint | None = None,
    *,
    kind: str = "",
    allowed: Sequence[str] = (),
) -> str:
    """The public key that ``host`` shows now, as ``"type base64"``. Raises ConnectFailed.

    It is asked through ``jump``, if there is one; that one's key must be the pinned one. Of
    several keys it is the one of type ``kind``, if there is such a one. ``allowed``: see
    ``Endpoint``.

    Nothing is proved by it: whoever answers at that address may show any key. Its fingerprint
    must be compared with one that was read on the instance itself.
    """
    with _reached(host, port, jump, allowed) as link:
        try:
            key = _shown(link, kind)
        except Exception as error:
            # Whatever the transport's thread died of is raised here, not only SSHException.
            raise _failed(
                sentences.NO_SSH_SERVER % {"host": host, "port": port, "why": error},
                ErrorCode.PROTOCOL_ERROR,
            ) from None
    return f"{key.get_name()} {key.get_base64()}"


@contextlib.contextmanager
def _reached(host: str, port: int, jump: Endpoint | None, allowed: Sequence[str]) -> Iterator[Link]:
    if jump is None:
        with _dialed(host, port, allowed) as connection:
            yield connection
        return
    refuse(host, allowed)
    pool = Pool(Timing(connect=TIMEOUT_S))
    try:
        try:
            link = pool.tunnel(jump, host, port)
        except ConnectFailed as error:
            raise _failed(error.message, error.code) from None
        yield link
    finally:
        pool.close()


def _dialed(host: str, port: int, allowed: Sequence[str]) -> socket.socket:
    try:
        return _connected(targets(host, port, allowed))
    except (OSError, ValueError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise _failed(
            sentences.NO_ANSWER % {"host": host, "port": port, "why": reason},
            ErrorCode.INSTANCE_UNREACHABLE,
        ) from None


def _connected(found: Sequence[tuple[Any, ...]]) -> socket.socket:
    """A connection to the first of several addresses that takes one. Raises OSError."""
    failure = OSError("the name has no address")
    until = time.monotonic() + TIMEOUT_S
    for number, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.05, (until - time.monotonic()) / (len(found) - number)))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _shown(link: Link, kind: str) -> paramiko.PKey:
    transport = Transport(link)
    try:
        options = transport.get_security_options()
        known = list(options.key_types)
        wanted = [one for one in known if one in (RSA if kind == "ssh-rsa" else (kind,))]
        options.key_types = wanted + [one for one in known if one not in wanted]
        transport.start_client(timeout=TIMEOUT_S)
        return transport.get_remote_server_key()
    finally:
        # Its timer thread would outlive a handshake that failed.
        transport.packetizer.complete_handshake()
        transport.close()


def _failed(text: str, code: str) -> ConnectFailed:
    return ConnectFailed(clean(text, 1000), code=code)
