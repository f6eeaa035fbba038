"""From a pending run to its stored end: leases, the follower, the recorder, and their faults.

Instances are the fake executor's; the contract suite proves that it behaves like real ones.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost, RunLost, StartRefused
from commands.execution.executor import Handle
from commands.execution.fake import FakeExecutor
from commands.models import Instance, OutputChunk, Run
from commands.outputs import store
from commands.rules.status import ErrorCode
from commands.services import following, instances, invocations, recorder, runs
from commands.services.definitions import CommandInput
from commands.services.events import Changed, Received
from commands.services.recorder import LeaseLost, Recorder
from commands.services.worker import Worker

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
    def make(content, *, count=1, **columns):
        return invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="n", type="RunShellScript", content=content, **columns),
            instance_uids=[instance.uid for instance in fleet[:count]],
            now=timezone.now(),
        )

    return make


def take(worker, task):
    return worker.take([run.pk for run in task.runs.all()], now=timezone.now())


def finished(task):
    """The runs of a task once all have ended."""
    deadline = time.monotonic() + 30
    while task.runs.unfinished().exists():
        assert time.monotonic() < deadline, list(task.runs.values())
        time.sleep(0.01)
    return list(task.runs.all())


def output(run, stream):
    return b"".join(chunk.data for chunk in store.read(run.pk) if chunk.stream == stream)


def test_a_run_from_beginning_to_end(create, worker, executor):
    task = create("say one\nerr oops\nsay two\nexit 3", count=3)
    assert take(worker, task) == 3
    for run in finished(task):
        assert (run.status, run.exit_code, run.error_code) == ("Failed", 3, "ExitCodeNonzero")
        assert output(run, "stdout") == b"one\ntwo\n"
        assert output(run, "stderr") == b"oops\n"
        assert (run.stdout_size, run.stderr_size) == (8, 5)
        assert run.last_line in {"two", "oops"}  # streams are apart: their order is arrival's
        assert (run.hostname, run.machine_id) == ("127.0.0.1", "fake-machine")
        assert run.host_key_fingerprint == run.instance.fingerprint
        assert run.started_at <= run.finished_at
    assert sorted(executor.started) == sorted(run.execution_id for run in task.runs.all())


def test_success_has_no_error(create, worker):
    task = create("say fine")
    take(worker, task)
    [run] = finished(task)
    assert (run.status, run.exit_code, run.error_code, run.phase) == ("Success", 0, "", "finished")


def test_a_run_that_is_taken_twice_is_executed_once(create, worker, executor):
    task = create("say once\nsleep 0.2", count=2)
    other = Worker(executor)
    try:
        assert take(worker, task) + take(other, task) + take(worker, task) == 2
        finished(task)
    finally:
        other.stop()
    assert len(executor.started) == 2


def test_a_timeout(create, worker, monkeypatch):
    task = create("say a\nsleep 100", timeout=10)
    claimed = runs.claim(
        run_ids=[run.pk for run in task.runs.all()], owner=worker.owner, now=timezone.now()
    )
    short = [replace_timeout(one) for one in claimed]
    worker.follower.adopt(short[0])
    [run] = finished(task)
    assert (run.status, run.error_code, run.exit_code) == ("Timeout", "ExecutionTimeout", None)
    assert output(run, "stdout") == b"a\n"


def replace_timeout(claimed):
    return replace(claimed, spec=replace(claimed.spec, timeout=0))


def test_what_is_refused_before_it_starts(create, worker, executor, fleet, monkeypatch):
    monkeypatch.setattr(following, "START_AGAIN_S", (0.01,))
    nowhere = create("say a", workdir="/no/such/directory")
    take(worker, nowhere)
    [run] = finished(nowhere)
    assert (run.status, run.error_code) == ("Invalid", "DirectoryNotExists")
    executor.unreachable[runs.endpoint(fleet[0])] = ErrorCode.CONNECTION_REFUSED
    unreachable = create("say a")
    take(worker, unreachable)
    [run] = finished(unreachable)
    assert (run.status, run.error_code) == ("Aborted", "ConnectionRefused")
    assert run.error_info
    assert executor.started == []


class Busy(FakeExecutor):
    """Fails to connect as often as it is told, then works. Counts what was asked for."""

    def __init__(self, code, failures):
        super().__init__()
        self.code, self.failures, self.asked = code, failures, 0

    def start(self, endpoint, spec):
        self.asked += 1
        if self.asked <= self.failures:
            raise ConnectFailed("Not now.", code=self.code)
        return super().start(endpoint, spec)


def carried(create, executor):
    """A run of a worker with this executor, once it has ended."""
    made = Worker(executor)
    try:
        task = create("say a")
        take(made, task)
        return finished(task)[0]
    finally:
        made.stop()
        connection.close()


class Silent(FakeExecutor):
    """Gives no answer at first; then it was restarted meanwhile and knows nothing."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def start(self, endpoint, spec):
        self.asked.append(spec.asked_s)
        if len(self.asked) < 3:
            raise ConnectionLost("No answer.")
        raise RunLost("Restarted.")


