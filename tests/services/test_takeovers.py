"""Runs that lost their worker: what is still learned of them, and what never starts again."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from commands import tasks
from commands.errors import ConnectionLost, RunLost
from commands.execution.fake import FakeExecutor
from commands.models import Credential, Instance, Run
from commands.rules.status import ErrorCode
from commands.services import following, instances, invocations, recorder, runs, stopping
from commands.services.worker import Worker
from tests.services.carrying import create_task, finished, statuses, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"
LINES = b"".join(b"line %d\n" % number for number in range(50))
SCRIPT = "".join(f"say line {number}\n" for number in range(50))


class Gated(FakeExecutor):
    """Takes a while to be connected: follows only once the gate is open."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()

    def follow(self, *args, **options):
        assert self.gate.wait(30)
        return super().follow(*args, **options)


@pytest.fixture
def executor():
    return Gated()


@pytest.fixture
def worker(executor, monkeypatch):
    made = Worker(executor)
    monkeypatch.setattr(tasks.worker, "current", lambda: made)
    yield made
    executor.gate.set()
    made.stop()
    connection.close()


@pytest.fixture
def lost(cast, fleet, executor):
    """Makes a run that a worker took ``ago``, which was lost then; ``sent`` or not."""

    def make(content=SCRIPT, *, ago=None, sent=True, known=False, **columns):
        task = create_task(cast, fleet[:1], content, timeout=10, **columns)
        then = timezone.now() - (ago or runs.LEASE + timedelta(seconds=1))
        [claimed] = runs.claim(run_ids=[task.runs.get().pk], owner="lost", now=then)
        if sent:
            base = executor.start(claimed.endpoint, claimed.spec).base
        if known:
            Run.objects.update(status="Running", phase="following", base=base, started_at=then)
        return task

    return make


OUTAGE = timedelta(seconds=10) + runs.GIVE_UP_AFTER + timedelta(minutes=1)
"""Longer than the timeout and everybody's patience."""


def output(run):
    return b"".join(bytes(chunk.data) for chunk in run.chunks.order_by("sequence"))


def on_instance(executor):
    """What its only instance still has of runs, and of how many it has a tombstone."""
    [instance] = executor._instances.values()
    return list(instance.runs), len(instance.done)


