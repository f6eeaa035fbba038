"""Rate control: so many at a time, batches with pauses, and no more after too many failures."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands import queue, tasks
from commands.errors import Denied, IdempotencyMismatch, InvalidFields
from commands.execution.fake import FakeExecutor
from commands.models import Run
from commands.rules.rate import RateInput
from commands.services import invocations, pacing, runs
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


@pytest.fixture
def create(cast, make_instance):
    machines = [make_instance(f"m{number}", port=number + 1) for number in range(6)]

    def make(content, *, count=6, **fields):
        return create_task(cast, machines[:count], content, rate=RateInput(**fields))

    return make


def advance(task, *, later=0.0):
    pacing.advance(invocation_id=task.pk, now=timezone.now() + timedelta(seconds=later))


def phases(task):
    return [run.phase for run in task.runs.order_by("pk")]


def end_one(task, status="Success"):
    """Let one active run end, as if a worker had reported it."""
    run = task.runs.unfinished().exclude(phase="held").order_by("pk").first()
    codes = {"Success": (0, ""), "Failed": (3, "ExitCodeNonzero")}
    run.exit_code, run.error_code = codes[status]
    run.status, run.phase, run.finished_at = status, "finished", timezone.now()
    run.save()


def drive(worker, task):
    """Do what the jobs of a task ask for until it has ended."""

    def turn():
        take(worker, task)
        advance(task)
        return not task.runs.unfinished().exists()

    until(turn)


def test_only_what_may_begin_is_asked_for(create, sent):
    task = create("say a", concurrency="2")
    assert phases(task) == ["queued"] * 2 + ["held"] * 4
    first = list(task.runs.order_by("pk").values_list("pk", flat=True)[:2])
    assert (queue.Job.START_RUNS, {"run_ids": first}) in sent
    end_one(task)
    sent.clear()
    advance(task)
    assert phases(task).count("queued") == 2
    third = task.runs.order_by("pk")[2].pk
    assert sent == [(queue.Job.START_RUNS, {"run_ids": [third]})]


def test_held_runs_are_nobodys_to_take_and_not_lost(create, worker):
    task = create("sleep 60", concurrency="1")
    assert take(worker, task) == 1  # a message about all of them takes one
    later = timezone.now() + timedelta(days=1)
    held = set(task.runs.filter(phase="held").values_list("pk", flat=True))
    assert held.isdisjoint(runs.overdue(now=later))
    runs.expire(now=later)
    assert task.runs.held().count() == 5


def test_never_more_than_n_at_a_time(create, worker, executor):
    most, now = [0], [0]
    start, lock = executor.start, threading.Lock()

    def counted(endpoint, spec):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        return start(endpoint, spec)

    record = worker.recorder.record

    def ended(run_id, values):
        with lock:
            now[0] -= 1
        record(run_id, values)

    executor.start, worker.recorder.record = counted, ended
    task = create("say a\nsleep 0.05", concurrency="2")
    drive(worker, task)
    assert {run.status for run in finished(task)} == {"Success"}
    assert len(executor.started) == 6
    assert most[0] <= 2


def test_two_workers_that_advance_at_once_release_no_more_than_n(create):
    for _ in range(6):
        task = create("say a", concurrency="2")
        end_one(task)
        gate = threading.Barrier(4)

        def act(task=task, gate=gate):
            gate.wait(30)
            try:
                advance(task)
            finally:
                connection.close()

        threads = [threading.Thread(target=act) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert phases(task).count("queued") == 2


def test_the_end_of_a_run_asks_for_the_next(create, worker, sent):
    task = create("say a", concurrency="1")
    take(worker, task)
    until(lambda: statuses(task)[0] == "Success")
    until(lambda: (queue.Job.ADVANCE, {"invocation_id": task.pk}) in sent)


def test_a_task_without_a_rate_asks_for_nothing(create, worker, sent):
    task = create("say a")
    take(worker, task)
    finished(task)
    assert queue.Job.ADVANCE not in {job for job, _ in sent}


def test_a_lost_word_is_made_good_by_the_reconciler(create, worker, monkeypatch):
    """As after a kill between two batches: nobody says that a run has ended."""
    monkeypatch.setattr(tasks.worker, "current", lambda: worker)
    task = create("say a", concurrency="1", canary="1", count=3)
    for _ in range(3):
        end_one(task)
        assert not task.runs.released().unfinished().exists()
        tasks.reconcile()
    assert statuses(task) == ["Success"] * 3


def test_a_run_that_is_refused_makes_room_too(create, worker, cast, sent):
    task = create("say a", concurrency="1")
    task.runs.order_by("pk").first().instance.delete()
    sent.clear()
    assert take(worker, task) == 0
    assert statuses(task)[0] == "Aborted"
    assert (queue.Job.ADVANCE, {"invocation_id": task.pk}) in sent


def test_after_too_many_failures_nothing_more_is_started(create, worker, executor):
    task = create("say a\nexit 1", concurrency="1", max_failures="2")
    drive(worker, task)
    last = finished(task)[2:]
    assert statuses(task) == ["Failed"] * 2 + ["Cancelled"] * 4
    assert {run.error_code for run in last} == {"FailureLimitReached"}
    assert {run.error_info for run in last} == {
        "2 of 6 failed, the limit of this task. It was not started here."
    }
    assert len(executor.started) == 2


def test_a_part_of_all_and_running_ones_go_on(create, worker, executor):
    task = create("sleep 60", concurrency="3", max_failures="10%")
    take(worker, task)
    until(lambda: statuses(task)[:3] == ["Running"] * 3)
    first = task.runs.order_by("pk").first()
    executor.lose(runs.endpoint(first.instance), first.execution_id)
    until(lambda: statuses(task)[0] == "Error")
    advance(task)
    assert statuses(task) == ["Error"] + ["Running"] * 2 + ["Cancelled"] * 3


def test_without_a_pace_what_no_worker_took_yet_is_cancelled(create):
    task = create("say a", max_failures="1")
    assert phases(task) == ["queued"] * 6
    end_one(task, "Failed")
    pacing.advance_all(now=timezone.now())
    assert statuses(task) == ["Failed"] + ["Cancelled"] * 5


def test_the_first_batch_and_a_pause(create):
    task = create("say a", canary="1", concurrency="2", batch_pause="30")
    assert phases(task) == ["queued"] + ["held"] * 5
    end_one(task)
    advance(task)
    assert phases(task).count("queued") == 0  # the pause
    advance(task, later=31)
    assert phases(task).count("queued") == 2
    end_one(task)
    advance(task, later=31)
    assert phases(task).count("queued") == 1  # the batch has not ended
    end_one(task)
    advance(task, later=62)
    assert phases(task).count("queued") == 2


def go_on(cast, task, *, actor=None, after=None):
    return invocations.continue_invocation(
        actor=actor or cast.bob, invocation=task, after=after, now=timezone.now()
    )


def test_a_person_continues(create, cast):
    task = create("say a", canary="2", concurrency="2", batch_pause="confirm")
    assert not go_on(cast, task)  # the first batch runs
    end_one(task)
    end_one(task)
    advance(task, later=100_000)
    pacing.advance_all(now=timezone.now() + timedelta(days=1))
    assert phases(task).count("held") == 4
    for stranger in (cast.vera, cast.charlie):
        with pytest.raises(Denied):
            go_on(cast, task, actor=stranger)
    assert go_on(cast, task, after=2)
    assert phases(task).count("queued") == 2
    end_one(task)
    end_one(task)
    assert not go_on(cast, task, after=2)  # pressed twice: one batch, not two
    assert phases(task).count("held") == 2


def test_tasks_that_wait_for_a_person_leave_others_their_turn(create):
    """They may be forgotten for ever, and a reconciler looks at so many tasks at a time."""
    forgotten = create("say a", canary="1", batch_pause="confirm")
    other = create("say a", canary="1", batch_pause="1")
    end_one(forgotten)
    end_one(other)
    later = timezone.now() + timedelta(seconds=60)

    def turn():
        pacing.advance_all(now=later, limit=1)
        return "queued" in phases(other)

    until(turn)
    assert phases(forgotten).count("held") == 5


def test_stopping_what_runs_lets_the_others_take_its_place(create, cast, sent):
    task = create("say a", concurrency="1")
    sent.clear()
    invocations.stop_invocation(
        actor=cast.bob,
        invocation=task,
        instance_uids=[task.runs.order_by("pk").first().instance_uid],
        now=timezone.now(),
    )
    assert (queue.Job.ADVANCE, {"invocation_id": task.pk}) in sent
    advance(task)
    assert phases(task)[:3] == ["finished", "queued", "held"]


def test_what_is_wrong_with_a_rate_is_said_and_nothing_is_made(create):
    with pytest.raises(InvalidFields) as caught:
        create("say a", concurrency="x", batch_pause="5")
    assert set(caught.value.errors) == {"concurrency"}
    assert not Run.objects.exists()


def test_a_rate_is_part_of_the_request(cast, fleet):
    def make(**fields):
        return invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=invocations.CommandInput(name="n", type="RunShellScript", content="say a"),
            instance_uids=[fleet[0].uid],
            rate=RateInput(**fields),
            client_token="once",
            now=timezone.now(),
        )

    assert make(concurrency="1") == make(concurrency="1")
    with pytest.raises(IdempotencyMismatch):
        make(concurrency="2")
