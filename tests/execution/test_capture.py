"""What becomes of a script's output on the instance: captured whole, bounded, on a full disk."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from commands.errors import StartRefused
from commands.execution import remote
from commands.execution.executor import Ending, Gap, Handle, Offsets, Output, Stream
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.conftest import missing
from tests.execution.conftest import assert_clean, forget_spare, note
from tests.execution.contract import Heard, Rig
from tests.sshd import Sshd


@dataclass
class Pieces:
    """A ``receive`` that keeps the bytes and the gaps of each stream by offset."""

    data: dict[Stream, list[tuple[int, bytes]]] = field(
        default_factory=lambda: {"stdout": [], "stderr": []}
    )
    gaps: list[Gap] = field(default_factory=list)
    until: Callable[[], bool] | None = None

    def __call__(self, piece: Output | Gap) -> None:
        if isinstance(piece, Gap):
            self.gaps.append(piece)
            return
        self.data[piece.stream].append((piece.offset, piece.data))
        patience = time.monotonic() + 50
        while self.until is not None and not self.until() and time.monotonic() < patience:
            time.sleep(0.05)
        self.until = None

    def text(self, stream: Stream = "stdout") -> bytes:
        return b"".join(data for _, data in self.data[stream])


@pytest.fixture(scope="module")
def sshd(sshd_of_each_shell: Sshd) -> Sshd:
    """Everything here must hold in each shell."""
    return sshd_of_each_shell


REOPENED = (
    "echo a >&2; echo b >/dev/stderr; echo c >&2; echo d | tee /dev/stderr; echo e >/dev/stdout;"
    " echo f"
)


def test_streams_that_the_script_opens_again_lose_nothing(rig: Rig) -> None:
    heard = rig.run(rig.spec(REOPENED))[1]
    assert (heard.stdout, heard.stderr) == (b"d\ne\nf\n", b"a\nb\nc\nd\n")


def until_bounded(size: int) -> str:
    """What a script does until no more of its own output is kept than that."""
    return f"until [ $(stat -c %b ${{0%/*}}/o) -le {size // 512} ]; do sleep 0.1; done"


def test_a_spool_is_bounded_and_says_what_went(rig: Rig, sshd: Sshd) -> None:
    spool, line = 64 * 1024, b"%063d\n"
    script = (
        "i=0; while [ $i -lt 8192 ]; do printf '%063d\\n' $i; i=$((i+1)); done; "
        f"{until_bounded(2 * spool)}; echo end"
    )
    handle = rig.start(rig.spec(script, spool=spool))
    file = sshd.base / handle.run_id / "o"
    until = time.monotonic() + 60
    while not (sshd.base / handle.run_id / "end").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert file.stat().st_blocks * 512 <= 2 * spool
    got = Pieces()
    finished = rig.executor.follow(rig.endpoint, handle, Offsets(), got)
    rig.executor.acknowledge(rig.endpoint, handle)
    whole = b"".join(line % i for i in range(8192)) + b"end\n"
    assert finished.stdout_size == len(whole)
    [gap] = got.gaps
    assert (gap.stream, gap.start) == ("stdout", spool // 4)
    assert len(whole) - gap.end >= spool // 4
    assert got.text() == whole[: gap.start] + whole[gap.end :]


def test_a_reader_that_is_too_slow_is_told_what_it_missed(rig: Rig, sshd: Sshd) -> None:
    """Never zeros in place of what was dropped, and never a byte at a wrong offset."""
    spool, size = 256 * 1024, 24 << 20
    script = (
        f"head -c {size} /dev/zero | tr '\\0' x; {until_bounded(2 * spool)}; sleep 1; printf end"
    )
    handle = rig.start(rig.spec(script, spool=spool))

    def far_behind() -> bool:
        """Much more has been dropped than is on its way to the reader."""
        holes = (sshd.base / handle.run_id).glob("h.o.*")
        return any(int(hole.name.split(".")[-1]) > size // 2 for hole in holes)

    got = Pieces(until=far_behind)
    finished = rig.executor.follow(rig.endpoint, handle, Offsets(), got)
    rig.executor.acknowledge(rig.endpoint, handle)
    assert finished.stdout_size == size + 3
    assert got.gaps, "it was not slow enough"
    at = 0
    for offset, data in got.data["stdout"]:
        at += sum(gap.end - gap.start for gap in got.gaps if gap.start == at)
        assert offset == at
        at += len(data)
    assert at == size + 3
    assert set(got.text()[:-3]) == {ord("x")}
    assert got.text().endswith(b"xend")


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """``path`` is a file system of its own. Needs root, as mounting does."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)], check=False
    )
    if made.returncode:
        missing("the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def full_instance(tmp_path: Path, size: str) -> Iterator[tuple[Rig, Sshd]]:
    """A server whose home is a small file system."""
    with Sshd.started(tmp_path) as [server], small_disk(server.home, size):
        executor = SshExecutor()
        try:
            yield Rig(executor, server.endpoint), server
        finally:
            executor.close()
        assert_clean(server.home)


@pytest.mark.parametrize("size", [3 << 20, 1_100_000])
def test_a_disk_that_fills_up_never_ends_the_script(tmp_path: Path, size: int) -> None:
    with full_instance(tmp_path, "1m") as (rig, _):
        script = f"head -c {size} /dev/zero | tr '\\0' x; echo said >&2; sleep 0.5; exit 4"
        finished, heard = rig.run(rig.spec(script))
        assert (finished.ending, finished.exit_code) == (Ending.EXIT, 4)
        assert heard.stdout == b"x" * len(heard.stdout)
        assert 0 < finished.stdout_size < size
        assert finished.lost is not None
        printed = finished.stdout_size + finished.stderr_size + finished.lost
        assert printed == size + len(b"said\n")


def test_a_full_disk_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    with full_instance(tmp_path, "256k") as (rig, server):
        filler = server.home / "filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(b"\0" * (1 << 20))
        with contextlib.suppress(OSError), filler.open("ab") as file:
            for _ in range(4096):
                file.write(b"\0")
        with pytest.raises(StartRefused, match="no room") as caught:
            rig.start(rig.spec("echo never"))
        assert caught.value.code == ErrorCode.DISK_FULL
        filler.unlink()
        assert rig.run(rig.spec("echo now"))[1].stdout == b"now\n"


def test_a_daemon_that_goes_on_printing_is_not_harmed(rig: Rig, tmp_path: Path) -> None:
    """What comes after the script's end belongs to no run, and finds somebody who reads it."""
    alive, stop = tmp_path / "alive", tmp_path / "stop"
    script = (
        f"(while [ ! -e {stop} ]; do echo tick; echo x >>{alive}; sleep 0.05; done) & echo begun"
    )
    finished, heard = rig.run(rig.spec(script))
    assert finished.exit_code == 0
    assert heard.stdout.startswith((b"begun\n", b"tick\n"))
    before = alive.stat().st_size
    until = time.monotonic() + 60
    while alive.stat().st_size < before + 10 and time.monotonic() < until:
        time.sleep(0.05)
    assert alive.stat().st_size >= before + 10
    stop.touch()


def test_beside_the_script_are_five_processes(rig: Rig, sshd: Sshd) -> None:
    """Supervisor, watchdog and its sleep, a tee for each stream; who follows ends when let go."""
    wanted = ["sh", "sh", "sh", "sleep", "sleep", "tee", "tee"]
    handle = rig.start(rig.spec("sleep 300; true", timeout=600))
    rig.executor.close()
    rig.executor = other = SshExecutor()
    until = time.monotonic() + 60
    while (found := sorted(_names(sshd))) != wanted and time.monotonic() < until:
        time.sleep(0.05)
    other.cancel(rig.endpoint, handle)
    other.acknowledge(rig.endpoint, handle)
    other.close()
    assert found == wanted


def _names(sshd: Sshd) -> list[str]:
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.environ().get("HOME") == str(sshd.home) and each.status() != "zombie":
                found.append(each.name())
    return found


def test_survivors_are_counted_and_named(tmp_path: Path) -> None:
    """Where not even KILL ends a process, which no test can bring about: here kill does nothing."""
    directory = tmp_path / "run"
    directory.mkdir()
    with subprocess.Popen(["sleep", "60"], env={"COMMAND_CONSOLE_RUN": "t-1"}) as survivor:
        program = (
            remote._source("runner.sh")
            + f"kill() {{ :; }}\ncc_pause() {{ :; }}\ncc_id=t-1 cc_dir={directory} cc_grace=0\n"
            + 'cc_stop 2>/dev/null\necho "$cc_left $cc_names"\n'
        )
        done = subprocess.run(["/bin/sh"], input=program.encode(), capture_output=True, check=True)
        survivor.kill()
    assert done.stdout.decode() == f"1 {survivor.pid} (sleep)\n"


def test_survivors_reach_the_console(rig: Rig, sshd: Sshd) -> None:
    handle = rig.start(rig.spec("echo x"))
    rig.follow(handle)
    note(sshd.base / handle.run_id, "result", "timeout - 2 0 . 41 (sleep), 42 (my prog)")
    finished = rig.follow(Handle(handle.run_id, handle.base), Heard())[0]
    assert (finished.ending, finished.left) == (Ending.TIMEOUT, 2)
    assert finished.survivors == "41 (sleep), 42 (my prog)"
    rig.executor.acknowledge(rig.endpoint, handle)


def test_no_inode_is_left(tmp_path: Path) -> None:
    """A disk can be full though it has room: of names."""
    with full_instance(tmp_path, "1m,nr_inodes=40") as (rig, server):
        names = 0
        with contextlib.suppress(OSError):
            for names in range(100):
                (server.home / f"filler-{names}").touch()
        assert names < 99
        with pytest.raises(StartRefused) as caught:
            rig.start(rig.spec("echo never"))
        assert caught.value.code == ErrorCode.DISK_FULL
        for number in range(names):
            (server.home / f"filler-{number}").unlink()
        assert rig.run(rig.spec("echo now"))[1].stdout == b"now\n"


def test_the_disk_allows_no_programs(tmp_path: Path) -> None:
    """A script is read by its interpreter, so that no file of ours has to be executed."""
    with full_instance(tmp_path, "1m,noexec") as (rig, _):
        assert rig.run(rig.spec("#!/bin/sh\necho read"))[1].stdout == b"read\n"


def test_a_home_that_is_read_only_leaves_the_spare_place(tmp_path: Path) -> None:
    with full_instance(tmp_path, "1m") as (rig, server):
        subprocess.run(["mount", "-o", "remount,ro", str(server.home)], check=True)
        spec = rig.spec("echo spare")
        handle = rig.start(spec)
        assert handle.base.startswith("/var/tmp/.command-console-")
        assert rig.follow(handle)[1].stdout == b"spare\n"
        rig.executor.acknowledge(rig.endpoint, handle)
        forget_spare(Path(handle.base), spec.run_id)


def test_who_cannot_look_proves_nothing(tmp_path: Path) -> None:
    """With tens of thousands of processes their names fit into no argument list."""
    program = remote._source("runner.sh") + (
        f"grep() {{ return 126; }}\ncc_id=t-none cc_dir={tmp_path} cc_grace=0\n"
        'cc_stop 2>/dev/null\necho "$cc_left"\n'
    )
    for shell in ("dash", "bash", "busybox sh"):
        done = subprocess.run(
            shell.split(), input=program.encode(), capture_output=True, check=False
        )
        assert done.stdout == b"-\n"


@pytest.mark.parametrize(("later", "found"), [(0, 0), (1, 1)], ids=["opened", "another file"])
def test_a_tee_that_opens_its_file_while_it_is_looked_at_is_asked(later: int, found: int) -> None:
    """On a busy machine: between two looks of ours at it. Else no loss could be excluded."""
    program = remote._source("runner.sh") + (
        f"looks=0\ncc_writes() {{ looks=$((looks + 1)); [ $looks -gt 1 ] && return {later}; }}\n"
        "cc_self=7\ncc_stat() { cc_line='9 (tee) R 7' cc_parent=7 cc_state=R; }\n"
        'cc_at_last 9 o\necho "$? $looks"\n'
    )
    for shell in ("dash", "bash", "busybox sh"):
        done = subprocess.run(
            shell.split(), input=program.encode(), capture_output=True, check=False
        )
        assert done.stdout.decode() == f"{found} 2\n", shell


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_what_was_read_of_a_process_that_ends_is_not_taken_for_another_file(
    tmp_path: Path, shell: str
) -> None:
    """Thirty processes end while they are looked at. Bash would do so, with one or two of them."""
    (tmp_path / "state").write_text("first\nsecond\n")
    program = remote._source("runner.sh") + (
        "wrong=0 turn=0\n"
        "while [ $turn -lt 30 ]; do\n"
        "turn=$((turn + 1))\n"
        "sleep 60 &\n"
        "seen=$!\n"
        "(sleep 0.0$((turn % 10)); kill -KILL $seen) &\n"
        "while [ -e /proc/$seen/fd/0 ]; do\n"
        "cc_place /proc/$seen/fdinfo/1\n"
        f"read -r line <{tmp_path}/state\n"
        '[ "$line" = first ] || wrong=$((wrong + 1))\n'
        "done 2>/dev/null\n"
        "wait\n"
        "done\n"
        'echo "$wrong"\n'
    )
    done = subprocess.run(shell.split(), input=program.encode(), capture_output=True, check=False)
    assert done.stdout == b"0\n", done.stderr


LITTLE = [
    b"",
    b"a",
    b"a\nb\n",
    b"\n\n\n",
    b" \t a \\n %s -n\\\n",
    b"\x1e\x01\r\n",
    b"\xff\xfe no UTF-8\n",
    "é 中 😀".encode(),
    b"x" * 1900,
]
NO_TEXT = [b"\0", b"a\0b\n", b"\n\0"]
MUCH = [b"x" * 2500, b"x\n" * 2000]


@pytest.mark.parametrize("data", [*LITTLE, *NO_TEXT], ids=lambda data: ascii(data[:12]))
def test_little_text_needs_no_program_to_be_read(tmp_path: Path, data: bytes) -> None:
    """And what a shell cannot hold is never passed on as if it could."""
    (tmp_path / "o").write_bytes(data)
    call = f"cc_dir={tmp_path} LC_ALL=C\ncc_little o || exit 9\nprintf '%s' \"$cc_all\"\n"
    for shell in ("dash", "bash", "busybox sh"):
        program = remote._source("runner.sh") + call
        done = subprocess.run(
            shell.split(), input=program.encode(), capture_output=True, check=False
        )
        expected = (0, data) if data in LITTLE else (9, b"")
        assert (done.returncode, done.stdout) == expected, shell


@pytest.mark.parametrize("data", [*LITTLE, *NO_TEXT, *MUCH], ids=lambda data: ascii(data[:12]))
def test_every_byte_of_a_short_run(rig: Rig, data: bytes) -> None:
    text = "; ".join(remote.octal(data))
    heard = rig.run(rig.spec(f"{text}; {{ {text}; }} >&2"))[1]
    assert (heard.stdout, heard.stderr) == (data, data)
