"""Warm SSH connections: few handshakes, the right host key, nothing leaked.

A handshake costs an instance some 20 ms of processor time and a console ten times the time of
a command on an open connection. So each process keeps one connection for each endpoint, opens
a channel on it for each operation, and closes it when it has been idle for a while. A second
connection is made only where the instance refuses more channels (``MaxSessions``).

One thread for the whole pool, the keeper, closes idle connections and asks each busy one for
a sign of life: a peer that accepts bytes but never answers is as dead as one that is gone.

An instance with a jump host is reached through a channel of a connection to that host. Such a
connection is one like any other: kept, shared, limited, asked for signs of life. Whatever goes
through it takes a place on it, keeps it busy, and ends with it.

A connection is made in a thread of its own, an *attempt*, with no lock held. Whoever needs that
connection waits for the attempt and shares its failure; closing the pool, or abandoning one
call, wakes those who wait at once, whatever the attempt itself is waiting for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import paramiko

from commands.errors import ConnectFailed, ConnectionLost, ExecutionError
from commands.execution import forwarding, sentences
from commands.execution.dialing import (
    Dropped,
    Link,
    Timing,
    dial,
    dropped,
    handshake,
    pinned_key,
    private_key,
    protocol_error,
    refuse,
    sign_in,
)
from commands.execution.executor import Endpoint
from commands.execution.forwarding import Refused, Transport, Tunnel
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
ANSWERS = 2.0
"""Seconds for a sign of life from a jump host where an instance gave none."""
QUIET = 1.0
"""Seconds after which the thread of a silent connection looks around, and goes on waiting.

