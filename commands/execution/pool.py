"""Warm SSH connections: few handshakes, the right host key, nothing leaked.

A handshake costs an instance some 20 ms of processor time and a console ten times the time of
a command on an open connection. So each process keeps one connection for each endpoint, opens
a channel on it for each operation, and closes it when it has been idle for a while. A second
connection is made only where the instance refuses more channels (``MaxSessions``).

One thread for the whole pool, the keeper, closes idle connections and asks each busy one for
a sign of life: a peer that accepts bytes but never answers is as dead as one that is gone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import io
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

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

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Endpoint
from commands.rules.status import ErrorCode

SESSIONS = 10
"""Channels tried on one connection: OpenSSH's default ``MaxSessions``."""
CONNECTIONS = 16
"""Connections at most to one endpoint."""
HANDSHAKES = 16
"""Handshakes at a time in one process; more than this were no faster when measured."""
TRIES = 4
"""Attempts where sshd drops a new connection because too many are signing in."""
OPENING = 45.0
"""Seconds after which no further attempt at a channel is begun."""
RESTING = 2.0
"""Seconds before a connection that refused a channel is asked for one again."""

_RSA = ("rsa-sha2-512", "rsa-sha2-256")


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


class Connection:
    """One signed-in transport. ``users`` is guarded by the lock of its site."""

    def __init__(self, transport: paramiko.Transport, sock: socket.socket) -> None:
        self.transport = transport
        self.users = 0
        self.idle_since = time.monotonic()
        self.full_until = 0.0
        self._sock = sock
        self._asked_at = 0.0
        self._answered = threading.Event()
        self._answered.set()

    @property
    def alive(self) -> bool:
        """Whether channels can still be opened on it, as far as anybody knows."""
        return self.transport.is_active()

    def free(self, now: float) -> bool:
        """Whether another channel may be tried on it."""
        return self.alive and self.users < SESSIONS and self.full_until <= now

    def check(self, now: float, timing: Timing) -> bool:
        """Ask for a sign of life now and then; False where the last one never came."""
        if not self._answered.is_set():
            return now - self._asked_at < timing.dead
        if now - self._asked_at >= timing.beat:
            self._asked_at = now
            self._answered.clear()
            threading.Thread(target=self._ask, name="ssh-beat", daemon=True).start()
        return True

    def _ask(self) -> None:
        # The answer may be "no such request": any answer is a sign of life.
        with contextlib.suppress(Exception):
            self.transport.global_request("keepalive@openssh.com", wait=True)
        self._answered.set()

    def close(self) -> None:
        """End the transport's thread and close its socket, whatever state they are in."""
        # A peer that takes no bytes would keep the transport's thread in a send.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        # Its timer thread would outlive a handshake that failed.
        self.transport.packetizer.complete_handshake()
        self.transport.close()
        self._sock.close()


