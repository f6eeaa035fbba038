"""Warm SSH connections: few handshakes, the right host key, nothing leaked.

A handshake costs an instance some 20 ms of processor time and a console ten times the time of
a command on an open connection. So each process keeps one connection for each endpoint, opens
a channel on it for each operation, and closes it when it has been idle for a while. A second
connection is made only where the instance refuses more channels (``MaxSessions``).

One thread for the whole pool, the keeper, closes idle connections and asks each busy one for
a sign of life: a peer that accepts bytes but never answers is as dead as one that is gone.

A connection is made in a thread of its own, an *attempt*, with no lock held. Whoever needs that
connection waits for the attempt and shares its failure; closing the pool, or abandoning one
call, wakes those who wait at once, whatever the attempt itself is waiting for.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
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

from commands.errors import ConnectFailed, ConnectionLost, ExecutionError
from commands.execution.executor import Endpoint
from commands.rules.status import ErrorCode

SESSIONS = 10
"""Channels tried on one connection: OpenSSH's default ``MaxSessions``."""
CHANNEL = 15.0
"""Seconds for the answer to the request for a channel."""
CONNECTIONS = 16
"""Connections at most to one endpoint."""
HANDSHAKES = 16
"""Handshakes at a time in one process; more than this were no faster when measured."""
TRIES = 4
"""Attempts where sshd drops a new connection because too many are signing in."""
OPENING = 45.0
"""Seconds after which no further attempt at a channel is begun."""
QUIET = 1.0
"""Seconds after which the thread of a silent connection looks around, and goes on waiting.

Paramiko's own 0.1 costs a console with a thousand open connections a third of a processor.
Nothing waits for it: what arrives, and the end of a socket, wake the thread at once.
"""
RESTING = 2.0
"""Seconds before a connection that refused a channel is asked for one again."""

log = logging.getLogger(__name__)

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
    """One signed-in transport. ``users`` and ``idle_since`` are guarded by the pool's lock.

    ``system`` is what the other side is called, once somebody has asked (holding ``naming``).
    """

    def __init__(self, transport: paramiko.Transport, sock: socket.socket) -> None:
        self.transport = transport
        self.users = 0
        self.idle_since = time.monotonic()
        self.full_until = 0.0
        self.system: str | None = None
        self.naming = threading.Lock()
        self._sock = sock
        self._asking = threading.Lock()
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

    def idle(self, now: float, limit: float) -> bool:
        """Whether nobody has used it for ``limit`` seconds."""
        return not self.users and now - self.idle_since > limit

    def check(self, now: float, timing: Timing) -> bool:
        """Ask for a sign of life now and then; False where the last one never came."""
        if not self._answered.is_set():
            return now - self._asked_at < timing.dead
        if now - self._asked_at >= timing.beat:
            self.ask()
        return True

    def ask(self) -> None:
        """Ask for a sign of life, unless somebody did and waits for it. Returns at once."""
        with self._asking:
            # Paramiko keeps one answer for each transport: there may be one question at a time.
            if not self._answered.is_set():
                return
            self._asked_at = time.monotonic()
            self._answered.clear()
        try:
            threading.Thread(target=self._ask, name="ssh-beat", daemon=True).start()
        except RuntimeError:
            # No thread to be had: that says nothing about the instance.
            self._answered.set()
            raise

    def answers(self, until: float) -> bool:
        """Whether the answer to ``ask`` has come, or does before the monotonic time ``until``."""
        return self._answered.wait(max(0.0, until - time.monotonic())) and self.alive

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
        with contextlib.suppress(Exception):
            # Its timer thread would outlive a handshake that failed.
            self.transport.packetizer.complete_handshake()
            self.transport.close()
        with contextlib.suppress(OSError):
            self._sock.close()


