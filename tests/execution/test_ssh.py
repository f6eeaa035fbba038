"""The SSH executor against real sshd: the contract, then what can go wrong."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import psutil
import pytest

from commands.errors import ConnectFailed, ConnectionLost, RunLost, StartRefused
from commands.execution import remote, ssh
from commands.execution.executor import (
    FOLLOW_LIMIT,
    Ending,
    Executor,
    Handle,
    Offsets,
    Output,
    RunSpec,
)
from commands.execution.pool import Connection, Timing
from commands.execution.remote import Frame
from commands.execution.ssh import SshExecutor
from commands.rules.launcher import Launcher
from commands.rules.status import ErrorCode
from tests.execution.conftest import (
    COOKIE,
    Account,
    assert_clean,
    end_watchdog,
    forget_spare,
    note,
    noted,
    process,
    processes_of,
)
from tests.execution.contract import ExecutorContract, Heard, Rig, new_id, together
from tests.sshd import Sshd


@pytest.fixture(scope="module")
def sshd(sshd_of_each_shell: Sshd) -> Sshd:
    """Everything here must hold in each shell."""
    return sshd_of_each_shell


def ended(directory: Path) -> bool:
    """Whether the result of a run is there."""
    return "." in noted(directory, "result")


class TestSsh(ExecutorContract):
    @pytest.fixture
    def account(self, target: Account, executor: SshExecutor) -> Iterator[str]:
        yield target.name
        executor.close()
        target.assert_clean()

    @pytest.fixture
    def rig(self, executor: SshExecutor, sshd: Sshd) -> Iterator[Rig]:
        contract: Executor = executor
        rig = Rig(contract, sshd.endpoint)
        yield rig
        executor.close()
        # The last test leaves a run that nobody can acknowledge with a closed executor.
        until = time.monotonic() + 60
        while processes_of(sshd.home) and time.monotonic() < until:
            time.sleep(0.05)
        for path in sshd.base.glob("t-*"):
            assert ended(path)
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


ODD_WORDS = [
    "two  words",
    "",
    "'",
    '"',
    "$HOME",
    "`id`",
    "$(id)",
    "*",
    "/*",
    "~",
    "a;b|c&d>e<f",
    "\\",
    "-n",
    "--",
    "!x",
    "#x",
    "{a,b}",
    "[a-z]",
    "tab\there",
    "two\nlines",
    "中文 é ñ \u0081\u0082\u0083\u0084\u0085\u0086\u0087\u0088 😀",
]


def test_the_words_of_a_launcher_arrive_exactly(rig: Rig) -> None:
    words = (sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *ODD_WORDS)
    launcher = Launcher((*words, "--file=\0=it's", "\0"), ".py")
    heard = rig.run(rig.spec("", launcher=launcher))[1]
    *odd, file, path = ast.literal_eval(heard.stdout.decode())
    assert odd == ODD_WORDS
    assert file == f"--file={path}=it's"
    assert re.search(r"/s\.[0-9a-f]+\.py$", path)


def test_the_script_of_a_launcher(rig: Rig) -> None:
    data = bytes(range(256)) * 20
    launcher = Launcher(("cat",))
    assert rig.run(rig.spec(data, launcher=launcher))[1].stdout == data


def test_a_launcher_from_the_directory_of_the_run_and_from_path(rig: Rig, tmp_path: Path) -> None:
    tool = tmp_path / "cc_frame"
    tool.write_text("#!/bin/sh\necho mine\n")
    for words in (("./cc_frame",), (str(tool),), ("cc_frame",), ("cd",), (str(tmp_path),), ("-x",)):
        with pytest.raises(StartRefused) as caught:
            rig.start(rig.spec("", launcher=Launcher(words), workdir=str(tmp_path)))
        assert caught.value.code == ErrorCode.LAUNCHER_NOT_FOUND
    tool.chmod(0o755)
    for words in (("./cc_frame",), (str(tool),)):
        spec = rig.spec("", launcher=Launcher(words), workdir=str(tmp_path))
        assert rig.run(spec)[1].stdout == b"mine\n"


def test_a_launcher_whose_name_looks_like_an_option(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "-f").write_text("#!/bin/sh\necho mine $*\n")
    (tools / "-f").chmod(0o755)
    with Sshd.started(tmp_path, shell_env={"PATH": f"{tools}:/usr/bin:/bin"}) as [server]:
        executor = SshExecutor()
        rig = Rig(executor, server.endpoint)
        spec = rig.spec("", launcher=Launcher(("-f", "x")))
        assert rig.run(spec)[1].stdout.startswith(b"mine x /")
        executor.close()


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
    handle = rig.start(rig.spec("sleep 60 & echo $!"))
    began = time.monotonic()
    finished, heard = rig.follow(handle)
    assert time.monotonic() - began < 20
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
    "forks on": "f() { sleep 0.05; f & }; f; while :; do sleep 1; done",
    "chain": 'l=\'sleep 0.03; setsid sh -c "$l" & exit\'; export l; sh -c "$l" >/dev/null 2>&1; '
    "sleep 60",
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


CHILD = "setsid sleep 60 & echo $!; sleep 60 & echo $!; trap '' TERM; while :; do sleep 0.1; done"


def follow_lines(rig: Rig, handle: Handle, count: int) -> None:
    """Follow until ``count`` lines have come."""
    lines = []

    def count_lines(output: Output) -> None:
        lines.extend(output.data.splitlines())
        if len(lines) >= count:
            rig.executor.abandon(handle.run_id)

    with pytest.raises(ConnectionLost):
        rig.executor.follow(rig.endpoint, handle, Offsets(), count_lines, limit=90)


def end_by_timeout(rig: Rig, handle: Handle) -> None:
    rig.follow(handle)


def end_by_cancel(rig: Rig, handle: Handle) -> None:
    follow_lines(rig, handle, 2)
    rig.executor.cancel(rig.endpoint, handle)


@pytest.mark.parametrize("end", [end_by_timeout, end_by_cancel])
@pytest.mark.parametrize("whole_tree", [True, False])
def test_children_live_on_only_without_the_whole_tree(
    rig: Rig, whole_tree: bool, end: Callable[[Rig, Handle], None]
) -> None:
    timeout = 4 if end is end_by_timeout else 60
    spec = rig.spec(CHILD, timeout=timeout, grace=1, whole_tree=whole_tree)
    handle = rig.start(spec)
    end(rig, handle)
    finished, heard = rig.follow(handle)
    children = [int(word) for word in heard.stdout.split()]
    assert finished.ending is (Ending.TIMEOUT if end is end_by_timeout else Ending.CANCEL)
    assert finished.left == (0 if whole_tree else None)
    alive = [each for each in alive_with(spec.run_id) if each.pid in children]
    assert len(alive) == (0 if whole_tree else 2)
    assert rig.executor.cancel(rig.endpoint, handle).left == finished.left
    # The script itself is gone; a last `sleep 0.1` of its own may be there yet.
    assert not [each for each in alive_with(spec.run_id) if "sh" in each.name()]
    for each in alive:
        each.kill()
    rig.executor.acknowledge(rig.endpoint, handle)


def test_term_comes_first_without_the_whole_tree(rig: Rig) -> None:
    script = "trap 'echo cleaned; exit 1' TERM; sleep 60 & echo $!; wait"
    handle = rig.start(rig.spec(script, timeout=4, grace=30, whole_tree=False))
    finished, heard = rig.follow(handle)
    child, told = heard.stdout.split()
    assert (finished.ending, told) == (Ending.TIMEOUT, b"cleaned")
    os.kill(int(child), signal.SIGKILL)
    rig.executor.acknowledge(rig.endpoint, handle)


def test_another_process_with_the_number_of_the_script_is_left_alone(rig: Rig, sshd: Sshd) -> None:
    """The numbers of processes come round again."""
    handle = rig.start(rig.spec("echo begun; sleep 60", whole_tree=False))
    follow_lines(rig, handle, 1)
    directory = sshd.base / handle.run_id
    supervisor, script = (process(directory, who) for who in ("supervisor", "script"))
    end_watchdog(directory)
    for each in [supervisor, *script.children(), script]:
        each.kill()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        note(directory, "script", f"{bystander.pid} 1")
        assert rig.executor.cancel(rig.endpoint, handle).left is None
        assert bystander.poll() is None
        bystander.kill()
    rig.executor.acknowledge(rig.endpoint, handle)


def test_supervisor_killed_without_the_whole_tree(rig: Rig, sshd: Sshd) -> None:
    handle = rig.start(rig.spec("sleep 60 & echo $!; wait", whole_tree=False))
    children = []

    def kill(output: Output) -> None:
        children.append(int(output.data))
        process(sshd.base / handle.run_id, "supervisor").kill()

    with pytest.raises(RunLost, match="its own process was ended"):
        rig.follow(handle, Heard(on_output=kill))
    os.kill(children[0], signal.SIGKILL)
    rig.executor.acknowledge(rig.endpoint, handle)


def test_timeout_with_nobody_connected(rig: Rig, sshd: Sshd) -> None:
    spec = rig.spec("echo begun; sleep 60", timeout=4, grace=1)
    handle = rig.start(spec)
    sshd.kill_sessions()
    directory = sshd.base / spec.run_id
    until = time.monotonic() + 60
    while not ended(directory) and time.monotonic() < until:
        time.sleep(0.05)
    assert noted(directory, "result") == ["timeout", "-", "0", "0", "."]
    assert alive_with(spec.run_id) == []
    finished, heard = rig.follow(handle)
    assert (finished.ending, heard.stdout) == (Ending.TIMEOUT, b"begun\n")
    rig.executor.acknowledge(rig.endpoint, handle)


def test_term_lets_the_script_clean_up(rig: Rig) -> None:
    spec = rig.spec("trap 'echo cleaned; exit 1' TERM; sleep 60 & wait", timeout=4, grace=30)
    handle = rig.start(spec)
    began = time.monotonic()
    finished, heard = rig.follow(handle)
    assert time.monotonic() - began < 20
    assert (finished.ending, heard.stdout) == (Ending.TIMEOUT, b"cleaned\n")
    rig.executor.acknowledge(rig.endpoint, handle)


def test_sessions_killed_while_following(rig: Rig, sshd: Sshd, tmp_path: Path) -> None:
    # After every sixtieth line it waits for the next broken connection, however slow that is.
    script = (
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; echo err $i >&2; sleep 0.005;"
        f" case $i in 60|120|180|240) until [ -e '{tmp_path}'/$i ]; do sleep 0.02; done;; esac;"
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
        (tmp_path / str(60 * broken)).touch()
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
        process(sshd.base / spec.run_id, "supervisor").kill()

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
    pid, start, _ = noted(directory, "supervisor")
    note(directory, "supervisor", f"{pid} {start} another-boot")
    note(directory, "result", "none")
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
    process(directory, "script")
    end_watchdog(directory)
    process(directory, "supervisor").kill()
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
    with contextlib.closing(SshExecutor()) as patient:
        rig = Rig(patient, sshd.endpoint)
        handle = rig.start(rig.spec("echo begun; sleep 4; exit 6"))
    rig.executor = executor = SshExecutor(Timing(beat=0.5, dead=1.5))
    stopped = []

    def stop(_: Output) -> None:
        for each in sshd.sessions():
            each.suspend()
            stopped.append(each)

    began = time.monotonic()
    try:
        with pytest.raises(ConnectionLost):
            rig.follow(handle, Heard(on_output=stop))
        assert time.monotonic() - began < 30
    finally:
        for each in stopped:
            each.resume()
        executor.close()
    with contextlib.closing(SshExecutor()) as patient:
        rig.executor = patient
        assert rig.follow(handle)[0].exit_code == 6
        patient.acknowledge(sshd.endpoint, handle)
    assert_clean(sshd.home)


TOOLS = "tail sleep cat grep mkdir mv rm setsid find head tee ls fallocate"


def test_noise_and_a_busybox_like_instance(tmp_path: Path) -> None:
    """A .bashrc that prints, and tools without ``tail --pid``: polling takes over."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS.split():
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
        forget_spare(spare, spec.run_id)
        executor.close()


