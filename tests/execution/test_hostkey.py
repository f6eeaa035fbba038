"""Reading a host key from whatever answers."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from commands.errors import ConnectFailed
from commands.execution import hostkey
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.sshd import Sshd, ssh_keygen


def test_the_key_of_a_server(sshd: Sshd) -> None:
    assert hostkey.read("127.0.0.1", sshd.port) == sshd.endpoint.host_key


@pytest.mark.parametrize(("host", "port"), [("a\0b", 22), ("x.invalid", 22)])
def test_nowhere(host: str, port: int) -> None:
    with pytest.raises(ConnectFailed) as caught:
        hostkey.read(host, port)
    assert caught.value.code == ErrorCode.INSTANCE_UNREACHABLE
    assert caught.value.message.isprintable()


def test_what_no_ssh_server_says_is_shown_without_controls() -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-\x1b[31m\x00\x07evil\r\n")
                time.sleep(0.2)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(ConnectFailed) as caught:
            hostkey.read("127.0.0.1", server.getsockname()[1])
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR
    assert caught.value.message.isprintable()
    until = time.monotonic() + 30
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() <= threads, threading.enumerate()


def test_of_several_keys_it_is_the_one_of_the_wanted_type(tmp_path: Path) -> None:
    keys = {kind: tmp_path / f"{kind}_key" for kind in ("ed25519", "rsa", "ecdsa")}
    public = {kind: ssh_keygen(path, kind) for kind, path in keys.items()}
    # sshd takes each option once: the others follow the first one's value on lines of their own.
    several = "\nHostKey ".join(str(path) for path in keys.values())
    with Sshd.started(tmp_path, HostKey=several) as [server]:
        assert hostkey.read("127.0.0.1", server.port) == public["ed25519"]
        for kind, key in public.items():
            assert hostkey.read("127.0.0.1", server.port, kind=key.split()[0]) == key, kind
        assert hostkey.read("127.0.0.1", server.port, kind="ssh-unheard-of") == public["ed25519"]


@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166"])
def test_an_address_of_the_console_s_own_machine_is_not_asked(host: str) -> None:
    with pytest.raises(ConnectFailed, match="CONSOLE_ALLOWED_NETWORKS") as caught:
        hostkey.read(host, 22)
    assert caught.value.code == ErrorCode.INSTANCE_UNREACHABLE


def test_a_name_that_leads_there_is_not_asked_either(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(_host: str, port: int, **_more: object) -> list[tuple[object, ...]]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("169.254.169.254", port)), *[(*kind, (one, port)) for one in fine]]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    fine: list[str] = []
    with pytest.raises(ConnectFailed, match="CONSOLE_ALLOWED_NETWORKS"):
        hostkey.read("rebound.example", sshd.port)
    executor = SshExecutor()
    try:
        with pytest.raises(ConnectFailed, match="CONSOLE_ALLOWED_NETWORKS"):
            executor.probe(replace(sshd.endpoint, host="rebound.example"))
        fine.append("127.0.0.1")
        assert hostkey.read("rebound.example", sshd.port) == sshd.endpoint.host_key
        assert executor.probe(replace(sshd.endpoint, host="rebound.example"))
    finally:
        executor.close()


def test_not_through_a_jump_host_either(sshd: Sshd) -> None:
    with pytest.raises(ConnectFailed, match="CONSOLE_ALLOWED_NETWORKS"):
        hostkey.read("169.254.169.254", 22, sshd.endpoint)
    executor = SshExecutor()
    try:
        with pytest.raises(ConnectFailed, match="CONSOLE_ALLOWED_NETWORKS"):
            executor.probe(replace(sshd.endpoint, host="169.254.1.1", jump=sshd.endpoint))
    finally:
        executor.close()
