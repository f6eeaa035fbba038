"""Faults of the console itself: whatever dies, the script runs once and no byte is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from celery import Celery

from console import broker
from tests.console.test_up import started, until
from tests.execution.conftest import assert_clean, noted
from tests.soak.console import Console, child, console
from tests.sshd import Sshd

pytestmark = pytest.mark.soak

LINES = 600
SCRIPT = (
    "echo once >>$HOME/$1count; i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo out $i;"
    " echo err $i >&2; sleep {pause}; done; exit 42"
)


def script(count: Path, *, lines: int = LINES, pause: str = "0.01") -> str:
    return SCRIPT.format(lines=lines, pause=pause).replace("$HOME/$1count", str(count))


def assert_whole(log: bytes, *, lines: int = LINES) -> None:
    """Each stream is there, in order, once."""
    found = log.splitlines()
    for word in (b"out", b"err"):
        mine = [line for line in found if line.startswith(word)]
        assert mine == [b"%s %d" % (word, i) for i in range(1, lines + 1)]
    assert len(found) == 2 * lines


def assert_run(watched: Console, task: str, count: Path, *, lines: int = LINES) -> None:
    run = watched.wait(task)
    assert (run["status"], run["exit_code"]) == ("Failed", 42), run
    assert count.read_text() == "once\n"
    assert_whole(watched.log(task, run), lines=lines)
    count.unlink()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd.started(tmp_path_factory.mktemp("server")) as [found]:
        yield found
        assert_clean(found.home)


@pytest.fixture(scope="module")
def watched(server: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("console"), server) as found:
        yield found


def kill(watched: Console, name: str) -> None:
    """Kill -9 a child of the supervisor, and wait until there is another."""
    before = child(watched.up, name)
    os.kill(before, signal.SIGKILL)
    until(lambda: watched.up.pid(name) not in (0, before))


@pytest.mark.parametrize("number", range(20))
def test_the_worker_is_killed_at_a_random_moment(
    watched: Console, tmp_path: Path, number: int
) -> None:
    count = tmp_path / "count"
    task = watched.create(script(count))
    time.sleep(random.Random(number).uniform(0, 7))
    kill(watched, "worker")
    assert_run(watched, task, count)


RULE = """
from commands.models import Team, User
from commands.services import approval_rules, teams
from django.utils import timezone
admin, team = User.objects.get(username="admin"), Team.objects.get()
if not User.objects.filter(username="other").exists():
    other = User.objects.create_user("other", password="soak soak soak")
    teams.add_member(team=team, user=other, role="team_admin", actor=admin)
approval_rules.set_rule(actor=admin, team=team, more_than={most!r}, hours="24", now=timezone.now())
"""


@pytest.fixture
def other(watched: Console) -> Iterator[Console]:
    """Somebody else, whose word every task needs."""
    watched.manage("shell", "-c", RULE.format(most="0"))
    found = Console(watched.up, watched.server)
    found.sign_in("soak soak soak", "other")
    yield found
    watched.manage("shell", "-c", RULE.format(most=""))


@pytest.mark.parametrize("number", range(5))
def test_the_worker_is_killed_between_approval_and_dispatch(
    watched: Console, other: Console, tmp_path: Path, number: int
) -> None:
    count = tmp_path / "count"
    task = watched.create(script(count, lines=50))
    worker = child(watched.up, "worker")
    if held := number % 2 == 0:  # it takes nothing, and dies with what it was handed
        os.kill(worker, signal.SIGSTOP)
    other.approve(task)
    time.sleep(random.Random(number).uniform(0, 1))
    if held:
        assert not count.exists()
    kill(watched, "worker")
    assert_run(watched, task, count, lines=50)
    assert watched.status(task)["approval"]["state"] == "approved"


@pytest.mark.parametrize("number", range(5))
def test_the_broker_is_killed_in_mid_run(watched: Console, tmp_path: Path, number: int) -> None:
    count = tmp_path / "count"
    task = watched.create(script(count))
    time.sleep(1 + number)
    kill(watched, "broker")
    assert_run(watched, task, count)


@pytest.mark.parametrize("number", range(50))
def test_a_message_is_delivered_twice(watched: Console, tmp_path: Path, number: int) -> None:
    """Twice more, and while the first is at it; the rows and the claim there decide."""
    count = tmp_path / "count"
    task = watched.create(script(count, lines=20))
    with closing(sqlite3.connect(watched.up.data / "db.sqlite3", timeout=20)) as rows:
        [(run_id,)] = rows.execute(
            "SELECT r.id FROM commands_run r JOIN commands_invocation i ON i.id = r.invocation_id"
            " WHERE i.uid = ?",
            [task],
        ).fetchall()
    send_start(watched, run_id, 2)
    assert_run(watched, task, count, lines=20)


def send_start(watched: Console, run_id: int, times: int) -> None:
    """Ask the broker for the same start again, as a redelivery would."""
    app = Celery(broker=broker.url(watched.up.data))
    for _ in range(times):
        app.send_task("commands.tasks.start_runs", kwargs={"run_ids": [run_id]}, queue="run")


@pytest.mark.parametrize("number", range(10))
def test_sessions_are_killed(watched: Console, server: Sshd, tmp_path: Path, number: int) -> None:
    count = tmp_path / "count"
    task = watched.create(script(count))
    chosen = random.Random(number)
    for _ in range(3):
        time.sleep(chosen.uniform(0.2, 2))
        server.kill_sessions()
    assert_run(watched, task, count)


class BlackHole:
    """Forwards TCP connections to ``port``, until it swallows everything and says nothing."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._swallow = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Let connections that are open go silent for ever; new ones are let through."""
        self._swallow.set()
        self._swallow = threading.Event()

    def close(self) -> None:
        self._listener.close()
        for each in self._open:
            # Closing alone would leave it open for as long as a thread waits on it.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            silent = self._swallow
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b, silent), daemon=True).start()

    def _pump(self, a: socket.socket, b: socket.socket, silent: threading.Event) -> None:
        while True:
            try:
                data = a.recv(65536)
                if silent.is_set():
                    continue_silently(a)
                    return
                if not data:
                    b.shutdown(socket.SHUT_WR)
                    return
                b.sendall(data)
            except OSError:
                return


