"""Importing: what rows mean, which keys are pinned, and that all or nothing is written."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import queue
from commands.errors import Conflict, ConnectFailed, Denied, Forgotten, Invalid, Outdated
from commands.execution import hostkey
from commands.execution.fake import FakeExecutor
from commands.models import Credential, Import, ImportRow, Instance, Membership, Role
from commands.rules import known_hosts
from commands.rules.inventory_files import NAME, checked_text, read_csv
from commands.rules.ssh_config import read as read_config
from commands.rules.status import ErrorCode
from commands.services import importing, instances, judging, keyreading, resource_groups
from commands.services.importing import Key, Report
from commands.services.judging import State
from commands.services.worker import Worker
from tests.conftest import HOST_KEY
from tests.rules.test_known_hosts import ECDSA, RSA, hashed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

KNOWN = f"a.example {HOST_KEY}\n{hashed('b.example')} {ECDSA}\n"
TWO = "name,host,user,tags\na,a.example,deploy,role=web\nb,b.example,deploy,\n"


@pytest.fixture
def begin(cast, credential):
    def go(text=TWO, known=KNOWN, read=read_csv, default=credential, user="", actor=None):
        return importing.begin(
            actor=actor or cast.alice,
            team=cast.team,
            region=cast.region,
            inventory=read(checked_text(text)),
            known=known_hosts.read(known),
            credential=default,
            user=user,
            now=timezone.now(),
        )

    return go


@pytest.fixture
def finish(cast):
    def go(origin, names=None, confirmed=False, actor=None):
        lines = importing.review(origin).lines
        return importing.finish(
            actor=actor or cast.alice,
            origin=origin,
            shown={
                line.row.pk: line.mark
                for line in lines
                if (line.row.chosen if names is None else line.row.name in names)
            },
            confirmed=confirmed,
            now=timezone.now(),
        )

    return go


def meanings(origin) -> dict[str, State]:
    return {line.row.name: line.state for line in importing.review(origin).lines}


def only(origin):
    [line] = importing.review(origin).lines
    return line


def test_new_instances(begin, finish, cast, credential, sent):
    origin = begin()
    assert meanings(origin) == {"a": State.NEW, "b": State.NEW}
    assert not Instance.objects.exists()
    sent.clear()
    assert finish(origin) == Report(2, 0, 0)
    assert set(map(str, sent)) == {str((queue.Job.CHECK_CONNECTIONS, {}))}
    a, b = Instance.objects.order_by("name")
    assert (a.host, a.port, a.user, a.credential) == ("a.example", 22, "deploy", credential)
    assert (a.host_key, b.host_key) == (HOST_KEY, ECDSA)
    assert (a.team, a.region, a.os_type, a.connection) == (
        cast.team,
        cast.region,
        "linux",
        "unknown",
    )
    assert [str(tag) for tag in a.tags.all()] == ["role=web"]
    assert a.resource_group == b.resource_group == resource_groups.default_of(cast.team)
    assert not Import.objects.exists()
    assert not ImportRow.objects.exists()


def test_importing_again_changes_nothing(begin, finish):
    finish(begin())
    before = list(Instance.objects.values())
    origin = begin()
    assert set(meanings(origin).values()) == {State.SAME}
    with pytest.raises(Invalid, match="at least one"):
        finish(origin)
    assert list(Instance.objects.values()) == before


def test_what_changes_is_said_and_done(begin, finish, make_instance, cast):
    jump = make_instance("gate", host="gate.example")
    other = instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="other", password="p"
    )
    old = make_instance("a", host="a.example", tags={"role": "db"})
    Instance.objects.filter(pk=old.pk).update(connection="reachable", checked_at=timezone.now())
    text = (
        "name,host,port,user,credential,tags,jump host,os\n"
        'a,a.test,2222,deploy,other,"role=web;canary",gate,windows\n'
    )
    line = only(begin(text, known=""))
    assert line.state is State.CHANGED
    assert line.reasons == [
        "Host: a.example → a.test.",
        "Port: 22 → 2222.",
        "User: root → deploy.",
        "Os: linux → windows.",
        "Credential: another one → other.",
        "Tags: role=db → canary, role=web.",
        "Jump host: none → gate.",
    ]
    assert not line.careful
    assert finish(line.row.origin) == Report(0, 1, 0)
    new = Instance.objects.get(pk=old.pk)
    assert (new.host, new.port, new.user, new.os_type) == ("a.test", 2222, "deploy", "windows")
    assert (new.credential, new.jump_host, new.host_key) == (other, jump, old.host_key)
    assert (new.connection, new.checked_at) == ("unknown", None)
    assert [str(tag) for tag in new.tags.all()] == ["canary", "role=web"]


def test_what_others_do_at_the_same_moment_is_not_undone(
    begin, finish, make_instance, monkeypatch, cast
):
    """One is switched off, another removed, after the rows were looked at."""
    make_instance("a", host="old.example")
    origin = begin("name,host\na,a.example", known="")

    def meanwhile(change):
        look = importing.review

        def looked(origin):
            found = look(origin)
            change(Instance.objects.filter(name="a"))
            return found

        monkeypatch.setattr(importing, "review", looked)

    meanwhile(lambda rows: rows.update(enabled=False))
    assert finish(origin) == Report(0, 1, 0)
    a = Instance.objects.get()
    assert (a.host, a.enabled) == ("a.example", False)
    monkeypatch.undo()
    origin = begin("name,host\na,b.example", known="")
    shown = {line.row.pk: line.mark for line in importing.review(origin).lines}
    meanwhile(lambda rows: rows.delete())
    with pytest.raises(Conflict, match="a was removed in the meantime"):
        importing.finish(
            actor=cast.alice, origin=origin, shown=shown, confirmed=False, now=timezone.now()
        )
    assert Import.objects.get() == origin


def test_a_file_without_a_column_leaves_that_alone(begin, make_instance):
    make_instance("a", host="a.example", user="root", tags={"role": "db"})
    assert only(begin("name,host\na,a.example", known="")).state is State.SAME


def test_tags_alone_do_not_make_it_another_place(begin, finish, make_instance):
    old = make_instance("a", host="a.example")
    Instance.objects.filter(pk=old.pk).update(connection="reachable", checked_at=timezone.now())
    finish(begin("name,host,tags\na,a.example,x", known=""))
    assert Instance.objects.get().connection == "reachable"


def test_another_host_key_is_never_taken_without_a_thought(begin, finish, make_instance):
    make_instance("a", host="a.example", user="deploy", host_key=ECDSA)
    origin = begin("name,host\na,a.example", known=KNOWN)
    line = only(origin)
    assert (line.state, line.careful, line.row.chosen) == (State.CHANGED, True, False)
    assert line.reasons[0].startswith("Host key: SHA256:")
    with pytest.raises(Invalid):
        finish(origin)
    assert finish(begin("name,host\na,a.example"), names=["a"]) == Report(0, 1, 0)
    assert Instance.objects.get().host_key == HOST_KEY


def test_the_same_address_under_another_name_is_not_chosen(begin, make_instance):
    make_instance("old", host="A.example", user="deploy")
    line = only(begin("name,host,user\nnew,a.example,deploy"))
    assert (line.state, line.careful, line.row.chosen) == (State.NEW, True, False)
    assert line.reasons == ["old has the same address and user."]


def test_two_names_for_one_server_in_one_file(begin):
    text = "Host web www\n HostName a.example\n User u\nHost web2\n HostName A.EXAMPLE\n User v\n"
    web, www, web2 = sorted(importing.review(begin(text, read=read_config)).lines, key=line_number)
    assert (web.careful, web.row.chosen, web.reasons) == (False, True, [])
    assert (www.state, www.careful, www.row.chosen) == (State.NEW, True, False)
    assert www.reasons == ["web has the same address and user."]
    assert (web2.careful, web2.reasons) == (False, [])


def line_number(line):
    return line.row.line, line.row.pk


def test_a_new_name_for_where_the_file_moves_an_instance(begin, make_instance):
    make_instance("a", host="old.example", user="u")
    line, _ = importing.review(begin("name,host,user\na,a.example,u\nb,a.example,u\n")).lines[::-1]
    assert (line.row.name, line.careful, line.reasons) == (
        "b",
        True,
        ["a has the same address and user."],
    )


def test_a_jump_host_by_its_second_name_is_the_one_that_is_imported(begin, finish):
    text = (
        "Host gate gate.example\n HostName gate.example\n User u\n"
        "Host web\n HostName a.example\n User u\n ProxyJump gate.example\n"
    )
    known = f"*.example {HOST_KEY}\n"
    assert finish(begin(text, known=known, read=read_config)) == Report(2, 0, 0)
    assert Instance.objects.get(name="web").jump_host.name == "gate"
    again = begin(text, known=known, read=read_config)
    assert meanings(again) == {"gate": State.SAME, "web": State.SAME, "gate.example": State.NEW}


@pytest.mark.parametrize("change", ["key", "name", "instance", "none"])
def test_only_what_was_shown_is_imported(begin, finish, cast, make_instance, change):
    origin = begin(known=f"a.example {HOST_KEY}")
    old = make_instance("b", host="old.example") if change == "instance" else None
    lines = importing.review(origin).lines
    shown = {line.row.pk: line.mark for line in lines}
    b = next(line.row for line in lines if line.row.name == "b")
    if change == "key":
        ImportRow.objects.filter(pk=b.pk).update(wanted=True)
        importing.record_keys(keys=[Key(b.pk, ECDSA)])
    elif change == "name":
        make_instance("b", host="old.example")
    elif old:
        Instance.objects.filter(pk=old.pk).update(host="newer.example")
    given = {"actor": cast.alice, "origin": origin, "confirmed": True, "now": timezone.now()}
    before = list(Instance.objects.values())
    if change == "none":
        assert importing.finish(**given, shown=shown) == Report(1, 0, 1)
        return
    with pytest.raises(Outdated) as caught:
        importing.finish(**given, shown=shown)
    assert caught.value.ids == {b.pk}
    assert list(Instance.objects.values()) == before
    with pytest.raises(Outdated):
        importing.finish(**given, shown={b.pk: ""})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host\na.example", "Nobody is named"),
        ("host,user,credential\na.example,u,none", "no credential called none"),
        ("host,user,jump host\na.example,u,nowhere", "neither in this file nor an instance"),
        ("host,user,jump host\na.example,u,a.example", "own jump host"),
        ("host,user,jump host\na.example,u,behind", "reached through a jump host itself"),
        ("name,host,user,jump host\ngate,gate.example,root,other", "jump host of others"),
        ("name,host,user\ntwice,a.example,u", "2 instances with this name"),
        (f"host,user,host key\na.example,u,{RSA}", "not the one in known_hosts"),
        ("host,user\n-x,u", "no host name"),
    ],
)
def test_what_can_not_be_imported(begin, finish, make_instance, text, said):
    gate = make_instance("gate", host="gate.example")
    make_instance("behind", jump_host=gate)
    make_instance("other", port=23)
    for port in (24, 25):
        make_instance("twice", port=port)
    origin = begin(text)
    line = only(origin)
    assert line.state is State.WRONG
    assert any(said in reason for reason in line.reasons), line.reasons
    before = list(Instance.objects.values())
    with pytest.raises(Invalid, match="at least one"):
        finish(origin, names=[line.row.name])
    assert list(Instance.objects.values()) == before


def test_a_revoked_key_is_never_pinned(begin):
    text = f"host,user,host key\na.example,u,{HOST_KEY}"
    line = only(begin(text, known=f"@revoked a.example {HOST_KEY}"))
    assert line.state is State.WRONG
    assert "revoked" in line.reasons[0]


def test_what_is_for_rows_without(begin, finish, credential, cast):
    line = only(begin("host\na.example", user="app"))
    assert (line.user, line.signs_in_with) == ("app", "key")
    origin = begin("host\na.example", user="app", default=None)
    assert "It has no credential" in only(origin).reasons[0]
    rows = [row.pk for row in origin.rows.all()]
    importing.choose(actor=cast.alice, origin=origin, row_ids=rows, credential=credential)
    assert only(origin).state is State.NEW


def test_a_credential_of_another_team_is_not_there(begin, cast):
    theirs = Credential.objects.create(
        team=cast.other_team, region=cast.region, name="theirs", kind="password", secret="p"
    )
    with pytest.raises(Denied):
        begin(default=theirs)
    assert "no credential called" in only(begin("host,credential\na.example,theirs")).reasons[-1]


CONFIG = """
Host gate
  HostName gate.example
  IdentityFile ~/.ssh/id_ops
