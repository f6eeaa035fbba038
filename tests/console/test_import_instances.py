"""``manage.py import_instances``."""

from __future__ import annotations

import io
import sys

import pytest
from django.core.management import CommandError, call_command

from commands.errors import ConnectFailed
from commands.execution import hostkey
from commands.models import Import, Instance
from tests.conftest import HOST_KEY

pytestmark = pytest.mark.django_db

CSV = f"name,host,host key\nweb-01,a.example,{HOST_KEY}\nweb-02,b.example,\n"


@pytest.fixture
def run(tmp_path, cast, credential):
    def go(text=CSV, *options, known=None):
        file = tmp_path / "servers"
        file.write_text(text)
        out = io.StringIO()
        more = []
        if known is not None:
            (tmp_path / "known").write_text(known)
            more = ["--known-hosts", str(tmp_path / "known")]
        usual = ["--team", cast.team.name, "--credential", "key", "--user", "deploy"]
        try:
            call_command("import_instances", str(file), *usual, *more, *options, stdout=out)
        finally:
            assert not Import.objects.exists()
        return out.getvalue()

    return go


@pytest.fixture
def hosts(monkeypatch):
    keys = {"b.example": HOST_KEY}

    def read(host, port, jump=None, *, allowed=()):
        if host not in keys:
            raise ConnectFailed(f"{host} is away.", code="InstanceUnreachable")
        return keys[host]

    monkeypatch.setattr(hostkey, "read", read)
    return keys


def at_a_terminal(monkeypatch, answer):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)


def test_what_has_a_key_is_imported(run):
    told = run()
    assert "line 2: new  web-01 a.example:22  SHA256:" in told
    assert "line 3: new  web-02 b.example:22  no host key yet" in told
    assert "Added 1, changed 0, left out 1 without a host key." in told
    assert Instance.objects.get().user == "deploy"
    again = run(CSV.rsplit("web-02", maxsplit=1)[0])
    assert "same" in again
    assert "There is nothing to import." in again


def test_known_hosts_and_an_ssh_configuration(run):
    text = "Host web\n  HostName a.example\nHost *\n  User root\n"
    told = run(text, "--ssh-config", known=f"a.example {HOST_KEY}\n")
    assert "line 3: * is a pattern" in told
    assert "Added 1" in told
    assert Instance.objects.get().user == "root"


def test_a_dry_run_changes_nothing(run):
    assert "new  web-01" in run(CSV, "--dry-run")
    assert not Instance.objects.exists()


def test_one_wrong_line_stops_all_unless_it_is_skipped(run):
    text = f"{CSV}web-03,-x,\n"
    with pytest.raises(CommandError, match="1 of 3 are wrong"):
        run(text)
    assert not Instance.objects.exists()
    assert "line 4: wrong" in run(text, "--skip-wrong")
    assert Instance.objects.count() == 1


def test_keys_that_hosts_show_are_confirmed_by_a_person(run, hosts, monkeypatch):
    with pytest.raises(CommandError, match="nobody is here"):
        run(CSV, "--read-keys")
    at_a_terminal(monkeypatch, "n")
    with pytest.raises(CommandError, match="Nothing was imported"):
        run(CSV, "--read-keys")
    assert not Instance.objects.exists()
    at_a_terminal(monkeypatch, "y")
    assert "Added 2, changed 0, left out 0" in run(CSV, "--read-keys")


def test_who_does_not_answer_is_left_out(run, hosts):
    hosts.clear()
    told = run(CSV, "--read-keys")
    assert "b.example is away." in told
    assert "left out 1" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--team", "Nobody"], "no such team"),
        (["--region", "moon"], "no such region"),
        (["--credential", "none"], "no credential called none"),
        (["--user", "a b"], "no name of a user"),
        (["--known-hosts", "/no/such/file"], "can't be read: No such file"),
    ],
)
def test_what_is_not_there(run, options, said):
    with pytest.raises(CommandError, match=said):
        run(CSV, *options)
    assert not Instance.objects.exists()


def test_a_file_that_is_refused(run):
    with pytest.raises(CommandError, match="no column pasword"):
        run("host,pasword\na,b\n")