def continue_silently(sock: socket.socket) -> None:
    """Take what comes, and answer nothing: neither bytes nor an end."""
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass


@pytest.mark.parametrize("number", range(5))
def test_the_network_goes_silent(server: Sshd, tmp_path: Path, number: int) -> None:
    hole, count = BlackHole(server.port), tmp_path / "count"
    try:
        with console(tmp_path, server, port=hole.port) as watched:
            task = watched.create(script(count, lines=LINES, pause="0.02"))
            time.sleep(2 + number)
            hole.swallow()
            assert_run(watched, task, count)
    finally:
        hole.close()


KINDS = {
    "ignores TERM": "trap '' TERM; sleep 300 & while :; do sleep 1; done",
    "double fork": "(setsid sh -c 'sleep 300 & sleep 300' &) ; sleep 300",
    "new session": "setsid sleep 300 & sleep 300",
    "no cookie": "env -i setsid sleep 300 & sleep 300",
    "chain": 'l=\'sleep 0.03; setsid sh -c "$l" & exit\'; export l; sh -c "$l" >/dev/null 2>&1; '
    "sleep 300",
    "forks on": "f() { sleep 0.05; f & }; f; while :; do sleep 1; done",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_console_is_down_for_longer_than_the_timeout(
    server: Sshd, tmp_path: Path, kind: str
) -> None:
    """On the instance nothing is left when it is time, and the console says so later."""
    with console(tmp_path, server) as watched:
        task = watched.create(f"echo begun; {KINDS[kind]}", timeout=10)
        began = time.monotonic()
        until(lambda: (server.base / "x").parent.exists() and list(server.base.glob("t-*/state")))
        watched.up.process.send_signal(signal.SIGINT)
        watched.up.process.wait(30)
        [directory] = server.base.glob("t-*")
        until(lambda: "." in noted(directory, "result"), within=40)
        took = time.monotonic() - began
        assert took < 10 + 15  # the timeout, the grace, and a slow machine
        assert noted(directory, "result")[:3] == ["timeout", "-", "0"]
        assert not left_of(directory.name)
    with console_again(tmp_path, server) as again:
        run = again.wait(task, within=60)
        assert (run["status"], run["error_code"]) == ("Timeout", "ExecutionTimeout")
        assert again.log(task, run) == b"begun\n"


@contextmanager
def console_again(tmp_path: Path, server: Sshd) -> Iterator[Console]:
    """The same console once more, with what it stored."""
    with started(tmp_path, "--no-demo") as up:
        found = Console(up, server)
        found.sign_in("soak soak soak")
        yield found


def left_of(run_id: str) -> list[int]:
    """Processes that carry the run's cookie."""
    wanted, found = f"COMMAND_CONSOLE_RUN={run_id}".encode(), []
    for each in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in each.read_bytes().split(b"\0"):
                found.append(int(each.parent.name))
        except OSError:
            continue
    return found
