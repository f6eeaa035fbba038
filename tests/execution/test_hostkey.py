"""Reading a host key from whatever answers."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from commands.errors import ConnectFailed
from commands.execution import hostkey
from commands.rules.status import ErrorCode
from tests.sshd import Sshd


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
    until = time.monotonic() + 3
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.02)
    assert threading.active_count() <= threads, threading.enumerate()
