"""Changing instances: who may, what is kept, what is checked anew, which host key is pinned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone

from commands import access
from commands.errors import Conflict, ConnectFailed, Denied, Invalid
from commands.execution import hostkey
from commands.execution.fake import FakeExecutor
from commands.models import Credential, Grant, HostKeyChange, Instance, Role
from commands.models.instance import ConnectionState
from commands.rules.status import ErrorCode
from commands.services import credentials, hostkeys, instances, teams, trying
from commands.services.instances import NewCredential, Place
from tests.borrowing import borrow
from tests.conftest import HOST_KEY

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKX8f8fQfAcrBLXd9wcvSAxC4r4CQxBTiWyDFFyeYwpn"
THIRD_KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7"


class Answering(FakeExecutor):
    """An executor whose instances answer as they are told to."""

    answer: str | Exception = "Debian 12"

    def probe(self, endpoint):
        self.asked = endpoint
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def executor(monkeypatch):
    made = Answering()
    monkeypatch.setattr(trying, "new_executor", lambda: made)
    return made


@pytest.fixture
def shown(monkeypatch):
    """The host key that servers show, as a list of one, and how it was asked for."""
    keys = [OTHER_KEY]
    asked = []

    def read(host, port, jump=None, **more):
        asked.append((host, port, jump, more))
        return keys[0]

    monkeypatch.setattr(hostkey, "read", read)
    keys.append(asked)
    return keys


@pytest.fixture
def web(make_instance):
    instance = make_instance("web-01")
    now = timezone.now()
    Instance.objects.update(connection="reachable", checked_at=now, system="Debian")
    instance.refresh_from_db()
    return instance


@pytest.fixture
def place(web, credential):
    return Place("web-01", "127.0.0.1", 22, "root", credential, "linux")


@pytest.fixture
def loan(cast, web):
    return borrow(web, cast.other_team, by=cast.alice, to=cast.charlie)


def change(cast, web, place, **more):
    given = {"actor": cast.alice, "tags": [], "now": timezone.now(), **more}
    return instances.update_instance(instance=web, place=place, **given)


def test_a_pinned_key_says_by_whom_and_when(web):
    assert web.host_key_by == "alice"
    assert web.host_key_at is not None
    assert not HostKeyChange.objects.exists()


def test_another_name_forgets_nothing_else(cast, web, place):
    change(cast, web, replace(place, name=" web-21 "), tags=[("role", "web")])
    kept = Instance.objects.get()
    assert (kept.name, kept.connection, kept.system) == ("web-21", "reachable", "Debian")
    assert [str(tag) for tag in kept.tags.all()] == ["role=web"]


@pytest.mark.parametrize("field", ["user", "os_type"])
def test_another_way_in_is_checked_anew(cast, web, place, field):
    change(cast, web, replace(place, **{field: {"user": "deploy", "os_type": "windows"}[field]}))
    kept = Instance.objects.get()
    assert (kept.connection, kept.checked_at, kept.host_key) == ("unknown", None, HOST_KEY)


@pytest.mark.parametrize("where", [{"host": "10.0.0.9"}, {"port": 2222}])
def test_another_address_takes_a_key_that_was_confirmed(cast, web, place, where):
    with pytest.raises(Invalid) as caught:
        change(cast, web, replace(place, **where))
    assert caught.value.field == "host_key"
    change(cast, web, replace(place, **where), host_key=OTHER_KEY)
    kept = Instance.objects.get()
    assert kept.host_key == OTHER_KEY
    assert kept.connection == "unknown"
    noted = HostKeyChange.objects.get()
    assert (noted.old_key, noted.new_key, noted.by) == (HOST_KEY, OTHER_KEY, cast.alice)
    assert kept.address in noted.reason


def test_the_same_key_elsewhere_is_no_change(cast, web, place):
    change(cast, web, replace(place, port=2222), host_key=HOST_KEY)
    assert not HostKeyChange.objects.exists()


def test_a_new_credential_is_kept_with_the_change_or_not_at_all(cast, web, place):
    new = NewCredential("Deploy", password="hunter2")
    with pytest.raises(Invalid):
        change(cast, web, replace(place, credential=new, name=""))
    assert Credential.objects.count() == 1
    change(cast, web, replace(place, credential=new))
    kept = Instance.objects.get().credential
    assert (kept.name, kept.kind, kept.secret) == ("Deploy", "password", "hunter2")
    with pytest.raises(Conflict):
        change(cast, web, replace(place, credential=new))


def test_a_credential_that_can_t_be_read_can_be_replaced(cast, web, place):
    Credential.objects.update(secret="x")
    table = Credential._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET secret = 'damaged'")
    with pytest.raises(ImproperlyConfigured):
        Credential.objects.get()
    assert credentials.readable(web.credential_id) is None
    change(cast, web, replace(place, credential=NewCredential("New", password="p")))
    assert Instance.objects.get().credential.secret == "p"


@pytest.mark.parametrize("who", ["bob", "vera", "charlie"])
def test_who_may_not_change_anything(cast, web, place, loan, shown, who):
    actor = getattr(cast, who)
    for attempt in (
        lambda: change(cast, web, place, actor=actor),
        lambda: instances.set_tags(actor=actor, instance=web, tags=[]),
        lambda: instances.set_enabled(actor=actor, instance=web, enabled=False),
        lambda: instances.remove_instance(actor=actor, instance=web),
        lambda: hostkeys.shown_now(actor=actor, instance=web),
        lambda: hostkeys.accept_host_key(
            actor=actor, instance=web, host_key=OTHER_KEY, reason="x", now=timezone.now()
        ),
        lambda: hostkeys.ask_host_key(
            actor=actor, team=cast.team, region=cast.region, host="h", port=22
        ),
        lambda: trying.test_connection(
            actor=actor, team=cast.team, region=cast.region, place=place, host_key=HOST_KEY
        ),
        lambda: credentials.generate_credential(
            actor=actor, team=cast.team, region=cast.region, name="k"
        ),
    ):
        with pytest.raises(Denied):
            attempt()
    kept = Instance.objects.get()
    assert (kept.host_key, kept.enabled, kept.connection) == (HOST_KEY, True, "reachable")
    assert shown[1] == []


def test_a_credential_of_another_team_is_not_used(cast, web, place):
    foreign = instances.add_credential(
        actor=cast.charlie, team=cast.other_team, region=cast.region, name="k", password="p"
    )
    with pytest.raises(Denied):
        change(cast, web, replace(place, credential=foreign))
    with pytest.raises(Denied):
        trying.test_connection(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            place=replace(place, credential=foreign),
            host_key=HOST_KEY,
        )


def test_tags_replace_those_before(cast, web):
    instances.set_tags(actor=cast.alice, instance=web, tags=[("role", "web"), ("demo", "")])
    instances.set_tags(actor=cast.alice, instance=web, tags=[("role", "db")])
    assert [str(tag) for tag in web.tags.all()] == ["role=db"]
    with pytest.raises(Invalid):
        instances.set_tags(actor=cast.alice, instance=web, tags=[("acs:x", "")])
    assert [str(tag) for tag in web.tags.all()] == ["role=db"]


def test_switching_off_and_on(cast, web):
    instances.set_enabled(actor=cast.alice, instance=web, enabled=False)
    assert not Instance.objects.get().enabled
    with pytest.raises(Conflict, match="switched off"):
        trying.check_now(actor=cast.alice, instance=web)
    instances.set_enabled(actor=cast.alice, instance=web, enabled=True)
    kept = Instance.objects.get()
    assert (kept.enabled, kept.connection) == (True, "unknown")


def test_an_instance_that_is_gone_meanwhile(cast, web, place):
    stale = Instance.objects.get()
    instances.remove_instance(actor=cast.alice, instance=web)
    with pytest.raises(Conflict, match="removed in the meantime"):
        change(cast, stale, place)
    with pytest.raises(Conflict):
        instances.set_tags(actor=cast.alice, instance=stale, tags=[])


def test_addresses_that_may_be_no_targets(cast, web, place, settings):
    with pytest.raises(Invalid, match="CONSOLE_ALLOWED_NETWORKS"):
        change(cast, web, replace(place, host="169.254.169.254"), host_key=OTHER_KEY)
    settings.CONSOLE_ALLOWED_NETWORKS = ["169.254.169.0/24"]
    change(cast, web, replace(place, host="169.254.169.254"), host_key=OTHER_KEY)


# ---------- checking now ----------


def test_checking_now_keeps_what_it_finds(cast, web, executor):
    Instance.objects.update(connection="unknown", checked_at=None)
    checked = trying.check_now(actor=cast.bob, instance=web)
    assert checked.answer
    assert checked.answer.system == "Debian 12"
    assert checked.answer.milliseconds >= 1
    kept = Instance.objects.get()
    assert (kept.connection, kept.system) == ("reachable", "Debian 12")
    assert kept.checked_at is not None


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (ErrorCode.HOST_KEY_CHANGED, ConnectionState.HOST_KEY_CHANGED),
        (ErrorCode.SIGN_IN_REFUSED, ConnectionState.SIGN_IN_REFUSED),
        (ErrorCode.CONNECTION_TIMEOUT, ConnectionState.UNREACHABLE),
    ],
)
def test_checking_now_says_why_not(cast, web, executor, code, state):
    executor.answer = ConnectFailed("No.", code=code)
    checked = trying.check_now(actor=cast.bob, instance=web)
    assert (checked.connection, checked.info, checked.answer) == (state, "No.", None)
    kept = Instance.objects.get()
    assert (kept.connection, kept.connection_info) == (state, "No.")
    assert kept.system == "Debian"


def test_checking_now_behind_a_jump_host_that_is_off(cast, make_instance, web, executor):
    behind = make_instance("db-01", jump_host=web)
    Instance.objects.filter(pk=web.pk).update(enabled=False)
    checked = trying.check_now(actor=cast.bob, instance=behind)
    assert checked.connection == ConnectionState.UNREACHABLE
    assert "switched off" in checked.info


def test_a_runner_of_a_team_that_it_is_lent_to_may_check(cast, web, loan, executor):
    assert trying.check_now(actor=cast.charlie, instance=web).answer
    Grant.objects.all().delete()
    with pytest.raises(Denied):
        trying.check_now(actor=cast.charlie, instance=web)


def test_an_onlooker_sees_and_may_not_check(cast, web, executor):
    assert access.may_see(cast.vera, web)
    with pytest.raises(Denied):
        trying.check_now(actor=cast.vera, instance=web)
    teams.add_member(team=cast.team, user=cast.vera, role=Role.RUNNER)
    assert trying.check_now(actor=cast.vera, instance=web).answer
    assert not access.may_see(None, web)
    assert not access.may_see(cast.charlie, web)


def test_only_so_many_wait_at_once(cast, web, executor, monkeypatch):
    class Full:
        def acquire(self, timeout):
            return False

    monkeypatch.setattr(trying, "_turns", Full())
    with pytest.raises(Conflict, match="Too many connections"):
        trying.check_now(actor=cast.bob, instance=web)


def test_trying_before_anything_is_kept(cast, web, place, executor):
    new = replace(place, credential=NewCredential("x", password="hunter2"), user="deploy")
    answer = trying.test_connection(
        actor=cast.alice, team=cast.team, region=cast.region, place=new, host_key=OTHER_KEY
    )
    assert answer.system == "Debian 12"
    asked = executor.asked
    assert (asked.password, asked.user, asked.host_key) == ("hunter2", "deploy", OTHER_KEY)
    assert Credential.objects.count() == Instance.objects.count() == 1


# ---------- host keys ----------


def accept(cast, web, **given):
    given = {"host_key": OTHER_KEY, "reason": "It was rebuilt.", **given}
    return hostkeys.accept_host_key(actor=cast.alice, instance=web, now=timezone.now(), **given)


def test_accepting_a_key_takes_a_reason_and_is_noted(cast, web, shown):
    Instance.objects.update(connection="host_key_changed")
    for reason in ("", "  \n"):
        with pytest.raises(Invalid) as caught:
            accept(cast, web, reason=reason)
        assert caught.value.field == "reason"
    noted = accept(cast, web, host_key=f"{OTHER_KEY} root@web-01")
    kept = Instance.objects.get()
    assert (kept.host_key, kept.host_key_by, kept.connection) == (OTHER_KEY, "alice", "unknown")
    assert noted
    assert (noted.old_key, noted.new_key, noted.reason) == (HOST_KEY, OTHER_KEY, "It was rebuilt.")
    assert (noted.by, noted.by_name, noted.team) == (cast.alice, "alice", cast.team)
    assert noted.new_fingerprint != noted.old_fingerprint
    # Of the pinned one's type, if there is such a one: another type alone is no change.
    assert shown[1][0][3]["kind"] == "ssh-ed25519"


def test_a_key_that_changed_once_more_is_not_accepted(cast, web, shown):
    shown[0] = THIRD_KEY
    with pytest.raises(Conflict, match="yet another key"):
        accept(cast, web)
    assert Instance.objects.get().host_key == HOST_KEY
    assert not HostKeyChange.objects.exists()


def test_an_instance_that_was_changed_while_the_key_was_read(cast, web, monkeypatch):
    def read(*_args, **_more):
        Instance.objects.update(port=2222)
        return OTHER_KEY

    monkeypatch.setattr(hostkey, "read", read)
    with pytest.raises(Conflict, match="changed in the meantime"):
        accept(cast, web)
    assert Instance.objects.get().host_key == HOST_KEY


def test_the_pinned_key_again_is_no_change(cast, web, shown):
    shown[0] = HOST_KEY
    assert accept(cast, web, host_key=HOST_KEY) is None
    assert not HostKeyChange.objects.exists()


@pytest.mark.parametrize("key", ["", "nonsense", "ssh-ed25519 !!"])
def test_what_is_no_key_is_refused(cast, web, shown, key):
    with pytest.raises(Invalid):
        accept(cast, web, host_key=key)


def test_changes_outlive_instance_and_person(cast, web, shown):
    accept(cast, web)
    instances.remove_instance(actor=cast.alice, instance=web)
    cast.alice.delete()
    noted = HostKeyChange.objects.get()
    assert (noted.instance, noted.by) == (None, None)
    assert (noted.instance_name, noted.by_name) == ("web-01", "alice")
    assert str(noted).startswith("web-01: SHA256:")


# ---------- key pairs ----------


def test_a_generated_key_shows_its_public_half_alone(cast):
    made = credentials.generate_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="Deploy key; rm -rf /"
    )
    line = credentials.public_line(made)
    kind, key, comment = line.split(" ")
    assert kind == "ssh-ed25519"
    assert len(key) == 68
    assert comment == "command-console-Deploy-key-rm-rf"
    assert key not in made.secret
    assert made.secret.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    instances.check_private_key(made.secret)
    with pytest.raises(Conflict):
        credentials.generate_credential(
            actor=cast.alice, team=cast.team, region=cast.region, name="Deploy key; rm -rf /"
        )


def test_what_has_no_public_half(cast, credential):
    assert credentials.public_line(credential) == ""  # it is no key that can be read
    password = instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="pw", password="p"
    )
    assert credentials.public_line(password) == ""