def connection_of(executor: SshExecutor, sshd: Sshd) -> Connection:
    return executor.pool._sites[sshd.endpoint].connections[0]


def test_a_connection_that_breaks_half_way_into_a_start(
    rig: Rig, executor: SshExecutor, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network goes between the opening of a channel and its use."""
    rig.run(rig.spec("exit 0"))
    opened = paramiko.Transport.open_session

    def cut(transport: paramiko.Transport, **values: float) -> paramiko.Channel:
        channel = opened(transport, **values)
        transport.sock.shutdown(socket.SHUT_WR)
        return channel

    for _ in range(10):
        spec = rig.spec("exit 0")
        with monkeypatch.context() as patch:
            patch.setattr(paramiko.Transport, "open_session", cut)
            # Or nothing, where a kept channel was used. Never ConnectFailed, which is final.
            with contextlib.suppress(ConnectionLost):
                executor.start(sshd.endpoint, spec)
        started = executor.start(sshd.endpoint, spec)
        handle = Handle(spec.run_id, started.base)
        assert rig.follow(handle)[0].exit_code == 0
        executor.acknowledge(sshd.endpoint, handle)


def test_the_keeper_survives_a_kept_channel_that_cannot_be_closed(
    executor: SshExecutor, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(executor, sshd.endpoint)
    handle = rig.start(rig.spec("exit 0"))
    rig.follow_to_the_end(handle)  # and keep the channel
    connection, keeper = connection_of(executor, sshd), executor.pool._keeper

    def dead(_: object) -> None:
        raise EOFError

    connection.transport.packetizer.send_message = dead  # type: ignore[method-assign] # a link that takes nothing
    monkeypatch.setattr(ssh, "KEEP", 0.3)
    until = time.monotonic() + 60
    while connection.users and time.monotonic() < until:
        time.sleep(0.05)
    assert connection.users == 0
    assert keeper is not None
    assert keeper.is_alive()
    connection.close()
    executor.acknowledge(sshd.endpoint, handle)


@pytest.mark.parametrize("error", [EOFError(), IndexError("x\n\0y"), paramiko.SSHException("x")])
def test_only_errors_of_the_contract_leave(
    rig: Rig, executor: SshExecutor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    handle = Handle(new_id(), "")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(executor.pool, "open", fail)
    for act in (
        lambda: executor.start(rig.endpoint, rig.spec("")),
        lambda: executor.follow(rig.endpoint, handle, Offsets(), print),
        lambda: executor.cancel(rig.endpoint, handle),
        lambda: executor.acknowledge(rig.endpoint, handle),
    ):
        with pytest.raises(ConnectionLost) as caught:
            act()
        assert caught.value.message.isprintable()
    monkeypatch.setattr(executor.pool, "reach", fail)
    with pytest.raises(ConnectionLost) as caught:
        executor.probe(rig.endpoint)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("error", [EOFError(), OSError("full"), ConnectFailed("x\n")])
def test_the_receivers_own_error_is_passed_on_as_it_is(rig: Rig, error: Exception) -> None:
    def fail(_: Output) -> None:
        raise error

    handle = rig.start(rig.spec("echo a"))
    with pytest.raises(type(error)) as caught:
        rig.executor.follow(rig.endpoint, handle, Offsets(), fail)
    assert caught.value is error
    rig.follow_to_the_end(handle)
    rig.executor.acknowledge(rig.endpoint, handle)


@pytest.mark.parametrize(
    "frame",
    [
        Frame("started"),
        Frame("started", ("1", "b", "m", "h")),
        Frame("started", ("1", "b", "m", "h", "relative")),
        Frame("started", ("1", "b", "m", "h", "/x\udce9")),
        Frame("started", ("1", "b", "m", "h", "/x\x07")),
        Frame("started", ("1", "b", "m", "h", "/" + "x" * 255)),
        Frame("refused", ("NobodyKnows",)),
        Frame("refused"),
        Frame("what"),
    ],
)
def test_answers_that_no_instance_gives(rig: Rig, frame: Frame) -> None:
    spec = rig.spec("exit 0")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ConnectionLost):
        patch.setattr(ssh._Conversation, "frame", lambda *_: frame)
        patch.setattr(ssh._Conversation, "begin", lambda *_: None)
        rig.executor.start(rig.endpoint, spec)


def test_what_an_instance_says_about_itself_is_cleaned() -> None:
    machine, host = "m\0\udcff" + "x" * 100, "h\x1b[1m\x9b" + "y" * 300
    started = ssh._started(Frame("started", ("1", "-", machine, host, "/home/a", "b")))
    assert (started.base, started.boot_id) == ("/home/a b", "")
    assert started.machine_id == "m" + "x" * 63
    assert started.hostname == "h[1m" + "y" * 251


@pytest.mark.parametrize(
    "words",
    [
        ("exit", "-", "-", "0"),
        ("exit", "256", "-", "0"),
        ("none", "-", "-", "0"),
        ("exit", "²", "-", "0"),
    ],
)
def test_a_damaged_result_is_lost(words: tuple[str, ...]) -> None:
    with pytest.raises(RunLost):
        ssh._Flow(Offsets(), print).finished(Frame("result", words))


def test_noise_is_shown_without_controls(tmp_path: Path) -> None:
    (tmp_path / "say").write_bytes(b"#!/bin/sh\nprintf 'a\\033[31mb\\000\\007c\\n\\nd\\233e'\n")
    (tmp_path / "say").chmod(0o755)
    with Sshd.started(tmp_path, ForceCommand=tmp_path / "say") as [server]:
        executor = SshExecutor()
        with pytest.raises(ConnectFailed) as caught:
            executor.start(server.endpoint, Rig(executor, server.endpoint).spec(""))
        executor.close()
    assert caught.value.message.isprintable()
    assert "a[31mbc d" in caught.value.message


def test_a_script_does_not_learn_the_nonce(rig: Rig) -> None:
    heard = rig.run(rig.spec('echo "$0"; tr "\\0" "\\n" </proc/$$/environ'))[1]
    assert b"/s." in heard.stdout
    assert not re.search(rb"[0-9a-f]{32}", heard.stdout)


def test_a_shell_that_takes_its_time_may_have_started_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ConnectFailed would say that nothing was started."""
    monkeypatch.setattr(ssh, "ANSWER", 0.5)
    with Sshd.started(tmp_path, ForceCommand="sleep 3") as [server]:
        executor = SshExecutor()
        with pytest.raises(ConnectionLost):
            executor.start(server.endpoint, Rig(executor, server.endpoint).spec(""))
        executor.close()


def test_a_shell_that_prints_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "ANSWER", 0.5)
    with Sshd.started(tmp_path, ForceCommand="exec timeout 60 yes") as [server]:
        executor = SshExecutor()
        began = time.monotonic()
        with pytest.raises(ConnectionLost):
            executor.start(server.endpoint, Rig(executor, server.endpoint).spec(""))
        assert time.monotonic() - began < 30
        executor.close()


