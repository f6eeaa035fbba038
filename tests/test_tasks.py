"""Celery tasks: ids in, one service called, gone within moments."""

from __future__ import annotations

import time

import pytest
from celery.exceptions import Reject
from django.conf import settings
from django.utils import timezone

from commands import queue, tasks
from commands.execution.fake import FakeExecutor
from commands.models import Instance
from commands.services import invocations, worker
from commands.services.definitions import CommandInput
from tests.services.test_carrying import finished

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def executor(monkeypatch):
    made = FakeExecutor()
    monkeypatch.setattr(worker, "SshExecutor", lambda: made)
    monkeypatch.setattr(worker, "_current", None)
    monkeypatch.setattr(worker, "_ending", False)
    yield made
    worker.end()


@pytest.fixture
def task(cast, fleet):
    return invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="n", type="RunShellScript", content="say hi"),
        instance_uids=[fleet[0].uid],
        now=timezone.now(),
    )


def test_every_job_is_a_task():
    made = {
        tasks.start_runs.name,
        tasks.stop_runs.name,
        tasks.advance.name,
        tasks.reconcile.name,
        tasks.check_connections.name,
        tasks.purge.name,
        tasks.note_use.name,
        tasks.examine.name,
        tasks.read_host_keys.name,
        tasks.send_notices.name,
        tasks.look_for_stalls.name,
    }
    assert made == {job.value for job in queue.Job}


def test_only_starts_are_in_the_queue_that_they_may_flood():
    others = {job.value for job in queue.Job if job is not queue.Job.START_RUNS}
    assert {name: {"queue": "control"} for name in others} == settings.CELERY_TASK_ROUTES
    assert settings.CELERY_TASK_DEFAULT_QUEUE == "run"


def test_every_periodic_job_is_a_task_and_leaves_the_queue_of_runs_alone():
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in {job.value for job in queue.Job}
        assert settings.CELERY_TASK_ROUTES[entry["task"]] == {"queue": "control"}


def test_the_job_of_a_new_task_starts_it(executor, task, sent):
    [(job, ids)] = [each for each in sent if each[0] != queue.Job.CHECK_CONNECTIONS]
    assert job == tasks.start_runs.name
    tasks.start_runs(**ids)
    assert finished(task)[0].status == "Success"


def test_what_nobody_took_is_reconciled(executor, task):
    tasks.reconcile()
    assert executor.started == []
    task.runs.update(lease_until=timezone.now())
    tasks.reconcile()
    assert finished(task)[0].status == "Success"


def test_the_job_of_a_new_instance_has_it_checked(executor, fleet, sent):
    assert (tasks.check_connections.name, {}) in sent
    tasks.check_connections()
    until = time.monotonic() + 30
    while Instance.objects.exclude(connection="reachable").exists():
        assert time.monotonic() < until, "the instances were not checked"
        time.sleep(0.01)


def test_a_worker_that_ends_checks_nothing_more(executor):
    tasks.let_go()
    tasks.check_connections()
    assert worker._current is None


def test_a_worker_that_ends_gives_messages_back(executor, task):
    tasks.let_go()
    with pytest.raises(Reject):
        tasks.start_runs([task.runs.get().pk])
    assert task.runs.get().lease_owner == ""
