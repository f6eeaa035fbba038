"""``manage.py up`` for real: one command starts all of it, and its end leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from console import guardian

MANAGE = Path(guardian.__file__).resolve().parent.parent / "manage.py"


def until(condition: Callable[[], object], *, within: float = 90.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def command(*options: str) -> list[str]:
    return [sys.executable, str(MANAGE), "up", *options]


def environment() -> dict[str, str]:
    """As a person's shell would have it: nothing of the test settings."""
    unwanted = ("CONSOLE_DATA_DIR", "DJANGO_SETTINGS_MODULE", "BROKER_URL", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


@dataclass
class Up:
    """A running ``manage.py up``."""

    process: subprocess.Popen[bytes]
    data: Path
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def cookie(self) -> str:
        return (self.data / "run" / "cookie").read_text()

    @property
    def port(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.text)
        return found[1] if found else ""

    def pid(self, name: str) -> int:
        lines = (line.split() for line in (self.data / "run" / "children").read_text().splitlines())
        return next((int(pid) for pid, _, noted in lines if noted == name), 0)

    def health(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=30) as answer:
            return int(answer.status)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    data, output = tmp_path / "data", tmp_path / "output"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command("--data", str(data), "--port", "0"),
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        running = Up(process, data, output)
        until(lambda: running.port or process.poll() is not None)
        assert running.port, running.text
        yield running
        process.kill()
        guardian.sweep(running.cookie, patience=0)


def refused(*options: str) -> str:
    result = subprocess.run(
        command(*options),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.returncode == 1
    return result.stderr


def test_starts_everything_and_refuses_what_would_clash(up, tmp_path):
    assert up.health() == 200
    assert "Sign in as admin with the password" in up.text
    assert up.data.stat().st_mode & 0o077 == 0
    for name in ("broker", "demo", "web", "worker", "beat"):
        assert up.pid(name)
    assert "already runs" in refused("--data", str(up.data), "--port", "0")
    other = tmp_path / "other"
    assert "--port" in refused("--data", str(other), "--port", up.port)
    assert "--no-demo" in refused("--data", str(other), "--port", "0", "--host", "0.0.0.0")
    assert not (other / "lock").exists()


def test_a_killed_child_comes_back_and_ctrl_c_leaves_nothing(up):
    worker = up.pid("worker")
    os.kill(worker, signal.SIGKILL)
    until(lambda: up.pid("worker") not in (0, worker))
    assert "worker stopped (exit -9), starting it again in 0.5 s" in up.text
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert guardian.find(up.cookie) == []


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_works(up):
    up.process.kill()
    up.process.wait()
    until(lambda: not guardian.find(up.cookie, notes=str(up.data / "run" / "children")))
    # The lock is free only when the guardian has ended everything, so ask until it is.
    again = command("--data", str(up.data), "--port", "0", "--no-demo")
    with subprocess.Popen(again, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "Command Console is at" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
