"""Rotation: every stored secret ends up under the newest key, whatever interrupts it."""

from __future__ import annotations

from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from commands.models import AuditEvent, Credential
from commands.models.fields import EncryptedTextField
from commands.services import encryption

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


@pytest.fixture
def keys(settings):
    """An old key that encrypted something, and a newer one in front of it."""
    old = settings.CONSOLE_ENCRYPTION_KEYS[0]
    newer = Fernet.generate_key().decode()

    def put_in_front() -> tuple[str, str]:
        settings.CONSOLE_ENCRYPTION_KEYS = [newer, old]
        return newer, old

    return put_in_front


def stored(column: str = "secret") -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM commands_credential ORDER BY id")
        return [token for (token,) in cursor.fetchall()]


def done() -> dict[str, encryption.Rotated]:
    return {f"{each.model}.{each.field}": each for each in encryption.rotate()}


def test_secrets_are_readable_without_the_old_key_afterwards(credential, keys, settings):
    secret = credential.secret
    newer, _old = keys()
    assert done()["commands.Credential.secret"].renewed == 1
    settings.CONSOLE_ENCRYPTION_KEYS = [newer]
    assert Credential.objects.get(pk=credential.pk).secret == secret
    assert secret not in stored()[0]


def test_a_second_time_changes_nothing(credential, keys):
    keys()
    done()
    before = stored()
    again = done()["commands.Credential.secret"]
    assert (again.renewed, again.fresh) == (0, 1)
    assert stored() == before


def test_one_that_was_cut_short_goes_on(cast, credential, keys, monkeypatch):
    for n in range(4):
        Credential.objects.create(
            team=cast.team, region=cast.region, name=f"c{n}", kind="password", secret=f"s{n}"
        )
    keys()
    monkeypatch.setattr(encryption, "BATCH", 2)
    renew, renewed = encryption._renew, []

    def fail_at_the_third(*args):
        if len(renewed) == 2:
            raise KeyboardInterrupt
        renewed.append(args)
        return renew(*args)

    monkeypatch.setattr(encryption, "_renew", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        done()
    monkeypatch.setattr(encryption, "_renew", renew)
    last = done()["commands.Credential.secret"]
    assert (last.renewed, last.fresh) == (3, 2)


def test_a_secret_that_changes_meanwhile_keeps_the_change(credential, keys, monkeypatch):
    newer, _old = keys()
    renew = encryption._renew

    def change_before(model, field, key, token):
        Credential.objects.filter(pk=key).update(secret="changed")
        return renew(model, field, key, token)

    monkeypatch.setattr(encryption, "_renew", change_before)
    found = done()["commands.Credential.secret"]
    assert (found.renewed, found.fresh) == (0, 1)
    assert Credential.objects.get(pk=credential.pk).secret == "changed"
    assert Fernet(newer).decrypt(stored()[0].encode()) == b"changed"


@pytest.fixture
def not_restarted(settings, keys, monkeypatch):
    """A process that has the old key first changes a secret whenever one is to be renewed."""
    renew, changed = encryption._renew, []

    def begin(times, after=False):
        newer, old = keys()

        def change(model, key):
            if model is Credential and len(changed) < times:
                settings.CONSOLE_ENCRYPTION_KEYS = [old]
                Credential.objects.filter(pk=key).update(secret=f"changed {len(changed)}")
                settings.CONSOLE_ENCRYPTION_KEYS = [newer, old]
                changed.append(key)

        def changing(model, field, key, token):
            if not after:
                change(model, key)
            done = renew(model, field, key, token)
            if after:
                change(model, key)
            return done

        monkeypatch.setattr(encryption, "_renew", changing)
        return newer

    return begin


@pytest.mark.parametrize("after", [False, True])
def test_a_secret_that_comes_under_the_old_key_meanwhile_is_looked_at_again(
    credential, not_restarted, settings, after
):
    newer = not_restarted(2, after)
    call_command("rotate_encryption_key", stdout=StringIO())
    settings.CONSOLE_ENCRYPTION_KEYS = [newer]
    assert Credential.objects.get(pk=credential.pk).secret == "changed 1"


@pytest.mark.parametrize("after", [False, True])
def test_no_key_can_go_while_secrets_come_under_the_old_one(
    credential, not_restarted, capsys, after
):
    not_restarted(1_000, after)
    with pytest.raises(CommandError, match=r"1 secrets were changed .* Keep all keys"):
        call_command("rotate_encryption_key")
    told = capsys.readouterr()
    assert "can go" not in told.out
    assert "commands.Credential.secret: 1 encrypted with another key again" in told.err
    details = AuditEvent.objects.get(action="encryption-keys:rotate").details
    assert (details["left"], details["unreadable"]) == (1, 0)


def test_a_change_after_its_column_was_gone_over_is_found_at_the_end(
    credential, keys, settings, monkeypatch
):
    newer, old = keys()
    rotate = encryption.rotate

    def then_changed():
        yield from rotate()
        settings.CONSOLE_ENCRYPTION_KEYS = [old]
        Credential.objects.filter(pk=credential.pk).update(secret="changed")
        settings.CONSOLE_ENCRYPTION_KEYS = [newer, old]

    monkeypatch.setattr(encryption, "rotate", then_changed)
    with pytest.raises(CommandError, match="restart every web and worker process"):
        call_command("rotate_encryption_key", stdout=StringIO(), stderr=StringIO())
    assert encryption.remaining() == {"commands.Credential.secret": 1}


def test_what_no_key_decrypts_is_named_and_left(credential, settings):
    before = stored()
    settings.CONSOLE_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    err = StringIO()
    with pytest.raises(CommandError, match="1 secrets were left as they are"):
        call_command("rotate_encryption_key", stdout=StringIO(), stderr=err)
    assert f"commands.Credential {credential.pk}: no configured key decrypts" in err.getvalue()
    assert stored() == before


def test_by_hand(credential, keys, capsys):
    keys()
    call_command("rotate_encryption_key")
    out = capsys.readouterr().out
    assert "commands.Credential.secret: 1 renewed, 0 up to date" in out
    assert out.endswith("Every secret is encrypted with the newest key. The others can go.\n")
    assert credential.secret not in out


def test_every_encrypted_column_is_found():
    found = {(model.__name__, field) for model, field in encryption.columns()}
    assert {
        ("Credential", "secret"),
        ("Credential", "passphrase"),
        ("Invocation", "values"),
    } <= found
    for model, field in encryption.columns():
        assert isinstance(model._meta.get_field(field), EncryptedTextField)
