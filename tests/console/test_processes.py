"""The supervisor: restarts, failed starts, and an end that leaves nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from console import guardian
from console.processes import Child, StartFailed, Supervisor

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


def until(condition: Callable[[], object], *, within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, said: list[str]) -> Callable[[], Supervisor]:
    return lambda: Supervisor(logs=tmp_path, notes=tmp_path / "children", say=said.append)


def pid_of(notes: Path, name: str) -> int:
    lines = [line.split() for line in notes.read_text().splitlines()]
    return next((int(pid) for pid, _, noted in lines if noted == name), 0)


def during(act: Callable[[], None]) -> threading.Thread:
    """Run ``act`` beside the supervisor, then ask this process to end as Ctrl-C does."""

    def go() -> None:
        try:
            act()
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_starts_a_killed_child_again(make, said, tmp_path):
    notes = tmp_path / "children"

    def kill() -> None:
        first = pid_of(notes, "one")
        os.kill(first, signal.SIGKILL)
        until(lambda: pid_of(notes, "one") not in (0, first))

    with make() as supervisor:
        supervisor.start(Child("one", SLEEP))
        thread = during(kill)
        supervisor.run()
    thread.join()
    assert said == ["one stopped (exit -9), starting it again in 0.5 s"]
    assert guardian.find(supervisor.cookie) == []


def test_a_child_inherits_the_environment_only_if_it_is_trusted(make, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    show = ["/bin/sh", "-c", "env; exec sleep 600"]
    logs = [tmp_path / "stranger.log", tmp_path / "friend.log"]
    with make() as supervisor:
        supervisor.start(Child("stranger", show, {"OWN": "given"}))
        supervisor.start(Child("friend", show, trusted=True))
        until(lambda: all("PATH=" in log.read_text() for log in logs))
        until(lambda: all(guardian.COOKIE in log.read_text() for log in logs))
    stranger, friend = (log.read_text().splitlines() for log in logs)
    assert {"OWN=given", "LC_TIME=C", "TZ=Asia/Shanghai"} < set(stranger)
    assert "SOME_TOKEN=secret" not in stranger
    assert "SOME_TOKEN=secret" in friend


def test_the_delay_doubles_and_the_log_is_quoted(make, said):
    with make() as supervisor:
        supervisor.start(Child("bad", [sys.executable, "-S", "-c", "raise SystemExit('no luck')"]))
        thread = during(lambda: until(lambda: len(said) == 2))
        supervisor.run()
    thread.join()
    assert "bad stopped (exit 1), starting it again in 0.5 s." in said[0]
    assert "starting it again in 1 s." in said[1]
    assert said[0].endswith("no luck")


def test_a_child_that_ends_before_it_is_ready_fails_the_start(make):
    with make() as supervisor:
        supervisor.start(
            Child(
                "bad", [sys.executable, "-c", "raise SystemExit('broken')"], ready=lambda _: False
            )
        )
        with pytest.raises(StartFailed, match=r"bad did not start \(exit 1\).*broken"):
            supervisor.wait_ready("bad")


def test_a_child_that_is_never_ready_fails_the_start(make):
    with make() as supervisor:
        supervisor.start(Child("slow", SLEEP, ready=lambda _: False))
        with pytest.raises(StartFailed, match=r"not ready within 0\.1 s"):
            supervisor.wait_ready("slow", within=0.1)


def test_a_signal_while_starting_ends_everything(make):
    with pytest.raises(KeyboardInterrupt), make() as supervisor:
        supervisor.start(Child("slow", SLEEP, ready=lambda _: False))
        os.kill(os.getpid(), signal.SIGTERM)
        supervisor.wait_ready("slow")
    assert guardian.find(supervisor.cookie) == []


def test_ends_stubborn_and_detached_processes_too(make, tmp_path):
    ready = tmp_path / "ready"
    script = f"trap '' TERM; setsid sh -c \"trap '' TERM; echo > {ready}; sleep 600\" & sleep 600"
    with make() as supervisor:
        supervisor.start(Child("stubborn", ["/bin/sh", "-c", script]))
        until(ready.exists)
    assert guardian.find(supervisor.cookie) == []


def test_a_killed_guardian_is_replaced(make, said, tmp_path):
    def kill() -> None:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        watch = [
            int(pid)
            for pid in children
            if b"console.guardian" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        os.kill(watch[0], signal.SIGKILL)
        until(lambda: said)

    with make() as supervisor:
        thread = during(kill)
        supervisor.run()
    thread.join()
    assert said == ["guardian stopped (exit -9), starting it again in 0.5 s"]
