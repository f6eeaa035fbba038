"""Making one connection: reaching the host, comparing its key, signing in.

Every way in which that fails has a code and a sentence that says what to do. Nothing is ever
started on an instance here, so whoever asked may try again.
"""

from __future__ import annotations

import base64
import errno
import io
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from commands.errors import ConnectFailed
from commands.execution import sentences
from commands.execution.executor import Endpoint
from commands.rules import reachable
from commands.rules.status import ErrorCode

RSA = ("rsa-sha2-512", "rsa-sha2-256")
"""Algorithms of keys of type ``ssh-rsa``."""

# Reasons for disconnecting: cancelled by the user, no more methods, illegal user name.
_NOT_LET_IN = frozenset({13, 14, 15})


@dataclass(frozen=True, slots=True)
class Timing:
    """How many seconds things may take.

    To connect, to sign in, between two signs of life, until one counts as missing, and until
    an unused connection is closed.
    """

    connect: float = 10.0
    handshake: float = 20.0
    beat: float = 5.0
    dead: float = 9.0
    idle: float = 120.0


class Link(Protocol):
    """What a transport sends its bytes over: a socket, or something that behaves like one."""

    def settimeout(self, value: float | None, /) -> None:
        """How long ``send`` and ``recv`` may wait."""
        ...

    def send(self, data: bytes, /) -> int:
        """Send some of ``data``; how many bytes that was."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""
        ...

    def shutdown(self, how: int, /) -> None:
        """Wake whoever sends or receives. Returns at once."""
        ...

    def close(self) -> None:
        """Let go of it. Returns at once."""
        ...


class Stoppable(Protocol):
    """Who connects, and may be stopped meanwhile."""

    def hold(self, sock: Link) -> None:
        """Let stopping shut ``sock`` down. Raises ConnectionLost where it was stopped."""
        ...

    def check(self) -> None:
        """Raise ConnectionLost where it was stopped."""
        ...


class Dropped(Exception):
    """sshd closed the connection before it said who it is: worth another try."""

    def __init__(self, failure: ConnectFailed) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Disconnected(paramiko.SSHException):
    """The other side ended the connection in so many words, and with a reason of RFC 4253."""

    def __init__(self, reason: int, said: str) -> None:
        super().__init__(f"it said: {said}" if said else f"it disconnected, reason {reason}")
        # OpenSSH calls it a protocol error that somebody has tried too often.
        self.refuses = reason in _NOT_LET_IN or "authentication failures" in said


def pinned_key(text: str) -> tuple[str, bytes]:
    """Type and bytes of a public key line. Raises ConnectFailed: nothing usable is pinned."""
    words = text.split()
    try:
        return words[0], base64.b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        raise ConnectFailed(sentences.NO_PINNED_KEY, code=ErrorCode.HOST_KEY_UNKNOWN) from None


def private_key(text: str, passphrase: str = "") -> paramiko.PKey:
    """The key to sign in with. Raises ConnectFailed with CREDENTIAL_UNUSABLE."""
    # Not paramiko's own parser: 5.1 fails on half of all ECDSA keys in OpenSSH's format.
    load = load_ssh_private_key if "BEGIN OPENSSH" in text else load_pem_private_key
    try:
        data = text.strip().encode() + b"\n"
        return _wrapped(load(data, passphrase.encode() or None))
    except TypeError:
        reason = sentences.NO_PASSPHRASE if passphrase else sentences.NEEDS_PASSPHRASE
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
        reason = sentences.NO_KEY
        if passphrase:
            reason = sentences.WRONG_PASSPHRASE
    raise ConnectFailed(
        sentences.KEY_UNUSABLE % {"what": reason}, code=ErrorCode.CREDENTIAL_UNUSABLE
    )


def _wrapped(key: object) -> paramiko.PKey:
    """Paramiko's form of a key of the cryptography package. ValueError: an unknown type."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey(key=key)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return paramiko.Ed25519Key.from_private_key(io.StringIO(text.decode()))
    raise ValueError("unknown type of key")