def test_a_request_for_a_shell_that_is_never_answered(
    executor: SshExecutor, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "ANSWER", 0.5)

    def unanswered(channel: paramiko.Channel, _: str) -> None:
        channel.event.clear()
        channel._wait_for_event()

    monkeypatch.setattr(paramiko.Channel, "exec_command", unanswered)
    began = time.monotonic()
    with pytest.raises(ConnectFailed):
        executor.start(sshd.endpoint, Rig(executor, sshd.endpoint).spec(""))
    assert time.monotonic() - began < 30
    until = time.monotonic() + 60
    while connection_of(executor, sshd).users and time.monotonic() < until:
        time.sleep(0.02)
    assert connection_of(executor, sshd).users == 0


def test_a_limit_in_the_midst_of_output(rig: Rig) -> None:
    handle = rig.start(rig.spec("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done", timeout=60))
    began, heard = time.monotonic(), Heard()
    with pytest.raises(ConnectionLost) as caught:
        rig.executor.follow(
            rig.endpoint, handle, Offsets(), lambda _: heard.times.append(0), limit=4.0
        )
    assert caught.value.code == FOLLOW_LIMIT
    assert time.monotonic() - began < 30
    assert heard.times
    rig.executor.cancel(rig.endpoint, handle)
    rig.executor.acknowledge(rig.endpoint, handle)


