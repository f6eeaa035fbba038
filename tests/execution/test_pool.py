"""Connections: reused, limited, pinned, replaced, and closed without leftovers."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import re
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution import dialing
from commands.execution.executor import Endpoint, Offsets
from commands.execution.pool import Call, Pool, Timing
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.execution.contract import Rig, together
from tests.sshd import Sshd, ssh_keygen


@pytest.fixture
def pool() -> Iterator[Pool]:
    threads = threading.active_count()
    pool = Pool(Timing(connect=30, handshake=60))
    yield pool
    pool.close()
    until = time.monotonic() + 30
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() <= threads, threading.enumerate()


def refusal(pool: Pool, endpoint: Endpoint) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        pool.open(endpoint)
    return caught.value


def test_ten_callers_one_connection(pool: Pool, sshd: Sshd) -> None:
    sessions = together(10, lambda _: pool.open(sshd.endpoint))
    assert pool.connections(sshd.endpoint) == 1
    for each in sessions:
        each.close()


def test_an_idle_connection_hardly_wakes(pool: Pool, sshd: Sshd) -> None:
    with contextlib.closing(pool.open(sshd.endpoint)) as session:
        transport = session.channel.get_transport()
        tid = transport.native_id
        time.sleep(0.2)
        before, began = switches(tid), time.monotonic()
        time.sleep(1)
        woken, took = switches(tid) - before, time.monotonic() - began
        # Paramiko's own way is ten times a second, for each connection.
        assert woken < 6 * took


def switches(tid: int | None) -> int:
    """How often a thread of this process has gone to sleep so far."""
    status = Path(f"/proc/self/task/{tid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[0])


def test_a_dead_connection_is_replaced(pool: Pool, sshd: Sshd) -> None:
    pool.open(sshd.endpoint).close()
    sshd.kill_sessions()
    time.sleep(0.3)
    pool.open(sshd.endpoint).close()
    assert pool.connections(sshd.endpoint) == 1


def test_idle_connections_are_closed(sshd: Sshd) -> None:
    pool = Pool(Timing(idle=0.2))
    pool.open(sshd.endpoint).close()
    until = time.monotonic() + 60
    while pool.connections(sshd.endpoint) and time.monotonic() < until:
        time.sleep(0.05)
    assert pool.connections(sshd.endpoint) == 0
    pool.close()


def test_another_host_key(pool: Pool, sshd: Sshd, tmp_path: Path) -> None:
    other = ssh_keygen(tmp_path / "other")
    error = refusal(pool, dataclasses.replace(sshd.endpoint, host_key=other))
    assert error.code == ErrorCode.HOST_KEY_CHANGED
    ecdsa = ssh_keygen(tmp_path / "ecdsa", "ecdsa")
    error = refusal(pool, dataclasses.replace(sshd.endpoint, host_key=ecdsa))
    assert error.code == ErrorCode.HOST_KEY_CHANGED


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 !!", "ssh-dss AAAA"])
def test_no_usable_host_key(pool: Pool, sshd: Sshd, text: str) -> None:
    error = refusal(pool, dataclasses.replace(sshd.endpoint, host_key=text))
    assert error.code == ErrorCode.HOST_KEY_UNKNOWN


def test_a_key_that_is_not_authorized(pool: Pool, sshd: Sshd, tmp_path: Path) -> None:
    ssh_keygen(tmp_path / "key")
    key = (tmp_path / "key").read_text()
    error = refusal(pool, dataclasses.replace(sshd.endpoint, private_key=key))
    assert error.code == ErrorCode.SIGN_IN_REFUSED
    assert "authorized_keys" in error.message


def test_unusable_keys(pool: Pool, sshd: Sshd, tmp_path: Path) -> None:
    error = refusal(pool, dataclasses.replace(sshd.endpoint, private_key="no key"))
    assert error.code == ErrorCode.CREDENTIAL_UNUSABLE
    ssh_keygen(tmp_path / "key", passphrase="right")
    locked = dataclasses.replace(sshd.endpoint, private_key=(tmp_path / "key").read_text())
    error = refusal(pool, locked)
    assert (error.code, "passphrase" in error.message) == (ErrorCode.CREDENTIAL_UNUSABLE, True)
    error = refusal(pool, dataclasses.replace(locked, passphrase="wrong"))
    assert (error.code, "passphrase" in error.message) == (ErrorCode.CREDENTIAL_UNUSABLE, True)
    error = refusal(pool, dataclasses.replace(locked, passphrase="right"))
    assert error.code == ErrorCode.SIGN_IN_REFUSED


def test_a_password_that_is_refused(pool: Pool, sshd: Sshd) -> None:
    error = refusal(pool, dataclasses.replace(sshd.endpoint, private_key="", password="x"))
    assert error.code == ErrorCode.SIGN_IN_REFUSED


def test_a_server_that_ends_it_after_too_many_tries_has_refused(tmp_path: Path) -> None:
    """It says so by disconnecting, and not by an answer to the last try."""
    ssh_keygen(tmp_path / "key")
    pool = Pool()
    with Sshd.started(tmp_path, MaxAuthTries=1) as [server], contextlib.closing(pool):
        key = (tmp_path / "key").read_text()
        error = refusal(pool, dataclasses.replace(server.endpoint, private_key=key))
    assert error.code == ErrorCode.SIGN_IN_REFUSED


@pytest.mark.parametrize("delay", [0.0, 0.002, None])
def test_a_server_that_dies_at_the_sign_in_has_not_refused(
    pool: Pool, sshd: Sshd, monkeypatch: pytest.MonkeyPatch, delay: float | None
) -> None:
    """Killed before the sign-in (None: long before), or so many seconds into it."""

    def killing(transport: paramiko.Transport, *rest: Any) -> None:
        if delay is None:
            sshd.kill_sessions()
            assert eventually(lambda: not transport.is_active())
        elif not delay:
            sshd.kill_sessions()
        killer = threading.Timer(delay or 0, sshd.kill_sessions)
        killer.start()
        try:
            dialing.sign_in(transport, *rest)
        finally:
            killer.join()

    monkeypatch.setattr("commands.execution.pool.sign_in", killing)
    codes = []
    try:
        pool.open(sshd.endpoint).close()
    except ConnectFailed as error:
        codes.append(error.code)
    # Or too late, and nothing was killed.
    assert codes in ([ErrorCode.CONNECTION_DROPPED], [])


def test_connections_that_end_behind_the_sign_in(
    pool: Pool, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no lack of sessions, and no reason to sign in twenty times."""
    signed_in = []

    def killing(transport: paramiko.Transport, *rest: Any) -> None:
        dialing.sign_in(transport, *rest)
        signed_in.append(transport)
        transport.sock.shutdown(socket.SHUT_RDWR)
        transport.join(20)

    monkeypatch.setattr("commands.execution.pool.sign_in", killing)
    error = refusal(pool, sshd.endpoint)
    assert error.code == ErrorCode.CONNECTION_DROPPED
    assert "let the console sign in" in error.message
    assert len(signed_in) <= 8