class TestOutages:
    """The console, or its database, was away for longer than a run may take."""

    @pytest.mark.parametrize("known", [True, False])
    def test_what_lies_ready_on_the_instance_is_stored(self, lost, worker, executor, known):
        task = lost(ago=OUTAGE, known=known)
        tasks.reconcile()
        executor.gate.set()
        [run] = finished(task)
        assert (run.status, run.exit_code) == ("Success", 0)
        assert output(run) == LINES
        assert len(executor.started) == 1

    def test_what_nobody_had_time_to_take_over_yet_is_not_ended(self, lost, worker):
        """A reconciler takes so many at a time."""
        task = lost(ago=OUTAGE, known=True)
        assert runs.expire(now=timezone.now()) == 0
        assert statuses(task) == ["Running"]

    def test_a_worker_that_takes_it_over_and_is_stuck_has_three_minutes(self, lost):
        task = lost(ago=OUTAGE, known=True)
        now = timezone.now()
        runs.claim(run_ids=runs.overdue(now=now), owner="stuck", now=now)
        later = now + runs.GIVE_UP_AFTER
        assert runs.renew(run_ids=[task.runs.get().pk], owner="stuck", now=now) != set()
        Run.objects.update(lease_until=later + runs.LEASE)
        assert runs.expire(now=later - timedelta(seconds=1)) == 0
        assert runs.expire(now=later + timedelta(seconds=1)) == 1
        [run] = task.runs.all()
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")

    def test_a_run_that_ends_every_worker_is_not_taken_over_for_ever(self, lost):
        task = lost(ago=OUTAGE, known=True)
        now = began = timezone.now()
        while now <= began + runs.GIVE_UP_AFTER:
            runs.claim(run_ids=runs.overdue(now=now), owner=f"dies at {now}", now=now)
            assert runs.expire(now=now) == 0
            now += runs.LEASE + timedelta(seconds=5)
        assert runs.expire(now=now) == 1
        assert task.runs.get().error_code == "OutcomeUnknown"

    def test_a_second_outage_in_a_row_loses_nothing_either(self, lost, worker, executor):
        task = lost(ago=2 * OUTAGE, known=True)
        then = timezone.now() - OUTAGE
        runs.claim(run_ids=runs.overdue(now=then), owner="lost too", now=then)
        tasks.reconcile()
        executor.gate.set()
        [run] = finished(task)
        assert (run.status, output(run)) == ("Success", LINES)

    def test_a_worker_that_outlived_the_database_still_stores_its_result(
        self, cast, fleet, worker, executor, monkeypatch
    ):
        away = threading.Event()
        away.set()
        tried, write = [], worker.recorder._write

        def flaky(batch):
            if away.is_set():
                tried.append(batch)
                raise OperationalError("away")
            return write(batch)

        monkeypatch.setattr(recorder, "RETRY_S", (0.01,))
        monkeypatch.setattr(worker.recorder, "_write", flaky)
        executor.gate.set()
        task = create_task(cast, fleet[:1], SCRIPT, timeout=10)
        [run_id] = task.runs.values_list("pk", flat=True)
        worker.take([run_id], now=timezone.now())
        until(lambda: tried)
        ago = timezone.now() - OUTAGE
        Run.objects.update(deadline=ago + timedelta(seconds=10), lease_until=ago + runs.LEASE)
        # Whichever comes first: here it has its lease back before anybody looks for the overdue.
        assert runs.renew(run_ids=[run_id], owner=worker.owner, now=timezone.now()) == {run_id}
        tasks.reconcile()
        away.clear()
        [run] = finished(task)
        assert (run.status, output(run)) == ("Success", LINES)

    def test_an_instance_that_answers_only_at_the_second_time_is_heard(
        self, lost, worker, executor, monkeypatch
    ):
        """The network may come back later than the console."""
        failures, follow = [ConnectionLost("not yet")] * 3, executor.follow

        def flaky(*args, **options):
            if failures:
                raise failures.pop()
            return follow(*args, **options)

        monkeypatch.setattr(executor, "follow", flaky)
        monkeypatch.setattr(following, "ATTACH_AGAIN_S", (0.01,))
        executor.gate.set()
        task = lost(ago=OUTAGE, known=True)
        tasks.reconcile()
        [run] = finished(task)
        assert (run.status, output(run)) == ("Success", LINES)

    @pytest.mark.parametrize("known", [True, False])
    def test_an_instance_that_stays_out_of_reach_is_given_up(
        self, lost, worker, executor, fleet, monkeypatch, known
    ):
        monkeypatch.setattr(following, "SLACK", timedelta(seconds=0.2))
        monkeypatch.setattr(following, "ATTACH_AGAIN_S", (0.01,))
        executor.gate.set()
        task = lost(ago=OUTAGE, known=known)
        executor.unreachable[runs.endpoint(fleet[0])] = ErrorCode.CONNECTION_TIMEOUT
        tasks.reconcile()
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")

    def test_what_was_never_sent_does_not_begin_after_its_time(self, lost, worker, executor):
        executor.gate.set()
        task = lost(ago=OUTAGE, sent=False)
        tasks.reconcile()
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
        assert "long after its timeout" in run.error_info
        assert executor.started == []


def move(field, value):
    def change(cast, instance):
        Instance.objects.filter(pk=instance.pk).update(**{field: value})

    return change


def put_behind(cast, instance):
    jump = _jump_host(cast, instance)
    Instance.objects.filter(pk=instance.pk).update(jump_host=jump)


def _jump_host(cast, instance):
    return instances.add_instance(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        name="jump",
        credential=instance.credential,
        host="127.0.0.1",
        port=2222,
        user="jump",
        host_key=instance.host_key,
    )


class TestAnotherWay:
    """Between a start without answer and the next worker, the instance was changed."""

    @pytest.mark.parametrize(
        "change",
        [
            move("host", "127.0.0.2"),
            move("port", 2022),
            move("user", "somebody-else"),
            move("host_key", OTHER_KEY),
            put_behind,
        ],
    )
    def test_it_is_not_started_elsewhere(self, lost, worker, executor, cast, fleet, change):
        executor.gate.set()
        task = lost()
        change(cast, fleet[0])
        tasks.reconcile()
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
        assert "the way to it, was changed" in run.error_info
        assert len(executor.started) == 1

    def test_a_jump_host_that_moved_is_another_way(self, lost, worker, executor, cast, fleet):
        executor.gate.set()
        put_behind(cast, fleet[0])
        task = lost()
        Instance.objects.filter(name="jump").update(port=2223)
        tasks.reconcile()
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
        assert len(executor.started) == 1

    def test_another_credential_leads_to_the_same_place(self, lost, worker, executor, cast, fleet):
        executor.gate.set()
        task = lost(sent=False)
        other = instances.add_credential(
            actor=cast.alice, team=cast.team, region=cast.region, name="new", password="p"
        )
        move("credential", other)(cast, fleet[0])
        tasks.reconcile()
        assert finished(task)[0].status == "Success"

    def test_who_is_there_now_confirms_no_stop(self, lost, cast, fleet):
        task = lost()
        move("user", "somebody-else")(cast, fleet[0])
        now = timezone.now()
        invocations.stop_invocation(actor=cast.bob, invocation=task, now=now)
        assert stopping.claim(busy=[], limit=9, now=now + timedelta(seconds=1)) == []

    def test_a_run_of_an_older_version_has_no_way_to_compare(self, lost, worker, executor):
        executor.gate.set()
        task = lost()
        Run.objects.update(way="")
        tasks.reconcile()
        assert finished(task)[0].status == "Success"


