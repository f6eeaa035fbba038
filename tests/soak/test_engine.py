"""Faults of the engine alone, many times: one execution, right result, bytes identical."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Ending, Handle, Offsets
from commands.execution.ssh import SshExecutor
from tests.execution.contract import Heard, Rig, new_id, together
from tests.sshd import Sshd

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("number", range(50))
def test_eight_starters_behind_one_gate(rig: Rig, sshd: Sshd, tmp_path: Path, number: int) -> None:
    counter = tmp_path / "counter"
    spec = rig.spec(f"echo once >>{shlex.quote(str(counter))}; sleep 0.1; echo done")
    executors = [SshExecutor() for _ in range(8)]
    try:
        for each in executors:  # Sign in first, so that the race is tight.
            each.acknowledge(sshd.endpoint, Handle(new_id(), ""))
        fresh = together(8, lambda i: executors[i].start(sshd.endpoint, spec).fresh)
    finally:
        for each in executors:
            each.close()
    assert fresh.count(True) == 1
    handle = Handle(spec.run_id, "")
    finished, heard = rig.follow(handle)
    assert (finished.exit_code, heard.stdout) == (0, b"done\n")
    assert counter.read_text() == "once\n"
    rig.executor.acknowledge(rig.endpoint, handle)


CLIENT = """
    import sys
    from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.executor import Endpoint, RunSpec, Handle, Offsets
    from commands.execution.ssh import SshExecutor
    endpoint = Endpoint(*{endpoint!r})
    executor = SshExecutor()
    started = executor.start(endpoint, RunSpec({run_id!r}, {script!r}))
    executor.follow(endpoint, Handle({run_id!r}, started.base), Offsets(), lambda _: None)
"""


@pytest.mark.parametrize("number", range(20))
def test_the_process_that_starts_is_killed(
    rig: Rig, sshd: Sshd, tmp_path: Path, number: int
) -> None:
    counter, run_id = tmp_path / "counter", new_id()
    script = (
        f"echo once >>{shlex.quote(str(counter))}; i=0; while [ $i -lt 200 ]; do i=$((i+1));"
        " echo line $i; echo err $i >&2; sleep 0.005; done; exit 42"
    )
    end = sshd.endpoint
    endpoint = (end.host, end.port, end.user, end.host_key, end.private_key)
    program = textwrap.dedent(CLIENT).format(
        endpoint=endpoint, run_id=run_id, script=script.encode()
    )
    client = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    time.sleep(random.Random(number).uniform(0.3, 2.5))
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    # Another worker asks again: it starts what was not started, and nothing twice.
    started = rig.executor.start(rig.endpoint, rig.spec(script, run_id=run_id))
    finished, heard = rig.follow(Handle(run_id, started.base))
    assert finished.exit_code == 42
    assert heard.stdout == b"".join(b"line %d\n" % i for i in range(1, 201))
    assert heard.stderr == b"".join(b"err %d\n" % i for i in range(1, 201))
    assert counter.read_text() == "once\n"
    rig.executor.acknowledge(rig.endpoint, Handle(run_id, started.base))


def test_a_hundred_megabytes(rig: Rig) -> None:
    handle = rig.start(rig.spec("head -c 104857600 /dev/urandom | tee $HOME/big"))
    digest, size = hashlib.sha256(), 0

    def take(output: object) -> None:
        nonlocal size
        digest.update(output.data)  # type: ignore[attr-defined]
        size += len(output.data)  # type: ignore[attr-defined]

    finished = rig.executor.follow(rig.endpoint, handle, Offsets(), take)
    home = Path(rig.run(rig.spec('printf %s "$HOME"'))[1].stdout.decode())
    big = home / "big"
    assert size == finished.stdout_size == 100 << 20
    assert digest.digest() == hashlib.sha256(big.read_bytes()).digest()
    big.unlink()
    rig.executor.acknowledge(rig.endpoint, handle)


FORMS = {
    "exit 0": (b"exit 0", 0, b""),
    "exit 1": (b"exit 1", 1, b""),
    "not found": (b"no-such-program-there 2>/dev/null", 127, b""),
    "a signal": (b"kill -TERM $$", 143, b""),
    "exit 255": (b"exit 255", 255, b""),
    "CRLF behind #!": (b"#!/bin/sh\r\necho a\n", 0, b"a\n"),
    "empty": (b"", 0, b""),
    "no final newline": (b"printf a", 0, b"a"),
    "NULs out": (b"printf 'a\\000b'", 0, b"a\0b"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_scripts(rig: Rig, form: str) -> None:
    script, code, output = FORMS[form]
    finished, heard = rig.run(rig.spec(script))
    assert (finished.ending, finished.exit_code, heard.stdout) == (Ending.EXIT, code, output)


@pytest.mark.parametrize("number", range(10))
def test_sessions_killed_while_following(rig: Rig, sshd: Sshd, number: int) -> None:
    script = (
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; echo err $i >&2; sleep 0.005;"
        " done; exit 42"
    )
    handle = rig.start(rig.spec(script))
    out, err, reached, finished = b"", b"", Offsets(), None
    times = [random.Random(number).uniform(0.1, 0.5) for _ in range(3)]
    while finished is None:
        heard = Heard(reached)
        killer = threading.Timer(times.pop() if times else 60, sshd.kill_sessions)
        killer.start()
        with contextlib.suppress(ConnectionLost, ConnectFailed):
            finished = rig.follow(handle, heard)[0]
        killer.cancel()
        out, err, reached = out + heard.stdout, err + heard.stderr, heard.reached
    assert out == b"".join(b"line %d\n" % i for i in range(1, 301))
    assert err == b"".join(b"err %d\n" % i for i in range(1, 301))
    assert finished.exit_code == 42
    rig.executor.acknowledge(rig.endpoint, handle)
