"""Creating tasks: what is made, what is refused, and that nothing is made twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError

from commands import queue
from commands.errors import Denied, IdempotencyMismatch, Invalid, InvalidFields
from commands.models import Command, Instance, Invocation, Run
from commands.services import invocations, lending
from commands.services.definitions import CommandInput

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


@pytest.fixture
def create(cast):
    def make(fleet, *, actor=None, token="", **columns):
        given = {"name": "Hello", "type": "RunShellScript", "content": "echo hi\n", **columns}
        return invocations.run_command(
            actor=actor or cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(**given),
            instance_uids=[instance.uid for instance in fleet],
            client_token=token,
            now=timezone.now(),
        )

    return make


def test_a_task_is_a_frozen_copy_with_a_run_for_each_instance(
    create, fleet, sent, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        task = create(fleet, content="echo a\r\necho b", timeout="5", workdir="/tmp")
    assert (task.content, task.timeout, task.timeout_asked) == ("echo a\necho b", 10, 5)
    assert task.created_by_name == "bob"
    assert [run.instance_name for run in task.runs.all()] == ["web-01", "web-02", "web-03"]
    assert {run.status for run in task.runs.all()} == {"Pending"}
    run_ids = [run.pk for run in task.runs.all()]
    assert sent == [(queue.Job.START_RUNS, {"run_ids": run_ids})]
    fleet[0].delete()
    assert task.runs.get(pk=run_ids[0]).instance_name == "web-01"


def test_the_command_is_kept_nowhere(create, fleet):
    task = create(fleet)
    assert task.command.kept is False
    assert not Command.objects.kept().exists()
    assert task.version.content == task.content


def test_an_instance_named_twice_gets_one_run(create, fleet):
    assert create([fleet[0], fleet[0]]).runs.count() == 1


def test_everything_wrong_is_said_at_once_and_nothing_is_made(create):
    with pytest.raises(InvalidFields) as caught:
        create([], name="", type="nonsense", content="", workdir="x", timeout="abc")
    assert set(caught.value.errors) == {
        "name",
        "type",
        "content",
        "workdir",
        "timeout",
        "instances",
    }
    assert not Invocation.objects.exists()
    assert not Command.objects.exists()


def test_who_may_not_create(create, fleet, cast):
    for actor in (cast.vera, cast.charlie):
        with pytest.raises(Denied):
            create(fleet, actor=actor)
    cast.bob.is_active = False
    with pytest.raises(Denied):
        create(fleet)


def test_instances_of_other_teams_can_not_be_told_from_missing_ones(create, cast, make_instance):
    theirs = make_instance("theirs")
    Instance.objects.filter(pk=theirs.pk).update(team=cast.other_team)
    with pytest.raises(InvalidFields) as other:
        create([theirs])
    with pytest.raises(InvalidFields) as missing:
        create([Instance(uid="i-nowhere")])
    assert other.value.errors == missing.value.errors


def test_a_lent_instance_can_be_used(create, cast, make_instance):
    lent = make_instance("lent")
    Instance.objects.filter(pk=lent.pk).update(team=cast.other_team)
    lent.refresh_from_db()
    offer = lending.lend_instance(actor=cast.charlie, instance=lent, team=cast.team)
    with pytest.raises(InvalidFields):
        create([lent])
    lending.accept(actor=cast.alice, grant=offer, now=timezone.now())
    assert create([lent]).runs.count() == 1


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"enabled": False}, "switched off"),
        ({"os_type": "windows"}, "Shell runs on Linux"),
    ],
)
def test_instances_that_do_not_fit(create, fleet, columns, sentence):
    Instance.objects.filter(pk=fleet[1].pk).update(**columns)
    with pytest.raises(InvalidFields, match=f"web-02: .*{sentence}"):
        create(fleet)


def test_fifty_instances_pass_and_one_more_does_not(create, make_instance):
    many = [make_instance(f"n-{number:02}") for number in range(51)]
    assert create(many[:50]).runs.count() == 50
    with pytest.raises(InvalidFields, match="You have 51"):
        create(many)


def test_the_same_token_answers_with_the_same_task(create, fleet, cast):
    first = create(fleet, token="a")
    assert create(fleet, token="a") == first
    assert create(list(reversed(fleet)), token="a") == first
    assert create(fleet, token="b") != first
    assert create(fleet, token="a", actor=cast.alice) != first
    with pytest.raises(IdempotencyMismatch):
        create(fleet, token="a", content="echo other")


def test_a_bad_token_is_refused(create, fleet):
    with pytest.raises(Invalid):
        create(fleet, token="x" * 65)


@pytest.mark.django_db(transaction=True)
def test_ten_simultaneous_requests_with_one_token_make_one_task(create, fleet):
    def request(_):
        try:
            return create(fleet, token="same").pk
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        made = set(pool.map(request, range(10)))
    assert len(made) == 1
    assert Invocation.objects.count() == 1
    assert Run.objects.count() == 3


@pytest.mark.broker
def test_a_broker_that_is_down_loses_nothing(
    cast, fleet, monkeypatch, django_capture_on_commit_callbacks
):
    def refuse(*args, **kwargs):
        raise OperationalError("no broker")

    monkeypatch.setattr(queue.current_app, "send_task", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        task = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="n", type="RunShellScript", content="true"),
            instance_uids=[fleet[0].uid],
            now=timezone.now() - timedelta(minutes=1),
        )
    assert task.runs.get().lease_until < timezone.now()  # the reconciler will find it
