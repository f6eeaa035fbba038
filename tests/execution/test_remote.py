"""Programs and frames, without any instance; and the program under three local shells."""

from __future__ import annotations

import ast
import contextlib
import os
import platform
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.execution import remote
from commands.execution.executor import Handle, Offsets, RunSpec
from commands.execution.remote import Frame, Interpreter, Reader, interpreter_of
from commands.rules.launcher import Launcher
from tests.execution.conftest import assert_clean, end_watchdog, forget_spare, noted, process

NONCE = "0123456789abcdef" * 2
MARK = b"\x1e" + NONCE.encode() + b" "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"echo", Interpreter("/bin/sh")),
        (b"", Interpreter("/bin/sh")),
        (b"#!", Interpreter("/bin/sh")),
        (b"#!\n/bin/bash", Interpreter("/bin/sh")),
        (b" #!/bin/bash", Interpreter("/bin/sh")),
        (b"#!/bin/bash\n", Interpreter("/bin/bash")),
        (b"#! \t/bin/bash -x \n", Interpreter("/bin/bash", "-x")),
        (b"#!/bin/bash\r\necho", Interpreter("/bin/bash")),
        (b"#!/bin/bash -e\r\n", Interpreter("/bin/bash", "-e")),
        (b"#!/usr/bin/awk -f x  y\n", Interpreter("/usr/bin/awk", "-f x  y")),
        (b"#!/usr/bin/env python3\n", Interpreter("/usr/bin/env", "python3", "python3")),
        (b"#!/usr/bin/env -S python3 -u\n", Interpreter("/usr/bin/env", "-S python3 -u")),
        (b"#!/usr/bin/env A=b\n", Interpreter("/usr/bin/env", "A=b")),
        (b"#!bash\n", Interpreter("./bash")),
        (b"#!/bin/sh\0 -x\n", Interpreter("/bin/sh")),
        (b"#!/bin/sh", Interpreter("/bin/sh")),
    ],
)
def test_interpreter_of(line: bytes, expected: Interpreter) -> None:
    assert interpreter_of(line) == expected


@pytest.mark.parametrize("bad", ["", "a/b", "..", ".done", "a b", "a\n", "x" * 81, "é"])
def test_bad_run_ids(bad: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        remote.start_program(NONCE, RunSpec(bad, b""))


def test_nothing_but_ascii_where_the_parameters_are_ascii() -> None:
    program = remote.start_program(NONCE, RunSpec("r", "中文 % ' \\ é".encode()))
    assert program.isascii()
    assert program.endswith(b"\ncc_main start\n")


def test_the_request_for_another_run_on_a_channel() -> None:
    request = remote.start_request(NONCE, RunSpec("r", b"echo x\n", workdir="/a\nb"))
    assert request is not None
    first, rest = request.split(b"\n", 1)
    assert first == b"start %d" % rest.count(b"\n")
    assert rest.endswith(b"\n")
    assert NONCE.encode() not in rest
    # The functions that the hub needs end where the text begins.
    assert rest.count(b"\ncc_text() {\n") == 1
    assert remote.start_request(NONCE, RunSpec("r", b"x" * 20_000)) is None
    with pytest.raises(ValueError, match="run id"):
        remote.start_request(NONCE, RunSpec("a/b", b""))


def test_the_runner_fits_any_line_discipline() -> None:
    program = remote.start_program(NONCE, RunSpec("r", bytes(range(256)) * 100))
    assert max(map(len, program.split(b"\n"))) < 15000
    # Each new connection sends it: what makes it longer has to be worth that.
    assert len(remote.cancel_program(NONCE, Handle("r", ""))) < 24_000


def test_the_engine_imports_no_framework() -> None:
    code = (
        "import sys, commands.execution.ssh, commands.execution.fake\n"
        "found = {name.split('.')[0] for name in sys.modules}\n"
        "assert not found & {'django', 'celery'}, found\n"
        "assert 'commands.models' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_clean() -> None:
    text = "a\0\x1b[31m\x85b\udce9\ud800\n\tc\x7f\x9b \n"
    assert remote.clean(text, 255) == "a[31m bc" or remote.clean(text, 255) == "a[31m b c"
    assert remote.clean("x" * 300, 255) == "x" * 255
    assert remote.clean("中文 é", 255) == "中文 é"
    assert remote.is_clean("/home/a  b", 255)
    assert not remote.is_clean("/home/a\n", 255)
    assert not remote.is_clean("x" * 256, 255)


@pytest.mark.parametrize(
    ("word", "count"), [("0", 0), ("17", 17), ("-", None), ("²", None), ("9" * 5000, None)]
)
def test_count_of(word: str, count: int | None) -> None:
    assert remote.count_of(word) == count


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (('"Debian', "GNU/Linux", '12"'), "Debian GNU/Linux 12"),
        (("Linux", "6.1.0-18-amd64"), "Linux 6.1.0-18-amd64"),
        (
            (
                "'Alpine",
                "Linux'",
            ),
            "Alpine Linux",
        ),
        (('"a', '\\"b\\""'), 'a "b"'),
        (('"open',), '"open'),
        (("x\x1b[1m" + "y" * 100,), "x[1m" + "y" * 76),
        ((), ""),
    ],
)
def test_system_name(words: tuple[str, ...], name: str) -> None:
    assert remote.system_name(words) == name


