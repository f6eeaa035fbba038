"""The guardian finds everything of its cookie, ends it, and touches nothing else."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from console import guardian

# The first one stays what it is: a process that turns into another program has no environment
# for a moment, and so no cookie.
SCRIPT = "setsid sh -c 'exec sleep 600' & echo started; wait"


@pytest.fixture
def cookie() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def family(cookie: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the cookie, and one it detached."""
    environment = {**os.environ, guardian.COOKIE: cookie}
    with subprocess.Popen(
        ["/bin/sh", "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        guardian.sweep(cookie, patience=0)


def test_finds_a_process_and_what_it_detached(family, cookie):
    found = guardian.find(cookie)
    assert len(found) == 2
    assert family.pid in {process.pid for process in found}


def test_finds_nothing_of_another_cookie(family):
    assert guardian.find(secrets.token_hex(16)) == []


def test_finds_a_descendant_that_dropped_its_environment(cookie):
    environment = {**os.environ, guardian.COOKIE: cookie}
    script = "env -i /bin/sleep 600 & echo started; wait"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert len(guardian.find(cookie)) == 2
        assert guardian.sweep(cookie) == 0


def test_sweep_leaves_nothing(family, cookie):
    assert guardian.sweep(cookie, patience=60) == 0
    assert family.wait(10) == -15
    assert guardian.find(cookie) == []


def test_spares_what_it_is_told_to(family, cookie):
    assert family.pid not in {each.pid for each in guardian.find(cookie, spare=[family.pid])}


def test_a_noted_child_counts_only_with_its_start_time(cookie, tmp_path):
    notes = tmp_path / "children"
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as process:
        notes.write_text(f"{process.pid} 1 recycled\n")
        assert guardian.find(cookie, notes=str(notes)) == []
        notes.write_text(f"{guardian.note(process.pid)} sleep\n")
        assert [each.pid for each in guardian.find(cookie, notes=str(notes))] == [process.pid]
        assert guardian.sweep(cookie, notes=str(notes), patience=60) == 0
        assert process.wait(10) == -15


def test_sweeps_when_its_pipe_ends(family, cookie, tmp_path):
    read, write = os.pipe()
    environment = {**os.environ, guardian.GUARDED: cookie}
    with subprocess.Popen(
        [sys.executable, "-S", "-m", "console.guardian", str(tmp_path / "none")],
        stdin=read,
        env=environment,
        cwd=Path(guardian.__file__).parent.parent,
    ) as watch:
        os.close(read)
        assert watch.poll() is None
        os.close(write)
        assert watch.wait(30) == 0
    assert family.wait(10) == -15
    assert guardian.find(cookie) == []


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process that ignores TERM, and notes that name it; it carries no cookie."""
    script = "trap '' TERM; echo started; while :; do sleep 0.1; done"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        notes = tmp_path / "children"
        notes.write_text(f"{guardian.note(process.pid)} stubborn\n")
        threading.Thread(target=process.wait, daemon=True).start()  # no zombie stays
        yield process, str(notes)
        process.kill()


def test_a_noted_child_without_the_cookie_is_killed_when_terminating_is_not_enough(
    stubborn, cookie
):
    process, notes = stubborn
    assert guardian.sweep(cookie, notes=notes, patience=0.2) == 0
    assert process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("proc", [True, False])
def test_after_a_standstill_it_still_kills(stubborn, cookie, monkeypatch, proc):
    process, notes = stubborn
    hours = iter(range(100))
    clock = SimpleNamespace(monotonic=lambda: 3_600.0 * next(hours), sleep=time.sleep)
    monkeypatch.setattr(guardian, "time", clock)
    if not proc:
        monkeypatch.setattr(guardian.os.path, "exists", lambda _: False)
    assert guardian.sweep(cookie, notes=notes) == 0
    assert process.wait() == -signal.SIGKILL


def test_without_proc_the_noted_groups_are_ended(stubborn, cookie, monkeypatch):
    process, notes = stubborn
    monkeypatch.setattr(guardian.os.path, "exists", lambda _: False)
    assert guardian.sweep(cookie, notes=notes, patience=0.2) == 0
    assert process.wait(10) == -signal.SIGKILL


def test_notes_of_a_process_that_went_name_nobody(tmp_path, cookie):
    notes = tmp_path / "children"
    notes.write_text(f"{os.getpid()} 1 somebody\nnonsense\n")
    assert guardian.find(cookie, notes=str(notes)) == []


def test_the_program_waits_for_the_end_of_its_input_and_sweeps(family, cookie, monkeypatch):
    reading, writing = os.pipe()
    os.write(writing, b"x")
    os.close(writing)
    read = os.read
    monkeypatch.setattr(guardian.os, "read", lambda _, size: read(reading, size))
    monkeypatch.setattr(guardian.signal, "signal", lambda *_: None)
    monkeypatch.setenv(guardian.GUARDED, cookie)
    monkeypatch.setattr(sys, "argv", ["guardian", "no-notes"])
    with pytest.raises(SystemExit) as ended:
        guardian.main()
    os.close(reading)
    assert ended.value.code == 0
    assert guardian.find(cookie) == []