def test_where_it_may_have_begun_the_instance_is_told_since_when(create):
    executor = Silent()
    run = carried(create, executor)
    assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
    assert executor.asked[0] == 0
    assert 0 < executor.asked[1] <= executor.asked[2]


def test_another_worker_knows_since_when_it_may_have_begun(create):
    now = timezone.now()
    [run] = create("say a").runs.all()[:1]
    [first] = runs.claim(run_ids=[run.pk], owner="a", now=now)
    later = now + 2 * runs.LEASE
    [second] = runs.claim(run_ids=[run.pk], owner="b", now=later)
    assert (first.asked_at, second.asked_at) == (None, now)


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.CONNECTION_REFUSED,
        ErrorCode.CONNECTION_TIMEOUT,
        ErrorCode.BANNER_TIMEOUT,
        ErrorCode.CONNECTION_DROPPED,
        ErrorCode.NO_FREE_SESSION,
        ErrorCode.JUMP_HOST_BUSY,
    ],
)
def test_what_may_pass_is_tried_again_a_few_times(create, monkeypatch, code):
    monkeypatch.setattr(following, "START_AGAIN_S", (0.01, 0.01))
    executor = Busy(code, 2)
    run = carried(create, executor)
    assert (run.status, run.error_code, run.error_info) == ("Success", "", "")
    assert (executor.asked, len(executor.started)) == (3, 1)
    executor = Busy(code, 3)
    run = carried(create, executor)
    assert (run.status, run.error_code, run.error_info) == ("Aborted", code, "Not now.")
    assert (executor.asked, executor.started) == (3, [])


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.INSTANCE_UNREACHABLE,
        ErrorCode.PROTOCOL_ERROR,
        ErrorCode.SIGN_IN_REFUSED,
        ErrorCode.HOST_KEY_CHANGED,
        ErrorCode.CREDENTIAL_UNUSABLE,
        ErrorCode.JUMP_HOST_REFUSED,
    ],
)
def test_what_stays_wrong_is_told_at_once(create, code):
    executor = Busy(code, 1)
    run = carried(create, executor)
    assert (run.status, run.error_code) == ("Aborted", code)
    assert (executor.asked, executor.started) == (1, [])


def test_a_run_that_waits_for_another_try_is_connecting(create, monkeypatch):
    monkeypatch.setattr(following, "START_AGAIN_S", (30.0,))
    executor = Busy(ErrorCode.CONNECTION_REFUSED, 2)
    made = Worker(executor)
    try:
        task = create("say a", timeout=10)
        by = task.runs.get().deadline
        take(made, task)
        deadline = time.monotonic() + 30
        while not executor.asked and time.monotonic() < deadline:
            time.sleep(0.01)
        run = task.runs.get()
        assert (run.status, run.phase, run.error_code) == ("Pending", "connecting", "")
    finally:
        made.stop()  # which does not wait for the next try
    assert executor.asked == 1
    run.refresh_from_db()
    # Nothing was started, and the next worker may rely on that.
    assert (run.status, run.phase, run.lease_owner) == ("Pending", "queued", "")
    assert run.deadline == by
    monkeypatch.setattr(following, "START_AGAIN_S", ())
    after = Worker(executor)
    try:
        take(after, task)
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Aborted", "ConnectionRefused")
    finally:
        after.stop()
        connection.close()


@pytest.mark.parametrize(
    ("columns", "status", "code"),
    [
        ({"launcher": "no-such-program -u"}, "Invalid", "LauncherNotFound"),
        ({"run_as": "no-such-user"}, "Invalid", "AccountNotExists"),
        ({"run_as": "forbidden"}, "Aborted", "RunAsRefused"),
    ],
)
def test_programs_and_users_that_are_not_there(create, columns, status, code):
    executor = FakeExecutor(forbidden={"forbidden"})
    made = Worker(executor)
    try:
        task = create("say a", **columns)
        take(made, task)
        [run] = finished(task)
        assert (run.status, run.error_code) == (status, code)
        assert executor.started == []
    finally:
        made.stop()
        connection.close()


