"""Access keys: made, counted, revoked; who may; and nonces, once, also for two at a time."""

from __future__ import annotations

import threading
from datetime import timedelta

import pyotp
import pytest
from cryptography.fernet import Fernet
from django.db import connection, connections
from django.utils import timezone

from commands.errors import Conflict, Denied, Invalid
from commands.models import AccessKey, AccessNonce, AuditEvent, Departure, Membership, User
from commands.rules import limits
from commands.services import access_keys, administration, encryption, members, second_factor
from commands.services import teams as teams_service
from commands.tasks import purge

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


@pytest.fixture
def make(cast):
    def go(actor: User = cast.bob, **given) -> AccessKey:
        asked = {"team": cast.team, "name": "Nightly", "days": None, "now": timezone.now()}
        return access_keys.create_key(actor=actor, **(asked | given))

    return go


def stored(key: AccessKey) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM commands_accesskey WHERE id = %s", [key.pk])
        return str(cursor.fetchone()[0])


class TestMaking:
    """What a new key is."""

    def test_id_and_secret_are_random_and_the_secret_is_encrypted(self, make):
        first, second = make(), make()
        assert first.uid.startswith("LTAI")
        assert len(first.uid) == 24
        assert len(first.secret) == 40
        assert first.secret.isascii()
        assert first.secret.isalnum()
        assert len({first.uid, second.uid, first.secret, second.secret}) == 4
        assert first.secret not in stored(first)
        assert access_keys.find_key(uid=first.uid, now=timezone.now()).secret == first.secret

    def test_rotating_encryption_keys_keeps_it(self, make, settings):
        key = make()
        before = stored(key)
        settings.CONSOLE_ENCRYPTION_KEYS = [
            Fernet.generate_key().decode(),
            *settings.CONSOLE_ENCRYPTION_KEYS,
        ]
        rotated = {(each.model, each.field): each.renewed for each in encryption.rotate()}
        assert rotated["commands.AccessKey", "secret"] == 1
        assert stored(key) != before
        settings.CONSOLE_ENCRYPTION_KEYS = settings.CONSOLE_ENCRYPTION_KEYS[:1]
        assert AccessKey.objects.get().secret == key.secret

    def test_it_may_expire(self, make):
        now = timezone.now()
        key = make(days=30, now=now)
        assert key.expires_at == now + timedelta(days=30)
        assert key.end(now) == ""
        later = now + timedelta(days=30)
        assert key.end(later) == "expired"
        assert access_keys.find_key(uid=key.uid, now=later) is None

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"name": " "}, "name"),
            ({"name": "x" * 101}, "name"),
            ({"name": "a\nb"}, "name"),
            ({"days": 7}, "expires"),
            ({"days": 0}, "expires"),
        ],
    )
    def test_what_is_wrong_is_said(self, make, given, field):
        with pytest.raises(Invalid) as raised:
            make(**given)
        assert raised.value.field == field
        assert not AccessKey.objects.exists()

    def test_five_that_work_in_each_team(self, make, cast):
        keys = [make() for _ in range(limits.ACCESS_KEYS)]
        with pytest.raises(Conflict, match="Revoke one first"):
            make()
        make(cast.alice)  # everybody has five
        access_keys.revoke_key(actor=cast.bob, key=keys[0], now=timezone.now())
        make()
        AccessKey.objects.filter(pk=keys[1].pk).update(expires_at=timezone.now())
        make()

    def test_so_many_a_day_whether_they_work_or_not(self, make, cast, monkeypatch):
        monkeypatch.setattr(limits, "ACCESS_KEYS_A_DAY", 2)
        now = timezone.now()
        for _ in range(2):
            access_keys.revoke_key(actor=cast.bob, key=make(now=now), now=now)
        with pytest.raises(Conflict, match="within a day"):
            make(now=now + timedelta(hours=23))
        make(cast.vera, now=now)  # everybody has their own
        make(now=now + timedelta(days=1))

    def test_one_form_makes_one(self, make, cast):
        first = make(client_token="once")
        with pytest.raises(Conflict, match="Nightly was created already"):
            make(client_token="once", name="Other")
        others = [make(client_token="twice"), make(cast.alice, client_token="once"), make(), make()]
        assert len({first.uid, *(key.uid for key in others)}) == 5
        assert {len(first.uid), len(others[2].uid)} == {24}

    def test_none_for_who_was_deactivated_in_the_meantime(self, make, cast):
        User.objects.filter(pk=cast.bob.pk).update(is_active=False)
        with pytest.raises(Denied):
            make()

    def test_it_is_recorded_without_the_secret(self, make, cast):
        key = make(days=30)
        event = AuditEvent.objects.get(action="access-key:create")
        assert (event.actor_name, event.target_uid, event.target_name) == (
            "bob",
            key.uid,
            "Nightly",
        )
        assert event.team_uid == cast.team.uid
        assert event.details == {"expires": f"{key.expires_at:%Y-%m-%d}"}

    def test_who_has_a_second_factor_proves_it(self, make, cast):
        factor = second_factor.begin(actor=cast.bob)
        totp, now = pyotp.TOTP(factor.secret), timezone.now()
        second_factor.confirm(actor=cast.bob, code=totp.at(now), now=now)
        for code in ("", "000000"):
            with pytest.raises(Invalid) as raised:
                make(code=code)
            assert raised.value.field == "code"
        factor.refresh_from_db()
        assert factor.failures == 2  # counted, as nobody may try for ever
        later = now + timedelta(seconds=30)
        assert make(code=totp.at(later), now=later).name == "Nightly"