class Session:
    """One open channel, and the place on its connection that it takes until closed."""

    def __init__(
        self,
        channel: paramiko.Channel,
        connection: Connection,
        release: Callable[[Connection], None],
    ) -> None:
        self.channel = channel
        self._connection = connection
        self._release = release
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether it is open, its connection still stands, and both are this process's own."""
        return not self._closed and self._pid == os.getpid() and self._connection.alive

    def exit_code(self, patience: float) -> int | None:
        """What the program of an ended channel exited with; None if that is not told in time."""
        told = self.channel.status_event.wait(patience) and self.channel.exit_status >= 0
        return self.channel.exit_status if told else None

    def broken(self, patience: float) -> bool:
        """Whether the connection under the channel has ended, or does within ``patience`` s.

        A transport that dies closes its channels first, and only then says that it is dead.
        """
        self._connection.transport.join(patience)
        return not self._connection.alive

    def close(self) -> None:
        """Close the channel and give its place back. Raises nothing; may be called again."""
        with self._lock:
            closed, self._closed = self._closed, True
        # In a forked child the socket is the parent's: not a byte may be sent on it.
        if closed or self._pid != os.getpid():
            return
        try:
            # On a transport that broke unnoticed it raises EOFError, SSHException and others.
            with contextlib.suppress(Exception):
                self.channel.close()
        finally:
            self._release(self._connection)

    def close_soon(self) -> None:
        """The same without waiting: closing says goodbye, and the peer may take no bytes."""
        threading.Thread(target=self.close, name="ssh-close", daemon=True).start()


class Call:
    """An operation in progress, which another thread may end.

    ``due`` is the monotonic time after which ``cut`` should be called, while there is one.
    """

    def __init__(self, run_id: str = "") -> None:
        self.run_id = run_id
        self.due: float | None = None
        self.woken = threading.Event()
        self._session: Session | None = None
        self._abandoned = False

    def check(self) -> None:
        """Raise ConnectionLost where the call was abandoned."""
        if self._abandoned:
            raise ConnectionLost("The console let go of the run. What runs there goes on.")

    def use(self, session: Session) -> None:
        """Let ``session`` be what ``cut`` closes. Raises ConnectionLost as ``check`` does."""
        # This order, and the other one in `abandon`: one of the two sees what the other did.
        self._session = session
        self.check()

    def abandon(self) -> None:
        """Let the call end soon, wherever it waits. Returns at once."""
        self._abandoned = True
        self.woken.set()
        self.cut()

    def cut(self) -> None:
        """Close the session that the call uses, so that nothing waits for it any longer."""
        session, self._session = self._session, None
        if session is not None:
            session.close_soon()


class Attempt:
    """One attempt at a connection. Many may wait for it, and one may stop it."""

    def __init__(self) -> None:
        self.over = False
        self.failure: ExecutionError | None = None
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[threading.Event] = []
        self._sock: socket.socket | None = None

    def join(self, call: Call) -> None:
        """Let ``call`` be woken when this is over."""
        with self._lock:
            self._waiting.append(call.woken)
            if self.over:
                call.woken.set()

    def wait(self, call: Call) -> None:
        """Wait until it is over. Raises its failure, or what ``call.check`` raises."""
        while not self.over:
            call.woken.wait()
            call.woken.clear()
            call.check()
        if self.failure is not None:
            # Each its own: a traceback belongs to one thread.
            raise type(self.failure)(self.failure.message, code=self.failure.code)

    def settle(self, failure: ExecutionError | None) -> None:
        """Wake everybody. Only the first call decides."""
        with self._lock:
            if self.over:
                return
            self.failure, self.over = failure, True
            for each in self._waiting:
                each.set()

    def hold(self, sock: socket.socket) -> None:
        """Let ``stop`` shut ``sock`` down. Raises ConnectionLost where it was stopped."""
        with self._lock:
            self._sock = sock
        self.check()

    def check(self) -> None:
        """Raise ConnectionLost where it was stopped."""
        if self.stopped.is_set():
            raise _closing()

    def stop(self) -> None:
        """Let it end soon and free those who wait for it. Returns at once."""
        self.stopped.set()
        with self._lock:
            sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.settle(_closing())


