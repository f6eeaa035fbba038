"""Instances, credentials, and what the database keeps of them."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone

from commands import queue
from commands.errors import Conflict, Denied, Invalid
from commands.models import Credential, Instance
from commands.models.instance import fingerprint
from commands.services import instances, lending, runs
from tests.conftest import HOST_KEY

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


def stored_secret(credential):
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM commands_credential WHERE id = %s", [credential.pk])
        return cursor.fetchone()[0]


def test_secrets_are_encrypted_at_rest(credential):
    assert "PRIVATE KEY" not in stored_secret(credential)
    assert "PRIVATE KEY" in Credential.objects.get().secret


def test_keys_rotate(credential, settings):
    settings.CONSOLE_ENCRYPTION_KEYS = [
        Fernet.generate_key().decode(),
        *settings.CONSOLE_ENCRYPTION_KEYS,
    ]
    old = stored_secret(credential)
    credential = Credential.objects.get()
    assert "PRIVATE KEY" in credential.secret
    credential.save()
    settings.CONSOLE_ENCRYPTION_KEYS = settings.CONSOLE_ENCRYPTION_KEYS[:1]
    assert stored_secret(credential) != old
    assert "PRIVATE KEY" in Credential.objects.get().secret


def test_a_lost_key_is_said_in_a_sentence(credential, settings):
    settings.CONSOLE_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(ImproperlyConfigured, match="lacks the key"):
        Credential.objects.get()


def test_credentials_that_are_refused(cast, credential):
    add = {"actor": cast.alice, "team": cast.team, "region": cast.region}
    with pytest.raises(Invalid):
        instances.add_credential(**add, name="both", private_key="k", password="p")
    with pytest.raises(Invalid):
        instances.add_credential(**add, name="none")
    with pytest.raises(Conflict):
        instances.add_credential(**add, name="key", password="p")
    with pytest.raises(Denied):
        instances.add_credential(**{**add, "actor": cast.bob}, name="x", password="p")


def test_an_instance_signs_in_with_its_credential(cast, make_instance):
    instance = make_instance("web-01", host="::1", port=2222)
    assert instance.address == "[::1]:2222"
    endpoint = runs.endpoint(instance)
    assert (endpoint.host, endpoint.port, endpoint.password) == ("::1", 2222, "")
    assert "PRIVATE KEY" in endpoint.private_key
    assert "PRIVATE KEY" not in repr(endpoint)


def test_a_password_is_no_key(cast):
    credential = instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="pw", password="hunter2"
    )
    instance = instances.add_instance(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        name="pw-01",
        host="h",
        user="u",
        credential=credential,
        host_key=HOST_KEY,
        tags={"web": ""},
    )
    endpoint = runs.endpoint(instance)
    assert (endpoint.password, endpoint.private_key) == ("hunter2", "")
    assert [str(tag) for tag in instance.tags.all()] == ["web"]


@pytest.mark.parametrize(
    "columns",
    [
        {"host_key": "nonsense"},
        {"host_key": "ssh-ed25519 !!"},
        {"port": 0},
        {"port": 70_000},
        {"host": " "},
    ],
)
def test_instances_that_are_refused(make_instance, columns):
    with pytest.raises(Invalid):
        make_instance("web-01", **columns)
    assert not Instance.objects.exists()


def test_who_may_not_add_or_lend(cast, credential, make_instance):
    with pytest.raises(Denied):
        instances.add_instance(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            name="x",
            host="h",
            user="u",
            credential=credential,
            host_key=HOST_KEY,
        )
    with pytest.raises(Denied):
        instances.add_instance(
            actor=cast.charlie,
            team=cast.other_team,
            region=cast.region,
            name="x",
            host="h",
            user="u",
            credential=credential,
            host_key=HOST_KEY,
        )
    mine = make_instance("mine")
    with pytest.raises(Denied):
        lending.lend_instance(actor=cast.charlie, instance=mine, team=cast.other_team)
    with pytest.raises(Invalid):
        lending.lend_instance(actor=cast.alice, instance=mine, team=cast.team)


def test_the_fingerprint_is_openssh_s():
    # ssh-keygen -lf on the same key
    assert fingerprint(HOST_KEY).startswith("SHA256:")
    assert len(fingerprint(HOST_KEY)) == len("SHA256:") + 43
    assert fingerprint("x") == ""


def test_demo_instances_are_refreshed_not_doubled(cast):
    given = {
        "team": cast.team,
        "name": "demo-1",
        "host": "127.0.0.1",
        "user": "me",
        "private_key": "k",
        "host_key": HOST_KEY,
    }
    first = instances.ensure_demo_instance(**given, port=4000)
    Instance.objects.update(connection="reachable", checked_at=timezone.now(), system="Debian")
    again = instances.ensure_demo_instance(**given, port=4001)
    assert (first.pk, again.port) == (again.pk, 4001)
    kept = Instance.objects.get()
    assert (kept.port, kept.connection, kept.checked_at, kept.system) == (4001, "unknown", None, "")
    assert [str(tag) for tag in kept.tags.all()] == ["demo"]


def test_a_new_instance_is_checked_at_once(make_instance, sent, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        make_instance(" web-01 ")
    assert Instance.objects.get().name == "web-01"
    assert sent == [(queue.Job.CHECK_CONNECTIONS, {})]