Host web
  HostName web.example
  ProxyJump gate
  IdentityFile ~/.ssh/unknown
Host *
  User deploy
"""


def test_an_ssh_configuration_with_a_jump_host_in_it(begin, finish, cast, credential):
    key = instances.add_credential(
        actor=cast.alice, team=cast.team, region=cast.region, name="Key id_ops", password="p"
    )
    known = f"gate.example {HOST_KEY}\nweb.example {RSA}\n"
    origin = begin(CONFIG, known=known, read=read_config)
    assert [text for _, text in origin.notes] == [
        "* is a pattern, no server. What is below it counts where it fits."
    ]
    with pytest.raises(Conflict, match="Select both, or neither"):
        finish(begin(CONFIG, known=known, read=read_config), names=["web"])
    assert not Instance.objects.exists()
    assert finish(origin) == Report(2, 0, 0)
    gate, web = Instance.objects.order_by("name")
    assert (web.jump_host, gate.jump_host) == (gate, None)
    assert (gate.credential, web.credential) == (key, credential)
    again = begin(CONFIG, known=known, read=read_config)
    assert set(meanings(again).values()) == {State.SAME}


def test_a_row_behind_one_that_is_there_already(begin, finish, make_instance):
    gate = make_instance("gate", host="gate.example", user="deploy")
    known = f"gate.example {HOST_KEY}\nweb.example {RSA}\n"
    finish(begin(CONFIG, known=known, read=read_config), names=["web"])
    assert Instance.objects.get(name="web").jump_host == gate


@pytest.mark.parametrize("named", ["g", "10.0.0.2", "ops@10.0.0.2:22"])
def test_a_chain_within_one_file(begin, finish, named):
    rows = {"a": "10.0.0.1", "g": "10.0.0.2", "h": "10.0.0.3"}
    known = "".join(f"{host} {HOST_KEY}\n" for host in rows.values())
    direct = "".join(f"{name},{host},\n" for name, host in rows.items())
    finish(begin("name,host,jump host\n" + direct, known=known, user="u"))
    origin = begin(f"name,host,jump host\na,10.0.0.1,{named}\ng,10.0.0.2,h\nh,10.0.0.3,\n")
    assert meanings(origin) == {"a": State.WRONG, "g": State.CHANGED, "h": State.SAME}
    assert finish(origin) == Report(0, 1, 0)
    behind = Instance.objects.exclude(jump_host=None)
    assert [(one.name, one.jump_host.name) for one in behind] == [("g", "h")]


def test_a_row_may_look_at_what_the_one_before_it_changed(begin, finish, monkeypatch):
    known = "".join(f"10.0.0.{number} {HOST_KEY}\n" for number in (1, 2, 3))
    finish(begin("name,host\na,10.0.0.1\ng,10.0.0.2\nh,10.0.0.3\n", known=known, user="u"))
    origin = begin("name,host,jump host\na,10.0.0.1,g\ng,10.0.0.2,h\n")
    # Even if nobody had noticed when the file was read.
    monkeypatch.setattr(judging._Judgement, "_is_behind", lambda *_: False)
    with pytest.raises(Invalid, match="so it must be reached directly"):
        finish(origin, names=["a", "g"])
    assert not Instance.objects.exclude(jump_host=None).exists()


def test_a_jump_host_that_can_not_be_used_stops_no_other_host(begin, cast, make_instance):
    gate = make_instance("gate", host="gate.example")
    origin = begin("host,user,jump host\nx.example,u,gate\ny.example,u,\n", known="")
    importing.ask_for_keys(actor=cast.alice, origin=origin)
    # A chain, as no service makes it.
    ways = [make_instance("farther"), make_instance("farthest")]
    other = Credential.objects.create(
        team=cast.team, region=cast.region, name="other", kind="password", secret="p"
    )
    Instance.objects.filter(pk=ways[1].pk).update(credential=other)
    Instance.objects.filter(pk=ways[0].pk).update(jump_host=ways[1])
    Instance.objects.filter(pk=gate.pk).update(jump_host=ways[0])
    x, y = importing.claim_keys(busy=(), limit=9, now=timezone.now())
    assert (x.jump, y.obstacle) == (None, "")
    assert "only one is passed through" in x.obstacle


@pytest.mark.parametrize("text", ["gate", "ops@gate.example", "gate.example:2222", "ID"])
def test_ways_to_name_a_jump_host(begin, make_instance, text):
    gate = make_instance("gate", host="gate.example", port=2222)
    name = gate.uid if text == "ID" else text
    assert only(begin(f"host,user,jump host\na.example,u,{name}")).jump_host == gate


def test_one_failure_writes_nothing(begin, finish, monkeypatch):
    origin = begin()

    def broken(*_, **__):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(importing.InstanceTag.objects, "bulk_create", broken)
    with pytest.raises(RuntimeError):
        finish(origin)
    assert not Instance.objects.exists()
    assert Import.objects.exists()


def test_an_import_is_done_once(begin, finish):
    origin = begin()
    twin = Import.objects.get(pk=origin.pk)
    rows = {row.pk: "" for row in origin.rows.all()}
    finish(origin)
    with pytest.raises(Forgotten, match="done already"):
        importing.finish(
            actor=twin.created_by, origin=twin, shown=rows, confirmed=True, now=timezone.now()
        )
    with pytest.raises(Forgotten, match="done already"):
        importing.choose(actor=twin.created_by, origin=twin, row_ids=rows, credential=None)
    assert Instance.objects.count() == 2


def test_what_others_imported_meanwhile_is_not_added_again(begin, finish):
    first, second = begin(), begin()
    finish(first)
    with pytest.raises(Invalid):
        finish(second)
    assert Instance.objects.count() == 2


def test_who_may_import(begin, finish, cast):
    for user in (cast.bob, cast.vera, cast.charlie):
        with pytest.raises(Denied):
            begin(actor=user)
    origin = begin()
    for user in (cast.bob, cast.charlie):
        with pytest.raises(Denied):
            finish(origin, actor=user)
        with pytest.raises(Denied):
            importing.give_up(actor=user, origin=origin)
        with pytest.raises(Denied):
            importing.ask_for_keys(actor=user, origin=origin)
        with pytest.raises(Denied):
            importing.choose(actor=user, origin=origin, row_ids=[], credential=None)
    importing.give_up(actor=cast.alice, origin=origin)
    assert not ImportRow.objects.exists()


def test_imports_that_nobody_finished_are_forgotten(begin):
    origin = begin()
    importing.expire(now=origin.expires_at - timedelta(seconds=1))
    assert Import.objects.exists()
    importing.expire(now=origin.expires_at)
    assert not Import.objects.exists()
    for _ in range(importing.EACH + 2):
        begin()
    assert Import.objects.count() == importing.EACH


def test_five_thousand_rows(begin, finish, django_assert_max_num_queries):
    lines = [f"n-{number},10.{number >> 8}.{number & 255}.1,{HOST_KEY}" for number in range(5000)]
    text = "name,host,host key\n" + "\n".join(lines)
    origin = begin(text, known="", user="u")
    with django_assert_max_num_queries(300):
        assert finish(origin) == Report(5000, 0, 0)
    assert set(meanings(begin(text, known="", user="u")).values()) == {State.SAME}


@given(st.text(max_size=140))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_name_that_a_file_may_have_is_one_that_an_instance_may_have(make_instance, name):
    taken = name.strip() == name and NAME.fullmatch(name) is not None
    try:
        instance = make_instance(name)
    except Invalid:
        assert not taken
    else:
        assert NAME.fullmatch(instance.name)


# host keys that are read


@pytest.fixture
def hosts(monkeypatch):
    """Host keys by host, a sentence for one that does not answer, and who was asked how."""

    class Hosts:
        keys: dict[str, str] = {}
        asked: list = []
        go_on = threading.Event()

    Hosts.keys, Hosts.asked = {}, []
    Hosts.go_on.set()

    def read(host, port, jump=None, *, allowed=()):
        Hosts.asked.append((host, port, jump))
        Hosts.go_on.wait(30)
        if host not in Hosts.keys:
            raise ConnectFailed(f"{host} is away.", code=ErrorCode.INSTANCE_UNREACHABLE)
        return Hosts.keys[host]

    monkeypatch.setattr(hostkey, "read", read)
    return Hosts


@pytest.fixture
def worker(hosts):
    made = Worker(FakeExecutor())
    yield made
    hosts.go_on.set()
    made.stop()
    connection.close()


def ask(origin, worker, cast):
    number = importing.ask_for_keys(actor=cast.alice, origin=origin)
    worker.key_reader.ask()
    until = time.monotonic() + 30
    while origin.rows.filter(wanted=True).exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return number


def test_keys_are_read_and_must_be_confirmed(begin, finish, worker, hosts, cast):
    origin = begin(known="")
    assert all(line.keyless for line in importing.review(origin).lines)
    with pytest.raises(Invalid, match="has a host key"):
        finish(origin)
    hosts.keys = {"a.example": HOST_KEY}
    assert ask(origin, worker, cast) == 2
    a, b = sorted(importing.review(origin).lines, key=lambda line: line.row.name)
    assert (a.host_key, a.row.key_source) == (HOST_KEY, "read")
    assert (b.keyless, b.row.unanswered) == (True, "b.example is away.")
    with pytest.raises(Invalid, match="Compare the fingerprints"):
        finish(origin)
    assert not Instance.objects.exists()
    assert finish(origin, confirmed=True) == Report(1, 0, 1)
    assert Instance.objects.get().host_key == HOST_KEY


def test_only_chosen_hosts_without_a_key_are_asked(begin, worker, hosts, cast):
    origin = begin("name,host,user\na,a.example,u\nb,x.example,u\nc,y.example,u\n")
    chosen = origin.rows.exclude(name="c")
    importing.choose(
        actor=cast.alice, origin=origin, row_ids=[row.pk for row in chosen], credential=None
    )
    origin.refresh_from_db()
    importing.choose(
        actor=cast.alice,
        origin=origin,
        row_ids=[row.pk for row in chosen],
        credential=Credential.objects.get(),
    )
    assert ask(origin, worker, cast) == 1
    assert [host for host, _, _ in hosts.asked] == ["x.example"]


def test_a_host_is_asked_through_its_jump_host(begin, worker, hosts, cast, make_instance):
    make_instance("gate", host="gate.example", user="ops")
    hosts.keys = {"x.example": RSA}
    origin = begin("host,user,jump host\nx.example,u,gate")
    ask(origin, worker, cast)
    [(_, _, jump)] = hosts.asked
    assert (jump.host, jump.user) == ("gate.example", "ops")


def test_through_a_jump_host_that_is_not_there_yet_nobody_is_asked(begin, worker, hosts, cast):
    text = "name,host,user,jump host\ngate,a.example,u,\nx,x.example,u,gate\n"
    origin = begin(text)
    ask(origin, worker, cast)
    assert hosts.asked == []
    assert "Import that one first" in origin.rows.get(name="x").unanswered


def test_a_revoked_key_that_a_host_shows_is_refused(begin, worker, hosts, cast):
    hosts.keys = {"a.example": HOST_KEY}
    origin = begin("host,user\na.example,u", known=f"@revoked * {HOST_KEY}")
    ask(origin, worker, cast)
    assert "revoked" in only(origin).reasons[0]


def test_rights_are_asked_again_before_a_host_is(begin, worker, hosts, cast):
    origin = begin(known="")
    importing.ask_for_keys(actor=cast.alice, origin=origin)
    Membership.objects.filter(user=cast.alice).update(role=Role.OPERATOR)
    targets = importing.claim_keys(busy=(), limit=9, now=timezone.now())
    assert {target.obstacle for target in targets} == {"You may no longer add instances here."}


def test_silent_hosts_hold_up_no_more_than_their_number(begin, worker, hosts, cast):
    count = keyreading.AT_ONCE + 5
    hosts.go_on.clear()
    text = "host,user\n" + "".join(f"h{number}.example,u\n" for number in range(count))
    origin = begin(text, known="")
    importing.ask_for_keys(actor=cast.alice, origin=origin)
    worker.key_reader.ask()
    until = time.monotonic() + 30
    while len(hosts.asked) < keyreading.AT_ONCE:
        assert time.monotonic() < until
        time.sleep(0.02)
    hosts.go_on.set()
    while origin.rows.filter(wanted=True).exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert len({host for host, _, _ in hosts.asked}) == count
