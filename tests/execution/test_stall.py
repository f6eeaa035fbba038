"""Whether a process of a run waits for input from a terminal, on real servers with each shell."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from commands.execution import remote
from commands.execution.executor import Endpoint, Handle, Offsets
from commands.execution.ssh import SshExecutor
from tests.conftest import HOST_KEY, missing
from tests.execution.conftest import assert_clean
from tests.execution.contract import Rig
from tests.sshd import Sshd

PATIENCE_S = 90
READS = "sleep 600 | script -qc 'read x' /dev/null"
"""With nothing on its own input, ``script`` would type Ctrl-D, and nobody would wait."""


@pytest.fixture
def rig(executor: SshExecutor, sshd_of_each_shell: Sshd):
    if shutil.which("script") is None:
        missing("script (util-linux)")
    made = Rig(executor, sshd_of_each_shell.endpoint)
    yield made
    executor.close()
    assert_clean(sshd_of_each_shell.home)


def look(rig: Rig, handle: Handle) -> str:
    return rig.executor.waits_for(rig.endpoint, handle)


def seen(rig: Rig, handle: Handle) -> str:
    """What it waits for, once it does."""
    until = time.monotonic() + PATIENCE_S
    while not (found := look(rig, handle)):
        assert time.monotonic() < until, "nothing is seen to wait"
        time.sleep(0.1)
    return found


def end(rig: Rig, handle: Handle) -> None:
    rig.executor.cancel(rig.endpoint, handle)
    rig.follow_to_the_end(handle)
    rig.executor.acknowledge(rig.endpoint, handle)


def started(rig: Rig, handle: Handle, sign: bytes) -> None:
    """Wait until the run has printed ``sign``."""
    found: list[bytes] = []

    class Enough(Exception):
        pass

    def receive(output) -> None:
        found.append(output.data)
        if sign in b"".join(found):
            raise Enough

    with pytest.raises(Enough):
        rig.executor.follow(rig.endpoint, handle, Offsets(), receive, limit=PATIENCE_S)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_a_shell_that_reads_from_a_terminal_of_its_own(
    rig: Rig, shell: str, tmp_path: Path
) -> None:
    program, *applet = shell.split()
    if (found := shutil.which(program)) is None:
        missing(shell)
    # A copy: where another shell takes the place of sh, it also takes that of the program itself.
    command = " ".join([str(shutil.copy(found, tmp_path / program)), *applet])
    text = f"sleep 600 | script -qc \"exec {command} -c 'read x'\" /dev/null"
    handle = rig.start(rig.spec(text))
    name, _, number = seen(rig, handle).partition(" (")
    assert name in {"dash", "bash", "busybox", "sh"}
    assert number.rstrip(")").isdecimal()
    end(rig, handle)


def test_a_process_without_the_cookie_is_found_by_its_parent(rig: Rig) -> None:
    handle = rig.start(
        rig.spec("sleep 600 | script -qc \"exec env -i /bin/sh -c 'read x'\" /dev/null")
    )
    assert seen(rig, handle)
    end(rig, handle)


def test_once_it_has_its_input_nothing_waits(rig: Rig, tmp_path: Path) -> None:
    base = str(tmp_path)
    text = "mkfifo f; (sleep 600 >f) & (until [ -e go ]; do sleep 0.1; done; echo typed >f) & "
    text += "script -qc 'read x; echo got; sleep 600' /dev/null <f"
    handle = rig.start(rig.spec(text, workdir=base))
    assert seen(rig, handle)
    (tmp_path / "go").touch()
    started(rig, handle, b"got")
    assert look(rig, handle) == ""
    end(rig, handle)


@pytest.mark.parametrize(
    "script",
    [
        "echo begun; sleep 600",
        "cd $(mktemp -d); mkfifo w; echo begun; read x <>w",
        "echo begun; sleep 600 | cat",
        "sleep 600 | script -qc 'echo begun; sleep 600' /dev/null",
        "sleep 600 | script -qc 'echo begun; sleep 600 | cat' /dev/null",
        "sleep 600 | script -qc 'echo begun; perl -e \"select undef, undef, undef, 9\"' /dev/null",
    ],
)
def test_who_waits_for_something_else(rig: Rig, script: str) -> None:
    handle = rig.start(rig.spec(script))
    started(rig, handle, b"begun")
    assert [look(rig, handle) for _ in range(3)] == ["", "", ""]
    end(rig, handle)


def test_a_read_without_a_terminal_ends_at_once(rig: Rig) -> None:
    finished, _ = rig.run(rig.spec("read x; exit 3"))
    assert finished.exit_code == 3


def test_of_two_runs_the_other_is_not_meant(rig: Rig) -> None:
    waits = rig.start(rig.spec(READS))
    sleeps = rig.start(rig.spec("sleep 600"))
    assert seen(rig, waits)
    assert look(rig, sleeps) == ""
    assert look(rig, Handle("t-nothing", waits.base)) == ""
    end(rig, waits)
    end(rig, sleeps)


def test_windows_is_not_asked(executor: SshExecutor) -> None:
    endpoint = Endpoint("127.0.0.1", 1, "user", HOST_KEY, password="x", system="windows")
    assert executor.waits_for(endpoint, Handle("t-1", "C:/x")) == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), ""),
        (("-",), ""),
        (("x", "y"), ""),
        (("4711", "read"), "read (4711)"),
        (("4711",), "? (4711)"),
        (("4711", "a", "b\x1b[1m"), "a b[1m (4711)"),
        (("4711", "x" * 300), "x" * 60 + " (4711)"),
    ],
)
def test_what_an_instance_may_answer(words: tuple[str, ...], told: str) -> None:
    assert remote.stall_of(words) == told


def test_an_id_is_no_code() -> None:
    with pytest.raises(ValueError, match="not a run id"):
        remote.stall_program("n", Handle("t-1; touch /tmp/x", ""))
