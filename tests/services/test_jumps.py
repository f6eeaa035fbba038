"""Jump hosts: which are taken, what goes through them, and what happens when they change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands.errors import Conflict, Denied, Invalid
from commands.models import Grant, Instance, Region
from commands.rules.connection import Connection
from commands.services import checking, connections, instances, invocations, runs
from commands.services.connections import UNDECIPHERABLE
from commands.services.definitions import CommandInput
from tests.borrowing import borrow
from tests.conftest import HOST_KEY

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOW = timezone.now()


@pytest.fixture
def bastion(make_instance):
    return make_instance("bastion", host="10.0.0.1")


@pytest.fixture
def behind(make_instance, bastion):
    return make_instance("db-01", host="10.9.0.5", jump_host=bastion)


@pytest.fixture
def lent(cast):
    """An instance of the other team, lent to the first one."""
    secret = instances.add_credential(
        actor=cast.charlie, team=cast.other_team, region=cast.region, name="key", password="p"
    )
    instance = instances.add_instance(
        actor=cast.charlie,
        team=cast.other_team,
        region=cast.region,
        name="lent",
        host="10.0.0.2",
        user="u",
        credential=secret,
        host_key=HOST_KEY,
    )
    borrow(instance, cast.team, by=cast.charlie, to=cast.alice)
    return instance


def check(instance):
    """What a check of an instance would ask, without asking."""
    Instance.objects.update(checked_at=None)
    [target] = connections.claim(instance_ids=[instance.pk], now=NOW)
    return target


def claim(cast, instance):
    """A new run on an instance, and what a worker gets when it takes it."""
    task = invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="n", type="RunShellScript", content="say a"),
        instance_uids=[instance.uid],
        now=timezone.now(),
    )
    run = task.runs.get()
    return run, lambda: runs.claim(run_ids=[run.pk], owner="w", now=timezone.now())


def test_a_host_key_that_was_pinned_meanwhile_stays(cast, make_instance, bastion):
    read_earlier, other = make_instance("db-02"), HOST_KEY[:-4] + "AAAA"
    with transaction.atomic():
        row = instances.locked(read_earlier)
        instances.pin(actor=cast.alice, instance=row, host_key=other, reason="new disk", now=NOW)
        row.save()
    instances.set_jump_host(actor=cast.alice, instance=read_earlier, jump_host=bastion)
    kept = Instance.objects.get(pk=read_earlier.pk)
    assert (kept.host_key, kept.jump_host) == (other, bastion)


def test_the_endpoint_holds_the_one_of_the_jump_host(behind, bastion):
    endpoint = runs.endpoint(behind)
    assert endpoint.jump == runs.endpoint(bastion)
    assert (endpoint.host, endpoint.jump.host, endpoint.jump.jump) == (
        "10.9.0.5",
        "10.0.0.1",
        None,
    )
    assert check(behind).endpoint == endpoint


def test_a_run_goes_through_the_jump_host(cast, behind):
    _, take = claim(cast, behind)
    [claimed] = take()
    assert claimed.endpoint == runs.endpoint(behind)


@pytest.mark.parametrize("count", [1, 4])
def test_jump_hosts_cost_no_queries(cast, make_instance, bastion, count):
    def queries(jump_host):
        name = "direct" if jump_host is None else "behind"
        made = [make_instance(f"{name}-{i}", jump_host=jump_host) for i in range(count)]
        ids = [claim(cast, each)[0].pk for each in made]
        with CaptureQueriesContext(connection) as found:
            assert len(runs.claim(run_ids=ids, owner="w", now=timezone.now())) == count
        return len(found)

    assert queries(bastion) == queries(None)


def test_a_jump_host_is_set_and_cleared(cast, make_instance, bastion):
    instance = make_instance("web-01")
    Instance.objects.update(connection="reachable", checked_at=NOW, system="Debian")
    instance.refresh_from_db()
    instances.set_jump_host(actor=cast.alice, instance=instance, jump_host=bastion)
    kept = Instance.objects.get(pk=instance.pk)
    assert (kept.jump_host, kept.connection, kept.checked_at) == (bastion, "unknown", None)
    instances.set_jump_host(actor=cast.alice, instance=kept, jump_host=None)
    assert runs.endpoint(Instance.objects.get(pk=instance.pk)).jump is None


def test_a_lent_jump_host(cast, make_instance, lent):
    instance = make_instance("web-01", jump_host=lent)
    assert runs.endpoint(instance).jump.password == "p"
    run, take = claim(cast, instance)
    Grant.objects.all().delete()
    assert take() == []
    run.refresh_from_db()
    assert (run.status, run.error_code) == ("Aborted", "NoLongerAllowed")
    assert run.error_info == "Its team may no longer use its jump host."
    target = check(instance)
    assert (target.endpoint, target.obstacle) == (None, run.error_info)
    instance.refresh_from_db()
    with pytest.raises(Denied):
        instances.set_jump_host(actor=cast.alice, instance=instance, jump_host=lent)


def test_a_jump_host_that_is_switched_off(cast, behind, bastion):
    run, take = claim(cast, behind)
    Instance.objects.filter(pk=bastion.pk).update(enabled=False)
    assert take() == []
    run.refresh_from_db()
    assert (run.status, run.error_code) == ("Aborted", "NoLongerAllowed")
    assert "Its jump host is switched off" in run.error_info
    finding = checking._find(None, check(behind))
    assert (finding.connection, finding.info) == (Connection.UNREACHABLE, run.error_info)


def test_a_credential_of_the_jump_host_that_cannot_be_read(cast, make_instance):
    secret = instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="lost", password="p"
    )
    bastion = make_instance("bastion")
    Instance.objects.filter(pk=bastion.pk).update(credential=secret)
    behind = make_instance("db-01", jump_host=bastion)
    run, take = claim(cast, behind)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE commands_credential SET secret = 'x' WHERE id = %s", [secret.pk])
    assert take() == []
    run.refresh_from_db()
    assert (run.status, run.error_code) == ("Aborted", "CredentialUnusable")
    finding = checking._find(None, check(behind))
    assert (finding.connection, finding.info) == (Connection.SIGN_IN_REFUSED, UNDECIPHERABLE)
    with pytest.raises(Conflict, match="can't be decrypted"):
        instances.read_host_key(host="h", port=22, jump_host=Instance.objects.get(pk=bastion.pk))


def test_no_chains(cast, make_instance, bastion, behind):
    with pytest.raises(Invalid, match="db-01 is reached through a jump host itself"):
        make_instance("web-01", jump_host=behind)
    other = make_instance("other")
    with pytest.raises(Invalid, match="bastion is the jump host of db-01"):
        instances.set_jump_host(actor=cast.alice, instance=bastion, jump_host=other)
    with pytest.raises(Invalid, match="own jump host"):
        instances.set_jump_host(actor=cast.alice, instance=other, jump_host=other)
    with pytest.raises(Invalid, match="reached through a jump host itself"):
        instances.set_jump_host(actor=cast.alice, instance=other, jump_host=behind)
    with pytest.raises(IntegrityError), transaction.atomic():
        Instance.objects.filter(pk=other.pk).update(jump_host=other)


def test_a_chain_that_somebody_else_has_begun_meanwhile(cast, make_instance, bastion):
    stale = Instance.objects.get(pk=bastion.pk)
    instances.set_jump_host(
        actor=cast.alice, instance=bastion, jump_host=make_instance("outer", host="10.0.0.3")
    )
    with pytest.raises(Invalid, match="itself"):
        make_instance("web-01", jump_host=stale)


def test_jump_hosts_of_others(cast, make_instance, bastion, lent):
    mars = Region.objects.create(uid="mars", name="Mars")
    with pytest.raises(Denied):
        instances.set_jump_host(actor=cast.bob, instance=bastion, jump_host=None)
    with pytest.raises(Denied):
        instances.set_jump_host(actor=cast.charlie, instance=lent, jump_host=bastion)
    Instance.objects.filter(pk=lent.pk).update(region=mars)
    lent.refresh_from_db()
    with pytest.raises(Denied, match="another team or region"):
        make_instance("web-01", jump_host=lent)


def test_a_jump_host_in_use_is_not_removed(cast, make_instance, bastion):
    for number in range(5):
        make_instance(f"db-{number}", jump_host=bastion)
    with pytest.raises(Conflict, match="bastion is the jump host of db-0, db-1, db-2 and 2 more"):
        instances.remove_instance(actor=cast.alice, instance=bastion)
    for each in list(bastion.behind.all()):
        instances.remove_instance(actor=cast.alice, instance=each)
    with pytest.raises(Denied):
        instances.remove_instance(actor=cast.bob, instance=bastion)
    instances.remove_instance(actor=cast.alice, instance=bastion)
    assert not Instance.objects.exists()


def test_instances_are_removed_together_with_their_jump_host(cast, behind):
    Instance.objects.filter(team=cast.team).delete()
    assert not Instance.objects.exists()


def test_a_jump_host_at_another_address_makes_what_is_behind_it_unknown(cast, make_instance):
    given = {
        "team": cast.team,
        "name": "demo-1",
        "host": "127.0.0.1",
        "user": "me",
        "private_key": "k",
        "host_key": HOST_KEY,
    }
    bastion = instances.ensure_demo_instance(**given, port=4000)
    behind = make_instance("db-01", jump_host=bastion)
    other = make_instance("web-01")
    Instance.objects.update(connection="reachable", checked_at=NOW)
    target = connections.claim(instance_ids=[behind.pk], now=NOW + timedelta(hours=1))
    instances.ensure_demo_instance(**given, port=4001)
    behind.refresh_from_db()
    other.refresh_from_db()
    assert (behind.connection, behind.checked_at) == ("unknown", None)
    assert other.connection == "reachable"
    finding = connections.Finding(target[0], Connection.REACHABLE, NOW + timedelta(hours=2))
    Instance.objects.update(checked_at=NOW)
    assert connections.record(findings=[finding]) == 0


@pytest.fixture
def chained(cast, behind, bastion, make_instance):
    """An instance behind two others, as no service makes it; the farthest signs in otherwise."""
    other = instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="other", password="p"
    )
    farthest = make_instance("farthest")
    Instance.objects.filter(pk=farthest.pk).update(credential=other)
    Instance.objects.filter(pk=bastion.pk).update(jump_host=farthest)
    return Instance.objects.get(pk=behind.pk)


def test_a_chain_in_the_database_stops_no_check_of_others(chained, make_instance):
    fine = make_instance("fine")
    Instance.objects.update(checked_at=None)
    found = connections.claim(instance_ids=[chained.pk, fine.pk], now=NOW)
    targets = {target.instance_id: target for target in found}
    assert targets[fine.pk].endpoint == runs.endpoint(fine)
    broken = targets[chained.pk]
    assert (broken.endpoint, broken.state) == (None, Connection.UNREACHABLE)
    assert "only one is passed through" in broken.obstacle


def test_no_run_begins_behind_a_chain(cast, chained):
    run, take = claim(cast, chained)
    assert take() == []
    run.refresh_from_db()
    assert (run.status, run.error_code) == ("Aborted", "NoLongerAllowed")
    assert "only one is passed through" in run.error_info


def test_an_instance_that_can_not_be_used_at_all_stops_no_other(make_instance, monkeypatch):
    fine, odd = make_instance("fine"), make_instance("odd")
    real = runs.endpoint

    def endpoint(instance):
        if instance == odd:
            raise ValueError("who knows")
        return real(instance)

    monkeypatch.setattr(runs, "endpoint", endpoint)
    targets = {target.instance_id: target for target in connections.targets([odd, fine])}
    assert targets[fine.pk].endpoint == real(fine)
    broken = targets[odd.pk]
    assert (broken.endpoint, broken.obstacle) == (None, connections.UNUSABLE)