def test_nobody_listens(pool: Pool, sshd: Sshd) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    error = refusal(pool, dataclasses.replace(sshd.endpoint, port=port))
    assert error.code == ErrorCode.CONNECTION_REFUSED


def test_a_name_that_does_not_exist(pool: Pool, sshd: Sshd) -> None:
    error = refusal(pool, dataclasses.replace(sshd.endpoint, host="no-such-host.invalid"))
    assert error.code == ErrorCode.INSTANCE_UNREACHABLE


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (b"", ErrorCode.CONNECTION_DROPPED),
        (b"Exceeded MaxStartups\r\n", ErrorCode.CONNECTION_DROPPED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_not_an_ssh_server(pool: Pool, sshd: Sshd, greeting: bytes, code: ErrorCode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.sendall(greeting)

        threading.Thread(target=serve, daemon=True).start()
        error = refusal(pool, dataclasses.replace(sshd.endpoint, port=server.getsockname()[1]))
        server.shutdown(socket.SHUT_RDWR)
    assert error.code == code


def test_a_server_that_says_nothing(sshd: Sshd) -> None:
    pool = Pool(Timing(connect=1, handshake=0.3))
    with socket.create_server(("127.0.0.1", 0)) as server:
        error = refusal(pool, dataclasses.replace(sshd.endpoint, port=server.getsockname()[1]))
    assert error.code == ErrorCode.BANNER_TIMEOUT
    pool.close()


def test_a_server_that_does_not_answer_a_sign_in(tmp_path: Path) -> None:
    slow = {"AuthorizedKeysCommand": "/bin/sleep 30", "AuthorizedKeysCommandUser": "root"}
    with Sshd.started(tmp_path, AuthorizedKeysFile="none", **slow) as [server]:
        pool = Pool(Timing(handshake=5))
        error = refusal(pool, server.endpoint)
        assert error.code == ErrorCode.CONNECTION_TIMEOUT
        assert "did not answer the sign-in" in error.message
        pool.close()


def test_max_startups_that_leave_no_room(tmp_path: Path) -> None:
    with (
        Sshd.started(tmp_path, MaxStartups="1", LoginGraceTime=60) as [server],
        contextlib.ExitStack() as others,
    ):

        def occupied() -> bool:
            # Until sshd has noticed that whoever came before is gone.
            other = socket.create_connection(("127.0.0.1", server.port))
            others.callback(other.close)
            time.sleep(0.05)
            return other.recv(4) == b"SSH-"

        assert any(occupied() for _ in range(100))
        pool = Pool()
        error = refusal(pool, server.endpoint)
        assert error.code == ErrorCode.CONNECTION_DROPPED
        assert "MaxStartups" in error.message
        pool.close()


def test_no_session_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.execution.pool.CONNECTIONS", 2)
    with Sshd.started(tmp_path, MaxSessions=0) as [server]:
        pool = Pool()
        error = refusal(pool, server.endpoint)
        assert error.code == ErrorCode.NO_FREE_SESSION
        assert "MaxSessions" in error.message
        assert users(pool, server.endpoint) == 0
        assert not any(
            each.transport._refusals for each in pool._sites[server.endpoint].connections
        )
        pool.close()


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_key_types(pool: Pool, tmp_path: Path, kind: str) -> None:
    with Sshd.started(tmp_path, key_type=kind) as [server]:
        session = pool.open(server.endpoint)
        assert session.connected
        session.close()


@pytest.mark.parametrize("form", ["RFC4716", "PKCS8", "PEM"])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_with_a_passphrase(
    pool: Pool, sshd: Sshd, tmp_path: Path, kind: str, form: str
) -> None:
    public = ssh_keygen(tmp_path / "key", kind, "old")
    change = ["-p", "-q", "-P", "old", "-N", "pass phrase", "-m", form]
    subprocess.run(["ssh-keygen", *change, "-f", str(tmp_path / "key")], check=True)
    with (sshd.directory / "authorized_keys").open("a") as keys:
        keys.write(public + "\n")
    given = {"private_key": (tmp_path / "key").read_text(), "passphrase": "pass phrase"}
    session = pool.open(dataclasses.replace(sshd.endpoint, **given))
    assert session.connected
    session.close()


def at_once(place: Path, number: int, count: int) -> str:
    """A script that ends when ``count`` of its kind have begun."""
    return (
        f"touch {place}/begun-{number}; until set -- {place}/begun-* && [ $# = {count} ]; "
        f"do sleep 0.1; done; echo {number}"
    )


def test_more_runs_than_sessions(executor: SshExecutor, tmp_path: Path) -> None:
    with Sshd.started(tmp_path, MaxSessions=3) as [server]:
        rig = Rig(executor, server.endpoint)
        runs = together(12, lambda i: rig.run(rig.spec(at_once(tmp_path, i, 12)))[1].stdout)
        assert runs == [f"{i}\n".encode() for i in range(12)]
        assert 4 <= executor.pool.connections(server.endpoint) <= 12
        executor.close()


def test_twelve_runs_where_sshd_has_its_defaults(
    executor: SshExecutor, sshd: Sshd, tmp_path: Path
) -> None:
    rig = Rig(executor, sshd.endpoint)
    runs = together(12, lambda i: rig.run(rig.spec(at_once(tmp_path, i, 12)))[1].stdout)
    assert runs == [f"{i}\n".encode() for i in range(12)]
    assert executor.pool.connections(sshd.endpoint) == 2


@pytest.mark.parametrize(
    "refusal",
    [paramiko.ChannelException(2, "Connect failed"), paramiko.SSHException("Unable to open")],
)
def test_both_ways_of_saying_that_there_is_no_session(
    pool: Pool, sshd: Sshd, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    real, asked = paramiko.Transport.open_session, []

    def open_session(transport: paramiko.Transport, **values: float) -> paramiko.Channel:
        asked.append(transport)
        if len(set(asked)) == 1:
            raise refusal
        return real(transport, **values)

    monkeypatch.setattr(paramiko.Transport, "open_session", open_session)
    pool.open(sshd.endpoint).close()
    assert len(set(asked)) == 2


def test_max_startups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # How many of them are dropped, and how often, is up to chance.
    monkeypatch.setattr("commands.execution.pool.TRIES", 12)
    with Sshd.started(tmp_path, MaxStartups="2:30:10") as [server]:
        executors = [SshExecutor() for _ in range(8)]
        try:
            rigs = [Rig(each, server.endpoint) for each in executors]
            runs = together(8, lambda i: rigs[i].run(rigs[i].spec("echo x"))[1].stdout)
            assert runs == [b"x\n"] * 8
        finally:
            for each in executors:
                each.close()


def test_a_closed_pool_opens_nothing(pool: Pool, sshd: Sshd) -> None:
    pool.close()
    with pytest.raises(ConnectionLost):
        pool.open(sshd.endpoint)


def test_an_account_without_a_shell(tmp_path: Path) -> None:
    with Sshd.started(tmp_path, ForceCommand="echo This account is not available.") as [server]:
        executor = SshExecutor()
        rig = Rig(executor, server.endpoint)
        with pytest.raises(ConnectFailed, match="account is not available"):
            rig.start(rig.spec("echo x"))
        executor.close()


def test_one_connection_for_a_whole_run(executor: SshExecutor, sshd: Sshd) -> None:
    rig = Rig(executor, sshd.endpoint)
    for _ in range(3):
        assert rig.run(rig.spec("echo x"))[1].reached == Offsets(2, 0)
    assert executor.pool.connections(sshd.endpoint) == 1


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()


def users(pool: Pool, endpoint: Endpoint) -> int:
    return sum(each.users for each in pool._sites[endpoint].connections)


def cannot_send(pool: Pool, endpoint: Endpoint) -> None:
    """Break the connection for sending; its reader has not noticed."""

    def dead(_: object) -> None:
        raise EOFError

    for each in pool._sites[endpoint].connections:
        each.transport.packetizer.send_message = dead  # type: ignore[method-assign] # a link that takes nothing


def test_closing_a_session_gives_its_place_back_whatever_happens(pool: Pool, sshd: Sshd) -> None:
    session = pool.open(sshd.endpoint)
    cannot_send(pool, sshd.endpoint)
    session.close()
    session.close()
    assert users(pool, sshd.endpoint) == 0
    assert not session.connected


def test_sessions_closed_by_many_threads_give_one_place_back(pool: Pool, sshd: Sshd) -> None:
    sessions = [pool.open(sshd.endpoint) for _ in range(2)]
    together(4, lambda _: sessions[0].close())
    assert users(pool, sshd.endpoint) == 1
    sessions[1].close()


def test_a_session_of_the_parent_process_is_left_alone(pool: Pool, sshd: Sshd) -> None:
    session = pool.open(sshd.endpoint)
    session._pid = -1
    session.close()
    assert not session.connected
    assert not session.channel.closed


def test_the_keeper_goes_on_after_an_error(sshd: Sshd) -> None:
    pool = Pool(Timing(idle=0.2))
    ticks = []

    def fail() -> None:
        ticks.append(1)
        raise EOFError

    pool.on_tick.append(fail)
    pool.open(sshd.endpoint).close()
    assert eventually(lambda: len(ticks) >= 2)
    assert eventually(lambda: not pool.connections(sshd.endpoint))
    pool.close()


def test_a_keeper_that_ended_is_replaced(pool: Pool, sshd: Sshd) -> None:
    pool.open(sshd.endpoint).close()
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    pool._keeper = ended
    pool.open(sshd.endpoint).close()
    assert pool._keeper is not ended
    assert pool._keeper.is_alive()


def test_what_has_no_connection_is_forgotten_with_its_key(pool: Pool, sshd: Sshd) -> None:
    class Text(str):  # noqa: SLOT000 - slots could not be watched
        """A str that can be watched."""

    secret = Text("secret")
    watch = weakref.ref(secret)
    refused = dataclasses.replace(sshd.endpoint, private_key="", password=secret)
    refusal(pool, refused)
    del secret, refused
    assert eventually(lambda: not pool._sites)
    gc.collect()
    assert watch() is None


@pytest.fixture
def silent(sshd: Sshd) -> Iterator[Endpoint]:
    """Somebody who accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield dataclasses.replace(sshd.endpoint, port=server.getsockname()[1])


@pytest.fixture
def deaf(sshd: Sshd) -> Iterator[Endpoint]:
    """Nobody: what is sent there gets no answer, as behind a firewall."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as all_,
    ):
        for _ in range(3):
            sock = all_.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        time.sleep(0.1)
        yield dataclasses.replace(sshd.endpoint, port=server.getsockname()[1])


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except (ConnectFailed, ConnectionLost) as error:
        return error.code
    return ""


@pytest.mark.parametrize("kind", ["silent", "deaf", "resolving"])
def test_close_does_not_wait_for_who_connects(
    sshd: Sshd, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = threading.Event()
    if kind == "resolving":
        endpoint = dataclasses.replace(sshd.endpoint, host="slow.invalid")
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved.wait(90) and [])
    else:
        endpoint = request.getfixturevalue(kind)
    before, pool = threading.active_count(), Pool(Timing(connect=60, handshake=60))
    answers: list[str] = []

    def call() -> None:
        answers.append(outcome(lambda: pool.open(endpoint)))

    callers = [threading.Thread(target=call) for _ in range(3)]
    for each in callers:
        each.start()
    time.sleep(0.4)
    began = time.monotonic()
    pool.close()
    for each in callers:
        each.join(30)
    assert time.monotonic() - began < 30
    assert answers == ["ConnectionLost"] * 3
    resolved.set()
    assert eventually(lambda: threading.active_count() <= before)


def test_who_waits_for_a_connection_shares_its_failure(deaf: Endpoint) -> None:
    pool = Pool(Timing(connect=4))
    began = time.monotonic()
    answers = together(6, lambda _: outcome(lambda: pool.open(deaf)))
    assert time.monotonic() - began < 20  # one after the other, they would take longer
    assert answers == [ErrorCode.CONNECTION_TIMEOUT] * 6
    pool.close()


def test_a_dead_host_does_not_delay_others(deaf: Endpoint, sshd: Sshd) -> None:
    pool = Pool(Timing(connect=30))
    dead = [dataclasses.replace(deaf, user=f"user-{number}") for number in range(20)]
    for each in dead:
        threading.Thread(target=outcome, args=(lambda each=each: pool.open(each),)).start()
    time.sleep(0.2)
    began = time.monotonic()
    pool.open(sshd.endpoint).close()
    assert time.monotonic() - began < 20
    pool.close()


def test_abandoning_one_who_connects(deaf: Endpoint) -> None:
    pool, call = Pool(Timing(connect=8)), Call("r")
    threading.Timer(0.2, call.abandon).start()
    began = time.monotonic()

    def one(number: int) -> tuple[str, float]:
        code = outcome(lambda: pool.open(deaf, call if number else None))
        return code, time.monotonic() - began

    (other, later), (abandoned, soon) = together(2, one)
    assert (other, abandoned) == (ErrorCode.CONNECTION_TIMEOUT, "ConnectionLost")
    assert soon < 7 < later
    pool.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"host": "a\0b"}, ErrorCode.INSTANCE_UNREACHABLE),
        ({"host": "a" * 70 + ".invalid"}, ErrorCode.INSTANCE_UNREACHABLE),
        ({"host_key": "ssh-ed25519 é"}, ErrorCode.HOST_KEY_UNKNOWN),
        ({"private_key": "\ud800"}, ErrorCode.CREDENTIAL_UNUSABLE),
        ({"passphrase": "\ud800"}, ErrorCode.CREDENTIAL_UNUSABLE),
    ],
)
def test_values_that_no_library_takes(
    pool: Pool, sshd: Sshd, change: dict[str, str], code: ErrorCode
) -> None:
    assert refusal(pool, dataclasses.replace(sshd.endpoint, **change)).code == code


def test_an_error_that_nobody_expected_while_connecting(
    pool: Pool, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_client(*_: object, **__: object) -> None:
        raise IndexError("short packet")

    monkeypatch.setattr("paramiko.Transport.set_keepalive", start_client)
    assert refusal(pool, sshd.endpoint).code == ErrorCode.PROTOCOL_ERROR
