"""Tasks and output go when their team's time is over, and nothing else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone

from commands import tasks
from commands.errors import Denied, Invalid
from commands.models import AuditEvent, Command, Invocation, OutputChunk, Run
from commands.rules import limits
from commands.rules.quotas import Quota
from commands.rules.status import Phase, RunStatus
from commands.services import invocations, quotas, retention
from commands.services.definitions import CommandInput

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

NOW = timezone.now()


@pytest.fixture
def task(cast, fleet):
    """A task that ended so many days ago, with some output on each instance."""

    def make(days: float, *, ended: bool = True, save: bool = False) -> Invocation:
        made = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="n", type="RunShellScript", content=f"echo {days}"),
            instance_uids=[instance.uid for instance in fleet[:2]],
            save=save,
            now=NOW,
        )
        then = NOW - timedelta(days=days)
        Invocation.objects.filter(pk=made.pk).update(created_at=then - timedelta(hours=1))
        for run in made.runs.all():
            OutputChunk.objects.bulk_create(
                OutputChunk(run=run, sequence=n, stream=1, offset=n, data=b"x", arrived_at=then)
                for n in range(3)
            )
        if ended:
            made.runs.update(
                status=RunStatus.SUCCESS.value,
                phase=Phase.FINISHED.value,
                exit_code=0,
                finished_at=then,
            )
        return made

    return make


def test_what_is_over_goes_with_its_output_and_the_rest_stays(task):
    old, young = task(29), task(27)
    done = retention.purge(now=NOW)
    assert (done.tasks, done.chunks, done.complete) == (1, 6, True)
    assert list(Invocation.objects.values_list("pk", flat=True)) == [young.pk]
    assert OutputChunk.objects.count() == 6
    assert not Run.objects.filter(invocation=old.pk).exists()
    assert retention.purge(now=NOW).tasks == 0


def test_a_task_counts_from_when_its_last_run_ended(task):
    late = task(29)
    late.runs.filter(pk=late.runs.first().pk).update(finished_at=NOW - timedelta(days=27))
    going_on = task(29, ended=False)
    assert retention.purge(now=NOW).tasks == 0
    assert set(Invocation.objects.all()) == {late, going_on}


def test_each_team_has_its_own_time(cast, task):
    task(2)
    retention.set_days(actor=cast.alice, team=cast.team, days=1)
    assert retention.purge(now=NOW).tasks == 1


def test_only_its_admin_sets_it_and_only_within_bounds(cast):
    with pytest.raises(Denied):
        retention.set_days(actor=cast.bob, team=cast.team, days=5)
    for days in (limits.KEEP_DAYS_MIN - 1, limits.KEEP_DAYS_MAX + 1):
        with pytest.raises(Invalid, match="between 1 and 3,650 days"):
            retention.set_days(actor=cast.alice, team=cast.team, days=days)
    cast.team.refresh_from_db()
    assert cast.team.keep_days == limits.KEEP_DAYS


def test_the_days_tasks_are_not_given_back(cast, task):
    task(29)
    before = quotas.usage(team=cast.team, region=cast.region, key=Quota.TASKS_PER_DAY, now=NOW)
    retention.purge(now=NOW)
    after = quotas.usage(team=cast.team, region=cast.region, key=Quota.TASKS_PER_DAY, now=NOW)
    assert before == after
    assert after.used == 1


def test_the_command_of_a_task_goes_with_it_unless_it_is_in_the_library(task):
    task(29)
    saved = task(29, save=True)
    retention.purge(now=NOW)
    assert list(Command.objects.values_list("pk", flat=True)) == [saved.command_id]


def test_a_command_that_a_younger_task_ran_stays(task):
    old, young = task(29), task(1)
    Invocation.objects.filter(pk=young.pk).update(command=old.command_id, version=old.version_id)
    retention.purge(now=NOW)
    assert Command.objects.filter(pk=old.command_id).exists()


def test_a_purge_that_is_cut_short_goes_on_the_next_time(task, monkeypatch):
    monkeypatch.setattr(retention, "CHUNKS_AT_ONCE", 2)
    task(29)
    done = retention.purge(now=NOW, patience_s=0)
    assert (done.tasks, done.chunks, done.complete) == (0, 2, False)
    assert retention.purge(now=NOW).complete
    assert not Invocation.objects.exists()


def test_more_than_are_looked_up_at_once(task, monkeypatch):
    monkeypatch.setattr(retention, "TASKS_AT_ONCE", 2)
    for _ in range(5):
        task(29)
    assert retention.purge(now=NOW).tasks == 5


def purges() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action="task:purge").order_by("pk"))


def test_the_trail_says_how_much_of_which_team_went(cast, task):
    task(29)
    task(30)
    retention.purge(now=NOW)
    (event,) = purges()
    assert (event.team_uid, event.actor_id, event.origin) == (cast.team.uid, None, "")
    over = NOW - timedelta(days=28)
    assert event.details == {
        "tasks": 2,
        "output_pieces": 12,
        "ended_before": over.isoformat(timespec="seconds"),
    }
    retention.purge(now=NOW)  # nothing is left to go
    assert purges() == [event]


def test_a_step_that_is_cut_short_stands_in_the_trail_too(task, monkeypatch):
    monkeypatch.setattr(retention, "CHUNKS_AT_ONCE", 4)
    task(29)
    retention.purge(now=NOW, patience_s=0)
    retention.purge(now=NOW)
    gone = [(event.details["tasks"], event.details["output_pieces"]) for event in purges()]
    assert gone == [(0, 4), (1, 2)]


def test_what_went_before_a_failure_stands_in_the_trail(task, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(retention, "_delete_task", fail)
    task(29)
    with pytest.raises(ZeroDivisionError):
        retention.purge(now=NOW)
    assert [event.details["output_pieces"] for event in purges()] == [6]


def test_teams_are_told_apart_in_the_trail(cast, task):
    task(29)
    ours = task(29)
    Invocation.objects.filter(pk=ours.pk).update(team=cast.other_team)
    retention.purge(now=NOW)
    assert {(event.team_uid, event.details["tasks"]) for event in purges()} == {
        (cast.team.uid, 1),
        (cast.other_team.uid, 1),
    }


@pytest.mark.parametrize("purge", [tasks.purge, lambda: call_command("purge")])
def test_sessions_that_are_over_go(purge):
    over, lasting = SessionStore(), SessionStore()
    over.set_expiry(-60)
    lasting.set_expiry(60)
    for session in (over, lasting):
        session.save()
    purge()
    assert [each.session_key for each in Session.objects.all()] == [lasting.session_key]


def test_by_hand_the_trail_says_so(task):
    task(29)
    call_command("purge")
    assert [event.origin for event in purges()] == ["command line"]


def test_by_hand(task, capsys):
    task(29)
    call_command("purge")
    assert capsys.readouterr().out == (
        "Deleted 1 tasks with 6 pieces of output.\nDeleted 0 access keys that had ended.\n"
        "Deleted the sessions that were over.\n"
    )
