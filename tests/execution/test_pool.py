"""Connections: reused, limited, pinned, replaced, and closed without leftovers."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Endpoint, Offsets
from commands.execution.pool import Pool, Timing
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.execution.contract import Rig, together
from tests.sshd import Sshd, ssh_keygen


@pytest.fixture
def pool() -> Iterator[Pool]:
    threads = threading.active_count()
    pool = Pool(Timing(connect=1, handshake=3))
    yield pool
    pool.close()
    until = time.monotonic() + 5
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


def test_a_dead_connection_is_replaced(pool: Pool, sshd: Sshd) -> None:
    pool.open(sshd.endpoint).close()
    sshd.kill_sessions()
    time.sleep(0.3)
    pool.open(sshd.endpoint).close()
    assert pool.connections(sshd.endpoint) == 1


def test_idle_connections_are_closed(sshd: Sshd) -> None:
    pool = Pool(Timing(idle=0.2))
    pool.open(sshd.endpoint).close()
    until = time.monotonic() + 4
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


def test_nobody_listens(pool: Pool, sshd: Sshd) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    error = refusal(pool, dataclasses.replace(sshd.endpoint, port=port))
    assert error.code == ErrorCode.CONNECTION_REFUSED


def test_a_name_that_does_not_exist(pool: Pool, sshd: Sshd) -> None:
    error = refusal(pool, dataclasses.replace(sshd.endpoint, host="no-such-host.invalid"))
    assert error.code == ErrorCode.INSTANCE_UNREACHABLE


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200])
def test_not_an_ssh_server(pool: Pool, sshd: Sshd, greeting: bytes) -> None:
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
    assert error.code == ErrorCode.PROTOCOL_ERROR


def test_a_server_that_says_nothing(sshd: Sshd) -> None:
    pool = Pool(Timing(connect=1, handshake=0.3))
    with socket.create_server(("127.0.0.1", 0)) as server:
        error = refusal(pool, dataclasses.replace(sshd.endpoint, port=server.getsockname()[1]))
    assert error.code == ErrorCode.CONNECTION_TIMEOUT
    pool.close()


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_key_types(pool: Pool, tmp_path: Path, kind: str) -> None:
    with Sshd.started(tmp_path, key_type=kind) as [server]:
        session = pool.open(server.endpoint)
        assert session.connected
        session.close()


def test_more_runs_than_sessions(executor: SshExecutor, tmp_path: Path) -> None:
    with Sshd.started(tmp_path, MaxSessions=3) as [server]:
        rig = Rig(executor, server.endpoint)
        runs = together(12, lambda i: rig.run(rig.spec(f"sleep 0.5; echo {i}"))[1].stdout)
        assert runs == [f"{i}\n".encode() for i in range(12)]
        assert 4 <= executor.pool.connections(server.endpoint) <= 12
        executor.close()


def test_max_startups(tmp_path: Path) -> None:
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
