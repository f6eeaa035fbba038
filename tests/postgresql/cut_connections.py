"""What only a database server does: it ends connections under those who use them."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.utils import timezone

from commands.execution.fake import FakeExecutor
from commands.models import OutputChunk
from commands.services import recorder
from commands.services.worker import Worker
from tests.services.carrying import create_task, finished, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

LINES = 300


def test_a_run_loses_and_repeats_nothing_when_its_connections_are_ended(cast, fleet, monkeypatch):
    monkeypatch.setattr(recorder, "RETRY_S", (0.01,))
    failed, write = threading.Event(), recorder.Recorder._write

    def seen(self, batch):
        try:
            return write(self, batch)
        except Exception:
            failed.set()
            raise

    monkeypatch.setattr(recorder.Recorder, "_write", seen)
    executor = FakeExecutor()
    worker = Worker(executor)
    try:
        content = "".join(f"say line {number}\nsleep 0.15\n" for number in range(LINES))
        task = create_task(cast, fleet[:1], content)
        worker.take([task.runs.get().pk], now=timezone.now())
        until(OutputChunk.objects.exists)

        def cut():
            assert task.runs.unfinished().exists(), "it ended before a connection was ended"
            end_other_connections()
            return failed.is_set()

        until(cut)
        executor.elapse(LINES)
        [run] = finished(task)
    finally:
        worker.stop()
        connection.close()
    assert (run.status, run.exit_code) == ("Success", 0)
    stored = b"".join(bytes(chunk.data) for chunk in run.chunks.order_by("sequence"))
    assert stored == b"".join(b"line %d\n" % number for number in range(LINES))
    assert len(executor.started) == 1


def end_other_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
