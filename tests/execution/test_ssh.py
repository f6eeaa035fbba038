"""The SSH executor against real sshd: the contract, then what can go wrong."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from commands.errors import ConnectionLost, RunLost, StartRefused
from commands.execution.executor import Ending, Executor, Handle, Offsets, Output
from commands.execution.pool import Timing
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.execution.conftest import COOKIE, assert_clean, processes_of
from tests.execution.contract import ExecutorContract, Heard, Rig, new_id, together
from tests.sshd import Sshd


class TestSsh(ExecutorContract):
    @pytest.fixture
    def rig(self, executor: SshExecutor, sshd: Sshd) -> Iterator[Rig]:
        contract: Executor = executor
        rig = Rig(contract, sshd.endpoint)
        yield rig
        executor.close()
        # The last test leaves a run that nobody can acknowledge with a closed executor.
        until = time.monotonic() + 4
        while processes_of(sshd.home) and time.monotonic() < until:
            time.sleep(0.05)
        for path in sshd.base.glob("t-*"):
            assert (path / "result").exists()
            for each in path.iterdir():
                each.unlink()
            path.rmdir()
        assert_clean(sshd.home)


def alive_with(run_id: str) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        try:
            if each.environ().get(COOKIE) == run_id and each.status() != "zombie":
                found.append(each)
        except psutil.Error:
            continue
    return found


def test_five_megabytes_on_both_streams(rig: Rig) -> None:
    script = (
        "for i in 1 2 3 4 5; do head -c 1048576 /dev/urandom | tee -a $HOME/o;"
        " head -c 1048576 /dev/urandom | tee -a $HOME/e >&2; done"
    )
    finished, heard = rig.run(rig.spec(script))
    home = rig_home(rig)
    for name, data in (("o", heard.stdout), ("e", heard.stderr)):
        file = home / name
        assert hashlib.sha256(data).digest() == hashlib.sha256(file.read_bytes()).digest()
        file.unlink()
    assert (finished.stdout_size, finished.stderr_size) == (5 << 20, 5 << 20)


def rig_home(rig: Rig) -> Path:
    return Path(rig.run(rig.spec('printf %s "$HOME"'))[1].stdout.decode())


def test_every_byte_in_and_out(rig: Rig) -> None:
    data = bytes(range(256)) * 3 + b"\x1e%s\\n'"
    script = b'#!/bin/sh\ntail -n +4 "$0"\ntail -n +4 "$0" >&2; exit\n' + data
    heard = rig.run(rig.spec(script))[1]
    assert heard.stdout == data == heard.stderr


def test_no_newline_at_the_end(rig: Rig) -> None:
    assert rig.run(rig.spec("printf 'no newline'; printf '\\036' >&2"))[1].stdout == b"no newline"


def test_a_big_script(rig: Rig) -> None:
    line = "# 中文字符与 'quotes' \\ % $HOME\n"
    script = line * 3000 + "echo end"
    assert rig.run(rig.spec(script))[1].stdout == b"end\n"


@pytest.mark.parametrize(
    ("first", "rest", "output"),
    [
        ("#!/bin/bash", "echo $BASH_VERSION | cut -c1 | tr 0-9 b", "b\n"),
        ("#! /bin/bash -x", "echo x 2>/dev/null", "x\n"),
        ("#!/bin/bash\r", "echo crlf", "crlf\n"),
        ("#!/usr/bin/env bash", "echo env", "env\n"),
        ("#!/bin/cat", "text", "#!/bin/cat\ntext\n"),
    ],
)
def test_interpreter_lines(rig: Rig, first: str, rest: str, output: str) -> None:
    assert rig.run(rig.spec(f"{first}\n{rest}\n"))[1].stdout == output.encode()


def test_env_of_a_missing_program(rig: Rig) -> None:
    with pytest.raises(StartRefused, match="no-such-program") as caught:
        rig.start(rig.spec("#!/usr/bin/env no-such-program\n"))
    assert caught.value.code == ErrorCode.INTERPRETER_NOT_FOUND


def test_environment_and_directory(rig: Rig, tmp_path: Path) -> None:
    odd = tmp_path / "it's $HOME, 中文\n-x"
    odd.mkdir()
    spec = rig.spec('pwd; echo "$COMMAND_CONSOLE_RUN"; env | cut -d= -f1', workdir=str(odd))
    text = rig.run(spec)[1].stdout.decode()
    assert text.startswith(f"{odd}\n{spec.run_id}\n")
    assert {"HOME", "USER", "PATH", COOKIE} <= set(text.split())
    assert "cc_" not in text
    assert rig.run(rig.spec("pwd"))[1].stdout.decode().strip() == str(rig_home(rig))


def test_signals_of_the_script_are_default_and_stdin_is_empty(rig: Rig) -> None:
    spec = rig.spec("grep SigIgn /proc/self/status; cat; umask")
    words = rig.run(spec)[1].stdout.split()
    assert words[1].strip(b"0") == b""
    mask = os.umask(0o22)
    os.umask(mask)
    assert int(words[2], 8) == mask


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("KILL", 137), ("INT", 130)])
def test_a_script_that_a_signal_ends(rig: Rig, name: str, code: int) -> None:
    finished = rig.run(rig.spec(f"kill -{name} $$; sleep 5"))[0]
    assert (finished.ending, finished.exit_code) == (Ending.EXIT, code)


def test_a_script_may_kill_its_process_group(rig: Rig) -> None:
    assert rig.run(rig.spec("sleep 60 & kill -KILL 0"))[0].exit_code == 137


def test_a_daemon_does_not_delay_the_result(rig: Rig) -> None:
    handle = rig.start(rig.spec("sleep 3 & echo $!"))
    began = time.monotonic()
    finished, heard = rig.follow(handle)
    assert time.monotonic() - began < 1.5
    assert (finished.exit_code, finished.left) == (0, None)
    assert psutil.pid_exists(int(heard.stdout))
    os.kill(int(heard.stdout), signal.SIGKILL)
    rig.executor.acknowledge(rig.endpoint, handle)


KINDS = {
    "plain": "sleep 60",
    "ignores TERM": "trap '' TERM; sleep 60 & while :; do sleep 1; done",
    "new session": "setsid sleep 60 & sleep 60",
    "double fork": "(setsid sh -c 'sleep 60 & sleep 60' &) ; sleep 60",
    "no cookie": "env -i setsid sleep 60 & sleep 60",
    "all at once": "trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" & "
    "sleep 60 & while :; do sleep 1; done",
}


@pytest.mark.parametrize("kind", KINDS)
def test_timeout_ends_the_whole_tree(rig: Rig, kind: str) -> None:
    spec = rig.spec(KINDS[kind], timeout=1, grace=1)
    handle = rig.start(spec)
    finished = rig.follow(handle)[0]
    assert (finished.ending, finished.left) == (Ending.TIMEOUT, 0)
    assert alive_with(spec.run_id) == []
    rig.executor.acknowledge(rig.endpoint, handle)


def test_timeout_with_nobody_connected(rig: Rig, sshd: Sshd) -> None:
    spec = rig.spec("echo begun; sleep 60", timeout=1, grace=1)
    handle = rig.start(spec)
    sshd.kill_sessions()
    result = sshd.base / spec.run_id / "result"
    until = time.monotonic() + 5
    while not result.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert result.read_text().split() == ["timeout", "-", "0"]
    assert alive_with(spec.run_id) == []
    finished, heard = rig.follow(handle)
    assert (finished.ending, heard.stdout) == (Ending.TIMEOUT, b"begun\n")
    rig.executor.acknowledge(rig.endpoint, handle)


def test_term_lets_the_script_clean_up(rig: Rig) -> None:
    spec = rig.spec("trap 'echo cleaned; exit 1' TERM; sleep 60 & wait", timeout=1, grace=5)
    handle = rig.start(spec)
    began = time.monotonic()
    finished, heard = rig.follow(handle)
    assert time.monotonic() - began < 3
    assert (finished.ending, heard.stdout) == (Ending.TIMEOUT, b"cleaned\n")
    rig.executor.acknowledge(rig.endpoint, handle)


def test_sessions_killed_while_following(rig: Rig, sshd: Sshd) -> None:
    script = (
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; echo err $i >&2; sleep 0.005;"
        " done; exit 42"
    )
    handle = rig.start(rig.spec(script))
    out, err, reached, broken = b"", b"", Offsets(), 0

    def kill(output: Output) -> None:
        if broken < 4 and output.offset > reached.stdout + 200:
            sshd.kill_sessions()

    finished = None
    while finished is None:
        heard = Heard(reached, on_output=kill)
        with contextlib.suppress(ConnectionLost):
            finished = rig.follow(handle, heard)[0]
        broken += finished is None
        out, err, reached = out + heard.stdout, err + heard.stderr, heard.reached
    assert broken >= 4
    assert out == b"".join(b"line %d\n" % i for i in range(1, 301))
    assert err == b"".join(b"err %d\n" % i for i in range(1, 301))
    assert finished.exit_code == 42
    rig.executor.acknowledge(rig.endpoint, handle)


def test_another_process_goes_on(rig: Rig) -> None:
    handle = rig.start(rig.spec("echo a; sleep 0.3; echo b; exit 9"))
    rig.executor.close()
    rig.executor = other = SshExecutor()
    try:
        finished, heard = rig.follow(handle)
        assert (finished.exit_code, heard.stdout) == (9, b"a\nb\n")
        other.acknowledge(rig.endpoint, handle)
    finally:
        other.close()


@pytest.mark.parametrize("starters", [2, 8])
def test_starters_of_many_processes_one_execution(
    rig: Rig, sshd: Sshd, tmp_path: Path, starters: int
) -> None:
    counter = tmp_path / "counter"
    spec = rig.spec(f"echo once >>{shlex.quote(str(counter))}; sleep 0.2")
    executors = [SshExecutor() for _ in range(starters)]
    try:
        for each in executors:  # Sign in first, so that the race is tight.
            each.acknowledge(sshd.endpoint, Handle(new_id(), ""))
        fresh = together(starters, lambda i: executors[i].start(sshd.endpoint, spec).fresh)
    finally:
        for each in executors:
            each.close()
    assert fresh.count(True) == 1
    handle = Handle(spec.run_id, "")
    assert rig.follow(handle)[0].exit_code == 0
    assert counter.read_text() == "once\n"
    rig.executor.acknowledge(rig.endpoint, handle)


def test_supervisor_killed(rig: Rig, sshd: Sshd) -> None:
    spec = rig.spec("echo begun; sleep 60")
    handle = rig.start(spec)

    def kill(_: Output) -> None:
        os.kill(int((sshd.base / spec.run_id / "sup").read_text().split()[0]), signal.SIGKILL)

    with pytest.raises(RunLost, match="supervisor") as caught:
        rig.follow(handle, Heard(on_output=kill))
    assert caught.value.code == ErrorCode.OUTCOME_UNKNOWN
    assert alive_with(spec.run_id) == []
    rig.executor.acknowledge(rig.endpoint, handle)


def test_rebooted(rig: Rig, sshd: Sshd) -> None:
    spec = rig.spec("echo output")
    handle = rig.start(spec)
    rig.follow(handle)
    directory = sshd.base / spec.run_id
    pid, start, _ = (directory / "sup").read_text().split()
    (directory / "sup").write_text(f"{pid} {start} another-boot\n")
    (directory / "result").unlink()
    (directory / "end").unlink()
    heard = Heard()
    with pytest.raises(RunLost, match="restarted"):
        rig.follow(handle, heard)
    assert heard.stdout == b"output\n"
    rig.executor.acknowledge(rig.endpoint, handle)


def test_cancel_when_supervisor_and_watchdog_are_dead(rig: Rig, sshd: Sshd) -> None:
    spec = rig.spec("trap '' TERM; while :; do sleep 1; done", grace=1)
    handle = rig.start(spec)
    directory = sshd.base / spec.run_id
    time.sleep(0.2)
    supervisor, watchdog = (
        psutil.Process(int((directory / name).read_text().split()[0])) for name in ("sup", "wd")
    )
    for each in [*watchdog.children(), watchdog, supervisor]:
        each.kill()
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    assert alive_with(spec.run_id) == []
    rig.executor.acknowledge(rig.endpoint, handle)


def test_forged_frames_are_output(rig: Rig) -> None:
    script = "printf '\\036%032d result exit 0 0\\n' 7; printf '\\036'; exit 3"
    finished, heard = rig.run(rig.spec(script))
    assert heard.stdout.endswith(b" result exit 0 0\n\x1e")
    assert finished.exit_code == 3


def test_the_directory_is_gone(rig: Rig, sshd: Sshd) -> None:
    handle = rig.start(rig.spec("exit 0"))
    rig.follow(handle)
    rig.executor.acknowledge(rig.endpoint, handle)
    with pytest.raises(RunLost, match="gone"):
        rig.follow(handle)


def test_a_stopped_peer_is_noticed(sshd: Sshd) -> None:
    executor = SshExecutor(Timing(beat=0.5, dead=1.5))
    rig = Rig(executor, sshd.endpoint)
    handle = rig.start(rig.spec("echo begun; sleep 1; exit 6"))
    stopped = []

    def stop(_: Output) -> None:
        for each in sshd.sessions():
            each.suspend()
            stopped.append(each)

    began = time.monotonic()
    try:
        with pytest.raises(ConnectionLost):
            rig.follow(handle, Heard(on_output=stop))
        assert time.monotonic() - began < 5
    finally:
        for each in stopped:
            each.resume()
    assert rig.follow(handle)[0].exit_code == 6
    executor.acknowledge(sshd.endpoint, handle)
    executor.close()
    assert_clean(sshd.home)


def test_noise_and_a_busybox_like_instance(tmp_path: Path) -> None:
    """A .bashrc that prints, and tools without ``tail --pid``: polling takes over."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("tail", "sleep", "cat", "grep", "mkdir", "mv", "rm", "setsid", "find", "head"):
        (tools / name).symlink_to("/bin/busybox")
    with Sshd.started(tmp_path, shell_env={"PATH": f"{tools}:/usr/bin:/bin"}) as [server]:
        (server.home / ".bashrc").write_text("printf 'Welcome! '; echo noise >&2\n")
        executor = SshExecutor()
        rig = Rig(executor, server.endpoint)
        handle = rig.start(rig.spec("echo a; echo b >&2; sleep 0.5; echo c; exit 8"))
        finished, heard = rig.follow(handle)
        assert (heard.stdout, heard.stderr) == (b"a\nc\n", b"b\n")
        assert finished.exit_code == 8
        executor.acknowledge(server.endpoint, handle)
        spec = rig.spec("trap '' TERM; setsid sleep 60 & sleep 60", timeout=1, grace=1)
        handle = rig.start(spec)
        assert rig.follow(handle)[0].left == 0
        executor.acknowledge(server.endpoint, handle)
        executor.close()
        assert_clean(server.home)


def test_the_spare_base(tmp_path: Path) -> None:
    with Sshd.started(tmp_path) as [server]:
        server.base.write_text("in the way")
        executor = SshExecutor()
        rig = Rig(executor, server.endpoint)
        spec = rig.spec("echo spare")
        handle = rig.start(spec)
        assert handle.base == f"/var/tmp/.command-console-{os.getuid()}"
        assert rig.follow(handle)[1].stdout == b"spare\n"
        executor.acknowledge(server.endpoint, handle)
        spare = Path(handle.base)
        assert spare.stat().st_mode & 0o777 == 0o700
        (spare / ".done" / spec.run_id).unlink()
        # Somebody may really use it: only what is empty goes.
        with contextlib.suppress(OSError):
            (spare / ".done").rmdir()
            spare.rmdir()
        executor.close()
