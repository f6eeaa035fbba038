"""What changes in a team stands in its audit trail; settings, loans, and mail about decisions."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pyotp
import pytest
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone

from commands.errors import Conflict, Denied, Invalid, InvalidFields
from commands.models import AuditEvent, Grant, Instance, Membership, SecondFactor, User
from commands.rules.quotas import Quota
from commands.services import (
    audit,
    instances,
    lending,
    quota_requests,
    quotas,
    restrictions,
    retention,
    second_factor,
    sessions,
    team_settings,
    teams,
)
from tests.borrowing import borrow

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
REASON = "Nightly backups of the whole fleet until the end of the year."


@pytest.fixture
def staff(db):
    return User.objects.create_user("staff", is_staff=True)


def recorded() -> list[tuple[str, str, str]]:
    found = AuditEvent.objects.order_by("pk")
    return list(found.values_list("action", "actor_name", "team_name"))


def test_requests_and_limits_are_recorded(cast, staff):
    place = {"team": cast.team, "region": cast.region}
    key = Quota.SAVED_COMMANDS
    ask = {**place, "key": key, "wanted": 200, "reason": REASON, "now": NOON}
    made = quota_requests.ask(actor=cast.bob, **ask)
    quota_requests.withdraw(actor=cast.bob, request=made, now=NOON)
    made = quota_requests.ask(actor=cast.bob, **ask)
    quota_requests.decline(actor=staff, request=made, comment="No.", now=NOON)
    made = quota_requests.ask(actor=cast.bob, **ask)
    quota_requests.approve(actor=staff, request=made, granted=150, now=NOON)
    assert recorded() == [
        ("quota:request", "bob", "Storefront"),
        ("quota:withdraw", "bob", "Storefront"),
        ("quota:request", "bob", "Storefront"),
        ("quota:decline", "staff", "Storefront"),
        ("quota:request", "bob", "Storefront"),
        ("quota:set", "staff", "Storefront"),
        ("quota:approve", "staff", "Storefront"),
    ]
    assert AuditEvent.objects.get(action="quota:approve").details["granted"] == 150


def test_a_grant_that_cannot_be_records_nothing(cast, staff):
    place = {"team": cast.team, "region": cast.region}
    with pytest.raises(Invalid):
        quotas.set_limit(actor=staff, **place, key=Quota.SAVED_COMMANDS, limit=10**6)
    assert recorded() == []


def test_who_asked_gets_mail_once_it_is_decided(cast, staff, django_capture_on_commit_callbacks):
    User.objects.filter(pk=cast.bob.pk).update(email="bob@example.com")
    cast.bob.refresh_from_db()
    place = {"team": cast.team, "region": cast.region, "key": Quota.SAVED_COMMANDS}
    made = quota_requests.ask(actor=cast.bob, **place, wanted=200, reason=REASON, now=NOON)
    with django_capture_on_commit_callbacks(execute=True):
        quota_requests.approve(actor=staff, request=made, granted=200, now=NOON)
        assert mail.outbox == []  # not before it is committed
    [message] = mail.outbox
    assert message.to == ["bob@example.com"]
    assert "Approved: saved commands is now 200" in message.body
    made = quota_requests.ask(actor=cast.alice, **place, wanted=300, reason=REASON, now=NOON)
    with django_capture_on_commit_callbacks(execute=True):
        quota_requests.decline(actor=staff, request=made, comment="No.", now=NOON)
    assert len(mail.outbox) == 1  # she has no address


def test_narrowing_and_settings_are_recorded(cast):
    bob = Membership.objects.get(team=cast.team, user=cast.bob)
    restrictions.set_all(actor=cast.alice, membership=bob, wanted=[("run_as", "deploy")])
    retention.set_days(actor=cast.alice, team=cast.team, days=7)
    second_factor.set_required(actor=cast.alice, team=cast.team, required=True)
    teams.rename(actor=cast.alice, team=cast.team, name="Shop")
    assert [action for action, _, _ in recorded()] == [
        "member:narrow",
        "team:retention",
        "team:second-factor",
        "team:rename",
    ]
    assert AuditEvent.objects.get(action="member:narrow").details == {"to": ["run_as deploy"]}
    assert AuditEvent.objects.get(action="team:retention").details == {"from": 28, "days": 7}


def test_second_factor_and_sessions_are_recorded_without_secrets(cast, staff):
    factor = second_factor.begin(actor=cast.bob)
    totp = pyotp.TOTP(factor.secret)
    codes = second_factor.confirm(actor=cast.bob, code=totp.at(time.time()), now=timezone.now())
    second_factor.reset(actor=staff, user=cast.bob)
    sessions.end_all(actor=cast.bob, now=timezone.now())
    sessions.set_password(actor=cast.bob, password="another horse battery", now=timezone.now())
    assert recorded() == [
        ("second-factor:confirm", "bob", ""),
        ("second-factor:reset", "staff", ""),
        ("session:end-all", "bob", ""),
        ("password:change", "bob", ""),
    ]
    text = repr(list(AuditEvent.objects.values_list()))
    assert factor.secret not in text
    assert not any(code in text for code in codes)
    assert "horse" not in text
    assert not SecondFactor.objects.exists()


def test_settings_change_together_or_not_at_all(cast):
    with pytest.raises(InvalidFields) as caught:
        team_settings.change(
            actor=cast.alice,
            team=cast.team,
            name="Warehouse",
            keep_days=0,
            second_factor_required=True,
        )
    assert set(caught.value.errors) == {"name", "keep_days"}
    cast.team.refresh_from_db()
    assert (cast.team.name, cast.team.keep_days) == ("Storefront", 28)
    assert not cast.team.second_factor_required
    assert recorded() == []
    for nobody in (cast.bob, cast.vera, cast.charlie):
        with pytest.raises(Denied):
            team_settings.change(
                actor=nobody,
                team=cast.team,
                name="Mine",
                keep_days=28,
                second_factor_required=False,
            )


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\0b", "Warehouse"])
def test_names_that_cannot_be(cast, name):
    with pytest.raises(Invalid) as caught:
        teams.rename(actor=cast.alice, team=cast.team, name=name)
    assert caught.value.field == "name"
    cast.team.refresh_from_db()
    assert cast.team.name == "Storefront"


def test_what_is_lent_can_be_taken_back(cast, fleet):
    grant = borrow(fleet[0], cast.other_team, by=cast.alice, to=cast.charlie)
    usable = Instance.objects.usable_by(cast.other_team)
    assert list(usable) == [fleet[0]]
    for nobody in (cast.bob, cast.charlie):
        with pytest.raises(Denied):
            lending.take_back(actor=nobody, grant=grant)
    lending.take_back(actor=cast.alice, grant=grant)
    lending.take_back(actor=cast.alice, grant=grant)  # taken back already
    assert list(usable.all()) == []
    assert not Grant.objects.exists()
    loans = [each for each in recorded() if each[0].startswith(("instance:lend", "instance:take"))]
    assert loans == [
        ("instance:lend", "alice", "Storefront"),
        ("instance:lend", "alice", "Warehouse"),
        ("instance:take-back", "alice", "Storefront"),
        ("instance:take-back", "alice", "Warehouse"),
    ]


@pytest.mark.django_db(transaction=True)
def test_of_some_events_those_are_told_that_do_not_fit_the_chain(cast):
    made = [audit.record(actor=cast.bob, action="a:b", team=cast.team) for _ in range(5)]
    first, second, third, _fourth, fifth = [event.pk for event in made]
    with transaction.atomic():
        waits = audit.record(actor=cast.bob, action="a:b", team=cast.team)
        assert audit.altered(list(AuditEvent.objects.filter(pk=waits.pk, number=None))) == set()

    def altered(*pks: int) -> set[int]:
        return audit.altered(list(AuditEvent.objects.filter(pk__in=pks)))

    assert altered(first, third, fifth) == set()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE commands_auditevent SET actor_name = 'eve' WHERE number = 3")
        cursor.execute("DELETE FROM commands_auditevent WHERE number = 5")
    assert altered(first, third) == set()
    assert altered(first, second, third, fifth) == {second, fifth}
    unsealed = AuditEvent(at=NOON, action="a:b")
    unsealed.save()
    assert altered(unsealed.pk) == {unsealed.pk}  # the console did not put it in


def test_both_teams_read_what_became_of_an_offer(cast, fleet, django_capture_on_commit_callbacks):
    cast.alice.email, cast.charlie.email = "alice@example.com", "charlie@example.com"
    cast.alice.save()
    cast.charlie.save()

    def offer():
        return lending.lend_instance(actor=cast.alice, instance=fleet[0], team=cast.other_team)

    now = timezone.now()
    usable = Instance.objects.usable_by(cast.other_team)
    for nobody in (cast.alice, cast.bob):
        for answer in (lending.decline, lending.give_back):
            with pytest.raises(Denied):
                answer(actor=nobody, grant=offer())
        with pytest.raises(Denied):
            lending.accept(actor=nobody, grant=offer(), now=now)
    with django_capture_on_commit_callbacks(execute=True):
        lending.decline(actor=cast.charlie, grant=offer())
        lending.give_back(actor=cast.charlie, grant=offer())  # it is only offered
        taken = lending.accept(actor=cast.charlie, grant=offer(), now=now)
        assert (taken.accepted_at, taken.accepted_by) == (now, cast.charlie)
        assert lending.accept(actor=cast.charlie, grant=offer(), now=timezone.now()) == taken
        with pytest.raises(Conflict):
            lending.decline(actor=cast.charlie, grant=taken)
        assert list(usable) == [fleet[0]]
        lending.give_back(actor=cast.charlie, grant=taken)
    assert list(usable.all()) == []
    loans = [each for each in recorded() if each[0].startswith("instance:")][-10:]
    steps = [("lend", "alice"), ("decline", "charlie"), ("lend", "alice")]
    steps += [("accept", "charlie"), ("give-back", "charlie")]
    assert loans == [
        (f"instance:{step}", who, team)
        for step, who in steps
        for team in ("Storefront", "Warehouse")
    ]
    offered = ("charlie@example.com", "Storefront offers web-01 to Warehouse.")
    assert [(*message.to, message.subject) for message in mail.outbox] == [
        ("alice@example.com", "Warehouse has declined web-01."),
        offered,
        ("alice@example.com", "Warehouse has accepted web-01."),
        ("alice@example.com", "Warehouse has given web-01 back."),
    ]


def test_offers_are_no_way_to_send_mail(cast, fleet, django_capture_on_commit_callbacks):
    cast.charlie.email = "charlie@example.com"
    cast.charlie.save()
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(lending.OFFERS_TOLD + 3):
            grant = lending.lend_instance(actor=cast.alice, instance=fleet[0], team=cast.other_team)
            lending.take_back(actor=cast.alice, grant=grant)
    assert len(mail.outbox) == lending.OFFERS_TOLD


def test_another_name_is_no_way_to_send_more(cast, fleet, django_capture_on_commit_callbacks):
    cast.charlie.email = "charlie@example.com"
    cast.charlie.save()
    with django_capture_on_commit_callbacks(execute=True):
        for number in range(lending.OFFERS_TOLD + 3):
            teams.rename(actor=cast.alice, team=cast.team, name=f"Buy now {number}")
            fleet[0].refresh_from_db()
            grant = lending.lend_instance(actor=cast.alice, instance=fleet[0], team=cast.other_team)
            lending.take_back(actor=cast.alice, grant=grant)
    assert len(mail.outbox) == lending.OFFERS_TOLD


def test_who_borrows_reads_what_its_owner_changes(cast, fleet, make_instance):
    bastion = make_instance("bastion")
    borrow(fleet[0], cast.other_team, by=cast.alice, to=cast.charlie)
    lending.lend_instance(actor=cast.alice, instance=fleet[1], team=cast.other_team)
    before = AuditEvent.objects.order_by("pk").last().pk
    for instance in fleet[:2]:
        instances.set_tags(actor=cast.alice, instance=instance, tags=[("env", "prod")])
    instances.set_jump_host(actor=cast.alice, instance=fleet[0], jump_host=bastion)
    instances.remove_instance(actor=cast.alice, instance=fleet[0])
    told = AuditEvent.objects.filter(team_uid=cast.other_team.uid, pk__gt=before).order_by("pk")
    lent_by = {"lent_by": "Storefront"}
    assert list(told.values_list("action", "target_name", "details")) == [
        ("instance:tags", "web-01", {**lent_by, "tags": [[], ["env=prod"]]}),
        ("instance:jump-host", "web-01", {**lent_by, "also": ["jump_host"]}),
        ("instance:remove", "web-01", {**lent_by, "address": fleet[0].address}),
    ]


def test_who_has_left_is_not_told_of_the_answer(cast, fleet, django_capture_on_commit_callbacks):
    cast.alice.email, cast.bob.email = "alice@example.com", "bob@example.com"
    cast.alice.save()
    cast.bob.save()
    grant = lending.lend_instance(actor=cast.alice, instance=fleet[0], team=cast.other_team)
    cast.team.memberships.filter(user=cast.bob).update(role="team_admin")
    cast.team.memberships.filter(user=cast.alice).delete()
    with django_capture_on_commit_callbacks(execute=True):
        lending.accept(actor=cast.charlie, grant=grant, now=timezone.now())
    assert [message.to for message in mail.outbox] == [["bob@example.com"]]
