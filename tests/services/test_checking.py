"""The checker's threads: nobody waits for a dead host, and an end is an end."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution.fake import FakeExecutor
from commands.execution.ssh import SshExecutor
from commands.models import Credential, Instance
from commands.rules.connection import Connection
from commands.rules.status import ErrorCode
from commands.services import checking, connections, errands, instances
from commands.services.connections import UNDECIPHERABLE
from commands.services.worker import Worker
from tests.sshd import Sshd, ssh_keygen

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


class Fleet(FakeExecutor):
    """An executor whose instances answer, refuse, or keep silent until it is closed."""

    def __init__(self):
        super().__init__()
        self.answers = {}
        self.asked = []
        self.silent = set()
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._over = threading.Event()

    def probe(self, endpoint):
        with self._lock:
            self.asked.append(endpoint.port)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            if endpoint.port in self.silent:
                self._over.wait()
            answer = self.answers.get(endpoint.port, "Debian")
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            with self._lock:
                self._now -= 1

    def speak(self):
        self._over.set()

    def close(self):
        super().close()
        self.speak()


@pytest.fixture
def executor():
    return Fleet()


@pytest.fixture
def worker(executor):
    made = Worker(executor)
    yield made
    made.stop()
    connection.close()


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, list(Instance.objects.values())
        time.sleep(0.01)


def become(instance, state):
    until(lambda: Instance.objects.get(pk=instance.pk).connection == state)
    return Instance.objects.get(pk=instance.pk)


def due_again(*_instances):
    Instance.objects.update(checked_at=timezone.now() - timedelta(minutes=1))


def test_everything_that_is_due_is_checked(worker, executor, fleet):
    worker.checker.ask()
    for instance in fleet:
        found = become(instance, Connection.REACHABLE)
        assert (found.system, found.connection_info) == ("Debian", "")
    worker.checker.ask()
    due_again()
    worker.checker.ask()
    until(lambda: len(executor.asked) == 6)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (ErrorCode.CONNECTION_REFUSED, Connection.UNREACHABLE),
        (ErrorCode.CONNECTION_TIMEOUT, Connection.UNREACHABLE),
        (ErrorCode.HOST_KEY_CHANGED, Connection.HOST_KEY_CHANGED),
        (ErrorCode.SIGN_IN_REFUSED, Connection.SIGN_IN_REFUSED),
        (ErrorCode.CREDENTIAL_UNUSABLE, Connection.SIGN_IN_REFUSED),
        (ErrorCode.NO_FREE_SESSION, Connection.REACHABLE),
    ],
)
def test_what_an_error_says_of_an_instance(worker, executor, make_instance, code, state):
    instance = make_instance("web-01", port=1)
    executor.answers[1] = ConnectFailed("That is why.", code=code)
    worker.checker.ask()
    assert become(instance, state).connection_info == "That is why."


def test_an_unreadable_credential_is_said_and_asks_nobody(worker, executor, fleet, cast):
    lost = Credential.objects.create(
        team=cast.team, region=cast.region, name="lost", kind="password", secret="p"
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE commands_credential SET secret = 'x' WHERE id = %s", [lost.pk])
    Instance.objects.filter(pk=fleet[0].pk).update(credential=lost)
    worker.checker.ask()
    assert become(fleet[0], Connection.SIGN_IN_REFUSED).connection_info == UNDECIPHERABLE
    become(fleet[1], Connection.REACHABLE)
    become(fleet[2], Connection.REACHABLE)
    assert len(executor.asked) == 2


def test_two_hundred_silent_instances_hold_nobody_up(worker, executor, make_instance):
    first = make_instance("web", port=1)
    others = [
        Instance(
            team=first.team,
            region=first.region,
            resource_group=first.resource_group,
            credential=first.credential,
            name=f"dead-{number}",
            host="127.0.0.1",
            port=number,
            user="u",
            host_key=first.host_key,
        )
        for number in range(1000, 1200)
    ]
    Instance.objects.bulk_create(others)
    executor.silent = {other.port for other in others}
    worker.checker.ask()
    assert become(first, Connection.REACHABLE)
    until(lambda: len(executor.asked) == checking.AT_ONCE + 1)  # silent ones have all the room
    worker.checker.ask()  # returns, although there is no room
    due_again()  # claims ran out, and none of those in progress is asked a second time
    executor.speak()
    until(lambda: not Instance.objects.exclude(connection=Connection.REACHABLE).exists())
    assert executor.most == checking.AT_ONCE
    assert set(executor.asked) == {1, *executor.silent}


def test_an_instance_in_progress_is_not_asked_again(worker, executor, fleet):
    executor.silent = {22}
    worker.checker.ask()
    until(lambda: len(executor.asked) == 3)
    due_again()
    worker.checker.ask()
    time.sleep(2 * errands.INTERVAL_S)
    assert len(executor.asked) == 3
    executor.speak()
    become(fleet[0], Connection.REACHABLE)


def test_two_workers_share_the_work(worker, executor, make_instance):
    for number in range(60):
        make_instance(f"web-{number}", port=1000 + number)
    other = Worker(executor)
    try:
        for each in (worker, other, worker, other):
            each.checker.ask()
        until(lambda: not Instance.objects.exclude(connection=Connection.REACHABLE).exists())
        assert sorted(executor.asked) == list(range(1000, 1060))
    finally:
        other.stop()


def test_an_instance_changed_while_it_is_asked_is_asked_anew(worker, executor, make_instance):
    instance = make_instance("web-01", port=1)
    executor.silent, executor.answers[1] = {1}, "The old one"
    worker.checker.ask()
    until(lambda: executor.asked == [1])
    instance.port = 2
    connections.forget(instance)
    instance.save()
    executor.speak()
    found = become(instance, Connection.REACHABLE)
    assert (found.system, executor.asked) == ("Debian", [1, 2])


def test_an_end_in_the_midst_of_a_check_leaves_it_to_others(executor, fleet):
    executor.silent = {22}
    ending = Worker(executor)
    ending.checker.ask()
    until(lambda: len(executor.asked) == 3)
    ending.stop()
    ending.checker._thread.join(30)
    assert not ending.checker._thread.is_alive()
    assert {each.connection for each in Instance.objects.all()} == {Connection.UNKNOWN}
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("check-")])
    later = timezone.now() + timedelta(seconds=15)
    assert len(connections.due(now=later, limit=10)) == 3
    connection.close()


def test_a_stopped_checker_asks_nobody(worker, executor, fleet):
    worker.stop()
    worker.checker.ask()
    assert executor.asked == []


def test_a_database_that_is_away_ends_nothing(worker, executor, fleet, monkeypatch, caplog):
    record, failures = connections.record, [OperationalError("gone"), ValueError("odd")]

    def flaky(**given):
        if failures:
            raise failures.pop()
        return record(**given)

    monkeypatch.setattr(connections, "record", flaky)

    def stored():
        due_again()
        worker.checker.ask()
        return Instance.objects.filter(connection=Connection.REACHABLE).count() == 3

    until(stored)
    assert "does not answer" in caplog.text
    assert "goes on" in caplog.text


def test_a_probe_that_fails_in_an_unknown_way_spreads_to_nobody(
    worker, executor, make_instance, caplog
):
    odd, fine = make_instance("odd", port=1), make_instance("fine", port=2)
    executor.answers[1] = ValueError("odd")
    worker.checker.ask()
    become(fine, Connection.REACHABLE)
    until(lambda: f"It failed to check instance {odd.pk}" in caplog.text)
    until(lambda: not worker.checker._busy)
    assert Instance.objects.get(pk=odd.pk).connection == Connection.UNKNOWN


def test_a_closed_executor_says_nothing_of_an_instance(worker, executor, make_instance):
    instance = make_instance("web-01", port=1)
    executor.answers[1] = ConnectionLost("The console is shutting down.")
    worker.checker.ask()
    until(lambda: executor.asked and not worker.checker._busy)
    assert Instance.objects.get(pk=instance.pk).connection == Connection.UNKNOWN


def test_without_a_thread_the_others_are_checked(worker, fleet, monkeypatch, caplog):
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def flaky(self):
        if self.name.startswith("check instance") and failures:
            raise failures.pop()
        start(self)

    monkeypatch.setattr(threading.Thread, "start", flaky)
    worker.checker.ask()
    become(fleet[1], Connection.REACHABLE)
    become(fleet[2], Connection.REACHABLE)
    assert f"No thread to check instance {fleet[0].pk}" in caplog.text


@pytest.fixture
def real_worker():
    made = Worker(SshExecutor())
    yield made
    made.stop()
    connection.close()


def test_a_real_server_stops_changes_its_key_and_refuses(cast, tmp_path, real_worker):
    def look(state):
        due_again()
        before = timezone.now()
        real_worker.checker.ask()
        # What an earlier check found may be the same; and one that goes on must not see a change.
        until(lambda: Instance.objects.filter(pk=instance.pk, checked_at__gt=before).exists())
        return become(instance, state)

    with Sshd.started(tmp_path) as [server]:
        endpoint = server.endpoint
        instance = instances.add_instance(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            name="web-01",
            host=endpoint.host,
            port=endpoint.port,
            user=endpoint.user,
            host_key=endpoint.host_key,
            credential=instances.add_credential(
                actor=cast.alice,
                team=cast.team,
                region=cast.region,
                name="key",
                private_key=endpoint.private_key,
            ),
        )
        reached = look(Connection.REACHABLE)
        assert reached.system
        assert look(Connection.REACHABLE).connection_since == reached.connection_since
        server.stop()
        gone = look(Connection.UNREACHABLE)
        assert "refused the connection" in gone.connection_info
        assert (gone.system, gone.connection_since) == (reached.system, gone.checked_at)
        key = server.directory / "host_key"
        kept = key.read_bytes()
        key.unlink()
        ssh_keygen(key)
        server.start()
        assert "not the recorded one" in look(Connection.HOST_KEY_CHANGED).connection_info
        server.stop()
        key.write_bytes(kept)
        (server.directory / "authorized_keys").write_text("")
        server.start()
        assert "did not let" in look(Connection.SIGN_IN_REFUSED).connection_info
