"""From the end of a run to a webhook that has it: a whole worker, and a real server."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from commands.execution.fake import FakeExecutor
from commands.models import Notice
from commands.services import notice_rules, webhooks
from commands.services.notice_rules import RuleInput
from commands.services.worker import Worker
from tests.services.carrying import create_task, statuses, take, until
from tests.services.hooks import listening, status

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


@pytest.fixture
def hook(settings):
    settings.CONSOLE_WEBHOOK_HTTP = True
    settings.CONSOLE_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with listening() as made:
        yield made


@pytest.fixture
def worker():
    made = Worker(FakeExecutor())
    yield made
    made.stop()
    connection.close()


@pytest.fixture
def rule(cast, hook):
    return notice_rules.add_rule(
        actor=cast.alice,
        team=cast.team,
        rule=RuleInput("webhook", hook.url, "always"),
        now=timezone.now(),
    )


def test_the_end_of_the_last_run_is_told_at_once(cast, fleet, worker, rule, hook):
    cast.bob.email = "bob@example.com"
    cast.bob.save()
    task = create_task(cast, fleet, "say hi\nexit 3")
    type(task).objects.filter(pk=task.pk).update(tell_me=True)
    assert take(worker, task) == 3
    until(lambda: task.notices.filter(state="sent").count() == 2)
    (got,) = hook.got
    told = json.loads(got.body)
    assert told["task"]["id"] == task.uid
    assert told["task"]["counts"] == {"Failed": 3}
    assert got.headers["X-Console-Id"] == told["id"] == task.notices.get(rule=rule).uid
    (sent,) = mail.outbox
    assert sent.to == ["bob@example.com"]


def test_a_webhook_that_fails_holds_up_nothing(cast, fleet, worker, rule, hook, monkeypatch):
    monkeypatch.setattr(webhooks, "TOTAL_S", 60.0)  # it is waited for until it fails
    release = hook.closing
    hook.answer = lambda handler: (release.wait(30), status(handler, 500))
    first = create_task(cast, fleet, "say hi")
    take(worker, first)
    until(lambda: hook.got)
    second = create_task(cast, fleet, "say hi")
    take(worker, second)
    until(lambda: statuses(second) == ["Success"] * 3)
    assert first.notices.get().state == "waiting"
    release.set()
    until(lambda: first.notices.get().last_error == "It answered 500.")
    row = first.notices.get()
    assert row.attempts == 1
    assert row.next_at - timezone.now() < timedelta(seconds=61)
    hook.answer = lambda handler: status(handler, 204)
    Notice.objects.update(next_at=timezone.now())
    worker.messenger.ask()
    until(lambda: first.notices.get().state == "sent")
    assert {got.headers["X-Console-Id"] for got in hook.got} >= {row.uid}


def test_what_ended_without_a_worker_is_told_with_the_next_bell(cast, fleet, worker, rule, hook):
    task = create_task(cast, fleet, "say hi")
    task.runs.update(status="Aborted", phase="finished", finished_at=timezone.now())
    assert hook.got == []
    worker.messenger.ask()
    until(lambda: hook.got)
    assert json.loads(hook.got[0].body)["task"]["counts"] == {"Aborted": 3}
