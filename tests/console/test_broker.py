"""The embedded broker: starts, answers on a private socket, and copes with long paths."""

from __future__ import annotations

import stat
import subprocess
import time
from pathlib import Path

import kombu
import pytest

from console import broker


def data_dir(root: Path) -> Path:
    (root / "run").mkdir(parents=True)
    return root


def send_and_receive(root: Path) -> object:
    with subprocess.Popen(broker.command(root), stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while not broker.answers(root):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert stat.S_IMODE(broker.socket_path(root).stat().st_mode) == 0o700
            with kombu.Connection(broker.url(root)) as connection:
                queue = connection.SimpleQueue("test")
                queue.put({"id": 1})
                return queue.get(timeout=10).payload
        finally:
            process.terminate()


def test_carries_a_message(tmp_path):
    root = data_dir(tmp_path / "with space, ü and %41")
    assert not broker.answers(root)
    assert send_and_receive(root) == {"id": 1}


def test_a_long_path_gets_a_private_folder(tmp_path):
    root = data_dir(tmp_path / ("long" * 30))
    socket = broker.socket_path(root)
    try:
        assert socket == broker.socket_path(root)
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert send_and_receive(root) == {"id": 1}
    finally:
        socket.unlink(missing_ok=True)
        socket.parent.rmdir()


def test_a_long_path_does_not_open_the_data_directory(tmp_path):
    root = tmp_path / ("long" * 30)
    broker.socket_path(root).parent.rmdir()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_folder_that_others_can_enter_is_not_used_again(tmp_path):
    root = data_dir(tmp_path / ("long" * 30))
    first = broker.socket_path(root).parent
    first.chmod(0o755)
    second = broker.socket_path(root).parent
    first.rmdir()
    second.rmdir()
    assert first != second


def test_a_machine_without_a_broker_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr("console.broker.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(broker.BrokerMissing, match="BROKER_URL"):
        broker.command(tmp_path)