def test_the_door_means_the_same_in_every_login_shell() -> None:
    command = remote.command_as("root", "bob$")
    assert command.isascii()
    assert command.count("'") == 4
    # A line's end, a backslash, or an exclamation mark would not be the same in tcsh or fish.
    assert not set("\n\\!") & set(command)
    assert remote.command_as("bob", "bob") == remote.command_as("bob", "") == remote.COMMAND


@pytest.mark.parametrize("name", ["#0", "-u", "a b", "a'b", "a\n", "$", "1", "x" * 34, "é"])
def test_the_door_takes_names_only(name: str) -> None:
    with pytest.raises(ValueError, match="name of a user"):
        remote.command_as("root", name)


def test_a_run_that_uses_nothing_new_costs_nothing_new() -> None:
    program = remote.start_program(NONCE, RunSpec("r", b"echo x"))
    assert b"cc_launch()" not in program
    with_launcher = RunSpec("r", b"echo x", launcher=Launcher(("sh",)))
    assert b"\ncc_launch() {\n" in remote.start_program(NONCE, with_launcher)


class TestReader:
    def test_noise_output_and_frames(self) -> None:
        reader = Reader(NONCE)
        found = reader.feed(
            b"Welcome!"
            + MARK
            + b"hello\nmotd"
            + MARK
            + b"flow\nout"
            + MARK
            + b"beat\nput"
            + MARK
            + b"end\nnoise"
            + MARK
            + b"result exit 0 - 0\n"
        )
        assert found == [
            Frame("hello"), Frame("flow"), b"out", b"put", Frame("end"),
            Frame("result", ("exit", "0", "-", "0")),
        ]  # fmt: skip
        assert bytes(reader.noise) == b"Welcome!motdnoise"

    def test_a_separator_alone_is_held_only_while_it_may_begin_a_frame(self) -> None:
        reader = Reader(NONCE)
        reader.feed(MARK + b"flow\n")
        assert reader.feed(b"a\x1e") == [b"a"]
        assert reader.feed(b"b") == [b"\x1eb"]
        assert reader.feed(b"\x1e" * 40)
        assert b"".join(reader.feed(b"c")).endswith(b"c")  # type: ignore[arg-type]

    def test_a_wrong_nonce_is_output(self) -> None:
        reader = Reader(NONCE)
        reader.feed(MARK + b"flow\n")
        assert reader.feed(b"\x1e" + b"f" * 32 + b" end\n") == [b"\x1e" + b"f" * 32 + b" end\n"]

    def test_an_endless_frame_is_refused(self) -> None:
        with pytest.raises(ValueError, match="without end"):
            Reader(NONCE).feed(MARK + b"x" * 9000)

    @given(
        st.lists(st.one_of(st.binary(max_size=30), st.just(b"\x1e"), st.just(MARK[:-1]))),
        st.lists(st.integers(1, 25), min_size=1),
    )
    def test_pieces_of_any_size(self, outputs: list[bytes], sizes: list[int]) -> None:
        # A mark minus its last byte, followed by a space, would be a real frame.
        payload = b"".join(outputs).replace(MARK, b"")
        stream = b"noise\x1e" + MARK + b"flow\n" + payload + MARK + b"end\nmore"
        if payload.endswith(MARK[:-1]) or MARK in payload:
            return
        reader, found, at, turn = Reader(NONCE), [], 0, 0
        while at < len(stream):
            size = sizes[turn % len(sizes)]
            found += reader.feed(stream[at : at + size])
            at, turn = at + size, turn + 1
        assert found[0] == Frame("flow")
        assert found[-1] == Frame("end")
        assert b"".join(each for each in found if isinstance(each, bytes)) == payload