class TestEnding:
    """How a key stops."""

    def test_revoked_by_its_owner_and_only_once(self, make, cast):
        key = make()
        access_keys.revoke_key(actor=cast.bob, key=key, now=timezone.now())
        key.refresh_from_db()
        assert key.end(timezone.now()) == "revoked"
        assert key.revoked_by_name == "bob"
        with pytest.raises(Conflict):
            access_keys.revoke_key(actor=cast.bob, key=key, now=timezone.now())
        assert AuditEvent.objects.filter(action="access-key:revoke").count() == 1

    def test_revoked_by_who_leads_the_team_and_by_no_other_member(self, make, cast):
        key = make()
        for other in (cast.vera, cast.charlie):
            with pytest.raises(Denied):
                access_keys.revoke_key(actor=other, key=key, now=timezone.now())
        access_keys.revoke_key(actor=cast.alice, key=key, now=timezone.now())
        event = AuditEvent.objects.get(action="access-key:revoke")
        assert (event.actor_name, event.details) == ("alice", {"owner": "bob"})

    def test_not_by_somebody_who_was_deactivated(self, make, cast):
        key = make()
        cast.bob.is_active = False
        with pytest.raises(Denied):
            access_keys.revoke_key(actor=cast.bob, key=key, now=timezone.now())

    def test_somebody_who_left_may_revoke_their_own_still(self, make, cast):
        key = make()
        membership = Membership.objects.get(team=cast.team, user=cast.bob)
        members.remove(actor=cast.alice, membership=membership, now=timezone.now())
        key.refresh_from_db()
        assert key.end(timezone.now()) == "left"
        access_keys.revoke_key(actor=cast.bob, key=key, now=timezone.now())

    def test_all_that_work_at_once_each_with_its_note(self, make, cast):
        now = timezone.now()
        teams_service.add_member(team=cast.other_team, user=cast.bob, role="viewer")
        revoked, expired = make(), make(days=30, now=now - timedelta(days=30))
        access_keys.revoke_key(actor=cast.bob, key=revoked, now=now)
        here, there, others = make(), make(team=cast.other_team), make(cast.vera)
        assert access_keys.working(user=cast.bob, now=now) == 2
        assert access_keys.end_all(actor=cast.alice, owner=cast.bob, now=now) == 2
        assert access_keys.end_all(actor=cast.alice, owner=cast.bob, now=now) == 0
        assert list(AccessKey.objects.live(now)) == [others]
        expired.refresh_from_db()
        assert expired.revoked_at is None
        noted = AuditEvent.objects.filter(action="access-key:revoke", actor_name="alice")
        assert {(event.target_uid, event.team_uid) for event in noted} == {
            (here.uid, cast.team.uid),
            (there.uid, cast.other_team.uid),
        }

    def test_deactivated_for_good(self, make, cast):
        staff, now = User.objects.create_superuser("root"), timezone.now()
        key, others = make(), make(cast.vera)
        for active in (False, True):
            administration.set_active(actor=staff, user=cast.bob, active=active, now=now)
        assert list(AccessKey.objects.live(now)) == [others]
        key.refresh_from_db()
        assert key.revoked_by_name == "root"
        event = AuditEvent.objects.get(action="access-key:revoke")
        assert (event.target_uid, event.actor_name) == (key.uid, "root")

    def test_those_of_who_was_deactivated_before_do_not_come_back(self, make, cast):
        staff, now = User.objects.create_superuser("root"), timezone.now()
        make()
        User.objects.filter(pk=cast.bob.pk).update(is_active=False)
        administration.set_active(actor=staff, user=cast.bob, active=True, now=now)
        assert not AccessKey.objects.live(now).exists()

    def test_with_a_second_factor_that_was_reset(self, make, cast):
        staff, now = User.objects.create_superuser("root"), timezone.now()
        make()
        others = make(cast.vera)
        administration.reset_second_factor(actor=staff, user=cast.bob, now=now)
        assert list(AccessKey.objects.live(now)) == [others]
        assert AuditEvent.objects.filter(action="access-key:revoke").count() == 1

    def test_what_has_ended_long_ago_is_forgotten(self, make, cast):
        now = timezone.now()
        long_ago, lately = now - timedelta(days=91), now - timedelta(days=89)
        revoked, expired, kept, young = (make(now=now - timedelta(days=300)) for _ in range(4))
        AccessKey.objects.filter(pk=expired.pk).update(expires_at=long_ago)
        AccessKey.objects.filter(pk=revoked.pk).update(revoked_at=long_ago)
        AccessKey.objects.filter(pk=young.pk).update(revoked_at=lately)
        left, parted = make(cast.vera, now=long_ago), make(cast.alice, now=long_ago)
        for person, when in ((cast.vera, long_ago), (cast.alice, lately)):
            Membership.objects.filter(user=person).delete()
            Departure.objects.create(team=cast.team, user=person, at=when)
        AccessNonce.objects.create(key=revoked, digest="x", used_at=long_ago)
        noted = AuditEvent.objects.filter(action="access-key:create").count()
        assert access_keys.forget_ended(now=now) == 3
        assert set(AccessKey.objects.all()) == {kept, young, parted}
        assert AuditEvent.objects.filter(action="access-key:create").count() == noted
        AccessKey.objects.filter(pk=young.pk).update(revoked_at=long_ago)
        purge()
        assert set(AccessKey.objects.all()) == {kept, parted}
        assert left not in AccessKey.objects.all()

    def test_who_sees_which(self, make, cast):
        bobs, veras = make(), make(cast.vera)
        found = AccessKey.objects.visible_to
        assert set(found(cast.alice)) == {bobs, veras}
        assert set(found(cast.bob)) == {bobs}
        assert set(found(cast.charlie)) == set()
        # An admin of one team sees those of that team only.
        teams_service.add_member(team=cast.other_team, user=cast.bob, role="viewer")
        elsewhere = make(team=cast.other_team)
        assert elsewhere not in found(cast.alice)
        assert set(found(cast.charlie)) == {elsewhere}


