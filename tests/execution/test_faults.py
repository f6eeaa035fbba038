"""What happens to a run when its instance is treated badly: files gone, processes killed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from commands.errors import RunLost, StartRefused
from commands.execution.executor import Ending, Handle, RunSpec
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.execution.conftest import assert_clean, note, noted, process, processes_of, settled
from tests.execution.contract import Rig
from tests.execution.test_capture import full_instance, small_disk
from tests.sshd import Sshd


@pytest.fixture(scope="module")
def sshd(sshd_of_each_shell: Sshd) -> Sshd:
    """Everything here must hold in each shell."""
    return sshd_of_each_shell


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def named_in(file: Path) -> psutil.Process:
    """The process whose id a script has written into a file."""
    assert eventually(lambda: file.exists() and file.read_text())
    return psutil.Process(int(file.read_text()))


@contextlib.contextmanager
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads its own session and belongs to no run."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as found:
        try:
            yield found
        finally:
            found.kill()


def test_who_got_the_id_of_the_script_is_left_alone(rig: Rig, sshd: Sshd) -> None:
    """The container was started again, say, and process ids with it."""
    handle = rig.start(rig.spec("sleep 60", spool=1 << 20))
    directory = sshd.base / handle.run_id
    script = process(directory, "script")
    with stranger() as other:
        for who in ("watchdog", "supervisor"):
            process(directory, who).kill()
        script.kill()
        note(directory, "script", f"{other.pid} 1")
        with pytest.raises(RunLost):
            rig.follow_to_the_end(handle)
        assert other.poll() is None
    rig.executor.acknowledge(rig.endpoint, handle)


def test_a_base_that_became_read_only_still_tells_what_ran(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with Sshd.started(tmp_path) as [server], small_disk(server.home, "1m"):
        executor = SshExecutor()
        rig = Rig(executor, server.endpoint)
        spec = rig.spec(f"echo x >>{ran}")
        rig.follow(rig.start(spec))
        remount(server.home, "ro")
        try:
            started = executor.start(rig.endpoint, spec)
            assert (started.fresh, started.base) == (False, str(server.base))
            finished, _ = rig.follow(Handle(spec.run_id, started.base))
        finally:
            remount(server.home, "rw")
        executor.acknowledge(rig.endpoint, Handle(spec.run_id, started.base))
        executor.close()
        assert (finished.ending, finished.exit_code) == (Ending.EXIT, 0)
        assert ran.read_text() == "x\n"
        assert_clean(server.home)


def remount(path: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(path)], check=True)


def test_a_stop_ends_what_removed_its_own_directory(rig: Rig, sshd: Sshd, tmp_path: Path) -> None:
    """Nothing tells any more that it began, and yet "0 left" has to be true."""
    script = f"rm -rf {sshd.base}; echo $$ >{tmp_path}/pid; exec sleep 60"
    handle = rig.start(rig.spec(script, timeout=600, spool=1 << 20))
    sleeper = named_in(tmp_path / "pid")
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE
    assert eventually(lambda: not {"tee", "sleep"} & names(sshd.home))
    rig.executor.acknowledge(rig.endpoint, handle)


def names(home: Path) -> set[str]:
    found = set()
    for each in processes_of(home):
        with contextlib.suppress(psutil.Error):
            found.add(each.name())
    return found


def test_a_stop_where_the_watchdog_is_stopped_itself(rig: Rig, sshd: Sshd) -> None:
    handle = rig.start(rig.spec("sleep 60", spool=1 << 20))
    process(sshd.base / handle.run_id, "watchdog").suspend()
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    assert rig.follow(handle)[0].ending is Ending.CANCEL
    rig.executor.acknowledge(rig.endpoint, handle)


def test_a_stop_where_nobody_knows_the_watchdog(rig: Rig, sshd: Sshd) -> None:
    """It may have been stopped before it wrote that down. Nobody may stay until the timeout."""
    handle = rig.start(rig.spec("sleep 60", timeout=600, spool=1 << 20))
    process(sshd.base / handle.run_id, "script")
    process(sshd.base / handle.run_id, "watchdog")
    note(sshd.base / handle.run_id, "watchdog", "")
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    assert rig.follow(handle)[0].ending is Ending.CANCEL
    rig.executor.acknowledge(rig.endpoint, handle)


def test_a_killed_watchdog(rig: Rig, sshd: Sshd, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"until [ -e {go} ]; do sleep 0.05; done; echo end"
    handle = rig.start(rig.spec(script, spool=1 << 20))
    process(sshd.base / handle.run_id, "watchdog").kill()
    go.touch()
    finished, heard = rig.follow(handle)
    assert (finished.exit_code, heard.stdout) == (0, b"end\n")
    rig.executor.acknowledge(rig.endpoint, handle)


@pytest.mark.parametrize("who", ["supervisor", "tee", "tail"])
def test_whoever_is_killed_nothing_stays(rig: Rig, sshd: Sshd, who: str) -> None:
    handle = rig.start(rig.spec("while :; do echo x; sleep 0.05; done", timeout=4, grace=1))
    process(sshd.base / handle.run_id, "watchdog")
    if who == "supervisor":
        process(sshd.base / handle.run_id, "supervisor").kill()
    else:
        for each in processes_of(sshd.home):
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.name() == who:
                    each.kill()
    with contextlib.suppress(RunLost):
        rig.follow_to_the_end(handle)
    rig.executor.acknowledge(rig.endpoint, handle)


def test_a_cookie_alone_is_enough(rig: Rig, tmp_path: Path) -> None:
    script = f"(setsid sleep 60 >/dev/null 2>&1 & echo $! >{tmp_path}/pid); sleep 60"
    handle = rig.start(rig.spec(script))
    sleeper = named_in(tmp_path / "pid")
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE
    rig.executor.acknowledge(rig.endpoint, handle)


def test_stops_in_the_midst_of_starts(rig: Rig) -> None:
    """Whatever comes first on the instance, it is ended, or never starts."""
    with contextlib.closing(SshExecutor()) as other:
        other.probe(rig.endpoint)
        for number in range(6):
            spec = rig.spec("sleep 60", timeout=600)
            stop = functools.partial(other.cancel, rig.endpoint, Handle(spec.run_id, ""))
            timer = threading.Timer(number * 0.008, stop)
            timer.start()
            handle = Handle(spec.run_id, rig.executor.start(rig.endpoint, spec).base)
            finished, _ = rig.follow(handle)
            timer.join()
            assert (finished.ending, finished.left) == (Ending.CANCEL, 0)
            rig.executor.acknowledge(rig.endpoint, handle)


def note_since(base: Path, boot: str = "", ago: int = 1000) -> None:
    """Have the base be there for that long, or since another boot, as if it had been noted so."""
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    up = float(Path("/proc/uptime").read_text().split()[0])
    (base / "@since").write_text(f"{boot} {int(up) - ago}\n")


def refused_again(rig: Rig, spec: RunSpec, asked_s: int = 3) -> None:
    """The instance can't know whether the run was started before, and starts nothing."""
    with pytest.raises(RunLost) as caught:
        rig.executor.start(rig.endpoint, dataclasses.replace(spec, asked_s=asked_s))
    assert caught.value.code == ErrorCode.OUTCOME_UNKNOWN


