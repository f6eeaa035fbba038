"""The demo instances behave like OpenSSH's server in all that a console relies on."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from console import demo

# As under nohup, in the background of a script, and with the console's own umask.
UNUSUAL = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.umask(0o077)
os.execv(sys.executable, [sys.executable, "-m", "console.demo", "--data", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("demo") / "data"
    with subprocess.Popen([sys.executable, "-c", UNUSUAL, str(root)]) as process:
        until((root / "demo" / "demo.json").exists)
        yield root
        process.terminate()  # by the signal that `up` sends, so that it ends as it does there
        assert process.wait(30) in (0, -signal.SIGTERM)


@pytest.fixture
def transport(data: Path) -> Iterator[paramiko.Transport]:
    described = json.loads((data / "demo" / "demo.json").read_text())
    instance = described["instances"][0]
    key = paramiko.Ed25519Key.from_private_key_file(str(data / "demo" / "id_ed25519"))
    connection = paramiko.Transport((instance["host"], instance["port"]))
    connection.start_client(timeout=30)
    server = connection.get_remote_server_key()
    assert f"{server.get_name()} {server.get_base64()}" == instance["host_key"]
    connection.auth_publickey(described["user"], key)
    yield connection
    connection.close()


def until(condition: Callable[[], object], *, within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def run(transport: paramiko.Transport, command: str, sent: bytes = b"") -> tuple[bytes, bytes, int]:
    channel = transport.open_session(timeout=30)
    channel.exec_command(command)

    def send() -> None:
        channel.sendall(sent)
        channel.shutdown_write()

    thread = threading.Thread(target=send)
    thread.start()
    out, err = bytearray(), bytearray()
    while data := channel.recv(65_536):
        out += data
    while data := channel.recv_stderr(65_536):
        err += data
    thread.join()
    return bytes(out), bytes(err), channel.recv_exit_status()


def alive(pid: bytes) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{int(pid)}/stat").read_bytes()
    except OSError:
        return False


def test_keeps_outputs_apart_and_reports_the_status(transport):
    assert run(transport, "echo out; echo err >&2; exit 7") == (b"out\n", b"err\n", 7)


def test_reports_a_signal_as_a_shell_does(transport):
    assert run(transport, "kill -9 $$")[2] == 137


def test_runs_a_program_from_standard_input(transport):
    assert run(transport, "exec /bin/sh -s", b"echo from here\nexit 3\n")[::2] == (
        b"from here\n",
        3,
    )


def test_passes_bytes_exactly_and_respects_the_window(transport):
    sent = os.urandom(5_000_000)
    assert run(transport, "cat", sent) == (sent, b"", 0)


def test_a_command_starts_in_a_home_without_the_consoles_environment(transport, data):
    out, _, _ = run(transport, "pwd; env")
    assert out.splitlines()[0].decode() == str(data / "demo" / "demo-1" / "home")
    assert b"DJANGO" not in out


def test_a_command_takes_signals_as_usual_whatever_the_console_inherited(transport):
    out, _, _ = run(transport, "exec cat /proc/self/status")
    ignored, blocked = (
        int(re.search(rf"{name}:\s*([0-9a-f]+)".encode(), out)[1], 16)
        for name in ("SigIgn", "SigBlk")
    )
    for number in signal.Signals:
        assert not ignored >> (number - 1) & 1, number
    assert blocked == 0
    assert run(transport, "umask")[0] == b"0022\n"


def test_many_quick_commands_on_one_connection(transport):
    assert {run(transport, "true") for _ in range(100)} == {(b"", b"", 0)}


def test_many_commands_at_once(transport):
    answers: list[tuple[bytes, bytes, int]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(run(transport, "echo a; sleep 0.2; echo b")))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(b"a\nb\n", b"", 0)] * 20


def test_the_status_does_not_wait_for_a_background_process(transport):
    channel = transport.open_session(timeout=30)
    channel.exec_command("sleep 600 & echo $!; exit 5")
    pid = channel.recv(100)
    assert channel.recv_exit_status() == 5
    assert alive(pid)
    os.kill(int(pid), 9)
    assert channel.recv(100) == b""


@pytest.mark.parametrize("leave", ["channel", "input first", "connection"])
def test_a_client_that_leaves_ends_its_command_only(transport, leave):
    channel = transport.open_session(timeout=30)
    channel.exec_command("echo $$; setsid sleep 600 >/dev/null 2>&1 & echo $!; sleep 600")
    text = b""
    while text.count(b"\n") < 2:
        text += channel.recv(100)
    shell, detached = text.split()
    until(lambda: os.getsid(int(detached)) == int(detached))  # until then it is the command's
    if leave == "input first":
        channel.shutdown_write()
    (transport if leave == "connection" else channel).close()
    until(lambda: not alive(shell))
    assert alive(detached)
    os.kill(int(detached), 9)


def test_refuses_shells_forwarding_and_strangers(transport, data):
    with pytest.raises(paramiko.SSHException):
        transport.open_session(timeout=30).invoke_shell()
    with pytest.raises(paramiko.ChannelException):
        transport.open_channel("direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 1))
    stranger = paramiko.Transport(transport.getpeername())
    try:
        stranger.start_client(timeout=30)
        with pytest.raises(paramiko.BadAuthenticationType):
            stranger.auth_password(transport.get_username(), "guess")
        with pytest.raises(paramiko.AuthenticationException):
            stranger.auth_publickey(transport.get_username(), paramiko.RSAKey.generate(2048))
    finally:
        stranger.close()


def test_keys_are_private_and_ports_and_keys_last(data):
    key = data / "demo" / "id_ed25519"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = json.loads((data / "demo" / "demo.json").read_text())
    assert [each["name"] for each in before["instances"]] == list(demo.NAMES)
    # A second server finds the ports taken: it takes others, with the same host keys.
    with subprocess.Popen([sys.executable, "-m", "console.demo", "--data", str(data)]) as other:
        until(lambda: json.loads((data / "demo" / "demo.json").read_text())["pid"] == other.pid)
        other.kill()
    after = json.loads((data / "demo" / "demo.json").read_text())
    for one, two in zip(before["instances"], after["instances"], strict=True):
        assert one["host_key"] == two["host_key"]
        assert one["port"] != two["port"]