def targets(host: str, port: int, allowed: Sequence[str]) -> list[tuple[Any, ...]]:
    """What ``getaddrinfo`` finds, without addresses that may be no targets.

    Raises OSError, ValueError; ConnectFailed if no other is left. What is connected to is what was
    looked at: a name that leads elsewhere a moment later helps nobody.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    fine = [one for one in found if not reachable.refusal(str(one[4][0]), allowed)]
    if found and not fine:
        refuse(str(found[0][4][0]), allowed)
    return fine


def refuse(host: str, allowed: Sequence[str]) -> None:
    """Raise ConnectFailed for an address that may be no target. Names are not looked up."""
    if reason := reachable.refusal(host, allowed):
        raise ConnectFailed(reason, code=ErrorCode.INSTANCE_UNREACHABLE)


def dial(endpoint: Endpoint, timing: Timing, attempt: Stoppable) -> socket.socket:
    """A TCP connection to the endpoint. Raises ConnectFailed, and what ``attempt`` raises."""
    where = f"{endpoint.host} port {endpoint.port}"
    try:
        sock = _connected(endpoint, timing.connect, attempt)
    except ConnectionRefusedError:
        text = sentences.REFUSED % {"where": where}
        raise ConnectFailed(text, code=ErrorCode.CONNECTION_REFUSED) from None
    except TimeoutError:
        text = sentences.SILENT % {"where": where, "seconds": f"{timing.connect:g}"}
        raise ConnectFailed(text, code=ErrorCode.CONNECTION_TIMEOUT) from None
    except (OSError, ValueError, OverflowError) as error:
        text = sentences.OUT_OF_REACH % {"where": where, "why": _reason(error)}
        raise ConnectFailed(text, code=ErrorCode.INSTANCE_UNREACHABLE) from None
    # Before the handshake: Nagle's delay triples the time that one takes.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The kernel gives up on a peer that acknowledges nothing, even in the middle of a send.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timing.dead * 1000))
    return sock


def _connected(endpoint: Endpoint, limit: float, attempt: Stoppable) -> socket.socket:
    """``socket.create_connection``, but ``attempt`` may stop it; ``limit`` is for all addresses."""
    found = targets(endpoint.host, endpoint.port, endpoint.allowed)
    until = time.monotonic() + limit
    failure: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            attempt.hold(sock)
            left = (until - time.monotonic()) / (len(found) - number)
            sock.settimeout(max(0.05, left))
            sock.connect(address)
            attempt.check()
            return sock
        except OSError as error:
            sock.close()
            attempt.check()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


def handshake(
    transport: paramiko.Transport, endpoint: Endpoint, kind: str, blob: bytes, timing: Timing
) -> None:
    """Agree on keys and compare the host's with the pinned one. Raises ConnectFailed, Dropped."""
    # Longer than ours, so that it is never a silent server that is taken for a busy one.
    transport.banner_timeout = timing.handshake + 5
    transport.auth_timeout = timing.handshake
    changed = ConnectFailed(
        sentences.KEY_CHANGED % {"host": endpoint.host}, code=ErrorCode.HOST_KEY_CHANGED
    )
    try:
        transport.get_security_options().key_types = RSA if kind == "ssh-rsa" else (kind,)
    except ValueError:
        text = sentences.UNSUPPORTED_KEY % {"kind": kind}
        raise ConnectFailed(text, code=ErrorCode.HOST_KEY_UNKNOWN) from None
    try:
        transport.start_client(timeout=timing.handshake)
    except Exception as error:
        # Whatever the transport's thread died of is raised here, also a ValueError.
        if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            if "host key" in str(error).lower():
                raise changed from None
            raise protocol_error(endpoint, error) from None
        if isinstance(error, EOFError | ConnectionResetError) or "banner" in str(error):
            raise Dropped(_dropped(endpoint, error)) from None
        raise protocol_error(endpoint, error) from None
    if not transport.initial_kex_done:
        values = {"where": _where(endpoint), "seconds": f"{timing.handshake:g}"}
        raise ConnectFailed(sentences.NO_HANDSHAKE % values, code=ErrorCode.BANNER_TIMEOUT)
    found = transport.get_remote_server_key()
    if found.get_name() != kind or found.asbytes() != blob:
        raise changed


def sign_in(
    transport: paramiko.Transport, endpoint: Endpoint, key: paramiko.PKey | None, timing: Timing
) -> None:
    """Sign in with ``key``, or with the password where it is None.

    Raises ConnectFailed; Dropped where the connection ended before anybody was refused.
    """
    try:
        if key is None:
            more = transport.auth_password(endpoint.user, endpoint.password)
        else:
            more = transport.auth_publickey(endpoint.user, key)
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error).lower():
            text = sentences.NO_ANSWER_TO_SIGN_IN % {
                "host": endpoint.host,
                "user": endpoint.user,
                "seconds": f"{timing.handshake:g}",
            }
            raise ConnectFailed(text, code=ErrorCode.CONNECTION_TIMEOUT) from None
        if "EOF" in str(error):
            # Paramiko's word for a connection that ended without an answer.
            ended = EOFError("it ended without an answer")
            raise Dropped(_dropped(endpoint, ended)) from None
        raise _refused(endpoint, key) from None
    except Disconnected as error:
        if error.refuses:
            raise _refused(endpoint, key) from None
        raise Dropped(_dropped(endpoint, error)) from None
    except Exception as error:
        if isinstance(error, EOFError | OSError) or "existing session" in str(error):
            # The last one: it ended between the handshake and this.
            raise Dropped(_dropped(endpoint, error)) from None
        raise protocol_error(endpoint, error) from None
    if more or not transport.is_authenticated():
        raise _refused(endpoint, key)


def _refused(endpoint: Endpoint, key: paramiko.PKey | None) -> ConnectFailed:
    if key is None:
        advice = sentences.CHECK_PASSWORD
    else:
        advice = sentences.CHECK_KEY % {"kind": key.get_name(), "fingerprint": key.fingerprint}
    values = {"host": endpoint.host, "user": endpoint.user, "what": advice}
    text = sentences.NOT_LET_IN % values
    return ConnectFailed(text, code=ErrorCode.SIGN_IN_REFUSED)


def _dropped(endpoint: Endpoint, error: BaseException) -> ConnectFailed:
    text = sentences.DROPPED % {"where": _where(endpoint), "why": _reason(error)}
    return ConnectFailed(text, code=ErrorCode.CONNECTION_DROPPED)


def dropped(endpoint: Endpoint) -> ConnectFailed:
    """What to say where connections end as soon as somebody has signed in."""
    text = (
        f"{endpoint.host} port {endpoint.port} let the console sign in and then ended the "
        "connection, several times. Look into the log of its SSH server."
    )
    return ConnectFailed(text, code=ErrorCode.CONNECTION_DROPPED)


def protocol_error(endpoint: Endpoint, error: BaseException) -> ConnectFailed:
    """What to say where the other side did something that no SSH server should."""
    text = sentences.BROKEN_HANDSHAKE % {"where": _where(endpoint), "why": _reason(error)}
    return ConnectFailed(text, code=ErrorCode.PROTOCOL_ERROR)


def _where(endpoint: Endpoint) -> str:
    return f"{endpoint.host} port {endpoint.port}"


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in errno.errorcode and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__
