"""Stopping tasks: what never begins, what is ended and proven, and who is away meanwhile."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands import queue, tasks
from commands.errors import ConnectionLost, Denied, Invalid, RunLost
from commands.execution.executor import Ending, Finished
from commands.execution.fake import FakeExecutor
from commands.models import Credential, Instance, Role, Run
from commands.rules.rate import RateInput
from commands.rules.status import ErrorCode
from commands.services import endings, following, invocations, pacing, runs, stopping, teams
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
def create(cast, fleet):
    def make(content="say a\nsleep 60", *, count=1, **columns):
        return create_task(cast, fleet[:count], content, **columns)

    return make


@pytest.fixture
def press(cast):
    """Somebody presses Stop."""

    def stop(task, *, actor=None, on=None):
        return invocations.stop_invocation(
            actor=actor or cast.bob,
            invocation=task,
            instance_uids=None if on is None else [instance.uid for instance in on],
            now=timezone.now(),
        )

    return stop


def ask(worker):
    """Let ``worker`` ask for every end that is due, also of a run whose row another holds just now.

    Such a row is passed over, and would be asked for at the next beat only.
    """
    until(lambda: worker.stopper.ask() or not stopping.is_due(now=timezone.now()))


def running(task):
    until(lambda: set(statuses(task)) == {"Running"})


def test_what_no_worker_has_taken_never_starts(create, press, worker, executor):
    task = create(count=3)
    done = press(task)
    assert (done.cancelled, done.stopping) == (3, 0)
    for run in task.runs.all():
        assert (run.status, run.phase) == ("Cancelled", "finished")
        assert run.error_code == "StoppedBeforeStart"
        assert run.error_info == "Stopped by bob before it started. Nothing ran."
        assert run.finished_at == run.stop_asked_at
    assert take(worker, task) == 0
    assert executor.started == []


def test_a_running_script_is_stopping_at_once_and_terminated_when_it_has_ended(
    create, press, worker, sent
):
    task = create()
    take(worker, task)
    running(task)
    done = press(task)
    assert (done.cancelled, done.stopping) == (0, 1)
    assert statuses(task) == ["Stopping"]
    assert (queue.Job.STOP_RUNS, {}) in sent
    ask(worker)
    [run] = finished(task)
    assert (run.status, run.error_code, run.exit_code) == (
        "Terminated",
        "ExecutionInterrupted",
        None,
    )
    assert run.processes_left == 0
    assert run.error_info == "Stopped by bob, 0 processes left."
    assert (run.stop_by, run.stop_due) == ("bob", None)


def test_what_is_stopped_on_some_instances_goes_on_elsewhere(create, press, worker, fleet):
    task = create(count=3)
    take(worker, task)
    running(task)
    assert press(task, on=fleet[1:2]).stopping == 1
    ask(worker)
    until(lambda: statuses(task) == ["Running", "Terminated", "Running"])


def test_stopping_twice_is_harmless_and_what_ended_keeps_its_result(create, press, worker):
    task = create("say a\nexit 3")
    take(worker, task)
    finished(task)
    assert press(task).nothing
    assert statuses(task) == ["Failed"]
    other = create()
    take(worker, other)
    running(other)
    press(other)
    asked = other.runs.get().stop_asked_at
    assert press(other).nothing
    assert other.runs.get().stop_asked_at == asked
    ask(worker)
    assert finished(other)[0].status == "Terminated"
    assert press(other).nothing


def test_who_ended_first_has_its_own_result(create, press, worker, executor):
    task = create("say a\nsleep 50\nexit 4")
    take(worker, task)
    running(task)
    press(task)  # nobody asks the instance before the script ends by itself
    executor.elapse(50)
    [run] = finished(task)
    assert (run.status, run.exit_code, run.error_code) == ("Failed", 4, "ExitCodeNonzero")
    assert run.stop_due is None


def test_who_may_stop(create, press, cast, fleet):
    runner = teams.add_member(team=cast.team, user=cast.vera, role=Role.VIEWER)
    task = create(actor=cast.alice)
    for stranger in (cast.vera, cast.charlie):
        with pytest.raises(Denied):
            press(task, actor=stranger)
    runner.role = Role.RUNNER
    runner.save()
    with pytest.raises(Denied):
        press(task, actor=cast.vera)  # runners stop what is theirs
    task.created_by = cast.vera
    task.save()
    press(task, actor=cast.vera)
    assert statuses(task) == ["Cancelled"]


def test_an_instance_that_the_task_does_not_run_on_stops_nothing(create, press, fleet):
    task = create()
    with pytest.raises(Invalid) as caught:
        press(task, on=fleet[:2])
    assert caught.value.code == "InvalidInstanceId.NotFound"
    assert statuses(task) == ["Pending"]


def test_the_carrying_worker_is_dead_and_another_one_stops_its_run(create, press, executor):
    task = create()
    first = Worker(executor)
    take(first, task)
    running(task)
    first.follower._stopping.set()  # it dies: nothing is given back, nobody listens
    Run.objects.update(lease_owner="dead", lease_until=timezone.now() + timedelta(minutes=1))
    press(task)
    other = Worker(executor)
    try:
        ask(other)
        until(lambda: task.runs.get().stop_confirmed_at)
        assert executor.specs  # the instance has ended it, although nobody follows it
        assert statuses(task) == ["Stopping"]
        Run.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        assert take(other, task) == 1
        [run] = finished(task)
    finally:
        other.stop()
        first.recorder.stop()
        connection.close()
    assert (run.status, run.processes_left) == ("Terminated", 0)


def test_a_lost_message_is_made_good_by_the_reconciler(create, press, worker, monkeypatch):
    monkeypatch.setattr(tasks.worker, "current", lambda: worker)
    task = create()
    take(worker, task)
    running(task)
    press(task)
    assert stopping.is_due(now=timezone.now())
    tasks.reconcile()
    assert finished(task)[0].status == "Terminated"
    assert not stopping.is_due(now=timezone.now() + timedelta(days=1))


def test_an_order_is_left_to_one_worker_for_a_while(create, press, worker):
    task = create()
    take(worker, task)
    running(task)
    press(task)
    now = timezone.now()
    assert len(stopping.claim(busy=(), limit=9, now=now)) == 1
    assert stopping.claim(busy=(), limit=9, now=now) == []
    again = now + stopping.CLAIM
    assert stopping.claim(busy={task.runs.get().pk}, limit=9, now=again) == []
    assert len(stopping.claim(busy=(), limit=9, now=again)) == 1


def test_an_instance_out_of_reach_is_asked_again(create, press, worker, executor, fleet):
    task = create()
    take(worker, task)
    running(task)
    executor.unreachable[runs.endpoint(fleet[0])] = ErrorCode.INSTANCE_UNREACHABLE
    press(task)
    before = task.runs.get().stop_due
    ask(worker)
    # It is claimed first, and due again much sooner once the instance was not reached.
    until(lambda: before < task.runs.get().stop_due < before + stopping.CLAIM)
    assert statuses(task) == ["Stopping"]
    executor.unreachable.clear()
    Run.objects.update(stop_due=timezone.now())
    ask(worker)
    assert finished(task)[0].status == "Terminated"


@pytest.mark.parametrize("confirmed", [False, True])
def test_out_of_reach_until_the_deadline(
    create, press, worker, executor, fleet, monkeypatch, confirmed
):
    task = create()
    take(worker, task)
    running(task)
    press(task)
    if confirmed:  # the instance has answered, and nobody heard how the script ended
        Run.objects.update(stop_due=None, stop_confirmed_at=timezone.now(), processes_left=None)
    executor.unreachable[runs.endpoint(fleet[0])] = ErrorCode.INSTANCE_UNREACHABLE
    # Not before: while it is reached, a run whose time is over is ended.
    monkeypatch.setattr(following, "SLACK", timedelta(days=-1))
    executor.break_connections()
    [run] = finished(task)
    if confirmed:
        assert (run.status, run.error_code) == ("Terminated", "ExecutionInterrupted")
        assert run.error_info.endswith("was not verified.")
    else:
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
    assert run.processes_left is None


def test_a_stop_while_connecting_keeps_the_script_from_starting(
    create, press, executor, monkeypatch
):
    connecting, go = threading.Event(), threading.Event()
    start = executor.start

    def slow(endpoint, spec):
        connecting.set()
        assert go.wait(30)
        return start(endpoint, spec)

    monkeypatch.setattr(executor, "start", slow)
    worker = Worker(executor)
    try:
        task = create()
        take(worker, task)
        assert connecting.wait(30)
        assert press(task).stopping == 1
        ask(worker)
        until(lambda: task.runs.get().stop_confirmed_at)
        go.set()
        [run] = finished(task)
    finally:
        go.set()
        worker.stop()
        connection.close()
    assert (run.status, run.error_code) == ("Cancelled", "StoppedBeforeStart")
    assert run.started_at is None
    assert executor.started == []


def test_a_stop_that_comes_between_the_start_and_the_word_of_it(
    create, press, executor, monkeypatch
):
    begun, go = threading.Event(), threading.Event()
    start = executor.start

    def slow(endpoint, spec):
        started = start(endpoint, spec)
        begun.set()
        assert go.wait(30)
        return started

    monkeypatch.setattr(executor, "start", slow)
    worker = Worker(executor)
    try:
        task = create()
        take(worker, task)
        assert begun.wait(30)
        press(task)
        go.set()
        until(lambda: task.runs.get().base)  # what was learned is kept, the state too
        assert statuses(task) == ["Stopping"]
        ask(worker)
        [run] = finished(task)
    finally:
        go.set()
        worker.stop()
        connection.close()
    assert (run.status, run.processes_left) == ("Terminated", 0)
    assert run.started_at is not None


def test_a_stop_while_connecting_to_what_can_not_be_reached(create, press, executor, fleet):
    task = create()
    [claimed] = runs.claim(run_ids=[task.runs.get().pk], owner="me", now=timezone.now())
    press(task)
    run = Run.objects.get()
    executor.unreachable[claimed.endpoint] = ErrorCode.CONNECTION_REFUSED
    with pytest.raises(Exception, match="cannot be reached") as caught:
        executor.start(claimed.endpoint, claimed.spec)
    assert endings.end(run, endings.of_error(caught.value), timezone.now())
    run.refresh_from_db()
    assert (run.status, run.error_code) == ("Cancelled", "StoppedBeforeStart")


def test_a_start_that_is_tried_again_asks_whether_it_is_still_wanted(
    create, press, worker, executor, monkeypatch
):
    start, tried, pressed = executor.start, threading.Event(), threading.Event()

    def broken_once(endpoint, spec):
        if not tried.is_set():
            tried.set()
            assert pressed.wait(30)
            raise ConnectionLost("The connection to the instance broke.")
        return start(endpoint, spec)

    monkeypatch.setattr(executor, "start", broken_once)
    task = create()
    take(worker, task)
    assert tried.wait(30)
    press(task)  # and nobody has asked the instance yet
    pressed.set()
    assert finished(task)[0].status == "Terminated"
    assert executor.started == []


def test_who_takes_over_a_run_that_is_to_be_stopped_does_not_start_it(
    create, press, worker, executor
):
    task = create()
    runs.claim(run_ids=[task.runs.get().pk], owner="dead", now=timezone.now())
    press(task)  # and nobody has asked the instance yet
    Run.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert take(worker, task) == 1
    assert finished(task)[0].status == "Terminated"
    assert executor.started == []


def test_an_instance_removed_while_its_run_is_stopped(create, press, worker, fleet):
    task = create()
    runs.claim(run_ids=[task.runs.get().pk], owner="dead", now=timezone.now())
    press(task)
    fleet[0].delete()
    assert stopping.claim(busy=(), limit=9, now=timezone.now()) == []
    Run.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert take(worker, task) == 0
    [run] = task.runs.all()
    assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")


def test_a_timeout_says_how_many_processes_are_left(create, worker):
    task = create("sleep 100", timeout=10)
    [claimed] = runs.claim(run_ids=[task.runs.get().pk], owner=worker.owner, now=timezone.now())
    worker.follower.adopt(
        following.replace(claimed, spec=following.replace(claimed.spec, timeout=0))
    )
    [run] = finished(task)
    assert (run.status, run.processes_left) == ("Timeout", 0)
    assert run.error_info.endswith("0 processes left.")


@pytest.mark.parametrize(
    ("left", "sentence"),
    [
        (0, "Stopped by bob, 0 processes left."),
        (1, "Stopped by bob, but 1 process is still running."),
        (2, "Stopped by bob, but 2 processes are still running."),
        (None, "Stopped by bob; that no process is left was not verified."),
    ],
)
def test_the_sentence_of_a_stop(create, press, left, sentence):
    task = create()
    runs.claim(run_ids=[task.runs.get().pk], owner="me", now=timezone.now())
    press(task)
    run = Run.objects.get()
    endings.end(run, endings.of_end(Finished(Ending.CANCEL, None, 0, 0, left)), timezone.now())
    run.refresh_from_db()
    assert (run.status, run.error_info, run.processes_left) == ("Terminated", sentence, left)


def test_a_script_that_is_ended_on_its_instance_without_a_stop_is_an_error(create):
    task = create()
    runs.claim(run_ids=[task.runs.get().pk], owner="me", now=timezone.now())
    run = Run.objects.get()
    endings.end(run, endings.of_end(Finished(Ending.CANCEL, None, 0, 0, 0)), timezone.now())
    assert (run.status, run.error_code) == ("Error", "ExecutionInterrupted")
    assert run.error_info == "The script was stopped on the instance."
    assert not endings.end(run, endings.of_error(RunLost("late")), timezone.now())


def test_a_closed_executor_confirms_nothing(create, press, worker, executor, monkeypatch):
    def closed(endpoint, handle):
        raise ConnectionLost("The console is shutting down.")

    monkeypatch.setattr(executor, "cancel", closed)
    task = create()
    take(worker, task)
    running(task)
    press(task)
    before = task.runs.get().stop_due
    ask(worker)
    until(lambda: task.runs.get().stop_due > before)
    assert task.runs.get().stop_confirmed_at is None


def test_held_runs_are_stopped_too_and_are_not_released_after(create, press, worker, executor):
    task = create(count=3, rate=RateInput(concurrency="1"))
    take(worker, task)
    until(lambda: statuses(task)[0] == "Running")
    done = press(task)
    assert (done.cancelled, done.stopping) == (2, 1)
    ask(worker)
    finished(task)
    pacing.advance(invocation_id=task.pk, now=timezone.now())
    assert statuses(task) == ["Terminated", "Cancelled", "Cancelled"]
    assert len(executor.started) == 1


ROUNDS = 12


def test_stop_pressed_at_the_moment_of_dispatch(cast, fleet, executor):
    """Whoever wins: once Cancelled was written a run never starts, and none starts twice."""
    one, other = Worker(executor), Worker(executor)
    try:
        for _ in range(ROUNDS):
            task = create_task(cast, fleet, "sleep 60")
            gate = threading.Barrier(3)
            doubled = [
                threading.Thread(target=_at_once, args=(gate, lambda w=w, t=task: take(w, t)))
                for w in (one, other)
            ]
            for thread in doubled:
                thread.start()
            _at_once(
                gate,
                lambda t=task: invocations.stop_invocation(
                    actor=cast.bob, invocation=t, now=timezone.now()
                ),
            )
            for thread in doubled:
                thread.join(30)
            at_once = {run.execution_id for run in task.runs.all() if run.status == "Cancelled"}
            ask(other)
            for run in finished(task):
                assert run.status in {"Cancelled", "Terminated"}
                if run.status == "Cancelled":
                    at_once.add(run.execution_id)
            assert at_once.isdisjoint(executor.started)
        assert len(executor.started) == len(set(executor.started))
    finally:
        one.stop()
        other.stop()
        connection.close()


def _at_once(gate, act):
    gate.wait(30)
    try:
        act()
    finally:
        if threading.current_thread() is not threading.main_thread():
            connection.close()


def test_a_stop_of_many_asks_all_instances_at_the_same_time(create, press, cast, make_instance):
    gate = threading.Barrier(20)

    class Together(FakeExecutor):
        def cancel(self, endpoint, handle):
            gate.wait(30)
            return super().cancel(endpoint, handle)

    worker = Worker(Together())
    try:
        machines = [make_instance(f"m{number}", port=number + 1) for number in range(20)]
        task = create_task(cast, machines, "sleep 60")
        take(worker, task)
        running(task)
        press(task)
        ask(worker)
        assert {run.status for run in finished(task)} == {"Terminated"}
        assert Instance.objects.count() >= 20
    finally:
        worker.stop()
        connection.close()


def test_what_was_stopped_in_time_is_not_called_a_timeout(create, press, monkeypatch):
    """Its end is learned only when its timeout is over, and the console asks for its end itself."""

    class Slow(FakeExecutor):
        def follow(self, endpoint, handle, offsets, receive, *, limit=None):
            if limit != following.OVERDUE_S:
                raise ConnectionLost("not yet")
            return super().follow(endpoint, handle, offsets, receive, limit=limit)

    monkeypatch.setattr(following, "ATTACH_AGAIN_S", (0.01,))
    made = Worker(Slow())
    try:
        task = create("say a\nsleep 100")
        take(made, task)
        running(task)
        press(task)
        ask(made)
        until(lambda: task.runs.get().stop_confirmed_at)
        monkeypatch.setattr(following, "SLACK", -timedelta(days=1))  # and its time is over
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Terminated", "ExecutionInterrupted")
        assert run.error_info == "Stopped by bob, 0 processes left."
    finally:
        made.stop()
        connection.close()


def test_survivors_are_named_and_output_without_room_is_counted():
    finished = Finished(Ending.TIMEOUT, None, 0, 0, 2, "41 (sleep), 42 (dd)", 7)
    values = endings.of_end(finished)
    assert values["error_info"].endswith("2 processes are still running: 41 (sleep), 42 (dd).")
    assert (values["survivors"], values["lost_bytes"]) == ("41 (sleep), 42 (dd)", 7)
    assert "lost_bytes" not in endings.of_end(Finished(Ending.EXIT, 0, 0, 0))
    assert endings.of_end(Finished(Ending.EXIT, 0, 0, 0, lost=None))["lost_bytes"] is None


def test_one_that_can_not_be_asked_keeps_no_other_from_its_end(create, fleet):
    odd, fine = create(count=2).runs.order_by("pk")
    # A chain of jump hosts, as no service makes it, and a credential that is not looked for there.
    other = Credential.objects.create(
        team=odd.instance.team,
        region=odd.instance.region,
        name="other",
        kind="password",
        secret="p",
    )
    Instance.objects.filter(pk=fleet[2].pk).update(credential=other)
    way = Instance.objects.create(
        team=other.team,
        region=other.region,
        resource_group=odd.instance.resource_group,
        name="way",
        host="10.9.9.9",
        user="u",
        credential=odd.instance.credential,
        host_key="k",
        jump_host=fleet[2],
    )
    Instance.objects.filter(pk=odd.instance_id).update(jump_host=way)
    now = timezone.now()
    Run.objects.update(status="Stopping", phase="following", stop_due=now, base="/x")
    orders = stopping.claim(busy=(), limit=9, now=now)
    assert [order.run_id for order in orders] == [fine.pk]
