"""``manage.py add_instance`` against a real SSH server."""

from __future__ import annotations

import io
import sys

import pytest
from django.core.management import CommandError, call_command

from commands.execution.ssh import SshExecutor
from commands.models import Credential, Instance, Membership
from commands.models.instance import fingerprint
from commands.services import runs
from tests.conftest import HOST_KEY
from tests.sshd import Sshd, ssh_keygen

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Sshd.started(tmp_path_factory.mktemp("server")) as [one]:
        yield one


@pytest.fixture
def add(cast, server):
    def run(name="web-01", **options):
        output = io.StringIO()
        given = {
            "port": server.port,
            "key": server.directory / "client_key",
            "team": cast.team.name,
            "fingerprint": fingerprint(server.endpoint.host_key),
            **options,
        }
        call_command("add_instance", name, "127.0.0.1", stdout=output, **given)
        return output.getvalue()

    return run


def test_it_adds_and_pins_the_key(add, cast, server):
    assert "Added web-01" in add(tag=["web", "zone=a"])
    instance = Instance.objects.get()
    assert instance.team == cast.team
    assert instance.host_key == server.endpoint.host_key
    assert [str(tag) for tag in instance.tags.all()] == ["web", "zone=a"]
    add("web-02")
    assert Credential.objects.count() == 1  # the same key file is kept once


def test_a_windows_instance(add):
    add(os="windows")
    assert Instance.objects.get().os_type == "windows"


def test_another_fingerprint_adds_nothing(add):
    with pytest.raises(CommandError, match="not SHA256:other"):
        add(fingerprint="SHA256:other")
    assert not Instance.objects.exists()


@pytest.mark.parametrize(("answer", "added"), [("y", 1), ("n", 0)])
def test_a_person_is_asked(add, monkeypatch, answer, added):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    if added:
        assert "SHA256:" in add(fingerprint=None)
    else:
        with pytest.raises(CommandError, match="Nothing was added"):
            add(fingerprint=None)
    assert Instance.objects.count() == added


def test_a_password_is_asked_for(add, monkeypatch):
    monkeypatch.setattr("console.management.commands.add_instance.getpass", lambda _: "hunter2")
    add(key=None)
    assert Credential.objects.get().kind == "password"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"port": 1}, "does not answer on port 1"),
        ({"team": "Nobody"}, "no such team"),
        ({"region": "mars"}, "no such region"),
        ({"key": "missing"}, "can't be read"),
    ],
)
def test_what_is_wrong_is_said(add, tmp_path, options, sentence):
    if "key" in options:
        options = {"key": tmp_path / "missing"}
    with pytest.raises(CommandError, match=sentence):
        add(**options)
    assert not Instance.objects.exists()


def test_a_team_without_an_admin(add, cast):
    Membership.objects.filter(role="team_admin").delete()
    with pytest.raises(CommandError, match="no team admin"):
        add()


@pytest.fixture
def passphrase(monkeypatch):
    """What is typed where a passphrase is asked for, as a list of one."""
    typed = ["right"]
    monkeypatch.setattr("console.management.commands.add_instance.getpass", lambda _: typed[0])
    return typed


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_with_a_passphrase_signs_in(add, server, tmp_path, passphrase, kind):
    public = ssh_keygen(tmp_path / "key", kind, "right")
    with (server.directory / "authorized_keys").open("a") as keys:
        keys.write(public + "\n")
    add(key=tmp_path / "key", passphrase=True, user=server.endpoint.user)
    executor = SshExecutor()
    try:
        assert executor.probe(runs.endpoint(Instance.objects.get()))
    finally:
        executor.close()


def test_a_key_that_does_not_open_is_not_taken(add, tmp_path, passphrase):
    ssh_keygen(tmp_path / "key", passphrase="right")
    with pytest.raises(CommandError, match="it needs a passphrase"):
        add(key=tmp_path / "key")
    passphrase[0] = "wrong"
    with pytest.raises(CommandError, match="the passphrase does not open it"):
        add(key=tmp_path / "key", passphrase=True)
    (tmp_path / "key.pub").write_bytes(b"\xff")
    with pytest.raises(CommandError, match=r"key.pub can't be read: it is no text"):
        add(key=tmp_path / "key.pub")
    (tmp_path / "none").write_text("none")
    with pytest.raises(CommandError, match="not a private key"):
        add(key=tmp_path / "none")
    assert not Credential.objects.exists()


def test_the_same_key_with_another_passphrase_is_another_credential(add, tmp_path, passphrase):
    ssh_keygen(tmp_path / "key", passphrase="right")
    add(key=tmp_path / "key", passphrase=True)
    Credential.objects.update(passphrase="wrong")
    add("web-02", key=tmp_path / "key", passphrase=True)
    assert {each.passphrase for each in Credential.objects.all()} == {"wrong", "right"}
    assert Instance.objects.get(name="web-02").credential.passphrase == "right"


@pytest.fixture
def bastion(add):
    add("bastion")
    return Instance.objects.get()


def test_an_instance_behind_a_jump_host(add, bastion, tmp_path):
    with Sshd.started(tmp_path) as [inner]:
        expected = fingerprint(inner.endpoint.host_key)
        options = {"port": inner.port, "key": inner.directory / "client_key"}
        add("db-01", jump="bastion", fingerprint=expected, **options)
        add("db-02", jump=bastion.uid, fingerprint=expected, **options)
        made = Instance.objects.exclude(pk=bastion.pk)
        assert {each.jump_host for each in made} == {bastion}
        assert {each.host_key for each in made} == {inner.endpoint.host_key}
        executor = SshExecutor()
        try:
            assert executor.probe(runs.endpoint(made[0]))
        finally:
            executor.close()


def test_the_key_is_read_through_the_jump_host(add, bastion):
    Instance.objects.update(host_key=HOST_KEY)
    with pytest.raises(CommandError, match=r"^The jump host .* The host key of"):
        add("db-01", jump="bastion")
    assert Instance.objects.count() == 1


def test_a_jump_host_that_is_not_there_or_not_one(add, bastion):
    with pytest.raises(CommandError, match="no instance nobody"):
        add("db-01", jump="nobody")
    add("bastion")
    with pytest.raises(CommandError, match="Several instances are called bastion"):
        add("db-01", jump="bastion")