def test_a_run_whose_watchdog_was_killed_can_be_ended(rig: Rig, sshd: Sshd) -> None:
    handle = rig.start(rig.spec("echo begun; sleep 60", timeout=5))
    directory = sshd.base / handle.run_id
    end_watchdog(directory)
    heard = Heard()
    with pytest.raises(ConnectionLost) as caught:
        rig.executor.follow(rig.endpoint, handle, Offsets(), heard, limit=5.5)
    assert caught.value.code == FOLLOW_LIMIT
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    finished, rest = rig.follow(handle, Heard(heard.reached))
    assert (finished.ending, finished.left) == (Ending.CANCEL, 0)
    assert heard.stdout + rest.stdout == b"begun\n"
    rig.executor.acknowledge(rig.endpoint, handle)


def test_abandon_and_close_where_the_peer_has_stopped(sshd: Sshd) -> None:
    executor = SshExecutor(Timing(beat=60, dead=60))
    rig = Rig(executor, sshd.endpoint)
    handle = rig.start(rig.spec("echo begun; sleep 4; exit 6"))
    stopped = []

    def stop(_: Output) -> None:
        for each in sshd.sessions():
            each.suspend()
            stopped.append(each)
        threading.Timer(0.3, executor.abandon, [handle.run_id]).start()

    began = time.monotonic()
    try:
        with pytest.raises(ConnectionLost):
            rig.follow(handle, Heard(on_output=stop))
        assert time.monotonic() - began < 30
        # A call that must open a channel on the connection that hangs.
        threading.Timer(0.3, executor.close).start()
        began = time.monotonic()
        with pytest.raises(ConnectionLost):
            executor.cancel(sshd.endpoint, handle)
        assert time.monotonic() - began < 12
    finally:
        for each in stopped:
            each.resume()
    rig.executor = other = SshExecutor()
    assert rig.follow(handle)[0].exit_code == 6
    other.acknowledge(sshd.endpoint, handle)
    other.close()
    assert_clean(sshd.home)


