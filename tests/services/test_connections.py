"""Which instances are due for a check, who takes them, and which results count."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.utils import timezone

from commands import queue
from commands.models import Credential, Instance
from commands.rules.connection import Connection
from commands.services import connections, instances, runs
from commands.services.connections import Finding

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOW = timezone.now()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def claimed(instance, now=NOW):
    [target] = connections.claim(instance_ids=[instance.pk], now=now)
    return target


def record(target, state, at, **more):
    return connections.record(findings=[Finding(target, state, at, **more)])


def check(instance, state, at, **more):
    """A whole check of an instance, which ends a second after it began."""
    return record(claimed(instance, at), state, at + timedelta(seconds=1), **more)


def state(instance):
    instance.refresh_from_db()
    return instance.connection, instance.connection_since, instance.checked_at


def test_new_instances_are_due_first_then_the_longest_ago(make_instance, settings):
    settings.CONSOLE_CHECK_EVERY = 30
    ages = {"fresh": 29, "old": 31, "older": 300, "off": 300}
    for name, age in ages.items():
        Instance.objects.filter(pk=make_instance(name).pk).update(checked_at=after(-age))
    Instance.objects.filter(name="off").update(enabled=False)
    make_instance("new")
    found = connections.due(now=NOW, limit=10)
    assert [Instance.objects.get(pk=key).name for key in found] == ["new", "older", "old"]
    assert connections.due(now=NOW, limit=1) == found[:1]


def test_a_claimed_instance_is_left_alone_for_half_a_period(fleet, settings):
    settings.CONSOLE_CHECK_EVERY = 30
    ids = [instance.pk for instance in fleet]
    assert len(connections.claim(instance_ids=ids, now=NOW)) == 3
    assert connections.claim(instance_ids=ids, now=NOW) == []
    assert connections.due(now=after(14), limit=10) == []
    assert connections.due(now=after(15), limit=10) == ids  # whoever claimed them died


def test_a_target_is_the_endpoint_of_runs(fleet):
    assert claimed(fleet[0]).endpoint == runs.endpoint(fleet[0])


def test_a_state_since_when_and_why(fleet):
    instance = fleet[0]
    assert state(instance) == (Connection.UNKNOWN, None, None)
    check(instance, Connection.REACHABLE, NOW, system="Debian GNU/Linux 12")
    assert state(instance) == (Connection.REACHABLE, after(1), after(1))
    check(instance, Connection.REACHABLE, after(40))
    assert state(instance) == (Connection.REACHABLE, after(1), after(41))
    assert instance.system == "Debian GNU/Linux 12"
    check(instance, Connection.UNREACHABLE, after(80), info="No route.")
    assert state(instance) == (Connection.UNREACHABLE, after(81), after(81))
    assert (instance.connection_info, instance.system) == ("No route.", "Debian GNU/Linux 12")
    check(instance, Connection.UNREACHABLE, after(120), info="Refused.")
    assert state(instance) == (Connection.UNREACHABLE, after(81), after(121))
    assert instance.connection_info == "Refused."
    check(instance, Connection.REACHABLE, after(160), system="Debian GNU/Linux 13")
    assert state(instance) == (Connection.REACHABLE, after(161), after(161))
    assert (instance.connection_info, instance.system) == ("", "Debian GNU/Linux 13")


def test_a_name_that_is_too_long_is_cut(fleet):
    check(fleet[0], Connection.REACHABLE, NOW, system="x" * 500)
    fleet[0].refresh_from_db()
    assert fleet[0].system == "x" * 80


def test_a_newer_result_stays(fleet):
    slow = claimed(fleet[0])
    quick = claimed(fleet[0], after(20))
    assert record(quick, Connection.REACHABLE, after(21)) == 1
    assert record(slow, Connection.UNREACHABLE, after(20.5)) == 0
    assert state(fleet[0]) == (Connection.REACHABLE, after(21), after(21))


def test_a_check_that_outlives_its_claim_still_counts(fleet):
    slow = claimed(fleet[0])
    claimed(fleet[0], after(20))
    assert record(slow, Connection.UNREACHABLE, after(25)) == 1


@pytest.mark.parametrize(
    "change", [{"host": "10.0.0.9"}, {"port": 23}, {"user": "me"}, {"host_key": "k"}]
)
def test_a_result_of_another_endpoint_is_dropped(fleet, change):
    target = claimed(fleet[0])
    Instance.objects.filter(pk=fleet[0].pk).update(**change)
    assert record(target, Connection.UNREACHABLE, after(1)) == 0
    assert state(fleet[0])[0] == Connection.UNKNOWN


def test_a_result_of_another_credential_is_dropped(cast, fleet):
    target, other = claimed(fleet[0]), claimed(fleet[1])
    Instance.objects.filter(pk=fleet[0].pk).update(
        credential=instances.add_credential(
            actor=cast.alice, team=cast.team, region=cast.region, name="new", password="p"
        )
    )
    assert record(target, Connection.SIGN_IN_REFUSED, after(1)) == 0
    secret = fleet[1].credential
    secret.secret = "another key under the same name"
    secret.save()
    assert record(other, Connection.SIGN_IN_REFUSED, after(1)) == 0


def test_a_result_of_an_instance_that_is_switched_off_or_gone_is_dropped(fleet):
    off, gone, there = (claimed(instance) for instance in fleet)
    Instance.objects.filter(pk=fleet[0].pk).update(enabled=False)
    fleet[1].delete()
    findings = [Finding(each, Connection.REACHABLE, after(1)) for each in (off, gone, there)]
    assert connections.record(findings=findings) == 1
    assert state(fleet[0])[0] == Connection.UNKNOWN
    assert state(fleet[2])[0] == Connection.REACHABLE


def test_a_credential_that_can_not_be_decrypted_stops_nobody_else(cast, fleet, settings):
    good = settings.CONSOLE_ENCRYPTION_KEYS
    settings.CONSOLE_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    lost = Credential.objects.create(
        team=cast.team, region=cast.region, name="lost", kind="password", secret="p"
    )
    settings.CONSOLE_ENCRYPTION_KEYS = good
    Instance.objects.filter(pk=fleet[0].pk).update(credential=lost)
    bad, *fine = connections.claim(instance_ids=[each.pk for each in fleet], now=NOW)
    assert bad.endpoint is None
    assert all(target.endpoint for target in fine)
    info = connections.UNDECIPHERABLE
    assert record(bad, Connection.SIGN_IN_REFUSED, after(1), info=info) == 1
    # Its key was added meanwhile: it is another endpoint.
    bad = claimed(fleet[0], after(60))
    Instance.objects.filter(pk=fleet[0].pk).update(credential=fleet[1].credential)
    assert record(bad, Connection.SIGN_IN_REFUSED, after(61), info=info) == 0


def test_many_instances_cost_few_queries(make_instance, django_assert_max_num_queries):
    ids = [make_instance(f"web-{number}").pk for number in range(30)]
    with django_assert_max_num_queries(5):
        targets = connections.claim(instance_ids=ids, now=NOW)
    with django_assert_max_num_queries(5):
        findings = [Finding(target, Connection.REACHABLE, after(1)) for target in targets]
        assert connections.record(findings=findings) == 30


def test_a_forgotten_instance_is_checked_at_once(fleet, sent, django_capture_on_commit_callbacks):
    instance = fleet[0]
    check(instance, Connection.REACHABLE, NOW, system="Debian", info="Full.")
    instance.refresh_from_db()
    target = claimed(instance, after(60))
    with django_capture_on_commit_callbacks(execute=True):
        connections.forget(instance)
        instance.save()
    assert sent == [(queue.Job.CHECK_CONNECTIONS, {})]
    assert state(instance) == (Connection.UNKNOWN, None, None)
    assert (instance.system, instance.connection_info) == ("", "")
    assert record(target, Connection.REACHABLE, after(61)) == 0
