"""One executor, one sshd for each test module, and a check that nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from commands.execution.pool import Timing
from commands.execution.ssh import SshExecutor
from tests.conftest import missing
from tests.execution.contract import Rig
from tests.sshd import Sshd

COOKIE = "COMMAND_CONSOLE_RUN"

STAYS = {".done", "@since"}
"""What is kept in a base without any run: the tombstones, and since when it is there."""


def processes_of(home: Path) -> list[psutil.Process]:
    """Every living process that came out of a session with this HOME."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.environ().get("HOME") == str(home) and each.status() != "zombie":
                found.append(each)
    return found


_LINES = {"supervisor": 0, "result": 1, "script": 2, "watchdog": 3, "tees": 4}


def noted(directory: Path, what: str) -> list[str]:
    """The words of a line in the state of a run; none where there is no state yet."""
    with contextlib.suppress(FileNotFoundError):
        lines = (directory / "state").read_text().splitlines()
        return lines[_LINES[what]].split() if len(lines) == len(_LINES) else []
    return []


def note(directory: Path, what: str, text: str) -> None:
    """Overwrite a line in the state of a run, as if it had been written there."""
    file = directory / "state"
    lines = file.read_text().splitlines()
    at = _LINES[what]
    lines[at] = text.ljust(len(lines[at]))
    file.write_text("\n".join(lines) + "\n")


def process(directory: Path, who: str, patience: float = 60.0) -> psutil.Process:
    """The supervisor, the script or the watchdog of a run, once it has written down who it is."""
    until = time.monotonic() + patience
    while not (words := noted(directory, who)) and time.monotonic() < until:
        time.sleep(0.02)
    return psutil.Process(int(words[0]))


def end_watchdog(directory: Path) -> None:
    """Kill the watchdog of a run and whatever it sleeps with, also what it has only just forked."""
    watchdog = process(directory, "watchdog")
    watchdog.suspend()
    for each in [*watchdog.children(), watchdog]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def settled(directory: Path) -> bool:
    """Whether both tee have their files open, and the watchdog has written down its long sleep.

    Until then they make files there anew, also in the midst of somebody's removing them.
    """
    with contextlib.suppress(OSError):
        return len(noted(directory, "watchdog")) == 3 and all(
            os.path.samefile(f"/proc/{tee}/fd/1", directory / name)
            for tee, name in zip(noted(directory, "tees"), "oe", strict=True)
        )
    return False


def assert_clean(home: Path) -> None:
    """Nothing runs any more, and only tombstones are left. Ends what it finds."""
    base = home / ".command-console"
    until = time.monotonic() + 30
    while ((left := processes_of(home)) or _runs(base)) and time.monotonic() < until:
        time.sleep(0.05)
    told = [" ".join(_command(each)) for each in left]
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    assert not told, f"processes left behind: {told}"
    runs = _runs(base)
    kept = {path.name: sorted(file.name for file in path.glob("*")) for path in runs}
    for path in runs:
        shutil.rmtree(path)
    assert not kept, f"directories left behind, with these files: {kept}"


def _runs(base: Path) -> list[Path]:
    """The directories of runs that nobody has acknowledged."""
    return [path for path in base.glob("*") if path.name not in STAYS]


def forget_spare(spare: Path, run_id: str) -> None:
    """Remove what a run has left in the spare base, which somebody may really use."""
    (spare / ".done" / run_id).unlink()
    with contextlib.suppress(OSError):
        (spare / ".done").rmdir()
        (spare / "@since").unlink()
        spare.rmdir()


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return ["?"]


@dataclass(frozen=True)
class Account:
    """A user of this machine that lives as long as the tests."""

    name: str
    uid: int
    home: Path

    @property
    def base(self) -> Path:
        """Where the runner keeps this user's runs."""
        return self.home / ".command-console"

    def assert_clean(self) -> None:
        """Nothing runs as this user any more, and only tombstones are left."""
        until = time.monotonic() + 30
        while ((left := processes_as(self.uid)) or _runs(self.base)) and time.monotonic() < until:
            time.sleep(0.05)
        told = [" ".join(_command(each)) for each in left]
        assert not told, f"processes left behind: {told}"
        assert not _runs(self.base)


def processes_as(uid: int) -> list[psutil.Process]:
    """Every living process of a user."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.uids().real == uid and each.status() != "zombie":
                found.append(each)
    return found


@contextlib.contextmanager
def _account(role: str, shell: str) -> Iterator[Account]:
    if os.getuid() != 0:
        missing("a root shell, which alone can make users,")
    for program in ("useradd", "userdel"):
        if shutil.which(program, path="/usr/sbin:/sbin") is None:
            missing(program)
    name = f"cc-{role}-{os.getpid()}"
    subprocess.run(["/usr/sbin/useradd", "-m", "-p", "*", "-s", shell, name], check=True)
    try:
        entry = pwd.getpwnam(name)
        yield Account(name, entry.pw_uid, Path(entry.pw_dir))
    finally:
        for each in processes_as(pwd.getpwnam(name).pw_uid):
            each.kill()
        subprocess.run(["/usr/sbin/userdel", "-f", "-r", name], check=True, capture_output=True)


@pytest.fixture(scope="session")
def target() -> Iterator[Account]:
    """The user that runs belong to. It could not sign in itself."""
    with _account("target", "/usr/sbin/nologin") as account:
        yield account


@pytest.fixture(scope="session")
def caller() -> Iterator[Account]:
    """A user to sign in as who is not root."""
    with _account("caller", "/bin/sh") as account:
        yield account


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server that lives as long as the test module."""
    with Sshd.started(tmp_path_factory.mktemp("server")) as [server]:
        yield server


@pytest.fixture(scope="module", params=["", "bash", "busybox"], ids=["sh", "bash", "busybox"])
def sshd_of_each_shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sshd]:
    """The same, with each shell as ``/bin/sh`` that the runner has to work in."""
    with Sshd.started(tmp_path_factory.mktemp("server"), shell=request.param) as [server]:
        yield server


@pytest.fixture
def executor() -> Iterator[SshExecutor]:
    """An executor whose threads and sockets must be gone after ``close``."""
    threads, files = threading.active_count(), _open_files()
    executor = SshExecutor(Timing())
    yield executor
    executor.close()
    until = time.monotonic() + 30
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