SHELLS = {
    "dash": ["dash", "-s"],
    "bash": ["bash", "--posix", "-s"],
    "busybox": ["busybox", "sh", "-s"],
}


@dataclass
class Local:
    """The program under a local shell, as sshd would run it."""

    shell: list[str]
    home: Path
    env: dict[str, str | bytes]

    def begin(self, program: bytes) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.env,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(program)
        process.stdin.flush()
        return process

    def frame(self, process: subprocess.Popen[bytes]) -> list[str]:
        assert process.stdout is not None
        # Not a byte more than the line: what a buffer holds is lost to communicate().
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
            line += byte
        return line.decode().split()[1:]

    def call(self, program: bytes, *requests: bytes) -> tuple[list[Frame | bytes], bytes]:
        """Send the program, then the requests; what came on stdout, and stderr's output."""
        process = self.begin(program)
        first = self.frame(process)
        if requests and b"cc_main start" in program:
            first = self.frame(process)
        out, err = process.communicate(b"".join(requests), timeout=90)
        found = Reader(NONCE).feed(out)
        errors = [each for each in Reader(NONCE).feed(err) if isinstance(each, bytes)]
        return [Frame(first[0], tuple(first[1:])), *found], b"".join(errors)

    def run(self, script: bytes, how: str, **values: object) -> tuple[Frame, bytes, bytes]:
        """Run a script to its end; the last frame, stdout, stderr."""
        spec = RunSpec(f"r-{time.monotonic_ns()}", script, **values)  # type: ignore[arg-type]
        # Debian's busybox sh prefers its own tail, which cannot wait for a process.
        poll = how == "poll" or self.shell[0] == "busybox"
        request = remote.follow_request(Offsets(), poll=poll)
        found, errors = self.call(remote.start_program(NONCE, spec), request)
        last = found[-1]
        assert isinstance(last, Frame)
        handle = Handle(spec.run_id, "")
        gone, _ = self.call(
            remote.converse_program(NONCE, handle), remote.acknowledge_request(sweep=True)
        )
        assert gone[-1] == Frame("acknowledged")
        output = b"".join(each for each in found if isinstance(each, bytes))
        return last, output, errors


@pytest.fixture(params=SHELLS)
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Local]:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]}")
    env: dict[str, str | bytes] = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "USER": "someone",
    }
    yield Local(shell, tmp_path, env)
    assert_clean(tmp_path)


