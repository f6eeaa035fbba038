"""However many runs an instance has had, nothing of them is there once they are acknowledged."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from commands.errors import ConnectionLost, RunLost
from commands.execution.executor import Ending, Handle
from commands.execution.ssh import SshExecutor
from tests.execution.conftest import STAYS, end_watchdog, noted, process, processes_of
from tests.execution.contract import Heard, Rig, together
from tests.execution.test_faults import eventually
from tests.sshd import Sshd

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="module")
def sshd(sshd_of_each_shell: Sshd) -> Sshd:
    """Everything here must hold in each shell."""
    return sshd_of_each_shell


@pytest.fixture(autouse=True)
def long_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that waits for the next run does so for as long as a test may take."""
    monkeypatch.setattr("commands.execution.ssh.KEEP", 600.0)


@contextlib.contextmanager
def where_nobody_reaps() -> Iterator[None]:
    """Orphans become children of this process, which reaps none: as process 1 of a container."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def zombies() -> set[int]:
    found = set()
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.status() == psutil.STATUS_ZOMBIE:
                found.add(each.pid)
    return found


SCRIPTS = ["echo a; echo b >&2", "exit 3", "echo a; sleep 0.4; echo b", "head -c 300000 /dev/zero"]


def test_after_many_runs_is_as_after_one(rig: Rig, sshd: Sshd) -> None:
    with where_nobody_reaps():
        before = zombies()
        rig.run(rig.spec("echo first"))
        assert eventually(lambda: len(processes_of(sshd.home)) == 3), processes_of(sshd.home)
        of_one = sorted(each.pid for each in processes_of(sshd.home))
        for number in range(12):
            rig.run(rig.spec(SCRIPTS[number % len(SCRIPTS)], spool=number % 2 << 20))
        # The shells of the channel that waits for the next run, and nothing else.
        assert eventually(lambda: sorted(each.pid for each in processes_of(sshd.home)) == of_one), (
            processes_of(sshd.home)
        )
        assert set(os.listdir(sshd.base)) == STAYS
        rig.executor.close()
        assert eventually(lambda: not processes_of(sshd.home))
        # The shell that sshd started is sshd's to reap: one for each channel, not for each run.
        assert len(zombies() - before) <= 1


def test_after_runs_that_were_ended(rig: Rig, sshd: Sshd) -> None:
    for end in range(3):
        handle = rig.start(rig.spec("sleep 60", timeout=1 if end == 0 else 60, grace=0))
        if end == 1:
            rig.executor.cancel(rig.endpoint, handle)
        if end == 2:
            process(sshd.base / handle.run_id, "supervisor").kill()
        with contextlib.suppress(RunLost):
            rig.follow(handle)
        rig.executor.acknowledge(rig.endpoint, handle)
    assert eventually(lambda: len(processes_of(sshd.home)) == 3), processes_of(sshd.home)
    assert set(os.listdir(sshd.base)) == STAYS


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_sleep_of_a_watchdog_that_was_killed(rig: Rig, sshd: Sshd) -> None:
    """Without a spool to bound it sleeps for as long as the run may take."""
    stop = sshd.home / "stop"
    handle = rig.start(rig.spec(f"while [ ! -e {stop} ]; do sleep 0.05; done", timeout=3456))
    watchdog = process(sshd.base / handle.run_id, "watchdog")
    assert eventually(lambda: len(noted(sshd.base / handle.run_id, "watchdog")) == 3)
    [sleep] = watchdog.children()
    watchdog.kill()
    stop.touch()
    assert rig.follow(handle)[0].ending is Ending.EXIT
    assert eventually(lambda: gone(sleep))
    rig.executor.acknowledge(rig.endpoint, handle)
    stop.unlink()


def test_those_who_came_back_and_went_again(rig: Rig, sshd: Sshd) -> None:
    handle = rig.start(rig.spec("while :; do echo x; sleep 0.1; done", timeout=60, spool=1 << 20))
    for _ in range(4):
        heard = Heard(on_output=lambda _: rig.executor.abandon(handle.run_id))
        with pytest.raises(ConnectionLost):
            rig.follow(handle, heard)
    assert eventually(lambda: not followers(sshd))
    heard = Heard(on_output=lambda _: rig.executor.abandon(handle.run_id))
    with pytest.raises(ConnectionLost):
        rig.follow(handle, heard)
    # Those of the last one, which may not have ended when it was looked at.
    assert len(list((sshd.base / handle.run_id).glob("f.*"))) <= 4
    rig.executor.cancel(rig.endpoint, handle)
    rig.executor.acknowledge(rig.endpoint, handle)


def followers(sshd: Sshd) -> list[psutil.Process]:
    found = []
    for each in processes_of(sshd.home):
        with contextlib.suppress(psutil.Error):
            if each.name() == "tail":
                found.append(each)
    return found


def test_one_channel_serves_run_after_run(rig: Rig, sshd: Sshd) -> None:
    """No variable, directory or byte of one run is in the next."""
    base = sshd.home / "elsewhere"
    base.mkdir(exist_ok=True)
    first = rig.spec("pwd; exit 4", workdir=str(base), timeout=4, whole_tree=False)
    assert rig.run(first)[1].stdout == f"{base}\n".encode()
    assert eventually(lambda: len(processes_of(sshd.home)) == 3), processes_of(sshd.home)
    shells = {each.pid for each in processes_of(sshd.home)}
    finished, heard = rig.run(rig.spec("pwd; sleep 4.5; echo late >&2"))
    assert (heard.stdout, heard.stderr) == (f"{sshd.home}\n".encode(), b"late\n")
    assert (finished.ending, finished.exit_code) == (Ending.EXIT, 0)
    assert eventually(lambda: {each.pid for each in processes_of(sshd.home)} == shells)


def test_what_is_too_long_for_a_request_has_a_channel_of_its_own(rig: Rig) -> None:
    rig.run(rig.spec("echo a"))
    assert rig.run(rig.spec("# " + "x" * 20_000 + "\necho b"))[1].stdout == b"b\n"


def test_many_runs_at_a_time_leave_one_channel(rig: Rig, sshd: Sshd) -> None:
    together(5, lambda i: rig.run(rig.spec(f"sleep 0.2; echo {i}")))
    assert eventually(lambda: len(processes_of(sshd.home)) == 3), processes_of(sshd.home)


def test_a_channel_that_ended_meanwhile_is_not_used(rig: Rig, sshd: Sshd) -> None:
    rig.run(rig.spec("echo a"))
    for each in processes_of(sshd.home):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    assert eventually(lambda: not processes_of(sshd.home))
    assert eventually(lambda: not any(talk.open for talk in free_of(rig)))
    assert rig.run(rig.spec("echo b"))[1].stdout == b"b\n"


def free_of(rig: Rig) -> list[object]:
    assert isinstance(rig.executor, SshExecutor)
    return list(rig.executor._free.values())


LONG_AGO = 62 * 24 * 3600


def aged(directory: Path) -> Path:
    """The directory, with names in it that were made long ago."""
    then = time.time() - LONG_AGO
    os.utime(directory, (then, then))
    return directory


def lost(rig: Rig, sshd: Sshd) -> tuple[Handle, psutil.Process]:
    """A run whose supervisor and watchdog were killed before anybody followed it; its script."""
    handle = rig.start(rig.spec(f"while [ ! -e {sshd.home}/go ]; do sleep 0.05; done"))
    directory = sshd.base / handle.run_id
    script = process(directory, "script")
    # With its sleep: who buries a run that nobody followed does not look for that.
    end_watchdog(directory)
    process(directory, "supervisor").kill()
    return handle, script


def sweep(sshd: Sshd) -> None:
    """Whoever connects anew looks for what is old."""
    with contextlib.closing(SshExecutor()) as other:
        Rig(other, sshd.endpoint).run(Rig(other, sshd.endpoint).spec("exit 0"))


def test_runs_that_nobody_acknowledged_go_in_the_end(rig: Rig, sshd: Sshd) -> None:
    """Their directories hold the script, with what was filled in."""
    (told, _), (unheard, script) = lost(rig, sshd), lost(rig, sshd)
    with pytest.raises(RunLost):
        rig.follow(told)
    (sshd.home / "go").touch()
    assert eventually(lambda: gone(script))
    (sshd.home / "go").unlink()
    assert eventually(lambda: not [p for p in processes_of(sshd.home) if p.name() == "tee"])
    never = sshd.base / "never"
    never.mkdir()
    (never / "s.1234").write_text("echo secret")
    directories = [sshd.base / told.run_id, sshd.base / unheard.run_id, never]
    sweep(sshd)
    assert all(one.exists() for one in directories)
    for one in directories:
        aged(one)
    sweep(sshd)
    assert set(os.listdir(sshd.base)) == STAYS
    assert {one.name for one in directories} <= set(os.listdir(sshd.base / ".done"))
    for one in directories:
        assert not rig.executor.start(rig.endpoint, rig.spec("echo x", one.name)).fresh


def test_what_is_old_goes_also_where_a_worker_stays_for_long(
    rig: Rig, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks once a day, not only when it connects for the first time."""
    rig.run(rig.spec("exit 0"))
    tombstone = sshd.base / ".done" / "old"
    tombstone.touch()
    aged(tombstone)
    rig.run(rig.spec("exit 0"))
    assert tombstone.exists()
    monkeypatch.setattr("commands.execution.ssh._SWEEP_EVERY", 0.0)
    rig.run(rig.spec("exit 0"))
    assert not tombstone.exists()


def test_what_runs_stays_however_old_it_is(rig: Rig, sshd: Sshd) -> None:
    """One with its supervisor, and one of which only the script itself is left."""
    whole = rig.start(rig.spec("sleep 60", timeout=600))
    process(sshd.base / whole.run_id, "watchdog")
    rest, _ = lost(rig, sshd)
    mine = sshd.base / "mine"
    mine.mkdir()
    directories = [sshd.base / whole.run_id, sshd.base / rest.run_id, mine]
    for one in directories:
        aged(one)
    sweep(sshd)
    assert all(one.exists() for one in directories)
    assert not {one.name for one in directories} & set(os.listdir(sshd.base / ".done"))
    mine.rmdir()
    for handle in (whole, rest):
        assert rig.executor.cancel(rig.endpoint, handle).left == 0
        rig.executor.acknowledge(rig.endpoint, handle)
