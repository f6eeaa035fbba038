"""A hundred instances, ten of which take a connection and never say a word, or not even that.

Nothing was begun there, so these runs are Aborted, each with the code that says why.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from django.db import connection

from commands.execution.pool import Timing
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from commands.services import instances
from commands.services.worker import Worker
from tests.conftest import HOST_KEY
from tests.services.carrying import create_task, take
from tests.services.carrying import until as soon
from tests.sshd import Sshd

pytestmark = [pytest.mark.django_db(transaction=True)]

SERVERS, EACH, MUTE, FULL = 9, 10, 5, 5
PATIENCE = 30  # seconds until a connection is given up: far longer than ninety runs take


@contextlib.contextmanager
def black_hole(*, full: bool) -> Iterator[int]:
    """The port of a server that never accepts. The system greets for it, unless it is ``full``."""
    with socket.socket() as server, contextlib.ExitStack() as waiting:
        server.bind(("127.0.0.1", 0))
        server.listen(0 if full else 64)
        port = int(server.getsockname()[1])
        while full:
            other = waiting.enter_context(socket.socket())
            other.settimeout(0.3)
            try:
                other.connect(("127.0.0.1", port))
            except TimeoutError:
                full = False
        yield port


@pytest.fixture
def black_holes() -> Iterator[list[int]]:
    with contextlib.ExitStack() as stack:
        holes = [black_hole(full=False) for _ in range(MUTE)]
        holes += [black_hole(full=True) for _ in range(FULL)]
        yield [stack.enter_context(each) for each in holes]


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(SshExecutor(Timing(connect=PATIENCE, handshake=PATIENCE)))
    yield made
    made.stop()
    connection.close()


def test_ten_black_holes_disturb_nobody(cast, black_holes, worker, tmp_path):
    with Sshd.started(tmp_path, count=SERVERS, MaxSessions=100) as servers:
        add = Fleet(cast)
        good = [add(server) for server in servers for _ in range(EACH)]
        holes = [add(servers[0], port=port, host_key=HOST_KEY) for port in black_holes]
        tasks = [
            create_task(cast, [*holes[:5], *good[:45]], "echo alive"),
            create_task(cast, [*holes[5:], *good[45:]], "echo alive"),
        ]
        # Taking them waits for none: whoever takes is free for the next message at once.
        assert [take(worker, task) for task in tasks] == [50, 50]
        dead = [run for task in tasks for run in task.runs.all() if run.instance in holes]
        alive = [run for task in tasks for run in task.runs.all() if run.instance in good]
        assert (len(dead), len(alive)) == (10, 90)
        settled(alive)
        assert {(run.status, run.last_line) for run in alive} == {("Success", "alive")}
        settled(dead)
        worker.stop()
    assert max(run.finished_at for run in alive) < min(run.finished_at for run in dead)
    by_port = {instance.pk: instance.port for instance in holes}
    codes = {by_port[run.instance_id]: (run.status, run.error_code) for run in dead}
    assert codes == {
        **dict.fromkeys(black_holes[:MUTE], ("Aborted", ErrorCode.BANNER_TIMEOUT)),
        **dict.fromkeys(black_holes[MUTE:], ("Aborted", ErrorCode.CONNECTION_TIMEOUT)),
    }


def settled(runs):
    """Wait until all of these have ended."""

    def over():
        for run in runs:
            run.refresh_from_db()
        return all(run.finished_at for run in runs)

    soon(over, within=240)


class Fleet:
    """Adds instances, each with the credential of its server."""

    def __init__(self, cast):
        self.cast = cast
        self.credentials = {}
        self.count = 0

    def __call__(self, server, **columns):
        where = server.endpoint
        if where.port not in self.credentials:
            self.credentials[where.port] = instances.add_credential(
                actor=self.cast.alice,
                team=self.cast.team,
                region=self.cast.region,
                name=f"key-{where.port}",
                private_key=where.private_key,
            )
        self.count += 1
        given = {"port": where.port, "host_key": where.host_key} | columns
        return instances.add_instance(
            actor=self.cast.alice,
            team=self.cast.team,
            region=self.cast.region,
            name=f"host-{self.count}",
            credential=self.credentials[where.port],
            host=where.host,
            user=where.user,
            **given,
        )