def test_a_restart_that_may_have_taken_the_claim_with_it(
    rig: Rig, sshd: Sshd, tmp_path: Path
) -> None:
    """Somebody asked before, got no answer, and the machine has been up for less than that."""
    ran, ages = tmp_path / "ran", 10**8
    spec = rig.spec(f"echo x >>{ran}", asked_s=ages)
    with pytest.raises(RunLost) as caught:
        rig.executor.start(rig.endpoint, spec)
    assert caught.value.code == ErrorCode.OUTCOME_UNKNOWN
    assert not ran.exists()
    rig.run(rig.spec("exit 0"))
    note_since(sshd.base)
    rig.run(dataclasses.replace(spec, asked_s=1))
    handle = rig.start(rig.spec(f"echo x >>{ran}"))
    rig.follow(handle)
    known = dataclasses.replace(spec, run_id=handle.run_id)
    assert not rig.executor.start(rig.endpoint, known).fresh
    rig.executor.acknowledge(rig.endpoint, handle)
    assert ran.read_text() == "x\nx\n"


@pytest.mark.parametrize("others", [False, True], ids=["gone", "made anew"])
@pytest.mark.parametrize("what", ["", "/*", "/$COMMAND_CONSOLE_RUN"], ids=["base", "runs", "own"])
def test_a_script_that_removed_the_traces_of_its_start(
    rig: Rig, sshd: Sshd, tmp_path: Path, what: str, others: bool
) -> None:
    """Nobody heard the answer. The same start comes again and finds nothing."""
    ran = tmp_path / "ran"
    rig.run(rig.spec("exit 0"))
    note_since(sshd.base)
    go = tmp_path / "go"
    hold = f"until [ -e {go} ]; do sleep 0.05; done"
    spec = rig.spec(f"echo x >>{ran}; {hold}; rm -rf {sshd.base}{what}; echo y >>{ran}")
    rig.executor.start(rig.endpoint, spec)
    assert eventually(lambda: settled(sshd.base / spec.run_id))
    go.touch()
    assert eventually(lambda: ran.exists() and ran.read_text() == "x\ny\n")
    if others:
        rig.run(rig.spec("exit 0"))
    refused_again(rig, spec)
    assert not (sshd.base / spec.run_id).exists()
    assert ran.read_text() == "x\ny\n"
    other = dataclasses.replace(rig.spec(f"echo z >>{ran}"), asked_s=3)
    if what.startswith("/$"):  # of others it is still known that they were never started
        rig.run(other)
        assert ran.read_text() == "x\ny\nz\n"


