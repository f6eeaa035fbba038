"""One executor, one sshd for each test module, and a check that nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from commands.execution.pool import Timing
from commands.execution.ssh import SshExecutor
from tests.execution.contract import Rig
from tests.sshd import Sshd

COOKIE = "COMMAND_CONSOLE_RUN"


def processes_of(home: Path) -> list[psutil.Process]:
    """Every living process that came out of a session with this HOME."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.environ().get("HOME") == str(home) and each.status() != "zombie":
                found.append(each)
    return found


def assert_clean(home: Path) -> None:
    """Nothing runs any more, and only tombstones are left. Ends what it finds."""
    until = time.monotonic() + 3
    while (left := processes_of(home)) and time.monotonic() < until:
        time.sleep(0.05)
    told = [" ".join(_command(each)) for each in left]
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    assert not told, f"processes left behind: {told}"
    base = home / ".command-console"
    runs = [path for path in base.glob("*") if path.name != ".done"]
    for path in runs:
        shutil.rmtree(path)
    assert not runs


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return ["?"]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server that lives as long as the test module."""
    with Sshd.started(tmp_path_factory.mktemp("server")) as [server]:
        yield server


@pytest.fixture
def executor() -> Iterator[SshExecutor]:
    """An executor whose threads and sockets must be gone after ``close``."""
    threads, files = threading.active_count(), _open_files()
    executor = SshExecutor(Timing())
    yield executor
    executor.close()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if threading.active_count() <= threads and _open_files() <= files:
            break
        time.sleep(0.02)
    assert threading.active_count() <= threads, threading.enumerate()
    assert _open_files() <= files


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def rig(executor: SshExecutor, sshd: Sshd) -> Iterator[Rig]:
    """The executor and the server, and afterwards no process or directory of a run."""
    rig = Rig(executor, sshd.endpoint)
    yield rig
    executor.close()
    assert_clean(sshd.home)