class TestCalls:
    """``take_call``."""

    def take(self, key: AccessKey, nonce: str = "once", **given) -> None:
        asked = {"address": "10.0.0.5", "now": timezone.now()}
        access_keys.take_call(key=key, nonce=nonce, **(asked | given))

    def test_a_nonce_is_taken_once_whatever_it_says(self, make):
        key = make()
        for nonce in ("once", "x" * 10_000, "\0", "ü\udcff"):
            self.take(key, nonce)
            with pytest.raises(Conflict) as raised:
                self.take(key, nonce)
            assert raised.value.code == "SignatureNonceUsed"

    def test_nonces_are_forgotten_when_no_request_can_come_with_them(self, make):
        key, now = make(), timezone.now()
        # Signed by a clock that was ahead as far as it may, a request is good for twice that.
        window = timedelta(seconds=2 * limits.API_SKEW_SECONDS)
        self.take(key, now=now - window)
        purge()
        assert AccessNonce.objects.count() == 1
        assert access_keys.forget_nonces(now=now + timedelta(minutes=2)) == 1

    def test_calls_are_counted_by_key_and_minute(self, make, monkeypatch):
        monkeypatch.setattr(limits, "API_CALLS_PER_MINUTE", 2)
        key, other, now = make(), make(), timezone.now()
        for nonce in "ab":
            self.take(key, nonce, now=now)
        with pytest.raises(Conflict) as raised:
            self.take(key, "c", now=now + timedelta(seconds=59))
        assert raised.value.code == "Throttling.User"
        self.take(other, "c", now=now)
        self.take(key, "c", now=now + timedelta(seconds=60))

    def test_the_last_use_is_noted_once_a_minute(self, make, django_assert_num_queries):
        key, now = make(), timezone.now()
        self.take(key, "a", now=now)
        self.take(key, "b", now=now + timedelta(seconds=59), address="10.0.0.6")
        key.refresh_from_db()
        assert (key.last_used_at, key.last_used_from) == (now, "10.0.0.5")
        self.take(key, "c", now=now + timedelta(seconds=60), address="10.0.0.6")
        key.refresh_from_db()
        assert key.last_used_from == "10.0.0.6"


@pytest.mark.django_db(transaction=True)
def test_of_two_requests_with_one_nonce_one_is_taken(make):
    key, together = make(), threading.Barrier(2)
    refused: list[str] = []

    def take() -> None:
        together.wait()
        try:
            access_keys.take_call(key=key, nonce="once", address="", now=timezone.now())
        except Conflict as error:
            refused.append(error.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["SignatureNonceUsed"]


@pytest.mark.django_db(transaction=True)
def test_of_two_that_make_the_last_key_one_does(make, cast):
    for _ in range(limits.ACCESS_KEYS - 1):
        make()
    together = threading.Barrier(2)
    refused: list[str] = []

    def another() -> None:
        together.wait()
        try:
            make()
        except Conflict as error:
            refused.append(error.message)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=another) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert AccessKey.objects.count() == limits.ACCESS_KEYS