def test_another_user_is_asked_for_from_start_to_end(create, worker, executor):
    task = create("say a", run_as="deploy", launcher="sh -e")
    take(worker, task)
    [run] = finished(task)
    assert (run.status, output(run, "stdout")) == ("Success", b"a\n")
    spec = executor.specs[run.execution_id]
    assert (spec.run_as, spec.launcher.words, spec.whole_tree) == ("deploy", ("sh", "-e"), True)


def test_broken_connections_lose_and_repeat_nothing(create, worker, executor):
    lines = "".join(f"say {number}\nsleep 0.01\n" for number in range(60))
    task = create(lines)
    take(worker, task)
    for _ in range(4):
        time.sleep(0.1)
        executor.break_connections()
    [run] = finished(task)
    assert output(run, "stdout") == b"".join(b"%d\n" % number for number in range(60))
    assert len(executor.started) == 1


def test_another_worker_goes_on_where_one_let_go(create, executor):
    lines = [f"say {number}\nsleep 0.02\n" for number in range(40)]
    task = create("".join([*lines[:20], "sleep 50\n", *lines[20:]]))
    first = Worker(executor)
    take(first, task)
    while not OutputChunk.objects.exists():
        time.sleep(0.01)
    first.follower._stopping.set()  # as stop() does; its executor is ours, and stays open
    first.recorder.stop(30)
    second = Worker(executor)
    try:
        assert take(second, task) == 1
        executor.elapse(50)
        [run] = finished(task)
    finally:
        second.stop()
    assert output(run, "stdout") == b"".join(b"%d\n" % number for number in range(40))
    assert len(executor.started) == 1


def test_a_worker_that_died_is_found_overdue_and_replaced(create, worker, executor):
    task = create("say a")
    run = task.runs.get()
    assert runs.overdue(now=timezone.now()) == []
    soon = timezone.now() + runs.RECONCILE_AFTER + timedelta(seconds=1)
    assert runs.overdue(now=soon) == [run.pk]
    Run.objects.update(lease_owner="dead", lease_until=timezone.now() + timedelta(hours=1))
    assert take(worker, task) == 0
    Run.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert worker.take(runs.overdue(now=timezone.now()), now=timezone.now()) == 1
    assert finished(task)[0].status == "Success"


def test_a_lost_run_is_unknown_and_never_run_again(create, worker, executor, fleet):
    task = create("say a\nsleep 60")
    take(worker, task)
    while not OutputChunk.objects.exists():
        time.sleep(0.01)
    executor.lose(runs.endpoint(fleet[0]), task.runs.get().execution_id)
    [run] = finished(task)
    assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
    assert take(worker, task) == 0
    assert len(executor.started) == 1


def test_an_instance_out_of_reach_is_given_up_after_the_deadline(
    create, worker, executor, fleet, monkeypatch
):
    task = create("say a\nsleep 60")
    take(worker, task)
    while not OutputChunk.objects.exists():
        time.sleep(0.01)
    executor.unreachable[runs.endpoint(fleet[0])] = ErrorCode.INSTANCE_UNREACHABLE
    # Not before: while it is reached, a run whose time is over is ended.
    monkeypatch.setattr(following, "SLACK", timedelta(days=-1))
    executor.break_connections()
    [run] = finished(task)
    assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
    assert "not run again" in run.error_info


def test_an_error_of_our_own_ends_one_run_and_spares_the_others(
    create, worker, executor, monkeypatch
):
    def fail(*args, **options):
        raise RuntimeError("a bug")

    broken = create("say a")
    monkeypatch.setattr(executor, "follow", fail)
    take(worker, broken)
    [run] = finished(broken)
    assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
    monkeypatch.undo()
    fine = create("say a")
    take(worker, fine)
    assert finished(fine)[0].status == "Success"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            lambda cast, instance: cast.team.memberships.filter(user=cast.bob).delete(),
            "NoLongerAllowed",
        ),
        (lambda cast, instance: Instance.objects.update(enabled=False), "NoLongerAllowed"),
        (lambda cast, instance: Instance.objects.update(team=cast.other_team), "NoLongerAllowed"),
        (lambda cast, instance: instance.delete(), "InstanceNotExists"),
    ],
)
def test_what_was_allowed_is_asked_again_at_dispatch(
    create, worker, executor, cast, fleet, change, code
):
    task = create("say a")
    change(cast, fleet[0])
    assert take(worker, task) == 0
    run = task.runs.get()
    assert (run.status, run.error_code) == ("Aborted", code)
    assert executor.started == []


