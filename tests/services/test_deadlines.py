"""Deadlines and fair shares: no run stays as it is for ever, and long runs delay nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands import tasks
from commands.execution.fake import FakeExecutor
from commands.models import OutputChunk, Role, Run
from commands.rules.status import ErrorCode
from commands.services import (
    events,
    following,
    instances,
    invocations,
    recorder,
    runs,
    stopping,
    teams,
)
from commands.services.worker import Worker
from tests.services.carrying import create_task, finished, statuses, take, until

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


def long_past(task):
    """A moment after the deadline of a task's runs, and after everybody's patience."""
    last = max(run.deadline for run in task.runs.all())
    return last + runs.GIVE_UP_AFTER + timedelta(seconds=1)


def test_a_deadline_follows_the_state(cast, fleet, worker):
    task = create_task(cast, fleet[:1], "sleep 60", timeout=300)
    [run] = task.runs.all()
    assert run.deadline == task.created_at + runs.DELIVERY
    now = timezone.now()
    take(worker, task)
    until(lambda: statuses(task) == ["Running"])
    run.refresh_from_db()
    assert run.deadline == run.started_at + timedelta(seconds=300)
    assert run.deadline >= now + timedelta(seconds=300)


def test_what_no_worker_takes_in_time_is_not_started_later(cast, fleet, worker, executor):
    task = create_task(cast, fleet, "say a")
    late = timezone.now() + runs.DELIVERY + timedelta(seconds=1)
    assert worker.take([run.pk for run in task.runs.all()[:1]], now=late) == 0
    assert runs.expire(now=late) == 2
    for run in task.runs.all():
        assert (run.status, run.error_code) == ("Aborted", "DeliveryTimeout")
        assert run.error_info.startswith("No worker took it within 10 minutes.")
    assert executor.started == []


def test_before_that_it_is_started(cast, fleet, worker):
    task = create_task(cast, fleet[:1], "say a")
    soon = timezone.now() + runs.DELIVERY - timedelta(seconds=1)
    assert runs.expire(now=soon) == 0
    assert worker.take([run.pk for run in task.runs.all()], now=soon) == 1
    finished(task)


@pytest.mark.parametrize("state", ["claimed", "running", "stopping", "instance removed"])
def test_no_run_outlives_its_deadline_when_its_worker_is_stuck(cast, fleet, state):
    """The worker renews its lease for ever and its thread never comes back."""
    task = create_task(cast, fleet[:1], "say a")
    runs.claim(run_ids=[task.runs.get().pk], owner="stuck", now=timezone.now())
    if state != "claimed":
        Run.objects.update(status="Running", phase="following", started_at=timezone.now())
    if state == "stopping":
        invocations.stop_invocation(actor=cast.bob, invocation=task, now=timezone.now())
    if state == "instance removed":
        fleet[0].delete()
    Run.objects.update(lease_until=long_past(task) + timedelta(minutes=1))
    assert runs.expire(now=long_past(task) - timedelta(seconds=2)) == 0
    assert runs.expire(now=long_past(task)) == 1
    [run] = task.runs.all()
    assert (run.status, run.error_code, run.lease_owner) == ("Error", "OutcomeUnknown", "")
    assert runs.renew(run_ids=[run.pk], owner="stuck", now=timezone.now()) == set()
    assert not stopping.is_due(now=long_past(task))


def test_a_worker_that_is_gone_and_an_instance_that_is_silent(
    cast, fleet, worker, executor, monkeypatch
):
    task = create_task(cast, fleet[:1], "say a")
    first = timezone.now()
    runs.claim(run_ids=[task.runs.get().pk], owner="gone", now=first)
    deadline = task.runs.get().deadline
    executor.unreachable[runs.endpoint(fleet[0])] = ErrorCode.CONNECTION_TIMEOUT
    monkeypatch.setattr(following, "SLACK", timedelta(days=-1))
    Run.objects.update(lease_until=first - timedelta(seconds=1))
    [claimed] = runs.claim(
        run_ids=[task.runs.get().pk], owner=worker.owner, now=first + timedelta(seconds=30)
    )
    assert claimed.deadline == deadline  # being taken over gives no more time
    worker.follower.adopt(claimed)
    [run] = finished(task)
    assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")


def test_an_instance_that_is_removed_after_its_worker_is_gone(cast, fleet, worker):
    task = create_task(cast, fleet[:1], "say a")
    runs.claim(run_ids=[task.runs.get().pk], owner="gone", now=timezone.now())
    fleet[0].delete()
    late = timezone.now() + runs.LEASE + timedelta(seconds=1)
    assert worker.take(runs.overdue(now=late), now=late) == 0
    assert statuses(task) == ["Error"]


def test_a_slow_worker_whose_lease_was_taken_writes_nothing_more(
    cast, fleet, executor, monkeypatch
):
    """Alive, but it has not renewed: the other worker's lease fences it off."""
    monkeypatch.setattr(recorder, "RENEW_S", 1_000.0)
    slow, fast = Worker(executor), Worker(executor)
    try:
        task = create_task(cast, fleet[:1], "say a\nsleep 60")
        take(slow, task)
        until(OutputChunk.objects.exists)
        after = timezone.now() + runs.LEASE + timedelta(seconds=1)
        run_id = task.runs.get().pk
        assert fast.take([run_id], now=after) == 1
        late = events.Received(run_id, "stdout", 2, b"never printed", timezone.now())
        slow.recorder.put(late)
        with pytest.raises(recorder.LeaseLost):
            slow.recorder.record(
                run_id, {"status": "Success", "exit_code": 0, "finished_at": after}
            )
        until(lambda: slow.follower.carrying() == 0)  # and it lets go
        [run] = task.runs.all()
        assert (run.status, run.lease_owner) == ("Running", fast.owner)
        assert b"".join(bytes(chunk.data) for chunk in run.chunks.all()) == b"a\n"
        assert fast.follower.carrying() == 1
        assert len(executor.started) == 1
    finally:
        slow.stop()
        fast.stop()
        connection.close()


def test_fifty_runs_of_an_hour_delay_no_other_team(cast, make_instance, executor, monkeypatch):
    worker = Worker(executor)
    monkeypatch.setattr(tasks.worker, "current", lambda: worker)
    try:
        machines = [make_instance(f"m{number}", port=number + 1) for number in range(50)]
        long = create_task(cast, machines, "say begun\nsleep 3600", timeout=7200)
        tasks.start_runs([run.pk for run in long.runs.all()])  # and its slot is free again
        until(lambda: set(statuses(long)) == {"Running"})
        teams.add_member(team=cast.other_team, user=cast.bob, role=Role.OPERATOR)
        short = _task_of_another_team(cast)
        tasks.start_runs([run.pk for run in short.runs.all()])
        assert finished(short)[0].status == "Success"
        assert set(statuses(long)) == {"Running"}
        assert worker.follower.carrying() >= 50
    finally:
        worker.stop()
        connection.close()


def _task_of_another_team(cast):
    given = {"actor": cast.charlie, "team": cast.other_team, "region": cast.region}
    key = instances.add_credential(name="key", private_key="-----BEGIN…", **given)
    host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEeXkLhFIdeCw7DIM1HYpGxcO2J4zVSGjVLEZG8fGvp1"
    machine = instances.add_instance(
        name="w1",
        credential=key,
        host="127.0.0.1",
        port=99,
        user="root",
        host_key=host_key,
        **given,
    )
    return invocations.run_command(
        command=invocations.CommandInput(name="n", type="RunShellScript", content="say a"),
        instance_uids=[machine.uid],
        now=timezone.now(),
        **given,
    )