@dataclass(slots=True)
class Site:
    """All connections to one endpoint."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    connections: list[Connection] = field(default_factory=list)


class Session:
    """One open channel, and the place on its connection that it takes until closed."""

    def __init__(self, site: Site, connection: Connection, channel: paramiko.Channel) -> None:
        self.channel = channel
        self._site = site
        self._connection: Connection | None = connection

    @property
    def connected(self) -> bool:
        """Whether the connection under the channel still stands."""
        return self._connection is not None and self._connection.alive

    def close(self) -> None:
        """Close the channel and give its place back. May be called again."""
        self.channel.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            _release(self._site, connection)


def _release(site: Site, connection: Connection) -> None:
    with site.lock:
        connection.users -= 1
        connection.idle_since = time.monotonic()


class Pool:
    """The connections of this process, by endpoint. Safe for use by many threads."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.on_tick: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._forget()
        self._closed = threading.Event()

    def _forget(self) -> None:
        self._sites: dict[Endpoint, Site] = {}
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._keeper: threading.Thread | None = None
        self._pid = os.getpid()

    def open(self, endpoint: Endpoint) -> Session:
        """A new channel to ``endpoint``. Raises ConnectFailed; ConnectionLost once closed."""
        until = time.monotonic() + OPENING
        for _ in range(CONNECTIONS + TRIES):
            if time.monotonic() > until:
                break
            site, connection = self._reserve(endpoint)
            try:
                channel = connection.transport.open_session(timeout=15)
            except (paramiko.SSHException, EOFError, OSError):
                # Two different exceptions mean "too many sessions"; a dead transport, a third.
                connection.full_until = time.monotonic() + RESTING
                _release(site, connection)
                continue
            except BaseException:
                _release(site, connection)
                raise
            return Session(site, connection, channel)
        raise ConnectFailed(
            "The instance accepts no further sessions. Raise MaxSessions in its sshd_config, "
            "or run fewer commands on it at a time.",
            code=ErrorCode.NO_FREE_SESSION,
        )

    def connections(self, endpoint: Endpoint) -> int:
        """How many living connections there are to ``endpoint``."""
        site = self._sites.get(endpoint)
        return 0 if site is None else sum(each.alive for each in list(site.connections))

    def close(self) -> None:
        """Close every connection. Whoever waits on one of their channels sees its end."""
        self._closed.set()
        with self._lock:
            sites, self._sites = list(self._sites.values()), {}
            keeper, self._keeper = self._keeper, None
        for site in sites:
            with site.lock:
                connections, site.connections = site.connections, []
            for connection in connections:
                connection.close()
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(10)

    def _reserve(self, endpoint: Endpoint) -> tuple[Site, Connection]:
        site = self._site(endpoint)
        # Held while connecting, so that ten callers at once make one connection.
        with site.lock:
            now = time.monotonic()
            connection = next((each for each in site.connections if each.free(now)), None)
            if connection is None:
                dead = [each for each in site.connections if not each.alive]
                site.connections = [each for each in site.connections if each.alive]
                for each in dead:
                    each.close()
                if len(site.connections) >= CONNECTIONS:
                    connection = min(site.connections, key=lambda each: each.users)
                else:
                    connection = self._connect(endpoint)
                    site.connections.append(connection)
            connection.users += 1
            if self._closed.is_set():
                connection.close()
                raise ConnectionLost("The console is shutting down.")
            return site, connection

    def _site(self, endpoint: Endpoint) -> Site:
        with self._lock:
            if self._closed.is_set():
                raise ConnectionLost("The console is shutting down.")
            if self._pid != os.getpid():
                # Forked: the sockets are the parent's, and its threads do not exist here.
                self._forget()
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="ssh-keeper", daemon=True)
                self._keeper.start()
            return self._sites.setdefault(endpoint, Site())

    def _connect(self, endpoint: Endpoint) -> Connection:
        for attempt in range(1, TRIES + 1):
            with self._handshakes:
                try:
                    return connect(endpoint, self.timing)
                except _Dropped as error:
                    if attempt == TRIES:
                        raise error.failure from error
            self._closed.wait(random.uniform(0.2, 0.6) * attempt)  # noqa: S311 - not a secret
            if self._closed.is_set():
                raise ConnectionLost("The console is shutting down.")
        raise AssertionError("unreachable")

    def _keep(self) -> None:
        while not self._closed.wait(1.0):
            with self._lock:
                sites = list(self._sites.values())
            for site in sites:
                self._tend(site)
            for tick in self.on_tick:
                tick()

    def _tend(self, site: Site) -> None:
        if not site.lock.acquire(blocking=False):
            return  # Somebody connects; the next round will do.
        try:
            now = time.monotonic()
            over = [each for each in site.connections if self._is_over(each, now)]
            site.connections = [each for each in site.connections if each not in over]
        finally:
            site.lock.release()
        for connection in over:
            connection.close()

    def _is_over(self, connection: Connection, now: float) -> bool:
        if not connection.alive:
            return True
        if connection.users:
            return not connection.check(now, self.timing)
        return now - connection.idle_since > self.timing.idle


class _Dropped(Exception):
    """sshd closed the connection before it said who it is: worth another try."""

    def __init__(self, failure: ConnectFailed) -> None:
        super().__init__(failure.message)
        self.failure = failure


def connect(endpoint: Endpoint, timing: Timing) -> Connection:
    """Connect, compare the host key, sign in. Raises ConnectFailed, or _Dropped to retry."""
    kind, blob = pinned_key(endpoint.host_key)
    key = None if endpoint.password else private_key(endpoint)
    sock = _dial(endpoint, timing)
    try:
        transport = paramiko.Transport(sock)
    except BaseException:
        sock.close()
        raise
    connection = Connection(transport, sock)
    try:
        _handshake(transport, endpoint, kind, blob, timing)
        _sign_in(transport, endpoint, key, timing)
        transport.set_keepalive(int(timing.beat))
    except BaseException:
        connection.close()
        raise
    return connection


def pinned_key(text: str) -> tuple[str, bytes]:
    """Type and bytes of a public key line. Raises ConnectFailed: nothing usable is pinned."""
    words = text.split()
    try:
        return words[0], base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        raise ConnectFailed(
            "No host key is recorded for this instance. Fetch and confirm it first.",
            code=ErrorCode.HOST_KEY_UNKNOWN,
        ) from None


