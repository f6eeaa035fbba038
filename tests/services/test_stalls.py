"""Runs that print nothing: which are looked at, how often, and what becomes of what was seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands.execution.fake import FakeExecutor
from commands.models import OutputChunk, Run
from commands.services import runs, stalls
from commands.services.stalls import SILENCE, Look
from commands.services.worker import Worker
from tests.services.carrying import create_task, finished, take, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


@pytest.fixture
def executor():
    return FakeExecutor()


@pytest.fixture
def worker(executor):
    made = Worker(executor)
    yield made
    made.stop()
    connection.close()


@pytest.fixture
def run(cast, fleet, worker):
    """A run that has printed a line and prints nothing more for a while."""
    task = create_task(cast, fleet[:1], "say a\nsleep 600")
    take(worker, task)
    until(lambda: task.runs.filter(last_line="a", status="Running").exists())
    return task.runs.get()


def silent_since(run, moment):
    Run.objects.filter(pk=run.pk).update(started_at=moment)
    OutputChunk.objects.filter(run=run).update(arrived_at=moment)


def claimed(now, busy=()):
    return stalls.claim(busy=busy, limit=9, now=now)


def test_who_printed_a_moment_ago_is_not_looked_at(run):
    now = timezone.now()
    assert claimed(now) == []
    Run.objects.filter(pk=run.pk).update(started_at=now - SILENCE * 5)
    assert claimed(now) == []
    silent_since(run, now - SILENCE)
    ((found),) = claimed(now)
    assert found.run_id == run.pk
    assert found.handle.run_id == run.execution_id


def test_a_silent_run_is_looked_at_once_a_minute(run):
    now = timezone.now()
    silent_since(run, now - SILENCE)
    assert claimed(now, busy=[run.pk]) == []
    assert len(claimed(now)) == 1
    assert claimed(now + SILENCE - timedelta(seconds=1)) == []
    assert len(claimed(now + SILENCE)) == 1


def test_what_does_not_run_is_not_looked_at(run):
    now = timezone.now()
    silent_since(run, now - SILENCE)
    Run.objects.filter(pk=run.pk).update(phase="detached")
    assert claimed(now) == []
    Run.objects.filter(pk=run.pk).update(phase="following", status="Stopping")
    assert claimed(now) == []


def test_what_is_seen_is_stored_and_taken_back(run):
    now = timezone.now()
    silent_since(run, now - SILENCE)
    (found,) = claimed(now)
    stalls.record(looks=[Look(found, "read (4711)")], now=now)
    run.refresh_from_db()
    assert (run.stall_info, run.stalled_since) == ("read (4711)", now)
    later = now + SILENCE
    stalls.record(looks=[Look(found, "read (4711)")], now=later)
    run.refresh_from_db()
    assert run.stalled_since == now
    stalls.record(looks=[Look(found, "")], now=later)
    run.refresh_from_db()
    assert (run.stall_info, run.stalled_since) == ("", None)


def test_what_was_seen_before_the_last_output_does_not_count(run):
    now = timezone.now()
    silent_since(run, now - SILENCE)
    (found,) = claimed(now)
    stalls.record(looks=[Look(replace(found, sequence=0), "read (4711)")], now=now)
    run.refresh_from_db()
    assert run.stalled_since is None


def test_a_worker_looks_when_it_is_asked(run, worker, executor):
    silent_since(run, timezone.now() - SILENCE)
    executor.waiting[run.execution_id] = "read (4711)"
    worker.lookout.ask()
    until(lambda: Run.objects.get(pk=run.pk).stall_info == "read (4711)")


def test_output_takes_it_back(cast, fleet, worker, executor):
    task = create_task(cast, fleet[:1], "say a\nsleep 50\nsay b\nsleep 600", timeout=900)
    take(worker, task)
    until(lambda: task.runs.filter(last_line="a", status="Running").exists())
    task.runs.update(stall_info="read (4711)", stalled_since=timezone.now())
    executor.elapse(50)
    until(lambda: task.runs.filter(last_line="b").exists())
    run = task.runs.get()
    assert (run.stall_info, run.stalled_since) == ("", None)


def test_so_does_the_end(cast, fleet, worker, executor):
    task = create_task(cast, fleet[:1], "say a\nsleep 50")
    take(worker, task)
    until(lambda: task.runs.filter(last_line="a", status="Running").exists())
    task.runs.update(stall_info="read (4711)", stalled_since=timezone.now())
    executor.elapse(50)
    (run,) = finished(task)
    assert (run.stall_info, run.stalled_since) == ("", None)


def test_an_instance_that_can_not_be_reached_tells_nothing(run, worker, executor):
    silent_since(run, timezone.now() - SILENCE)
    (found,) = claimed(timezone.now())
    executor.unreachable[found.endpoint] = "ConnectionRefused"
    assert worker.lookout.run(found) is None


def test_when_it_printed_last(run):
    moment = timezone.now() - timedelta(hours=1)
    silent_since(run, moment)
    assert stalls.last_output_at(run) == moment
    OutputChunk.objects.all().delete()
    run.refresh_from_db()
    assert stalls.last_output_at(run) == run.started_at


def test_one_that_can_not_be_asked_keeps_no_other_from_being_looked_at(cast, fleet, monkeypatch):
    real, odd = runs.endpoint, fleet[0]

    def endpoint(instance):
        if instance == odd:
            raise KeyError(instance.credential_id)
        return real(instance)

    monkeypatch.setattr(runs, "endpoint", endpoint)
    _, fine = create_task(cast, fleet[:2], "say a").runs.order_by("pk")
    now = timezone.now()
    Run.objects.update(status="Running", phase="following", started_at=now - SILENCE, base="/x")
    assert [found.run_id for found in claimed(now)] == [fine.pk]
