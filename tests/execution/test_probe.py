"""Probes: what they find, that they cost little, and that they leave runs alone."""

from __future__ import annotations

import dataclasses
import platform
import socket
import threading
import time
from pathlib import Path

import paramiko
import pytest

from commands.errors import ConnectFailed
from commands.execution import ssh
from commands.execution.executor import Endpoint
from commands.execution.pool import Timing
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.execution.contract import Heard, Rig, together
from tests.sshd import Sshd, ssh_keygen


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[paramiko.Transport]:
    """The transports that channels were asked for on."""
    found = []
    real = paramiko.Transport.open_session

    def open_session(transport: paramiko.Transport, **values: float) -> paramiko.Channel:
        found.append(transport)
        return real(transport, **values)

    monkeypatch.setattr(paramiko.Transport, "open_session", open_session)
    return found


def test_the_name_is_asked_once_for_each_connection(
    executor: SshExecutor, sshd: Sshd, opened: list[paramiko.Transport]
) -> None:
    name = platform.freedesktop_os_release()["PRETTY_NAME"]
    assert set(together(12, lambda _: executor.probe(sshd.endpoint))) == {name}
    assert executor.probe(sshd.endpoint) == name
    assert len(opened) == 1
    assert executor.pool.connections(sshd.endpoint) == 1
    rig = Rig(executor, sshd.endpoint)
    assert rig.run(rig.spec("exit 3"))[0].exit_code == 3
    assert executor.pool.connections(sshd.endpoint) == 1
    assert len(set(opened)) == 1


def failure(executor: SshExecutor, endpoint: Endpoint) -> str:
    with pytest.raises(ConnectFailed) as caught:
        executor.probe(endpoint)
    return caught.value.code


def test_what_is_wrong(executor: SshExecutor, sshd: Sshd, tmp_path: Path) -> None:
    change = dataclasses.replace
    key = ssh_keygen(tmp_path / "key")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = change(sshd.endpoint, port=sock.getsockname()[1])
    assert failure(executor, closed) == ErrorCode.CONNECTION_REFUSED
    assert failure(executor, change(sshd.endpoint, host_key=key)) == ErrorCode.HOST_KEY_CHANGED
    stranger = change(sshd.endpoint, private_key=(tmp_path / "key").read_text())
    assert failure(executor, stranger) == ErrorCode.SIGN_IN_REFUSED


def test_a_server_that_says_nothing(sshd: Sshd) -> None:
    executor = SshExecutor(Timing(connect=1, handshake=0.3))
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = dataclasses.replace(sshd.endpoint, port=server.getsockname()[1])
        assert failure(executor, silent) == ErrorCode.BANNER_TIMEOUT
    executor.close()


def test_no_free_session_is_reachable(executor: SshExecutor, tmp_path: Path) -> None:
    with Sshd.started(tmp_path, MaxSessions=1) as [server]:
        rig = Rig(executor, server.endpoint)
        handle = rig.start(rig.spec("echo a; sleep 1; exit 3"))
        answers: list[str] = []
        heard = Heard(on_output=lambda _: answers.append(executor.probe(server.endpoint)))
        assert rig.follow(handle, heard)[0].exit_code == 3
        assert answers == [""]
        executor.acknowledge(server.endpoint, handle)
        assert executor.pool.connections(server.endpoint) == 1
        executor.close()


def test_an_account_without_a_usable_shell_is_reachable(
    tmp_path: Path, opened: list[paramiko.Transport]
) -> None:
    with Sshd.started(tmp_path, ForceCommand="echo This account is not available.") as [server]:
        executor = SshExecutor()
        assert [executor.probe(server.endpoint) for _ in range(2)] == ["", ""]
        assert len(opened) == 1
        executor.close()


def test_a_shell_that_never_answers_is_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "NAMING", 0.3)
    with Sshd.started(tmp_path, ForceCommand="sleep 30") as [server]:
        executor = SshExecutor()
        assert executor.probe(server.endpoint) == ""
        executor.close()


def test_probes_keep_no_connection_alive(sshd: Sshd) -> None:
    executor = SshExecutor(Timing(idle=1))
    executor.probe(sshd.endpoint)
    connection = executor.pool._sites[sshd.endpoint].connections[0]
    until = time.monotonic() + 60
    while connection.alive and time.monotonic() < until:
        executor.probe(sshd.endpoint)
        time.sleep(0.1)
    assert not connection.alive
    executor.close()


def test_a_connection_that_is_dead_and_idle_is_replaced(sshd: Sshd) -> None:
    executor = SshExecutor(Timing(dead=4))
    name = executor.probe(sshd.endpoint)
    stopped = sshd.sessions()
    for each in stopped:
        each.suspend()
    try:
        assert together(4, lambda _: executor.probe(sshd.endpoint)) == [name] * 4
        assert executor.pool.connections(sshd.endpoint) == 1
    finally:
        for each in stopped:
            each.resume()
    executor.close()


def test_a_connection_with_runs_on_it_is_not_closed_by_a_probe(sshd: Sshd) -> None:
    executor = SshExecutor(Timing(beat=60, dead=4))
    executor.pool._tend = lambda: None  # type: ignore[method-assign] # no housekeeping
    rig = Rig(executor, sshd.endpoint)
    handle = rig.start(rig.spec("echo a; sleep 0.2; echo b; exit 3"))
    stopped = sshd.sessions()
    for each in stopped:
        each.suspend()
    try:
        assert executor.probe(sshd.endpoint)
        assert executor.pool.connections(sshd.endpoint) == 2
    finally:
        for each in stopped:
            each.resume()
    finished, heard = rig.follow(handle)
    assert (finished.exit_code, heard.stdout) == (3, b"a\nb\n")
    executor.acknowledge(sshd.endpoint, handle)
    executor.close()


def test_a_server_that_stops_answering_once_signed_in(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = SshExecutor(Timing(dead=0.3))
    released = threading.Event()
    monkeypatch.setattr(
        paramiko.Transport, "global_request", lambda *_, **__: released.wait(10) and None
    )
    assert failure(executor, sshd.endpoint) == ErrorCode.CONNECTION_TIMEOUT
    assert executor.pool.connections(sshd.endpoint) == 0
    released.set()
    executor.close()