def private_key(endpoint: Endpoint) -> paramiko.PKey:
    """The key to sign in with. Raises ConnectFailed with CREDENTIAL_UNUSABLE."""
    data, passphrase = endpoint.private_key.strip().encode() + b"\n", endpoint.passphrase.encode()
    # Not paramiko's own parser: 5.1 fails on half of all ECDSA keys in OpenSSH's format.
    load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    try:
        return _wrapped(load(data, passphrase or None))
    except TypeError:
        reason = "it has no passphrase" if passphrase else "it needs a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        reason = "it is not a private key that the console can read"
        if passphrase:
            reason = "the passphrase does not open it"
    raise ConnectFailed(
        f"The private key cannot be used: {reason}. Store another key or passphrase.",
        code=ErrorCode.CREDENTIAL_UNUSABLE,
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


def _dial(endpoint: Endpoint, timing: Timing) -> socket.socket:
    where = f"{endpoint.host} port {endpoint.port}"
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=timing.connect)
    except ConnectionRefusedError:
        text = f"{where} refused the connection. Is sshd running there, and the port right?"
        raise ConnectFailed(text, code=ErrorCode.CONNECTION_REFUSED) from None
    except TimeoutError:
        text = f"{where} did not answer in {timing.connect:g} s. Check address and firewall."
        raise ConnectFailed(text, code=ErrorCode.CONNECTION_TIMEOUT) from None
    except (OSError, UnicodeError, OverflowError) as error:
        text = f"{where} cannot be reached: {_reason(error)}. Check address and network."
        raise ConnectFailed(text, code=ErrorCode.INSTANCE_UNREACHABLE) from None
    # Before the handshake: Nagle's delay triples the time that one takes.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The kernel gives up on a peer that acknowledges nothing, even in the middle of a send.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timing.dead * 1000))
    return sock


def _handshake(
    transport: paramiko.Transport, endpoint: Endpoint, kind: str, blob: bytes, timing: Timing
) -> None:
    # Longer than ours, so that it is never a silent server that is taken for a busy one.
    transport.banner_timeout = timing.handshake + 5
    transport.auth_timeout = timing.handshake
    changed = ConnectFailed(
        f"The host key of {endpoint.host} is not the recorded one. If the server was rebuilt, "
        "confirm its new key; if not, somebody may be in between.",
        code=ErrorCode.HOST_KEY_CHANGED,
    )
    try:
        transport.get_security_options().key_types = _RSA if kind == "ssh-rsa" else (kind,)
    except ValueError:
        text = f"Host keys of type {kind} are not supported. Record a key of another type."
        raise ConnectFailed(text, code=ErrorCode.HOST_KEY_UNKNOWN) from None
    try:
        transport.start_client(timeout=timing.handshake)
    except (paramiko.SSHException, EOFError, OSError) as error:
        if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            if "host key" in str(error).lower():
                raise changed from None
            raise _protocol(endpoint, error) from None
        if not transport.remote_version or isinstance(error, EOFError | ConnectionResetError):
            raise _Dropped(_protocol(endpoint, error)) from None
        raise _protocol(endpoint, error) from None
    if not transport.initial_kex_done:
        text = f"{endpoint.host} port {endpoint.port} did not finish an SSH handshake in time."
        raise ConnectFailed(text, code=ErrorCode.CONNECTION_TIMEOUT)
    found = transport.get_remote_server_key()
    if found.get_name() != kind or found.asbytes() != blob:
        raise changed


def _sign_in(
    transport: paramiko.Transport, endpoint: Endpoint, key: paramiko.PKey | None, timing: Timing
) -> None:
    try:
        if key is None:
            more = transport.auth_password(endpoint.user, endpoint.password)
        else:
            more = transport.auth_publickey(endpoint.user, key)
    except paramiko.AuthenticationException as error:
        if transport.is_active() or not isinstance(error.__cause__, EOFError):
            raise _refused(endpoint, key) from None
        raise _protocol(endpoint, error) from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _protocol(endpoint, error) from None
    if more or not transport.is_authenticated():
        raise _refused(endpoint, key)


def _refused(endpoint: Endpoint, key: paramiko.PKey | None) -> ConnectFailed:
    if key is None:
        advice = "Check user name and password, and whether sshd allows passwords."
    else:
        advice = f"Is {key.get_name()} {key.fingerprint} in that user's authorized_keys?"
    text = f"{endpoint.host} did not let {endpoint.user} sign in. {advice}"
    return ConnectFailed(text, code=ErrorCode.SIGN_IN_REFUSED)


def _protocol(endpoint: Endpoint, error: BaseException) -> ConnectFailed:
    text = (
        f"{endpoint.host} port {endpoint.port} did not complete an SSH handshake: "
        f"{_reason(error)}. Is it an SSH server, and is it overloaded?"
    )
    return ConnectFailed(text, code=ErrorCode.PROTOCOL_ERROR)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in errno.errorcode and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__
