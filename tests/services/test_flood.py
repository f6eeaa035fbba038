"""Much output from a real OpenSSH server, through the real engine, into rows."""

from __future__ import annotations

import os
import re
import time

import psutil
import pytest
from django.db import connection
from django.utils import timezone

from commands.execution.ssh import SshExecutor
from commands.models import OutputChunk
from commands.outputs import store
from commands.rules import limits
from commands.services import instances, invocations, keeping
from commands.services.definitions import CommandInput
from commands.services.worker import Worker
from tests.execution.test_capture import full_instance
from tests.sshd import Sshd

pytestmark = [pytest.mark.django_db(transaction=True)]

MB = 1024 * 1024
NUMBERED = "seq -f '%015.0f' {lines}"  # 16 bytes a line
ENDLESS = "head -c {size} /dev/zero | tr '\\0' x"


@pytest.fixture
def flood(flood_on, tmp_path):
    """Run a script on a real server: the run, and the most memory that it took meanwhile."""

    def run(script):
        with Sshd.started(tmp_path) as [server]:
            return flood_on(server, script)

    return run


@pytest.fixture
def flood_on(cast):
    """The same on a server that runs already."""

    def run(server, script):
        where = server.endpoint
        credential = instances.add_credential(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            name="key",
            private_key=where.private_key,
        )
        instance = instances.add_instance(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            name="flood",
            credential=credential,
            host=where.host,
            port=where.port,
            user=where.user,
            host_key=where.host_key,
        )
        task = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="n", type="RunShellScript", content=script, timeout=600),
            instance_uids=[instance.uid],
            now=timezone.now(),
        )
        return followed(task.runs.get())

    return run


def followed(run):
    me = psutil.Process(os.getpid())
    worker = Worker(SshExecutor())
    before, most, rows = me.memory_info().rss, 0, 0
    try:
        worker.take([run.pk], now=timezone.now())
        while run.finished_at is None:
            time.sleep(0.05)
            run.refresh_from_db()
            most = max(most, me.memory_info().rss - before)
            kept = run.stdout_size + run.stderr_size - run.dropped_bytes
            rows = max(rows, kept)
    finally:
        worker.stop()
        connection.close()
    print(f"\nmost memory more than before: {most / MB:.1f} MB; most rows: {rows / MB:.2f} MB")
    assert rows <= limits.OUTPUT_KEPT + keeping.SLACK_BYTES + 65_536
    return run


def stored(run):
    assert OutputChunk.objects.count() < 1_000
    return b"".join(chunk.data for chunk in store.read(run.pk))


@pytest.mark.parametrize("size", [5 * MB, pytest.param(100 * MB, marks=pytest.mark.soak)])
def test_a_flood_of_lines(flood, size):
    run = flood(NUMBERED.format(lines=size // 16))
    assert (run.status, run.stdout_size) == ("Success", size)
    assert run.dropped_bytes == size - limits.OUTPUT_KEPT
    kept = [int(number) for number in re.findall(rb"(\d{15})\n", stored(run))]
    half = limits.OUTPUT_KEPT // 2 // 16
    assert kept == [*range(1, half + 1), *range(size // 16 - half + 1, size // 16 + 1)]
    assert run.last_line == f"{size // 16:015}"


@pytest.mark.soak
@pytest.mark.parametrize("size", [20 * MB, 100 * MB])
def test_one_endless_line(flood, size):
    run = flood(ENDLESS.format(size=size))
    assert (run.status, run.stdout_size) == ("Success", size)
    assert run.dropped_bytes == size - limits.OUTPUT_KEPT
    assert stored(run) == b"x" * limits.OUTPUT_KEPT


def test_a_full_disk_costs_the_rest_of_the_output_and_nothing_else(cast, tmp_path, flood_on):
    """What found no room is counted to the byte, from the instance's disk into the row."""
    with full_instance(tmp_path, "1m") as (_, server):
        run = flood_on(server, "head -c 3000000 /dev/zero | tr '\\0' x; exit 4")
    assert (run.status, run.exit_code) == ("Failed", 4)
    assert run.lost_bytes > 0
    assert run.stdout_size + run.lost_bytes == 3_000_000