def test_an_instance_removed_in_mid_run_leaves_the_outcome_unknown(create, worker, fleet):
    task = create("say a")
    Run.objects.update(phase="following", status="Running", started_at=timezone.now())
    fleet[0].delete()
    assert take(worker, task) == 0
    assert task.runs.get().error_code == "OutcomeUnknown"


class TestRecorder:
    """What the recorder does with what others report."""

    @pytest.fixture
    def run(self, create):
        run = create("say a").runs.get()
        Run.objects.update(lease_owner="me", lease_until=timezone.now() + timedelta(minutes=1))
        return run

    @pytest.fixture
    def me(self, run):
        made = Recorder("me")
        made.hold(run.pk)
        made.start()
        yield made
        made.stop()

    def commit(self, me, run):
        me.record(run.pk, {"hostname": "x"})

    def received(self, run, offset, data, stream="stdout"):
        return Received(run.pk, stream, offset, data, timezone.now())

    def test_bytes_told_twice_are_stored_once(self, me, run):
        me.put(self.received(run, 0, b"abc"))
        me.put(self.received(run, 1, b"bcd"))
        me.put(self.received(run, 0, b"ab"))
        self.commit(me, run)
        assert output(run, "stdout") == b"abcd"

    def test_a_gap_is_refused(self, me, run):
        me.put(self.received(run, 5, b"late"))
        with pytest.raises(LeaseLost):
            while True:
                me.put(self.received(run, 9, b"r"))
                time.sleep(0.01)
        assert output(run, "stdout") == b""

    def test_a_gap_in_one_run_spares_the_others_in_the_batch(self, me, run, create):
        other = create("say b").runs.get()
        Run.objects.filter(pk=other.pk).update(
            lease_owner="me", lease_until=timezone.now() + timedelta(minutes=1)
        )
        me.hold(other.pk)
        with me._changed:
            me._events.extend([self.received(run, 5, b"late"), self.received(other, 0, b"ok")])
            me._pending_bytes += 6
            me._changed.notify_all()
        self.commit(me, other)
        assert output(other, "stdout") == b"ok"

    def test_without_the_lease_nothing_is_written(self, me, run):
        Run.objects.update(lease_owner="somebody else")
        me.put(self.received(run, 0, b"abc"))
        with pytest.raises(LeaseLost):
            while True:
                me.put(self.received(run, 3, b"d"))
                time.sleep(0.01)
        assert not OutputChunk.objects.exists()

    def test_final_is_final(self, me, run):
        self.end(me, run, "Aborted")
        with pytest.raises(LeaseLost):  # not stored, and whoever waits for it is told
            me.record(run.pk, {"status": "Running", "finished_at": None})
        run.refresh_from_db()
        assert run.status == "Aborted"

    def end(self, me, run, status):
        me.record(run.pk, {"status": status, "finished_at": timezone.now()})

    def test_a_database_that_is_away_is_waited_for(self, me, run, monkeypatch):
        monkeypatch.setattr(recorder, "RETRY_S", (0.01,))
        write, failures = me._write, [OperationalError("away")] * 3

        def flaky(batch):
            if failures:
                raise failures.pop()
            write(batch)

        monkeypatch.setattr(me, "_write", flaky)
        me.put(self.received(run, 0, b"kept"))
        self.commit(me, run)
        assert output(run, "stdout") == b"kept"
        assert not failures

    def test_too_much_at_once_waits_and_all_is_stored(self, me, run, monkeypatch):
        monkeypatch.setattr(recorder, "PENDING_BYTES", 10_000)
        block = b"x" * 4_000
        for number in range(50):
            me.put(self.received(run, number * len(block), block))
        self.commit(me, run)
        assert output(run, "stdout") == block * 50
        assert OutputChunk.objects.filter(run=run).count() <= 50

    def test_leases_are_renewed_and_given_back(self, run, monkeypatch):
        monkeypatch.setattr(recorder, "RENEW_S", 0.05)
        Run.objects.update(lease_until=timezone.now() + timedelta(seconds=1))
        before = Run.objects.get().lease_until
        me = Recorder("me")
        me.hold(run.pk)
        me.start()
        while Run.objects.get().lease_until <= before + timedelta(seconds=5):
            time.sleep(0.02)
        Run.objects.update(lease_owner="thief")
        with pytest.raises(LeaseLost):
            while True:
                me.put(Changed(run.pk, {}))
                time.sleep(0.02)
        Run.objects.update(lease_owner="me")
        me.stop()
        assert Run.objects.get().lease_owner == ""

    def test_text_is_cleaned_and_cut(self, me, run):
        me.record(run.pk, {"hostname": "a\x00b\ud800", "base": "/" + "x" * 1_000})
        run.refresh_from_db()
        assert run.hostname == "ab?"
        assert len(run.base) == 255

    def test_a_run_that_can_not_be_written_ends_and_spares_others(self, me, run, create):
        other = create("say b").runs.get()
        Run.objects.filter(pk=other.pk).update(
            lease_owner="me", lease_until=timezone.now() + timedelta(minutes=1)
        )
        me.hold(other.pk)
        with pytest.raises(LeaseLost):
            me.record(run.pk, {"exit_code": 10**30})
        me.record(other.pk, {"hostname": "fine"})
        run.refresh_from_db()
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")

    def test_nothing_ends_the_recorder(self, me, run, monkeypatch):
        monkeypatch.setattr(recorder, "RENEW_S", 0.02)
        monkeypatch.setattr(recorder, "RETRY_S", (0.01,))
        monkeypatch.setattr(me._waker, "announce", lambda _: 1 / 0)
        monkeypatch.setattr(recorder.runs, "renew", lambda **_: 1 / 0)
        for _ in range(3):
            me.record(run.pk, {"hostname": "x"})
            time.sleep(0.05)