def test_no_secret_is_kept_beside_the_pool(executor: SshExecutor, sshd: Sshd) -> None:
    rig = Rig(executor, sshd.endpoint)
    rig.run(rig.spec("exit 0"))
    kept = [executor._kept, executor._no_wait, executor._swept, executor._calls]
    assert sshd.endpoint.private_key not in str(
        [[getattr(each, "__dict__", each) for each in some] for some in kept]
    )
    assert not any(isinstance(each, type(sshd.endpoint)) for some in kept for each in some)


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 0.75, 0.999])
def test_a_program_that_arrives_in_part_does_nothing(
    sshd: Sshd, tmp_path: Path, part: float
) -> None:
    """The call is its last line: whatever a connection that breaks has brought only defines."""
    touched = tmp_path / "touched"
    spec = RunSpec(new_id(), f"touch {shlex.quote(str(touched))}".encode())
    program = remote.start_program(remote.new_nonce(), spec)
    transport = paramiko.Transport(("127.0.0.1", sshd.port))
    try:
        transport.start_client(timeout=30)
        key = paramiko.Ed25519Key.from_private_key_file(str(sshd.directory / "client_key"))
        transport.auth_publickey(sshd.endpoint.user, key)
        channel = transport.open_session(timeout=30)
        channel.exec_command(remote.COMMAND)
        channel.sendall(program[: int(len(program) * part)])
        channel.shutdown_write()
        channel.recv_exit_status()
    finally:
        transport.close()
    assert not touched.exists()
    assert not (sshd.base / spec.run_id).exists()