class TestWhatCanNotBeUsed:
    """The next worker lacks what it needs, and the script may have begun all the same."""

    def test_a_secret_key_that_was_replaced_does_not_prove_that_nothing_ran(
        self, lost, worker, executor, settings
    ):
        task = lost()
        settings.SECRET_KEY = "x" * 60
        tasks.reconcile()
        [run] = task.runs.all()
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
        assert "what would run is no longer what was created" in run.error_info

    def test_a_key_that_comes_back_lets_it_go_on(self, lost, worker, executor):
        executor.gate.set()
        task = lost(known=True)
        broken = _break_credential()
        now = timezone.now()
        assert worker.take(runs.overdue(now=now), now=now) == 0
        [run] = task.runs.all()
        assert (run.status, run.lease_owner) == ("Running", "")
        _set_secret(broken)
        soon = now + runs.RECONCILE_AFTER + timedelta(seconds=1)
        assert worker.take(runs.overdue(now=soon), now=soon) == 1
        [run] = finished(task)
        assert (run.status, output(run)) == ("Success", LINES)

    @pytest.mark.parametrize("known", [True, False])
    def test_a_key_that_stays_away_leaves_the_outcome_unknown(self, lost, worker, known):
        task = lost(known=known)
        _break_credential()
        now = began = timezone.now()
        while task.runs.unfinished().exists():
            assert now < began + runs.GIVE_UP_AFTER
            worker.take(runs.overdue(now=now), now=now)
            runs.expire(now=now)
            now += timedelta(seconds=5)
        assert now > task.runs.get().deadline + runs.KEY_MISSING
        [run] = task.runs.all()
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
        assert "lacks the encryption key" in run.error_info


def _break_credential():
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM commands_credential WHERE name = 'key'")
        [secret] = cursor.fetchone()
    _set_secret("broken")
    return secret


def _set_secret(secret):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE commands_credential SET secret = %s WHERE name = 'key'", [secret])
    assert Credential.objects.filter(name="key").exists()


def test_who_finds_it_started_gives_it_no_more_time(lost, worker):
    task = lost("say a\nsleep 60")
    deadline = task.runs.get().deadline
    tasks.reconcile()
    until(lambda: statuses(task) == ["Running"])
    assert task.runs.get().deadline == deadline


class Killed(FakeExecutor):
    """Its supervisors are killed: it can't tell how a run ended."""

    def follow(self, *args, **options):
        raise RunLost("The supervisor of the run was killed on the instance.")


def test_a_run_that_is_lost_is_cleared_on_its_instance(cast, fleet):
    """Its directory holds the script, with hidden values filled in."""
    executor = Killed()
    made = Worker(executor)
    try:
        task = create_task(cast, fleet[:1], "say a")
        made.take([task.runs.get().pk], now=timezone.now())
        [run] = finished(task)
        assert run.error_code == "OutcomeUnknown"
        until(lambda: on_instance(executor) == ([], 1))
    finally:
        made.stop()
        connection.close()


def test_a_run_that_is_lost_ends_also_where_it_can_not_be_cleared(cast, fleet, monkeypatch):
    executor = Killed()
    asked = threading.Event()

    def refuse(*_):
        asked.set()
        raise ConnectionLost("cut")

    monkeypatch.setattr(executor, "acknowledge", refuse)
    made = Worker(executor)
    try:
        task = create_task(cast, fleet[:1], "say a")
        made.take([task.runs.get().pk], now=timezone.now())
        assert finished(task)[0].error_code == "OutcomeUnknown"
        assert asked.wait(30)
        until(lambda: made.follower.carrying() == 0)
    finally:
        made.stop()
        connection.close()