def test_a_run_that_goes_on_without_its_directory(rig: Rig, sshd: Sshd, tmp_path: Path) -> None:
    """The base is old enough. But the run's own directory went, and its cookie tells."""
    rig.run(rig.spec("exit 0"))
    spec = rig.spec(f"echo x >>{tmp_path}/ran; sleep 60")
    handle = rig.start(spec)
    directory = sshd.base / handle.run_id
    assert eventually((tmp_path / "ran").exists)
    assert eventually(lambda: settled(directory))
    note_since(sshd.base)
    shutil.rmtree(directory)
    refused_again(rig, spec)
    assert not directory.exists()
    assert (tmp_path / "ran").read_text() == "x\n"
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    rig.executor.acknowledge(rig.endpoint, handle)


def test_a_base_that_may_be_younger_than_the_first_ask(rig: Rig, sshd: Sshd) -> None:
    """No note (an older version made it), another boot's, a damaged one, one that is too young."""
    note, spec = sshd.base / "@since", rig.spec("exit 0")
    rig.run(rig.spec("exit 0"))
    note.unlink()
    refused_again(rig, spec)
    assert not note.exists()
    for text in ("", "x", "x y z"):
        note.write_text(text)
        refused_again(rig, spec)
    note_since(sshd.base, boot="another")
    refused_again(rig, spec)
    assert note.read_text().startswith("another ")
    rig.run(rig.spec("exit 0"))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert note.read_text().split()[0] == boot
    refused_again(rig, spec, asked_s=600)
    note_since(sshd.base, ago=700)
    before = note.read_text()
    rig.run(dataclasses.replace(spec, asked_s=600))
    last = rig.spec("exit 0")
    rig.run(last)
    assert note.read_text() == f"{before}{spec.run_id}\n{last.run_id}\n"


def test_a_tee_that_is_killed_with_output_before_it(rig: Rig, sshd: Sshd, tmp_path: Path) -> None:
    """What it has not read is gone, and nobody can say how much that was."""
    go = tmp_path / "go"
    script = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo lost"
    handle = rig.start(rig.spec(script))
    directory = sshd.base / handle.run_id
    assert eventually(lambda: (directory / "o").stat().st_size)
    tee = psutil.Process(int(noted(directory, "tees")[0]))
    tee.suspend()
    go.touch()
    # It is created once the tee have been asked how much they could not write.
    assert eventually((directory / "end").exists)
    tee.kill()
    finished, heard = rig.follow(handle)
    rig.executor.acknowledge(rig.endpoint, handle)
    assert heard.stdout == b"first\n"
    assert (finished.ending, finished.exit_code, finished.lost) == (Ending.EXIT, 0, None)


def test_a_tee_that_is_stopped_for_too_long(rig: Rig, sshd: Sshd, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo lost"
    handle = rig.start(rig.spec(script))
    directory = sshd.base / handle.run_id
    assert eventually(lambda: (directory / "o").stat().st_size)
    psutil.Process(int(noted(directory, "tees")[0])).suspend()
    go.touch()
    finished, heard = rig.follow(handle)
    rig.executor.acknowledge(rig.endpoint, handle)
    assert heard.stdout == b"first\n"
    assert (finished.exit_code, finished.lost) == (0, None)


def test_a_tee_that_is_killed_in_the_midst(rig: Rig, sshd: Sshd, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = (
        f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; trap '' PIPE; echo lost; exit 3"
    )
    handle = rig.start(rig.spec(script))
    directory = sshd.base / handle.run_id
    assert eventually(lambda: (directory / "o").stat().st_size)
    psutil.Process(int(noted(directory, "tees")[0])).kill()
    go.touch()
    finished, heard = rig.follow(handle)
    rig.executor.acknowledge(rig.endpoint, handle)
    assert heard.stdout == b"first\n"
    assert (finished.exit_code, finished.lost) == (3, None)


def test_what_found_no_room_is_counted_whoever_ends_the_run(tmp_path: Path) -> None:
    with full_instance(tmp_path, "1m") as (rig, server):
        script = "head -c 3000000 /dev/zero | tr '\\0' x; sleep 60"
        handle = rig.start(rig.spec(script, timeout=10, grace=0))
        directory = server.base / handle.run_id
        process(directory, "watchdog")
        process(directory, "script")
        process(directory, "supervisor").kill()
        assert eventually(lambda: "." in noted(directory, "result"), 90)
        finished, _ = rig.follow(handle)
        rig.executor.acknowledge(rig.endpoint, handle)
    assert finished.ending is Ending.TIMEOUT
    assert finished.lost
    assert finished.stdout_size + finished.lost == 3_000_000


def test_a_disk_with_room_for_some_of_it(tmp_path: Path) -> None:
    """It starts and ends as it should, or is refused: never anything in between."""
    page, told = os.sysconf("SC_PAGE_SIZE"), []
    with full_instance(tmp_path, "64k") as (rig, server):
        filler = server.home / "filler"
        for pages in range(8):
            filler.write_bytes(b"")
            with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
                while file.write(b"x" * page):
                    pass
            os.truncate(filler, max(0, filler.stat().st_size - pages * page))
            try:
                finished, _ = rig.run(rig.spec("exit 3"))
                told.append((finished.ending, finished.exit_code))
            except StartRefused as error:
                told.append((error.code, None))
        assert set(told) == {(ErrorCode.DISK_FULL, None), (Ending.EXIT, 3)}, told