@dataclass(slots=True)
class Site:
    """All connections to one endpoint, and the attempt at one more."""

    connections: list[Connection] = field(default_factory=list)
    attempt: Attempt | None = None

    def choose(self, now: float) -> Connection | None:
        """The connection to use; None where another one should be made."""
        alive = [each for each in self.connections if each.alive]
        free = next((each for each in alive if each.free(now)), None)
        if free is None and len(alive) >= CONNECTIONS:
            return min(alive, key=lambda each: each.users)
        return free


class Pool:
    """The connections of this process, by endpoint. Safe for use by many threads."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.on_tick: list[Callable[[], None]] = []
        # Guards all that follows, and is never held while anything is waited for.
        self._lock = threading.Lock()
        self._forget()
        self._closed = threading.Event()

    def _forget(self) -> None:
        self._sites: dict[Endpoint, Site] = {}
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._keeper: threading.Thread | None = None
        self._pid = os.getpid()

    def open(self, endpoint: Endpoint, call: Call | None = None) -> Session:
        """A new channel to ``endpoint``.

        Raises ConnectFailed, or ConnectionLost once closed and when ``call`` is abandoned.
        """
        call, until = call or Call(), time.monotonic() + OPENING
        for _ in range(CONNECTIONS + TRIES):
            if time.monotonic() > until:
                break
            session = self._session(self._reserve(endpoint, call))
            if session is not None:
                return session
        raise ConnectFailed(
            "The instance accepts no further sessions. Raise MaxSessions in its sshd_config, "
            "or run fewer commands on it at a time.",
            code=ErrorCode.NO_FREE_SESSION,
        )

    def open_on(self, connection: Connection) -> Session | None:
        """A new channel on this very connection; None where it has no place for one."""
        with self._lock:
            if not connection.free(time.monotonic()):
                return None
            connection.users += 1
        return self._session(connection)

    def reach(self, endpoint: Endpoint, call: Call) -> Connection:
        """A connection that answers just now: one that is open, or else a new one.

        It is not reserved: it may be closed as soon as it is idle for long enough. Raises as
        ``open`` does.
        """
        connection = self._answering(endpoint)
        if connection is None:
            self._connect_once(endpoint, call)
            connection = self._answering(endpoint)
        if connection is None:
            raise ConnectFailed(
                "The instance let the console sign in, and then did not answer. Is it overloaded?",
                code=ErrorCode.CONNECTION_TIMEOUT,
            )
        return connection

    def connections(self, endpoint: Endpoint) -> int:
        """How many living connections there are to ``endpoint``."""
        with self._lock:
            site = self._sites.get(endpoint)
            return 0 if site is None else sum(each.alive for each in site.connections)

    def close(self) -> None:
        """Close every connection. Whoever waits on one of their channels sees its end.

        It does not wait for attempts: their threads end by themselves.
        """
        self._closed.set()
        with self._lock:
            ours = self._pid == os.getpid()
            sites, self._sites = list(self._sites.values()), {}
            keeper, self._keeper = self._keeper, None
        if not ours:
            return
        for site in sites:
            if site.attempt is not None:
                site.attempt.stop()
            for connection in site.connections:
                connection.close()
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(1)

    def _session(self, connection: Connection) -> Session | None:
        """A channel in the place that was reserved; None, and none reserved, if refused."""
        try:
            channel = connection.transport.open_session(timeout=CHANNEL)
        except Exception:
            # Two different exceptions mean "too many sessions"; a dead transport, others.
            connection.full_until = time.monotonic() + RESTING
            self._release(connection)
            return None
        except BaseException:
            self._release(connection)
            raise
        return Session(channel, connection, self._release)

    def _answering(self, endpoint: Endpoint) -> Connection | None:
        """An open connection that answers, the newest first. Closes what does not and is idle."""
        with self._lock:
            alive = [each for each in self._site(endpoint).connections[::-1] if each.alive]
        for each in alive:
            each.ask()
        until = time.monotonic() + self.timing.dead
        found = next((each for each in alive if each.answers(until)), None)
        if found is None:
            self._drop_idle(endpoint, alive)
        return found

    def _drop_idle(self, endpoint: Endpoint, connections: list[Connection]) -> None:
        """Close those of ``connections`` that nobody uses; the keeper sees to the others."""
        with self._lock:
            site = self._site(endpoint)
            over = [each for each in site.connections if each in connections and not each.users]
            site.connections = [each for each in site.connections if each not in over]
        for each in over:
            each.close()

    def _connect_once(self, endpoint: Endpoint, call: Call) -> None:
        """Let one more connection be made, or wait for the one that is. Raises its failure."""
        call.check()
        with self._lock:
            site = self._site(endpoint)
            attempt = site.attempt = site.attempt or self._begin(endpoint)
        attempt.join(call)
        attempt.wait(call)

    def _reserve(self, endpoint: Endpoint, call: Call) -> Connection:
        while True:
            call.check()
            with self._lock:
                site = self._site(endpoint)
                connection = site.choose(time.monotonic())
                if connection is not None:
                    connection.users += 1
                    return connection
                attempt = site.attempt = site.attempt or self._begin(endpoint)
            attempt.join(call)
            attempt.wait(call)

    def _release(self, connection: Connection) -> None:
        with self._lock:
            connection.users -= 1
            connection.idle_since = time.monotonic()

    def _site(self, endpoint: Endpoint) -> Site:
        if self._closed.is_set():
            raise _closing()
        if self._pid != os.getpid():
            # Forked: the sockets are the parent's, and its threads do not exist here.
            self._forget()
        if self._keeper is None or not self._keeper.is_alive():
            self._keeper = threading.Thread(target=self._keep, name="ssh-keeper", daemon=True)
            self._keeper.start()
        return self._sites.setdefault(endpoint, Site())

    def _begin(self, endpoint: Endpoint) -> Attempt:
        attempt = Attempt()
        threading.Thread(
            target=self._carry_out, args=(endpoint, attempt), name="ssh-connect", daemon=True
        ).start()
        return attempt

    def _carry_out(self, endpoint: Endpoint, attempt: Attempt) -> None:
        """Make a connection and add it to its site: all that the thread of an attempt does."""
        connection: Connection | None = None
        failure: ExecutionError | None = None
        try:
            connection = self._connect(endpoint, attempt)
        except ExecutionError as error:
            failure = error
        except Exception as error:
            log.exception("Connecting failed in an unknown way")
            failure = _protocol(endpoint, error)
        with self._lock:
            site = self._sites.get(endpoint)
            if site is not None and site.attempt is attempt:
                site.attempt = None
                if connection is not None:
                    connection.idle_since = time.monotonic()
                    site.connections.append(connection)
            elif connection is not None:
                # Closed meanwhile: `stop` has told everybody.
                connection.close()
        attempt.settle(failure)

    def _connect(self, endpoint: Endpoint, attempt: Attempt) -> Connection:
        """Connect, compare the host key, sign in. Raises ConnectFailed, ConnectionLost."""
        kind, blob = pinned_key(endpoint.host_key)
        key = None if endpoint.password else private_key(endpoint)
        for number in range(1, TRIES + 1):
            attempt.check()
            connection = _transport(_dial(endpoint, self.timing, attempt))
            try:
                with self._turn(attempt):
                    _handshake(connection.transport, endpoint, kind, blob, self.timing)
                    _sign_in(connection.transport, endpoint, key, self.timing)
                    connection.transport.set_keepalive(int(self.timing.beat))
                return connection
            except _Dropped as error:
                connection.close()
                if number == TRIES:
                    raise error.failure from error
            except BaseException:
                connection.close()
                raise
            attempt.stopped.wait(random.uniform(0.2, 0.6) * number)  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _turn(self, attempt: Attempt) -> Iterator[None]:
        """Wait for one of the places for handshakes, which cost processor time."""
        places = self._handshakes
        while not places.acquire(timeout=0.5):
            attempt.check()
        try:
            yield
        finally:
            places.release()

    def _keep(self) -> None:
        while not self._closed.wait(1.0):
            for act in (self._tend, *self.on_tick):
                try:
                    act()
                except Exception:
                    # Without the keeper a hung instance would be waited for without end.
                    log.exception("The keeper of the connections goes on after an error")

    def _tend(self) -> None:
        """Close what is dead or idle, forget who has no connection, ask the busy for a sign.

        What is forgotten here takes keys and passwords with it.
        """
        now = time.monotonic()
        over: list[Connection] = []
        busy: list[Connection] = []
        with self._lock:
            for endpoint, site in list(self._sites.items()):
                for each in site.connections:
                    if not each.alive or each.idle(now, self.timing.idle):
                        over.append(each)
                    elif each.users:
                        busy.append(each)
                site.connections = [each for each in site.connections if each not in over]
                if not site.connections and site.attempt is None:
                    del self._sites[endpoint]
        for connection in over:
            connection.close()
        for connection in busy:
            if not connection.check(now, self.timing):
                connection.close()


class _Dropped(Exception):
    """sshd closed the connection before it said who it is: worth another try."""

    def __init__(self, failure: ConnectFailed) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _closing() -> ConnectionLost:
    return ConnectionLost("The console is shutting down.")


def _transport(sock: socket.socket) -> Connection:
    try:
        transport = paramiko.Transport(sock)
        sock.settimeout(QUIET)
        return Connection(transport, sock)
    except BaseException:
        sock.close()
        raise


def pinned_key(text: str) -> tuple[str, bytes]:
    """Type and bytes of a public key line. Raises ConnectFailed: nothing usable is pinned."""
    words = text.split()
    try:
        return words[0], base64.b64decode(words[1], validate=True)
    except (IndexError, ValueError):
        raise ConnectFailed(
            "No host key is recorded for this instance. Fetch and confirm it first.",
            code=ErrorCode.HOST_KEY_UNKNOWN,
        ) from None


def private_key(endpoint: Endpoint) -> paramiko.PKey:
    """The key to sign in with. Raises ConnectFailed with CREDENTIAL_UNUSABLE."""
    passphrase = endpoint.passphrase
    # Not paramiko's own parser: 5.1 fails on half of all ECDSA keys in OpenSSH's format.
    load = load_ssh_private_key if "BEGIN OPENSSH" in endpoint.private_key else load_pem_private_key
    try:
        data = endpoint.private_key.strip().encode() + b"\n"
        return _wrapped(load(data, passphrase.encode() or None))
    except TypeError:
        reason = "it has no passphrase" if passphrase else "it needs a passphrase"
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
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


def _dial(endpoint: Endpoint, timing: Timing, attempt: Attempt) -> socket.socket:
    where = f"{endpoint.host} port {endpoint.port}"
    try:
        sock = _connected(endpoint, timing.connect, attempt)
    except ConnectionRefusedError:
        text = f"{where} refused the connection. Is sshd running there, and the port right?"
        raise ConnectFailed(text, code=ErrorCode.CONNECTION_REFUSED) from None
    except TimeoutError:
        text = f"{where} did not answer in {timing.connect:g} s. Check address and firewall."
        raise ConnectFailed(text, code=ErrorCode.CONNECTION_TIMEOUT) from None
    except (OSError, ValueError, OverflowError) as error:
        text = f"{where} cannot be reached: {_reason(error)}. Check address and network."
        raise ConnectFailed(text, code=ErrorCode.INSTANCE_UNREACHABLE) from None
    # Before the handshake: Nagle's delay triples the time that one takes.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The kernel gives up on a peer that acknowledges nothing, even in the middle of a send.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timing.dead * 1000))
    return sock


def _connected(endpoint: Endpoint, limit: float, attempt: Attempt) -> socket.socket:
    """``socket.create_connection``, but ``attempt`` may stop it; ``limit`` is for all addresses."""
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
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
    except Exception as error:
        # Whatever the transport's thread died of is raised here, also a ValueError.
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
    except Exception as error:
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
