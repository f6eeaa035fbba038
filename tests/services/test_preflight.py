"""Preflights: what is asked of which instance, who may know, and that the worker finds it."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands import queue
from commands.errors import ConnectFailed, Denied, InvalidFields, QuotaExceeded
from commands.errors import Invalid as InvalidValue
from commands.execution.executor import Examined
from commands.execution.fake import FakeExecutor
from commands.models import Credential, Instance, Membership, Preflight, PreflightCheck, Role, User
from commands.rules.schema import ParameterSchema
from commands.rules.status import ErrorCode
from commands.services import examiner, library, plans, preflight, runs, teams
from commands.services.connections import UNDECIPHERABLE, UNUSABLE
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput, Values
from commands.services.worker import Worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


def command(content: str = "echo hi", **values: object) -> CommandInput:
    return CommandInput(name="", type="RunShellScript", content=content, **values)


@pytest.fixture
def begin(cast, fleet):
    def go(what=None, actor=None, uids=None, values=None, now=None):
        return preflight.begin(
            actor=actor or cast.bob,
            team=cast.team,
            region=cast.region,
            command=what or command(),
            values=values,
            instance_uids=[one.uid for one in fleet] if uids is None else uids,
            now=now or timezone.now(),
        )

    return go


def claim():
    return preflight.claim(busy=(), limit=100, now=timezone.now())


def found(asked: Preflight) -> dict[str, list[str]]:
    return {
        check.instance.name: [code for code, _ in check.problems]
        for check in asked.checks.select_related("instance")
        if check.done
    }


def test_what_is_asked_of_each_instance(begin, sent):
    begin(command("#!/usr/bin/env python3\npass", workdir="/srv", run_as="app"))
    assert sent[-1] == (queue.Job.EXAMINE, {})
    probes = claim()
    assert len(probes) == 3
    for probe in probes:
        assert (probe.needs.workdir, probe.needs.run_as) == ("/srv", "app")
        assert (probe.needs.interpreter, probe.needs.program) == ("/usr/bin/env", "python3")
        assert probe.endpoint is not None
    assert claim() == []  # others leave them alone


def test_a_launcher_takes_the_place_of_an_interpreter(begin):
    begin(command("print()", launcher="python3 -u"))
    assert {probe.needs.launcher for probe in claim()} == {"python3"}


def test_values_decide_about_an_interpreter_and_hidden_ones_go_nowhere(begin):
    needed = {"other": ParameterSchema(required=True)}
    what = command("#!{{shell}} {{secret}}\n{{other}}", use_params=True, parameters=needed)
    begin(what, values=Values({"shell": "/bin/bash", "secret": "top"}))  # "other" is missing
    assert {probe.needs.interpreter for probe in claim()} == {""}
    begin(what, values=Values({"shell": "/bin/bash", "secret": "top", "other": "x"}))
    assert {probe.needs.interpreter for probe in claim()} == {"/bin/bash"}
    hidden = Values({"shell": "/bin/top", "secret": "top", "other": "x"}, ["secret", "shell"])
    begin(what, values=hidden)
    assert {probe.needs.interpreter for probe in claim()} == {""}
    assert not PreflightCheck.objects.filter(interpreter__contains="top").exists()


def test_the_rest_of_a_form_may_still_be_wrong(begin):
    begin(CommandInput(name="", type="RunShellScript", content="", timeout="abc"))
    assert [probe.needs.interpreter for probe in claim()] == [""] * 3


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"workdir": "relative"}, "workdir"),
        ({"run_as": "-x"}, "run_as"),
        ({"launcher": "'"}, "launcher"),
    ],
)
def test_what_decides_must_be_right(begin, wrong, field):
    with pytest.raises(InvalidFields) as caught:
        begin(command(**wrong))
    assert list(caught.value.errors) == [field]
    assert not Preflight.objects.exists()


def test_instances_that_are_none(begin, cast, fleet):
    with pytest.raises(InvalidValue, match="at least one"):
        begin(uids=[])
    with pytest.raises(InvalidValue, match="can't be found"):
        begin(uids=[fleet[0].uid, "i-nowhere"])
    with pytest.raises(QuotaExceeded):
        begin(uids=[f"i-{number}" for number in range(51)])
    Instance.objects.filter(pk=fleet[0].pk).update(team=cast.other_team)
    with pytest.raises(InvalidValue, match="can't be found"):
        begin()


def test_who_may_ask(begin, cast):
    for user in (cast.vera, cast.charlie):
        with pytest.raises(Denied):
            begin(actor=user)


def saved(cast, content="echo hi", **values):
    return library.create_command(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Saved", type="RunShellScript", content=content, **values),
        now=timezone.now(),
    )


def test_a_runner_asks_about_a_command_as_it_stands(begin, cast):
    runner = User.objects.create_user("runner")
    teams.add_member(team=cast.team, user=runner, role=Role.RUNNER)
    kept = saved(cast, workdir="/srv")
    with pytest.raises(Denied):
        begin(actor=runner)
    with pytest.raises(InvalidValue, match="as they stand"):
        begin(SavedInput(kept.uid, workdir="/root"), actor=runner)
    begin(SavedInput(kept.uid, workdir="/srv"), actor=runner)
    assert {probe.needs.workdir for probe in claim()} == {"/srv"}
    begin(SavedInput(kept.uid, workdir="/root"))
    assert {probe.needs.workdir for probe in claim()} == {"/root"}


def test_a_runner_does_not_choose_the_interpreter(begin, cast):
    runner = User.objects.create_user("runner")
    teams.add_member(team=cast.team, user=runner, role=Role.RUNNER)
    schema = {"shell": ParameterSchema(default="/bin/sh")}
    kept = saved(cast, "#!{{shell}}\necho", use_params=True, parameters=schema)
    with pytest.raises(InvalidValue, match=r"as (they stand|typed)|operator"):
        begin(SavedInput(kept.uid), actor=runner, values=Values({"shell": "/root/x"}))
    begin(SavedInput(kept.uid), actor=runner, values=Values({"shell": "/bin/sh"}))
    assert {probe.needs.interpreter for probe in claim()} == {"/bin/sh"}


def test_what_needs_no_look_is_told_at_once(begin, fleet):
    Instance.objects.filter(pk=fleet[0].pk).update(os_type="windows")
    Instance.objects.filter(pk=fleet[1].pk).update(enabled=False)
    asked = begin()
    assert found(asked) == {
        "web-01": [ErrorCode.COMMAND_NOT_APPLICABLE],
        "web-02": [ErrorCode.NO_LONGER_ALLOWED],
    }
    assert len(claim()) == 1


def test_rights_are_asked_again(begin, cast, fleet):
    begin()
    Instance.objects.filter(pk=fleet[0].pk).update(team=cast.other_team)
    Instance.objects.filter(pk=fleet[1].pk).update(enabled=False)
    probes = claim()
    assert [probe.problem[0] for probe in probes if probe.endpoint is None] == [
        ErrorCode.NO_LONGER_ALLOWED
    ] * 2
    begin(uids=[fleet[2].uid])
    Membership.objects.filter(user=cast.bob).update(role=Role.VIEWER)
    [probe] = claim()
    assert probe.endpoint is None
    assert "You may no longer" in probe.problem[1]


def test_an_unreadable_credential(begin, cast, fleet):
    lost = Credential.objects.create(
        team=cast.team, region=cast.region, name="lost", kind="password", secret="p"
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE commands_credential SET secret = 'x' WHERE id = %s", [lost.pk])
    Instance.objects.filter(pk=fleet[0].pk).update(credential=lost)
    begin(uids=[fleet[0].uid])
    [probe] = claim()
    assert (probe.endpoint, probe.problem) == (
        None,
        (ErrorCode.CREDENTIAL_UNUSABLE, UNDECIPHERABLE),
    )


def test_one_that_can_not_be_asked_stops_no_other(begin, fleet, monkeypatch):
    real, odd = runs.endpoint, fleet[0]

    def endpoint(instance):
        if instance == odd:
            raise KeyError(instance.credential_id)
        return real(instance)

    monkeypatch.setattr(runs, "endpoint", endpoint)
    begin()
    probes = claim()
    assert [probe.endpoint is None for probe in probes] == [True, False, False]
    assert probes[0].problem == (ErrorCode.NO_LONGER_ALLOWED.value, UNUSABLE)


def test_a_claim_runs_out(begin):
    begin()
    assert len(claim()) == 3
    later = timezone.now() + preflight.CLAIM
    assert preflight.is_due(now=later)
    assert len(preflight.claim(busy=(), limit=2, now=later)) == 2
    [check] = preflight.claim(busy=(), limit=9, now=later)
    assert preflight.claim(busy=[check.check_id], limit=9, now=later + preflight.CLAIM) != []


def test_what_was_found_is_forgotten(begin, cast):
    asked = begin()
    preflight.expire(now=asked.expires_at - timedelta(seconds=1))
    assert PreflightCheck.objects.count() == 3
    assert claim()
    preflight.expire(now=asked.expires_at)
    assert not PreflightCheck.objects.exists()
    preflight.record(answers=[preflight.Answer(1)])  # what comes late is nobody's concern


def test_one_person_has_a_few_at_a_time(begin, cast):
    other = begin(actor=cast.alice)
    made = [begin() for _ in range(preflight.EACH + 2)]
    kept = set(Preflight.objects.values_list("uid", flat=True))
    assert kept == {other.uid, *(one.uid for one in made[2:])}


def test_an_outline_does_not_create(begin, cast):
    plans.outline(actor=cast.bob, team=cast.team, region=cast.region, command=command())
    assert not Preflight.objects.exists()


class Fleet(FakeExecutor):
    """Instances that answer as ``answers`` say, by their ports, and count who asks at once."""

    def __init__(self):
        super().__init__()
        self.answers = {}
        self.most = self._now = 0
        self._lock = threading.Lock()
        self.go_on = threading.Event()
        self.go_on.set()

    def examine(self, endpoint, needs):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            self.go_on.wait(30)
            answer = self.answers.get(endpoint.port) or super().examine(endpoint, needs)
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture
def executor():
    return Fleet()


@pytest.fixture
def worker(executor):
    made = Worker(executor)
    yield made
    executor.go_on.set()
    made.stop()
    connection.close()


def wait(asked, number=None):
    until = time.monotonic() + 30
    checks = asked.checks.filter(done=True)
    while checks.count() < (asked.checks.count() if number is None else number):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found(asked)


def test_a_worker_finds_out(worker, executor, begin, make_instance):
    ports = {name: make_instance(name, port=number) for number, name in enumerate("abcd", 1001)}
    executor.answers = {
        1001: ConnectFailed("No.", code=ErrorCode.SIGN_IN_REFUSED),
        1003: Examined((), "/base", 5_000),
    }
    asked = begin(command(workdir="/no/such/directory"), uids=[one.uid for one in ports.values()])
    worker.examiner.ask()
    assert wait(asked) == {
        "a": [ErrorCode.SIGN_IN_REFUSED],
        "b": [ErrorCode.DIRECTORY_NOT_EXISTS],
        "c": [],
        "d": [ErrorCode.DIRECTORY_NOT_EXISTS],
    }
    check = asked.checks.get(instance=ports["c"])
    assert (check.base, check.free, check.whole) == ("/base", 5_000, True)


def test_a_connection_that_breaks_each_time_is_told(worker, executor, begin, fleet):
    asked = begin(uids=[fleet[0].uid])
    executor._closed = True  # as if each call met a broken one
    worker.examiner.ask()
    assert wait(asked) == {"web-01": [ErrorCode.EXECUTION_EXCEPTION]}


def test_so_many_at_once_and_no_more(worker, executor, begin, make_instance):
    many = [make_instance(f"n-{number}", port=2000 + number) for number in range(50)]
    executor.go_on.clear()
    asked = begin(uids=[one.uid for one in many])
    worker.examiner.ask()
    until = time.monotonic() + 30
    while executor.most < examiner.AT_ONCE:
        assert time.monotonic() < until
        time.sleep(0.02)
    worker.examiner.ask()
    executor.go_on.set()
    wait(asked)
    assert executor.most == examiner.AT_ONCE