class FailingOnce:
    """An executor whose first calls of ``name`` raise ``errors``."""

    def __init__(self, inner, name, *errors):
        self.inner, self.name, self.errors = inner, name, list(reversed(errors))

    def __getattr__(self, name):
        if name == self.name and self.errors:
            error = self.errors.pop()

            def fail(*args, **options):
                raise error

            return fail
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    ("name", "error", "status"),
    [
        ("start", ConnectionLost("cut while sending"), "Success"),
        ("follow", ConnectFailed("no route", code="InstanceUnreachable"), "Success"),
        ("acknowledge", ConnectionLost("cut"), "Success"),
        ("start", StartRefused("odd", code="StateDirectoryUnusable"), "Aborted"),
    ],
)
def test_one_failure_of_each_kind(create, executor, name, error, status):
    made = Worker(FailingOnce(executor, name, error))
    try:
        task = create("say once")
        take(made, task)
        [run] = finished(task)
        assert run.status == status
        assert len(executor.started) == (status == "Success")
    finally:
        made.stop()
        connection.close()


def test_a_start_out_of_reach_until_after_the_deadline_is_unknown(create, executor, monkeypatch):
    monkeypatch.setattr(following, "SLACK", timedelta(days=-1))
    made = Worker(FailingOnce(executor, "start", ConnectionLost("cut")))
    try:
        task = create("say once")
        take(made, task)
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Error", "OutcomeUnknown")
    finally:
        made.stop()
        connection.close()


def test_a_run_cancelled_on_its_instance_is_interrupted(create, worker, executor, fleet):
    task = create("say a\nsleep 60")
    take(worker, task)
    while not OutputChunk.objects.exists():
        time.sleep(0.01)
    run = task.runs.get()
    executor.cancel(runs.endpoint(fleet[0]), Handle(run.execution_id, run.base))
    [run] = finished(task)
    assert (run.status, run.error_code) == ("Error", "ExecutionInterrupted")


def test_a_worker_that_stops_leaves_the_run_to_others(create, executor):
    task = create("say a\nsleep 50\nsay b")
    first = Worker(executor)
    take(first, task)
    while not OutputChunk.objects.exists():
        time.sleep(0.01)
    assert first.follower.carrying() == 1
    monkey_close = executor.close
    executor.close = executor.break_connections  # the instance stays for the next worker
    first.stop()
    executor.close = monkey_close
    run = task.runs.get()
    assert (run.status, run.lease_owner) == ("Running", "")
    second = Worker(executor)
    try:
        assert take(second, task) == 1
        executor.elapse(50)
        assert output(finished(task)[0], "stdout") == b"a\nb\n"
    finally:
        second.stop()
        connection.close()


