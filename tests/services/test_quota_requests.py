"""Asking for a higher limit and deciding on it, and what was used on past days."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from commands.errors import Conflict, Denied, Invalid, InvalidFields, QuotaExceeded
from commands.models import QuotaLedger, QuotaRequest, Run, User
from commands.rules.quotas import Quota
from commands.services import invocations, quota_requests, quotas
from commands.services.definitions import CommandInput

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
REASON = "Nightly backups of the whole fleet until the end of the year."


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


@pytest.fixture
def staff(db):
    return User.objects.create_user("staff", is_staff=True)


@pytest.fixture
def ask(cast, place):
    def make(actor=None, wanted=200, reason=REASON, key=Quota.SAVED_COMMANDS):
        return quota_requests.ask(
            actor=actor or cast.bob, **place, key=key, wanted=wanted, reason=reason, now=NOON
        )

    return make


def test_what_is_approved_is_in_force_at_once(place, ask, staff):
    made = ask()
    assert quotas.limit(**place, key=Quota.SAVED_COMMANDS) == 100
    done = quota_requests.approve(actor=staff, request=made, granted=150, now=NOON)
    assert (done.state, done.granted, done.decided_by_name) == ("approved", 150, "staff")
    assert quotas.limit(**place, key=Quota.SAVED_COMMANDS) == 150


@pytest.mark.parametrize("granted", [200, 500])
def test_approving_never_lowers_what_another_administrator_set_meanwhile(
    place, ask, staff, granted
):
    made = ask()
    quotas.set_limit(actor=staff, **place, key=Quota.SAVED_COMMANDS, limit=500)
    with pytest.raises(Conflict, match="The limit is 500 already"):
        quota_requests.approve(actor=staff, request=made, granted=granted, now=NOON)
    assert quotas.limit(**place, key=Quota.SAVED_COMMANDS) == 500
    made.refresh_from_db()
    assert made.state == "pending"
    quota_requests.approve(actor=staff, request=made, granted=501, now=NOON)
    assert quotas.limit(**place, key=Quota.SAVED_COMMANDS) == 501


def test_who_asked_is_told_once(cast, ask, staff):
    made = ask()
    assert quota_requests.news_for(cast.bob) == []
    quota_requests.decline(actor=staff, request=made, comment="Delete old ones.", now=NOON)
    assert quota_requests.news_for(cast.bob) == [made]
    assert quota_requests.news_for(cast.alice) == []
    with pytest.raises(Denied):
        quota_requests.told(actor=cast.alice, request=made, now=NOON)
    quota_requests.told(actor=cast.bob, request=made, now=NOON)
    assert quota_requests.news_for(cast.bob) == []


@pytest.mark.parametrize(
    ("wanted", "reason", "field", "words"),
    [
        (100, REASON, "wanted", "Enter a number above 100."),
        (0, REASON, "wanted", "Enter a number above 100."),
        (60_000, REASON, "wanted", "between 1 and 50,000"),
        (200, "too short", "reason", "Say in 20 to 1,000 characters"),
        (200, " " * 40, "reason", "Say in 20"),
        (200, "x" * 1001, "reason", "Say in 20"),
    ],
)
def test_every_field_that_is_wrong_has_its_sentence(ask, wanted, reason, field, words):
    with pytest.raises(InvalidFields) as caught:
        ask(wanted=wanted, reason=reason)
    assert list(caught.value.errors) == [field]
    assert words in caught.value.errors[field][0]


def test_one_request_of_a_quota_waits_at_a_time(cast, ask):
    first = ask()
    with transaction.atomic(), pytest.raises(Conflict, match="waits already"):
        ask(wanted=300)
    ask(key=Quota.TASKS_PER_DAY, wanted=6_000)
    quota_requests.withdraw(actor=cast.bob, request=first, now=NOON)
    assert ask(wanted=300).state == "pending"


def test_who_may_ask_withdraw_and_decide(cast, ask, staff):
    for nobody in (cast.vera, cast.charlie):
        with pytest.raises(Denied):
            ask(actor=nobody)
    made = ask()
    for nobody in (cast.vera, cast.charlie):
        with pytest.raises(Denied):
            quota_requests.withdraw(actor=nobody, request=made, now=NOON)
    for nobody in (cast.alice, cast.bob):
        with pytest.raises(Denied):
            quota_requests.approve(actor=nobody, request=made, granted=200, now=NOON)
        with pytest.raises(Denied):
            quota_requests.decline(actor=nobody, request=made, comment="no", now=NOON)
    assert quota_requests.withdraw(actor=cast.alice, request=made, now=NOON).state == "withdrawn"


def test_what_is_decided_stays_decided(cast, ask, staff):
    made = ask()
    with pytest.raises(Invalid, match="Say why"):
        quota_requests.decline(actor=staff, request=made, comment=" ", now=NOON)
    quota_requests.decline(actor=staff, request=made, comment="No.", now=NOON)
    with pytest.raises(Conflict, match="declined already"):
        quota_requests.approve(actor=staff, request=made, granted=200, now=NOON)
    with pytest.raises(Conflict):
        quota_requests.withdraw(actor=cast.bob, request=made, now=NOON)


def test_a_grant_out_of_range_decides_nothing(place, ask, staff):
    made = ask()
    with pytest.raises(Invalid):
        quota_requests.approve(actor=staff, request=made, granted=10**6, now=NOON)
    made.refresh_from_db()
    assert made.state == "pending"
    assert quotas.limit(**place, key=Quota.SAVED_COMMANDS) == 100


@pytest.mark.django_db(transaction=True)
def test_of_many_who_decide_at_once_one_does(place, ask, staff):
    made = ask()
    deciders = [staff, User.objects.create_user("second", is_staff=True)]
    gate = threading.Barrier(12)

    def decide(n: int) -> str:
        try:
            gate.wait()
            request, by = QuotaRequest.objects.get(pk=made.pk), deciders[n // 2 % 2]
            if n % 2:
                quota_requests.decline(actor=by, request=request, comment="No.", now=NOON)
            else:
                quota_requests.approve(actor=by, request=request, granted=150 + n, now=NOON)
            return "decided"
        except Conflict:
            return "too late"
        finally:
            connection.close()

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(decide, range(12))) == ["decided"] + ["too late"] * 11
    made.refresh_from_db()
    limit = quotas.limit(**place, key=Quota.SAVED_COMMANDS)
    assert limit == (made.granted if made.state == "approved" else 100)


# --- runs at a time ---------------------------------------------------------------------


def test_a_team_can_have_so_many_runs_at_a_time(cast, place, fleet, staff):
    quotas.set_limit(actor=staff, **place, key=Quota.RUNS_AT_A_TIME, limit=5)

    def create(number: int):
        return invocations.run_command(
            actor=cast.bob,
            **place,
            command=CommandInput(name="n", type="RunShellScript", content="echo"),
            instance_uids=[instance.uid for instance in fleet[:number]],
            now=timezone.now(),
        )

    create(3)
    with pytest.raises(QuotaExceeded, match="3 runs that have not ended, of 5 at a time: 3 more"):
        create(3)
    second = create(2)
    with pytest.raises(QuotaExceeded):
        create(1)
    ended = {"status": "Success", "exit_code": 0, "finished_at": timezone.now()}
    Run.objects.filter(invocation=second).update(**ended)
    create(2)


# --- past days --------------------------------------------------------------------------


def take(place, now):
    with transaction.atomic():
        quotas.take_task(**place, runs=1, now=now)


def test_what_days_came_to_is_remembered(place):
    for day, tasks in ((-3, 2), (-1, 4), (0, 1)):
        for _ in range(tasks):
            take(place, NOON + timedelta(days=day))
    days = quotas.past_use(**place, key=Quota.TASKS_PER_DAY, days=5, now=NOON)
    assert [used for _, used in days] == [0, 2, 0, 4, 1]
    assert days[-1][0] == NOON.date()


def test_the_most_of_a_day_is_noted(cast, place, fleet):
    invocations.run_command(
        actor=cast.bob,
        **place,
        command=CommandInput(name="n", type="RunShellScript", content="echo"),
        instance_uids=[fleet[0].uid],
        save=True,
        now=NOON,
    )
    assert QuotaLedger.objects.exists()
    quotas.note_use(now=NOON)
    Run.objects.update(status="Success", exit_code=0, finished_at=NOON)
    quotas.note_use(now=NOON + timedelta(hours=1))
    tomorrow = NOON + timedelta(days=1)
    runs = quotas.past_use(**place, key=Quota.RUNS_AT_A_TIME, days=2, now=tomorrow)
    assert [used for _, used in runs] == [1, 0]
    saved = quotas.past_use(**place, key=Quota.SAVED_COMMANDS, days=2, now=tomorrow)
    assert [used for _, used in saved] == [1, 1]
    assert quotas.past_use(**place, key=Quota.INSTANCES_PER_TASK, days=1, now=NOON)[0][1] == 0