Paramiko's own 0.1 costs a console with a thousand open connections a third of a processor.
Nothing waits for it: what arrives, and the end of a socket, wake the thread at once.
"""
RESTING = 2.0
"""Seconds before a connection that refused a channel is asked for one again."""

log = logging.getLogger(__name__)


class Connection:
    """One signed-in transport. ``users`` and ``idle_since`` are guarded by the pool's lock.

    ``system`` is what the other side is called, once somebody has asked (holding ``naming``).
    """

    def __init__(self, transport: Transport, sock: Link) -> None:
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

    @property
    def host_key_fingerprint(self) -> str:
        """That of the host key which its connection presented: ``SHA256:…``."""
        key = self._connection.transport.host_key
        return key.fingerprint if key is not None else ""

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

    def leave(self) -> None:
        """The same, in a thread only where there is somebody to say goodbye to."""
        if self.connected:
            self.close_soon()
        else:
            self.close()


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
        self._sock: Link | None = None

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

    def hold(self, sock: Link) -> None:
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
        try:
            session = self._opened(partial(self._reserve, endpoint, call or Call()), self._session)
        except _Broke:
            raise dropped(endpoint) from None
        if session is None:
            raise ConnectFailed(sentences.NO_SESSION, code=ErrorCode.NO_FREE_SESSION)
        return session

    def tunnel(self, jump: Endpoint, host: str, port: int, call: Call | None = None) -> Tunnel:
        """A way to ``host`` through a channel of a connection to ``jump``.

        Raises as ``open`` does; the sentence names the jump host where that is the cause.
        """
        if jump.jump is not None:
            raise forwarding.no_chain(jump)

        def reserve() -> Connection:
            try:
                return self._reserve(jump, call or Call())
            except ConnectFailed as error:
                raise forwarding.of_jump_host(jump, error) from None

        try:
            session = self._opened(reserve, partial(self._forward, jump, host, port))
        except _Broke:
            raise forwarding.of_jump_host(jump, dropped(jump)) from None
        if session is None:
            raise forwarding.no_room(jump)
        return Tunnel(session.channel, session.leave)

    def _opened(
        self,
        reserve: Callable[[], Connection],
        act: Callable[[Connection], Session | None],
    ) -> Session | None:
        """What ``act`` makes of a reserved place; None if all connections refused for long.

        Raises _Broke where they ended instead.
        """
        until, broken = time.monotonic() + OPENING, 0
        for _ in range(CONNECTIONS + TRIES):
            if time.monotonic() > until:
                break
            connection = reserve()
            session = act(connection)
            if session is not None:
                return session
            broken = 0 if connection.alive else broken + 1
            if broken == TRIES:
                break
        if broken:
            raise _Broke
        return None

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
            raise ConnectFailed(sentences.HUNG_INSTANCE, code=ErrorCode.CONNECTION_TIMEOUT)
        return connection

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed.is_set()

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

    def _forward(
        self, jump: Endpoint, host: str, port: int, connection: Connection
    ) -> Session | None:
        """As ``_session``, but a channel that is forwarded to ``host``. Raises ConnectFailed."""
        limit = self.timing.connect
        try:
            channel = connection.transport.forward(host, port, limit)
        except Refused as error:
            self._release(connection)
            if not error.for_now:
                raise forwarding.not_forwarded(host, port, error) from None
        except Exception:
            # It broke, or time is up; and who is it then that does not answer?
            alive, well = connection.alive, self._still_answers(connection)
            self._release(connection)
            if alive and well:
                raise forwarding.unanswered(host, port, limit) from None
            if alive:
                self._drop_idle(jump, [connection])
                raise forwarding.hung(jump) from None
        except BaseException:
            self._release(connection)
            raise
        else:
            return Session(channel, connection, self._release)
        connection.full_until = time.monotonic() + RESTING
        return None

    @staticmethod
    def _still_answers(connection: Connection) -> bool:
        if not connection.alive:
            return False
        connection.ask()
        return connection.answers(time.monotonic() + ANSWERS)

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
        """A place on a connection. Raises _Broke where each ends before anybody has used it."""
        broken = 0
        while broken < TRIES:
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
            # Others may have been faster to take its places, which says nothing about it.
            broken = 0 if self.connections(endpoint) else broken + 1
        raise _Broke

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
            failure = protocol_error(endpoint, error)
        with self._lock:
            site = self._sites.get(endpoint)
            if site is not None and site.attempt is attempt:
                site.attempt = None
                if connection is not None:
                    connection.idle_since = time.monotonic()
                    site.connections.append(connection)
                    connection = None
        if connection is not None:
            # Closed meanwhile: `stop` has told everybody. It may give back a place: no lock here.
            connection.close()
        attempt.settle(failure)

    def _connect(self, endpoint: Endpoint, attempt: Attempt) -> Connection:
        """Connect, compare the host key, sign in. Raises ConnectFailed, ConnectionLost."""
        kind, blob = pinned_key(endpoint.host_key)
        key = None
        if not endpoint.password:
            key = private_key(endpoint.private_key, endpoint.passphrase)
        for number in range(1, TRIES + 1):
            attempt.check()
            connection = _transport(self._link(endpoint, attempt))
            try:
                with self._turn(attempt):
                    handshake(connection.transport, endpoint, kind, blob, self.timing)
                    sign_in(connection.transport, endpoint, key, self.timing)
                    connection.transport.set_keepalive(int(self.timing.beat))
                return connection
            except Dropped as error:
                connection.close()
                if number == TRIES:
                    raise error.failure from error
            except BaseException:
                connection.close()
                raise
            attempt.stopped.wait(random.uniform(0.2, 0.6) * number)  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    def _link(self, endpoint: Endpoint, attempt: Attempt) -> Link:
        """A socket to the endpoint, or a way through its jump host. Raises as ``_connect``."""
        if endpoint.jump is None:
            return dial(endpoint, self.timing, attempt)
        refuse(endpoint.host, endpoint.allowed)
        tunnel = self.tunnel(endpoint.jump, endpoint.host, endpoint.port)
        try:
            attempt.hold(tunnel)
        except BaseException:
            tunnel.close()
            raise
        return tunnel

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


class _Broke(Exception):
    """Connections end before anything can be done on them."""


def _closing() -> ConnectionLost:
    return ConnectionLost("The console is shutting down.")


def _transport(sock: Link) -> Connection:
    try:
        transport = Transport(sock)
        sock.settimeout(QUIET)
        return Connection(transport, sock)
    except BaseException:
        sock.close()
        raise
