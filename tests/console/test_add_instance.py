"""``manage.py add_instance`` against a real SSH server."""

from __future__ import annotations

import io
import sys

import pytest
from django.core.management import CommandError, call_command

from commands.models import Credential, Instance, Membership
from commands.models.instance import fingerprint
from tests.sshd import Sshd

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
