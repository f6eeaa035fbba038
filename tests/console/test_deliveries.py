"""Celery's processes killed, and a message delivered again: real ones, and one execution each.

The console's own supervisor is left out here: a worker that forks (``--pool prefork``) has a
parent and a child, and the tests kill one of them.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue

from commands.queue import Job
from console import broker
from tests.console.test_up import ROOT, environment, until
from tests.live import embedded_broker
from tests.sshd import Sshd

LINES = 40
SCRIPT = (
    "echo once >>{count}; i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.1; "
    "while [ -e {hold} ]; do sleep 0.1; done; done"
)
CREATE = """
import json, sys
import django
django.setup()
from django.core.management import call_command
from django.utils import timezone
from commands.models import User
from commands.services import instances, invocations, teams
from commands.services.definitions import CommandInput
given = json.load(sys.stdin)
call_command("migrate", verbosity=0)
actor = User.objects.create_user("alice", password="alice-secret")
of = {"actor": actor, "team": teams.create_team(name="T", admin=actor)}
of["region"] = teams.default_region()
key = instances.add_credential(**of, name="key", private_key=given.pop("private_key"))
instance = instances.add_instance(**of, name="one", credential=key, **given["instance"])
command = CommandInput(name="n", type="RunShellScript", content=given["script"], timeout=600)
task = invocations.run_command(
    **of, command=command, instance_uids=[instance.uid], now=timezone.now()
)
print(task.runs.get().pk)
"""
IMPATIENT = """
from console.celery import app
app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": 5}
"""


@dataclass
class Site:
    """A database, a broker, an instance, and workers that a test starts and kills."""

    data: Path
    server: Sshd
    run: int = 0

    @property
    def count(self) -> Path:
        """Where each execution of the script leaves a line."""
        return self.data / "count"

    @property
    def hold(self) -> Path:
        """As long as this is there, the script does not get beyond its first line."""
        return self.data / "hold"

    def create(self) -> None:
        """A task of one run. Its message is with the broker then."""
        where = self.server.endpoint
        self.hold.touch()
        paths = {"count": shlex.quote(str(self.count)), "hold": shlex.quote(str(self.hold))}
        script = SCRIPT.format(lines=LINES, **paths)
        names = ("host", "port", "user", "host_key")
        given = {
            "private_key": where.private_key,
            "instance": {name: getattr(where, name) for name in names},
            "script": script,
        }
        done = subprocess.run(
            [sys.executable, "-c", CREATE],
            input=json.dumps(given),
            env=self._environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        self.run = int(done.stdout)

    @contextlib.contextmanager
    def worker(self, app: str = "console") -> Iterator[psutil.Process]:
        """A Celery worker with one child; both are gone at the end."""
        flags = ["--pool", "prefork", "-c", "1", "-Q", "run,control", "-l", "WARNING"]
        argv = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{app}@%h", *flags]
        with (
            (self.data / f"{app}.log").open("ab") as log,
            subprocess.Popen(
                argv, env=self._environment(), cwd=ROOT, stdout=log, stderr=log
            ) as process,
        ):
            found = psutil.Process(process.pid)
            children: list[psutil.Process] = []
            try:
                until(found.children)
                children = found.children()
                yield found
            finally:
                with contextlib.suppress(psutil.NoSuchProcess):
                    children += found.children()
                for each in (found, *children):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()

    def _environment(self) -> dict[str, str]:
        return environment(
            CONSOLE_DATA_DIR=str(self.data),
            BROKER_URL=broker.url(self.data),
            DJANGO_SETTINGS_MODULE="console.settings",
            PYTHONPATH=f"{ROOT}:{self.data}",
        )

    def send(self, job: Job, **ids: object) -> None:
        """What the console or Celery's clock would send."""
        queue = "run" if job is Job.START_RUNS else "control"
        Celery(broker=broker.url(self.data)).send_task(job.value, kwargs=ids, queue=queue)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        """Rows of the database."""
        with contextlib.closing(sqlite3.connect(self.data / "db.sqlite3", timeout=20)) as rows:
            return rows.execute(query, {"run": self.run}).fetchall()

    def begun(self) -> bool:
        """Whether the script runs, and the console has heard of it."""
        [[size]] = self.ask("SELECT stdout_size FROM commands_run WHERE id = :run")
        return self.count.exists() and bool(size)

    def assert_whole(self) -> None:
        """Once it has ended: one execution, its result, and each of its bytes once."""

        def over() -> bool:
            # As the clock of the console: what a dead worker left is found by this.
            self.send(Job.RECONCILE)
            time.sleep(1)
            return self.ask("SELECT finished_at FROM commands_run WHERE id = :run") != [(None,)]

        until(over, within=180)
        assert self.count.read_text() == "once\n"
        states = self.ask("SELECT status, exit_code FROM commands_run WHERE id = :run")
        assert states == [("Success", 0)]
        chunks = self.ask("SELECT data FROM commands_outputchunk WHERE run_id = :run ORDER BY id")
        whole = b"".join(b"line %d\n" % number for number in range(1, LINES + 1))
        assert b"".join(bytes(data) for [data] in chunks) == whole  # type: ignore[arg-type]  # memoryview or bytes


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with Sshd.started(tmp_path) as [server], embedded_broker(data):
        yield Site(data, server)


def kill_child(worker: psutil.Process) -> None:
    [child] = worker.children()
    child.kill()


def kill_parent(worker: psutil.Process) -> None:
    worker.kill()


@pytest.mark.parametrize("kill", [kill_child, kill_parent])
def test_a_celery_process_that_carries_a_run_is_killed(
    site: Site, kill: Callable[[psutil.Process], None]
) -> None:
    site.create()
    with site.worker() as worker:
        until(site.begun)
        kill(worker)
        site.hold.unlink()
        with contextlib.ExitStack() as stack:
            if kill is kill_parent:
                stack.enter_context(site.worker())
            site.assert_whole()


def test_a_message_that_was_never_acknowledged_is_delivered_again(site: Site) -> None:
    """Whoever took it is at the run, and does not say so within ``visibility_timeout``."""
    (site.data / "impatient.py").write_text(IMPATIENT)
    site.create()
    app = Celery(broker=broker.url(site.data))
    stored = redis.Redis(unix_socket_path=str(broker.socket_path(site.data)))
    with app.connection_for_read() as link:
        queue = Queue("run", Exchange("run"), routing_key="run")
        message = queue.bind(link.channel()).get(no_ack=False)
        assert message is not None
        assert message.payload[1] == {"run_ids": [site.run]}
        with site.worker():
            site.send(Job.START_RUNS, run_ids=[site.run])
            until(site.begun)
            until(lambda: stored.hlen("unacked") == 1)  # all but the one that was taken here
            time.sleep(5.5)  # what is measured is the broker's time
            with site.worker("impatient"):
                until(lambda: not stored.hlen("unacked") and not stored.llen("run"))
                assert not site.ask(
                    "SELECT id FROM commands_run WHERE id = :run AND finished_at IS NOT NULL"
                ), "it was over before the message came again"
                site.hold.unlink()
                site.assert_whole()