def test_being_unreachable_after_a_start_that_may_have_worked_is_no_proof(create, executor):
    refused = ConnectFailed("sshd restarts", code="ConnectionRefused")
    made = Worker(FailingOnce(executor, "start", ConnectionLost("cut"), refused))
    try:
        task = create("say once")
        take(made, task)
        assert finished(task)[0].status == "Success"
    finally:
        made.stop()
        connection.close()


def test_what_another_worker_may_have_started_is_not_called_never_started(create, executor):
    made = Worker(FailingOnce(executor, "start", ConnectFailed("no", code="ConnectionRefused")))
    try:
        task = create("say once")
        Run.objects.update(phase="connecting")
        take(made, task)
        assert finished(task)[0].status == "Success"
    finally:
        made.stop()
        connection.close()


def test_a_user_refused_after_a_start_that_may_have_worked_is_no_proof(create, executor):
    refused = StartRefused("sudo was changed", code="RunAsRefused")
    made = Worker(FailingOnce(executor, "start", ConnectionLost("cut"), refused))
    try:
        task = create("say once", run_as="deploy")
        take(made, task)
        assert finished(task)[0].status == "Success"
    finally:
        made.stop()
        connection.close()


def test_a_result_that_was_not_stored_is_not_forgotten_by_the_instance(
    create, executor, monkeypatch
):
    first = Worker(executor)
    task = create("say a\nsleep 50\nsay b")
    take(first, task)
    while not OutputChunk.objects.exists():
        time.sleep(0.01)
    monkeypatch.setattr(first.recorder, "on_lost", lambda _: None)  # nobody tells the carrier
    Run.objects.update(lease_owner="thief")
    executor.elapse(50)
    while first.follower.carrying():
        time.sleep(0.01)
    run = task.runs.get()
    assert run.status == "Running"
    Run.objects.update(lease_owner="")
    second = Worker(executor)
    try:
        take(second, task)
        assert output(finished(task)[0], "stdout") == b"a\nb\n"
        assert len(executor.started) == 1
    finally:
        first.recorder.stop()
        second.stop()
        connection.close()


def test_a_silent_run_that_another_worker_has_is_let_go(create, worker, monkeypatch):
    monkeypatch.setattr(recorder, "RENEW_S", 0.05)
    other = Worker(FakeExecutor())
    try:
        task = create("sleep 60")
        take(other, task)
        while task.runs.get().status != "Running":
            time.sleep(0.01)
        Run.objects.update(lease_owner="thief")
        while other.follower.carrying():
            time.sleep(0.01)
        assert task.runs.get().lease_owner == "thief"
    finally:
        other.stop()


def test_one_credential_that_can_not_be_decrypted_stops_no_other_run(
    create, worker, cast, fleet, settings
):
    Run.objects.all().delete()
    good = instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="good", password="p"
    )
    Instance.objects.filter(pk=fleet[1].pk).update(credential=good)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE commands_credential SET secret = 'broken' WHERE name = %s", ["key"])
    task = create("say a", count=2)
    assert take(worker, task) == 1
    bad, fine = finished(task)
    assert (bad.status, bad.error_code) == ("Aborted", "CredentialUnusable")
    assert fine.status == "Success"


def test_a_thread_that_can_not_be_started_leaves_the_run_to_the_next_try(
    create, worker, monkeypatch
):
    task = create("say a", count=2)
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def flaky(self):
        if self.name.startswith("t-") and failures:
            raise failures.pop()
        start(self)

    monkeypatch.setattr(threading.Thread, "start", flaky)
    assert take(worker, task) == 1
    assert take(worker, task) == 1
    assert {run.status for run in finished(task)} == {"Success"}


def test_a_run_that_outlived_its_timeout_is_ended(create, executor, monkeypatch):
    monkeypatch.setattr(following, "SLACK", timedelta(seconds=-60))
    task = create("say a\nsleep 600", timeout=60)
    made = Worker(executor)
    try:
        take(made, task)
        [run] = finished(task)
        assert (run.status, run.error_code) == ("Timeout", "ExecutionTimeout")
        assert output(run, "stdout") == b"a\n"
    finally:
        made.stop()
        connection.close()
