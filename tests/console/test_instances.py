"""Pages about instances: who sees what, the list, one of them, its tags. No JavaScript here."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from commands.errors import ConnectFailed
from commands.execution import hostkey
from commands.execution.fake import FakeExecutor
from commands.models import Grant, HostKeyChange, Instance, Region, Role, Run
from commands.rules.status import ErrorCode, Phase
from commands.services import invocations, teams, trying
from commands.services.definitions import CommandInput
from console.pages.causes import causes
from tests.borrowing import borrow
from tests.conftest import HOST_KEY
from tests.services.test_inventory import OTHER_KEY

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

PAGES = ["instance", "instance-edit", "instance-tags", "instance-remove", "instance-host-key"]
FORMS = ["instance-edit", "instance-tags", "instance-remove", "instance-host-key"]
ACTIONS = ["instance-check", "instance-enabled"]
LIST = "/instances/"


@pytest.fixture
def web(make_instance):
    instance = make_instance("web-01", host="10.0.4.11", tags={"role": "web"})
    Instance.objects.update(
        connection="reachable", checked_at=timezone.now(), system="Debian GNU/Linux 12"
    )
    instance.refresh_from_db()
    return instance


@pytest.fixture
def alice(cast, sign_in):
    return sign_in(cast.alice)


@pytest.fixture
def vera(cast, sign_in):
    return sign_in(cast.vera)


@pytest.fixture
def shown(monkeypatch):
    """What servers show as their host key, as a list of one."""
    keys: list[str | Exception] = [OTHER_KEY]

    def read(*_args, **_more):
        if isinstance(keys[0], Exception):
            raise keys[0]
        return keys[0]

    monkeypatch.setattr(hostkey, "read", read)
    return keys


@pytest.fixture
def answers(monkeypatch):
    """What instances answer to a check, as a list of one."""
    told: list[str | Exception] = ["Debian 12"]

    class Answering(FakeExecutor):
        def probe(self, endpoint):
            if isinstance(told[0], Exception):
                raise told[0]
            return told[0]

    monkeypatch.setattr(trying, "new_executor", Answering)
    return told


def address(name, instance):
    return reverse(name, args=[instance.uid])


def page(client, url, status=200, **headers):
    answer = client.get(url, headers=headers)
    assert answer.status_code == status
    return re.sub(r"\s+", " ", answer.text)


def names(text):
    return re.findall(r'<a class="nm" href="/instances/[^"]+">([^<]+)</a>', text)


# ---------- who sees what ----------


@pytest.mark.parametrize("name", PAGES)
def test_an_outsider_gets_404(cast, sign_in, web, shown, name):
    page(sign_in(cast.charlie), address(name, web), 404)
    assert "web-01" not in sign_in(cast.charlie).get(LIST).text


@pytest.mark.parametrize("name", [*FORMS, *ACTIONS])
@pytest.mark.parametrize("who", ["charlie", "vera"])
def test_nobody_else_changes_anything(cast, sign_in, web, shown, answers, who, name):
    data = {"reason": "x", "key": OTHER_KEY, "confirmed": "on", "tags": "evil"}
    answer = sign_in(getattr(cast, who)).post(address(name, web), data)
    assert answer.status_code == 404
    kept = Instance.objects.get()
    assert (kept.host_key, kept.enabled, kept.connection) == (HOST_KEY, True, "reachable")
    assert [str(tag) for tag in kept.tags.all()] == ["role=web"]


@pytest.mark.parametrize("name", [*PAGES, *ACTIONS])
def test_nobody_is_sent_to_sign_in(client, web, name):
    answer = client.post(address(name, web))
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/sign-in/")


@pytest.mark.parametrize("uid", ["i-none", "%00", "é", "i-0' OR 1=1"])
def test_what_is_not_there(alice, web, uid):
    assert alice.get(f"/instances/{uid}/").status_code == 404


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RUNNER, Role.OPERATOR])
def test_other_roles_look_and_are_not_led_further(cast, sign_in, web, shown, role):
    teams.add_member(team=cast.team, user=cast.vera, role=role)
    client = sign_in(cast.vera)
    for text in (page(client, LIST), page(client, address("instance", web))):
        assert "web-01" in text
        for word in ("instance-add", "/edit/", "/tags/", "/remove/", "/enabled/", "/import/"):
            assert word not in text
        assert ("/check/" in text) == (role != Role.VIEWER)
        assert ("/run/?instance=" in text) == (role != Role.VIEWER)
    assert "Ask one" in page(client, address("instance-host-key", web))
    for name in ("instance-edit", "instance-tags", "instance-remove"):
        page(client, address(name, web), 404)
    page(client, reverse("instance-add"), 404)


def test_lent_instances_are_seen_and_not_edited(cast, sign_in, web):
    borrow(web, cast.other_team, by=cast.alice, to=cast.charlie)
    client = sign_in(cast.charlie)
    listed = page(client, LIST)
    assert "lent by Storefront" in listed
    assert "/tags/" not in listed
    one = page(client, address("instance", web))
    assert "lent by <b>Storefront</b>" in one
    assert "Lent to" not in one
    assert "Credential" not in one
    for name in ("instance-edit", "instance-tags", "instance-remove"):
        page(client, address(name, web), 404)
    assert "Warehouse" in page(sign_in(cast.alice), address("instance", web))
    Grant.objects.all().delete()
    page(client, address("instance", web), 404)


def test_somebody_without_a_team(cast, sign_in):
    cast.vera.memberships.all().delete()
    assert "No team yet" in page(sign_in(cast.vera), LIST)


# ---------- the list ----------


def test_no_instances_yet(alice, vera):
    text = page(alice, LIST)
    assert "No instances yet" in text
    assert 'href="/instances/add/"' in text
    assert 'href="/instances/import/"' in text
    assert "A team admin can add some" in page(vera, LIST)


def test_a_row_says_everything(alice, web, make_instance, cast):
    make_instance("db-01", jump_host=web, host="10.0.4.12")
    text = page(alice, LIST)
    assert names(text) == ["db-01", "web-01"]
    for word in ("root@10.0.4.11:22", "via web-01", "Debian GNU/Linux 12", "role=web", "Pinned"):
        assert word in text
    assert re.search(r"Reachable, \d s ago", text)
    assert "Not checked yet" in text
    assert "1–2 of 2" in text
    assert re.search(r'aria-current="page">.{0,120}Instances<span class="cnt many num">2<', text)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"connection": "host_key_changed"}, ["Host key changed", "Changed", "Compare the keys"]),
        ({"connection": "sign_in_refused"}, ["Sign-in refused", "What to do"]),
        ({"connection": "unreachable"}, ["Unreachable since", "yesterday", "What to do"]),
        ({"enabled": False}, ["Switched off"]),
    ],
)
def test_states(alice, web, columns, words):
    since = timezone.localtime().replace(hour=12) - timedelta(days=1)
    Instance.objects.update(connection_since=since, **columns)
    text = page(alice, LIST)
    for word in words:
        assert word in text
    assert ("/run/?instance=" in text) == ("enabled" not in columns)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=WEB", ["web-01", "web-02"]),
        ("q=tag:role%3Ddb", ["db-01"]),
        ("q=10.0.4.11", ["web-01"]),
        ("os=windows", ["win-01"]),
        ("connection=unreachable", ["web-02"]),
        ("tag=role%3Dweb", ["web-01"]),
        ("tag=role%3Dweb&tag=role%3Ddb&sort=-name", ["web-01", "db-01"]),
        ("sort=address", ["web-02", "web-01", "db-01", "win-01"]),
        ("sort=-task", ["win-01", "web-02", "web-01", "db-01"]),
        ("sort=connection", ["web-02", "db-01", "win-01", "web-01"]),
        ("sort=-system", ["win-01", "web-01", "web-02", "db-01"]),
        ("sort=password", ["db-01", "web-01", "web-02", "win-01"]),
        ("os=x&connection=y&page=z", ["db-01", "web-01", "web-02", "win-01"]),
        ("q=nothing", []),
    ],
)
def test_searching_filtering_sorting(alice, web, make_instance, query, found):
    make_instance("web-02", host="10.0.4.10")
    Instance.objects.filter(name="web-02").update(connection="unreachable")
    make_instance("db-01", host="10.0.4.12", tags={"role": "db"})
    make_instance("win-01", host="10.0.4.13", os_type="windows")
    text = page(alice, f"{LIST}?{query}")
    assert names(text) == found
    if not found:
        assert "Nothing matches 'nothing'" in text
        assert "Clear search" in text


def test_addresses_keep_the_filters(alice, web, make_instance):
    for number in range(51):
        make_instance(f"fleet-{number:02}")
    text = page(alice, f"{LIST}?q=fleet&sort=-name")
    assert "1–50 of 51" in text
    assert 'rel="next" href="?q=fleet&amp;sort=-name&amp;page=2"' in text
    assert 'href="?q=fleet&amp;sort=name"' in text
    assert 'aria-sort="descending"' in text
    assert names(page(alice, f"{LIST}?q=fleet&sort=-name&page=2")) == ["fleet-00"]


def test_hostile_searches(alice, web):
    for query in ("q=%00", "q=%ED%A0%80", "q=" + "x" * 10_000, "tag=%00", "q=🙂", "page=-1"):
        assert alice.get(f"{LIST}?{query}").status_code == 200


def test_more_rows_take_no_more_queries(alice, web, make_instance, ran):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            page(alice, LIST)
        return len(captured)

    ran()
    before = queries()
    for number in range(10):
        make_instance(f"fleet-{number}", jump_host=web, tags={"role": "fleet"})
    assert queries() == before


def test_instances_of_other_regions_are_elsewhere(alice, web):
    Instance.objects.update(region=Region.objects.create(uid="mars", name="Mars"))
    assert "No instances yet" in page(alice, LIST)


@pytest.fixture
def ran(cast, web):
    """A task of the team on ``web``."""

    def run(name="Hello", team=cast.team, actor=cast.alice):
        task = invocations.run_command(
            actor=actor,
            team=team,
            region=cast.region,
            command=CommandInput(name=name, type="RunShellScript", content="true"),
            instance_uids=[web.uid],
            now=timezone.now(),
        )
        return getattr(task, "invocation", task)

    return run


def test_the_last_task_and_the_tasks_of_one(alice, web, ran):
    ran("First")
    task = ran("Second")
    runs = Run.objects.filter(invocation=task)
    runs.update(status="Failed", exit_code=3, phase=Phase.FINISHED, finished_at=timezone.now())
    text = page(alice, LIST)
    assert f'href="/tasks/{task.uid}/?instance={web.uid}"' in text
    assert "Second" in text
    assert "First" not in text
    assert 'aria-label="Failed"' in text
    one = page(alice, address("instance", web))
    assert one.index("Second") < one.index("First")


def test_tasks_of_others_on_a_lent_instance_are_theirs(cast, sign_in, alice, web, ran):
    borrow(web, cast.other_team, by=cast.alice, to=cast.charlie)
    ran("Secret of the warehouse", cast.other_team, cast.charlie)
    for url in (LIST, address("instance", web)):
        assert "Secret of the warehouse" not in page(alice, url)
        assert "Secret of the warehouse" in page(sign_in(cast.charlie), url)


def test_presence_comes_for_the_rows_that_are_shown_alone(alice, web, make_instance, cast):
    other = make_instance("db-01")
    query = f"?on={web.uid}&on=i-none&on=%00"
    text = page(alice, LIST + query, **{"HX-Request": "true", "HX-Target": "presence"})
    for part in ("system", "connection", "key", "last"):
        assert f'id="{part}-{web.uid}" ' in text
    assert other.uid not in text
    assert "<tr" not in text
    assert "<html" not in text


def test_only_the_results_come_for_a_search(alice, web):
    text = page(alice, LIST, **{"HX-Request": "true", "HX-Target": "results"})
    assert "<html" not in text
    assert "1 instance found" in text


# ---------- one ----------


def test_one_says_what_is_known(alice, web, make_instance):
    make_instance("db-01", jump_host=web)
    text = page(alice, address("instance", web))
    for word in (
        web.uid,
        web.fingerprint,
        "by alice",
        "Debian GNU/Linux 12",
        "role=web",
        "Nobody",
        "Jump host of",
        "db-01",
        "Nothing ran here yet",
    ):
        assert word in text
    assert 'id="causes"' not in text
    assert "PRIVATE KEY" not in text


@pytest.mark.parametrize(
    ("state", "likely"),
    [
        ("unreachable", [1, 1, 1, 0, 0]),
        ("sign_in_refused", [0, 0, 0, 1, 0]),
        ("host_key_changed", [0, 0, 0, 0, 1]),
    ],
)
def test_causes_stand_in_order_with_a_command_each(alice, web, state, likely):
    Instance.objects.update(connection=state, connection_info="Because <it> is so.")
    text = page(alice, address("instance", web))
    assert "Because &lt;it&gt; is so." in text
    for command in (
        "ping -c 3 10.0.4.11",
        "nc -vz -w 5 10.0.4.11 22",
        "systemctl status",
        "ssh -v -p 22 root@10.0.4.11 true",
        "ssh-keyscan -p 22 10.0.4.11",
    ):
        assert command in text
    web.refresh_from_db()
    assert [int(cause.likely) for cause in causes(web, None)] == likely


def test_commands_are_quoted_and_go_through_the_jump_host(web, make_instance):
    behind = make_instance("db-01", jump_host=web, os_type="windows")
    behind.host = "a; rm -rf /"
    told = causes(behind, web)
    assert told[0].command == "ping -c 3 'a; rm -rf /'"
    assert "-J root@10.0.4.11:22" in told[3].command
    assert told[2].command == "Get-Service sshd"
    assert "web-01" in told[0].where
    # Whoever borrows it may not know the jump host.
    told = causes(behind, None)
    assert (told[0].where, told[3].command.split()[4:6]) == (
        "on the jump host",
        ["-J", "JUMP-HOST"],
    )


def test_who_borrows_an_instance_learns_nothing_of_its_jump_host(
    cast, sign_in, alice, web, make_instance
):
    behind = make_instance("db-01", host="10.0.9.9", jump_host=web)
    borrow(behind, cast.other_team, by=cast.alice, to=cast.charlie)
    Instance.objects.update(connection="unreachable", connection_info="Silent.")
    charlie = sign_in(cast.charlie)
    for url in (LIST, address("instance", behind)):
        assert "web-01" in page(alice, url)
        shown = page(charlie, url)
        assert "via a jump host" in shown
        for secret in ("web-01", web.uid, "10.0.4.11"):
            assert secret not in shown


def test_who_lends_a_jump_host_learns_no_names_of_what_is_behind_it(
    cast, sign_in, alice, web, make_instance
):
    own = make_instance("db-01", jump_host=web)
    borrow(web, cast.other_team, by=cast.alice, to=cast.charlie)
    foreign = make_instance("planted", jump_host=web)
    Instance.objects.filter(pk=foreign.pk).update(team=cast.other_team)
    for answer in (
        alice.get(address("instance", web)),
        alice.get(address("instance-remove", web)),
        alice.post(address("instance-remove", web)),
        alice.post(address("instance-edit", web), {"jump": own.uid}),
    ):
        assert "planted" not in answer.text
        assert foreign.uid not in answer.text
    asked = page(alice, address("instance-remove", web))
    assert "db-01" in asked
    assert "an instance of another team" in asked
    assert "Jump host of" not in page(sign_in(cast.charlie), address("instance", web))


def test_its_state_comes_alone_and_all_of_it_once_it_is_another_one(alice, web):
    headers = {"HX-Request": "true", "HX-Target": "verdict"}
    Instance.objects.update(connection="unreachable", connection_info="Silent.")
    url = address("instance", web)
    same = alice.get(f"{url}?shown=unreachable", headers=headers)
    assert "Silent." in same.text
    assert 'id="causes"' not in same.text
    other = alice.get(f"{url}?shown=reachable", headers=headers)
    assert other.headers["HX-Retarget"] == "#state"
    assert 'id="causes"' in other.text


def test_checking_now(alice, web, answers):
    answer = alice.post(address("instance-check", web), follow=True)
    assert answer.redirect_chain == [(address("instance", web), 303)]
    assert re.search(r"web-01 answered in \d+ ms\. Debian 12\.", answer.text)
    answers[0] = ConnectFailed("It was refused.", code=ErrorCode.SIGN_IN_REFUSED)
    data = {"next": "https://evil.example/"}
    answer = alice.post(address("instance-check", web), data, follow=True)
    assert answer.redirect_chain == [(address("instance", web), 303)]
    assert "web-01: It was refused." in answer.text
    assert Instance.objects.get().connection == "sign_in_refused"


def test_checking_now_in_the_list(alice, web, answers):
    headers = {"HX-Request": "true", "HX-Target": "presence"}
    text = alice.post(address("instance-check", web), headers=headers).text
    assert f'id="connection-{web.uid}" hx-swap-oob="true"' in text
    assert "web-01 answered in" in text
    Instance.objects.update(enabled=False)
    assert "switched off" in alice.post(address("instance-check", web), headers=headers).text


def test_switching_off_and_on(alice, web):
    answer = alice.post(address("instance-enabled", web), follow=True)
    assert "web-01 is off." in answer.text
    assert "Enable" in answer.text
    assert not Instance.objects.get().enabled
    alice.post(address("instance-enabled", web), {"enabled": "on"})
    assert Instance.objects.get().enabled


# ---------- tags, removing ----------


def test_tags_are_edited_and_kept_where_they_are_wrong(alice, web):
    url = address("instance-tags", web)
    assert 'value="role=web" checked' in page(alice, url)
    data = {"tag": ["role=web"], "tags": "env=prod, demo\n", "next": "/instances/?q=web"}
    answer = alice.post(url, data)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/instances/?q=web")
    assert [str(tag) for tag in web.tags.all()] == ["demo", "env=prod", "role=web"]
    for wrong in ("acs:x", "a" * 65, "x" * 10_000, "k=\0", "role=db"):
        answer = alice.post(url, {"tag": ["role=web"], "tags": wrong})
        assert answer.status_code == 422
        assert "aria-invalid" in answer.text
        assert 'value="role=web" checked' in answer.text
    alice.post(url, {"tags": "🙂=<b>"})
    assert [str(tag) for tag in web.tags.all()] == ["🙂=<b>"]
    assert "🙂=&lt;b&gt;" in page(alice, LIST)


def test_the_dialogs_are_the_pages_forms(alice, web):
    headers = {"HX-Request": "true", "HX-Target": "asked"}
    for name in ("instance-tags", "instance-remove"):
        text = page(alice, address(name, web), **headers)
        assert "<html" not in text
        assert 'id="ask-name"' in text


def test_removing_names_what_stays(alice, web, ran):
    ran()
    text = page(alice, address("instance-remove", web))
    assert "1 task on it stays" in text
    assert "The credential key stays." in text
    assert "1 command still runs there" in text
    answer = alice.post(address("instance-remove", web), follow=True)
    assert "web-01 was removed." in answer.text
    assert not Instance.objects.exists()
    assert Run.objects.get().instance_name == "web-01"


def test_a_jump_host_is_not_removed(alice, web, make_instance):
    make_instance("db-01", jump_host=web)
    text = page(alice, address("instance-remove", web))
    assert "db-01" in text
    assert "Remove instance" not in text
    answer = alice.post(address("instance-remove", web))
    assert answer.status_code == 409
    assert "web-01 is the jump host of db-01" in answer.text
    assert Instance.objects.count() == 2


# ---------- host keys ----------


def test_a_changed_key_is_compared_and_accepted_with_a_reason(alice, web, shown, cast):
    Instance.objects.update(connection="host_key_changed")
    url = address("instance-host-key", web)
    text = page(alice, url)
    assert web.fingerprint in text
    assert "by alice" in text
    assert OTHER_KEY in text
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in text
    assert "somebody" in text
    data = {"key": OTHER_KEY, "reason": "Rebuilt <b> by ops", "confirmed": "on"}
    for wrong in ({"reason": ""}, {"confirmed": ""}, {"reason": "x" * 10_000}):
        answer = alice.post(url, {**data, **wrong})
        assert answer.status_code == 422
        assert "Nothing was changed" in answer.text
        assert 'aria-invalid="true"' in answer.text
    assert "Rebuilt &lt;b&gt; by ops" in alice.post(url, {**data, "confirmed": ""}).text
    answer = alice.post(url, data, follow=True)
    assert "The new host key of web-01 is pinned" in answer.text
    assert "Rebuilt &lt;b&gt; by ops" in answer.text
    assert Instance.objects.get().host_key == OTHER_KEY
    assert HostKeyChange.objects.get().by == cast.alice


def test_a_key_that_changed_once_more(alice, web, shown):
    url = address("instance-host-key", web)
    data = {"key": HOST_KEY, "reason": "Rebuilt", "confirmed": "on"}
    answer = alice.post(url, data)
    assert answer.status_code == 409
    assert "yet another key" in answer.text
    assert "Rebuilt" in answer.text
    shown[0] = ConnectFailed("It is silent.", code=ErrorCode.CONNECTION_TIMEOUT)
    answer = alice.post(url, data)
    assert answer.status_code == 422
    assert "It is silent." in answer.text
    assert not HostKeyChange.objects.exists()


def test_the_pinned_key_leaves_nothing_to_accept(alice, web, shown):
    shown[0] = HOST_KEY
    text = page(alice, address("instance-host-key", web))
    assert "There is nothing to accept" in text
    assert 'name="reason"' not in text


def test_records_of_host_keys_are_read_only_on_the_admin_site(alice, cast, web, shown):
    data = {"key": OTHER_KEY, "reason": "Rebuilt", "confirmed": "on"}
    alice.post(address("instance-host-key", web), data)
    cast.alice.is_staff = cast.alice.is_superuser = True
    cast.alice.save()
    changes = "/admin/commands/hostkeychange/"
    assert "Rebuilt" in alice.get(changes).text
    noted = HostKeyChange.objects.get()
    for path in ("add/", f"{noted.pk}/delete/"):
        assert alice.get(changes + path).status_code == 403
    assert alice.post(f"{changes}{noted.pk}/change/", {"reason": "x"}).status_code == 403
    assert HostKeyChange.objects.get().reason == "Rebuilt"