class TestShells:
    def test_every_byte_of_a_script(self, local: Local) -> None:
        data = bytes(range(256)) * 60 + b"%s%%\\0'--"
        last, out, _ = local.run(b"#!/bin/cat\n" + data, "tail")
        assert out == b"#!/bin/cat\n" + data
        assert last == Frame("result", ("exit", "0", "-", "0"))

    @settings(max_examples=25, deadline=None)
    @given(data=st.binary(max_size=300), start=st.sampled_from([b"", b"-", b"--", b"%", b"\\"]))
    def test_octal(self, data: bytes, start: bytes) -> None:
        for shell in SHELLS.values():
            if shutil.which(shell[0]):
                text = "\n".join(remote.octal(start + data))
                answer = subprocess.run(shell, input=text.encode(), capture_output=True, check=True)
                assert answer.stdout == start + data

    @pytest.mark.parametrize("how", ["tail", "poll"])
    def test_both_streams_live_and_the_exit_code(self, local: Local, how: str) -> None:
        last, out, err = local.run(b"echo a; echo b >&2; sleep 0.2; printf c; exit 3", how)
        assert (last, out, err) == (Frame("result", ("exit", "3", "-", "0")), b"a\nc", b"b\n")

    def test_signals_are_default(self, local: Local) -> None:
        out = local.run(b"grep SigIgn /proc/self/status", "tail")[1]
        # Whatever these tests were started with (Python itself ignores two) is inherited.
        inherited = re.search(r"SigIgn:\s*(\w+)", Path("/proc/self/status").read_text())
        assert inherited
        assert int(out.split()[1], 16) & ~int(inherited[1], 16) == 0

    def test_timeout_kills_the_tree(self, local: Local) -> None:
        script = b"trap '' TERM; (setsid env -i sleep 60 &) ; sleep 60 & while :; do sleep 1; done"
        last, _, _ = local.run(script, "tail", timeout=1, grace=1)
        assert last == Frame("result", ("timeout", "-", "0", "0"))

    def test_cancel_while_running(self, local: Local) -> None:
        spec = RunSpec("r", b"trap '' TERM; while :; do sleep 1; done", grace=1)
        self._start(local, spec)
        found, _ = local.call(remote.cancel_program(NONCE, Handle("r", "")))
        assert found[-1] == Frame("cancelled", ("0",))
        self._end(local)

    def test_follow_again_where_nobody_reaps(self, local: Local) -> None:
        self._start(local, RunSpec("r", b"sleep 0.4; echo done; exit 2"))
        program = remote.converse_program(NONCE, Handle("r", ""))
        ask = remote.follow_request(Offsets())
        found, _ = local.call(program, ask)
        if found[-1] == Frame("broken"):
            output = b"".join(each for each in found if isinstance(each, bytes))
            assert output in (b"", b"done\n")
            again = remote.follow_request(Offsets(len(output)), poll=True)
            found, _ = local.call(program, again)
        assert found[-1] == Frame("result", ("exit", "2", "-", "0"))
        self._end(local)

    def test_the_words_of_a_launcher(self, local: Local) -> None:
        # Every byte that the shells' own marks for quoting use is part of some letter here.
        odd = ["a  b", "", "'\"$HOME`*~\\", "-n", "two\nlines", "".join(map(chr, range(1, 600)))]
        code = "import sys; print(ascii(sys.argv[1:]))"
        launcher = Launcher((sys.executable, "-c", code, *odd, "[\0]"), ".py")
        last, out, _ = local.run(b"#!/no/such/thing", "tail", launcher=launcher)
        *words, path = ast.literal_eval(out.decode())
        assert words == odd
        assert re.fullmatch(r"\[/.*/s\.[0-9a-f]+\.py\]", path)
        assert last == Frame("result", ("exit", "0", "-", "0"))

    def test_a_launcher_must_be_a_program(self, local: Local) -> None:
        for word in ("cc_frame", "cd", "if", "no-such-program", "./no", "/tmp", "-x", "*"):
            spec = RunSpec("r", b"", launcher=Launcher((word,)))
            process = local.begin(remote.start_program(NONCE, spec))
            out, _ = process.communicate(timeout=60)
            assert Reader(NONCE).feed(out)[-1] == Frame("refused", ("LauncherNotFound",)), word
        assert not (local.home / ".command-console").exists()

    def test_a_launcher_in_an_odd_path(self, local: Local) -> None:
        for place in ("", "one", "two words", "*"):
            (local.home / place).mkdir(exist_ok=True)
        tool = local.home / "two words" / "tool"
        tool.write_text("#!/bin/sh\necho two\n")
        tool.chmod(0o755)
        local.env["PATH"] = f"{local.home}/one::{local.home}/two words:{os.environ['PATH']}"
        assert local.run(b"", "tail", launcher=Launcher(("tool",)))[1] == b"two\n"

    @pytest.mark.parametrize("script", [b"trap '' TERM; ", b""])
    def test_timeout_of_one_process(self, local: Local, script: bytes) -> None:
        script += b"sleep 60 & echo $!; while :; do sleep 0.1; done"
        last, out, _ = local.run(script, "tail", timeout=4, grace=1, whole_tree=False)
        child = psutil.Process(int(out))
        child.kill()
        assert last == Frame("result", ("timeout", "-", "-", "0"))

    def test_cancel_of_one_process(self, local: Local) -> None:
        spec = RunSpec("r", b"trap '' TERM; while :; do sleep 0.1; done", whole_tree=False)
        self._start(local, spec)
        found, _ = local.call(remote.cancel_program(NONCE, Handle("r", "")))
        assert found[-1] == Frame("cancelled", ("-",))
        self._end(local)

    def test_the_name_of_the_system(self, local: Local) -> None:
        program = remote.system_program(NONCE)
        told = platform.freedesktop_os_release()["PRETTY_NAME"]
        assert self._system(local, program) == told
        assert self._system(local, program.replace(b"/etc/os-release", b"/no/such/file")) == (
            f"{platform.system()} {platform.release()}"
        )
        file = local.home / "os-release"
        file.write_text("NAME=x\nPRETTY_NAME='Last line'")
        here = program.replace(b"/etc/os-release", os.fsencode(file))
        assert self._system(local, here) == "Last line"

    def _system(self, local: Local, program: bytes) -> str:
        hello, found = local.call(program)[0]
        assert hello == Frame("hello")
        assert isinstance(found, Frame)
        return remote.system_name(found.rest)

    def test_the_door_lets_the_same_user_through(self, local: Local) -> None:
        name = pwd.getpwuid(os.getuid()).pw_name
        handle = Handle("r", "")
        found, _ = self._through(local, name).call(
            remote.converse_program(NONCE, handle), remote.acknowledge_request()
        )
        assert found[-1] == Frame("acknowledged")

    def test_the_door_is_closed_to_nobody(self, local: Local) -> None:
        process = self._through(local, "no-such-user").begin(b"")
        assert process.communicate(timeout=60) == (b"", b"")
        assert process.returncode == remote.NO_ACCOUNT

    def _through(self, local: Local, name: str) -> Local:
        words = shlex.split(remote.command_as("somebody", name))
        assert words[:3] == ["exec", "/bin/sh", "-c"]
        return Local([*local.shell[:-1], *words[2:]], local.home, local.env)

    def test_a_program_that_was_cut_does_nothing(self, local: Local) -> None:
        program = remote.start_program(NONCE, RunSpec("r", b"echo x\n" * 50))
        # All but the last newline is the whole program, and may run.
        for cut in [*range(0, len(program) - 20, len(program) // 12), len(program) - 2]:
            local.begin(program[:cut]).communicate(timeout=60)
        assert not (local.home / ".command-console").exists()

    def test_a_full_disk_is_a_refusal(self, local: Local) -> None:
        program = remote.start_program(NONCE, RunSpec("r", b"echo x"))
        # ulimit -f 0: no file may grow, which is what a full disk looks like to the shell.
        process = local.begin(b"trap '' XFSZ; ulimit -f 0\n" + program)
        out, _ = process.communicate(timeout=60)
        assert Reader(NONCE).feed(out)[-1] == Frame("refused", ("DiskFull",))
        shutil.rmtree(local.home / ".command-console" / ".done")

    def test_ended_sleeps_do_not_end_the_run(self, local: Local) -> None:
        """What ``pkill sleep`` in any script of the same user does to the watchdog."""
        go = local.home / "go"
        script = f"until [ -e {go} ]; do sleep 0.05; done; echo end; exit 5"
        self._start(local, RunSpec("r", script.encode(), timeout=60))
        watchdog = self._watchdog(local)
        for _ in range(3):
            self._end_sleep(watchdog)
            time.sleep(0.1)
        go.touch()
        assert self._result(local) == ["exit", "5", "-", "0", "."]
        assert not watchdog.is_running() or watchdog.status() == psutil.STATUS_ZOMBIE
        self._end(local)

    def test_a_timeout_after_an_ended_sleep_is_not_late(self, local: Local) -> None:
        began = time.monotonic()
        self._start(local, RunSpec("r", b"sleep 60", timeout=8, grace=0))
        time.sleep(0.2)
        self._end_sleep(self._watchdog(local))
        assert self._result(local) == ["timeout", "-", "0", "0", "."]
        assert 7.5 < time.monotonic() - began < 15.5
        self._end(local)

    def test_whoever_ended_a_run_and_was_killed_at_it_is_believed(self, local: Local) -> None:
        self._start(local, RunSpec("r", b"sleep 60", timeout=60))
        directory = local.home / ".command-console" / "r"
        process(directory, "script")
        process(directory, "watchdog").suspend()
        (directory / "end").write_text("cancel\n")
        end_watchdog(directory)
        process(directory, "supervisor").kill()
        program = remote.converse_program(NONCE, Handle("r", ""))
        found, _ = local.call(program, remote.follow_request(Offsets(), poll=True))
        assert found[-1] == Frame("result", ("cancel", "-", "0", "0"))
        self._end(local)

    @pytest.mark.parametrize(
        "name",
        [b"\xe9", b"a\nb", b"\x01", b"\xc2\x85", "中".encode(), b"x" * 240, b"it's"],
        ids=ascii,
    )
    def test_a_home_that_cannot_be_stored_is_not_used(
        self, local: Local, tmp_path: Path, name: bytes
    ) -> None:
        home = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(home)
        local.env["HOME"] = home
        process = local.begin(remote.start_program(NONCE, RunSpec("unclean-home", b"exit 0")))
        assert local.frame(process) == ["hello"]
        base = local.frame(process)[5]
        process.communicate(timeout=60)
        spare = Path(f"/var/tmp/.command-console-{os.getuid()}")
        assert base == str(spare)
        assert "." in self._result(local, spare / "unclean-home")
        self._end(local, "unclean-home", base)
        assert os.listdir(home) == []
        forget_spare(spare, "unclean-home")

    def _watchdog(self, local: Local) -> psutil.Process:
        found = process(local.home / ".command-console" / "r", "watchdog")
        until = time.monotonic() + 60
        while not found.children() and time.monotonic() < until:
            time.sleep(0.02)
        return found

    def _end_sleep(self, watchdog: psutil.Process) -> None:
        for each in watchdog.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()

    def _result(self, local: Local, directory: Path | None = None) -> list[str]:
        directory = directory or local.home / ".command-console" / "r"
        until = time.monotonic() + 60
        while "." not in (words := noted(directory, "result")) and time.monotonic() < until:
            time.sleep(0.02)
        return words

    def _start(self, local: Local, spec: RunSpec) -> None:
        process = local.begin(remote.start_program(NONCE, spec))
        assert local.frame(process)[0] == "hello"
        assert local.frame(process)[:2] == ["started", "1"]
        process.communicate(timeout=60)

    def _end(self, local: Local, run_id: str = "r", base: str = "") -> None:
        program = remote.converse_program(NONCE, Handle(run_id, base))
        assert local.call(program, remote.acknowledge_request())[0][-1] == Frame("acknowledged")
