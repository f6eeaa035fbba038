"""Section 2 of the form: searching, paging and selecting instances, all without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone, translation

from commands.models import Grant, Instance, InstanceTag, Invocation, QuotaOverride, Region
from commands.rules.content import CommandType
from commands.services import instances
from console.forms.picker import PASTED_ENTRIES, Filters, pasted_entries
from console.pages import picker
from console.resolve import Scope
from tests.filled import shown_fields

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

SHELL, POWERSHELL = CommandType.SHELL, CommandType.POWERSHELL
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def scope(cast) -> Scope:
    return Scope(cast.team, cast.region)


@pytest.fixture
def tagged(make_instance) -> Callable[..., Instance]:
    def make(name: str, tags: str = "", /, **columns: object) -> Instance:
        instance = make_instance(name)
        Instance.objects.filter(pk=instance.pk).update(**columns)
        for tag in tags.split():
            key, _, value = tag.partition("=")
            InstanceTag.objects.create(instance=instance, key=key, value=value)
        instance.refresh_from_db()
        return instance

    return make


@pytest.fixture
def rack(make_instance) -> list[Instance]:
    """Thirty instances: more than one page."""
    return [make_instance(f"web-{number:02}") for number in range(30)]


@pytest.fixture
def foreign(cast, make_instance) -> Instance:
    """An instance of another team."""
    credential = instances.add_credential(
        actor=cast.charlie,
        team=cast.other_team,
        region=cast.region,
        name="key",
        private_key="-----BEGIN OPENSSH PRIVATE KEY-----\n…",
    )
    return instances.add_instance(
        actor=cast.charlie,
        team=cast.other_team,
        region=cast.region,
        name="secret-01",
        credential=credential,
        host="127.0.0.9",
        user="root",
        host_key=make_instance("web-99").host_key,
    )


def query(**fields: object) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, value in fields.items():
        data.setlist(name, value if isinstance(value, list) else [value])
    return data


def show(scope: Scope, data: QueryDict | None = None, kind: CommandType = SHELL, now=NOON):
    data = data if data is not None else query()
    return picker.picker(scope, data, kind, data.getlist("instances"), now)


def press(scope: Scope, action: str, kind: CommandType = SHELL, **fields: object) -> QueryDict:
    data = query(action=action, **fields)
    assert picker.knows(action)
    return picker.apply(scope, action, data, kind, NOON)


def names(shown) -> list[str]:
    return [row.instance.name for row in shown.rows]


class TestSearching:
    """``q`` and the facets."""

    @pytest.fixture(autouse=True)
    def inventory(self, tagged):
        return [
            tagged("Web-01", "role=web shop", host="10.0.4.11"),
            tagged("web_02", "role=db", host="10.0.4.12"),
            tagged("api", "shop=role", name="api%3", os_type="windows", host="fe80::1"),
        ]

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", ["Web-01", "api%3", "web_02"]),
            ("WEB", ["Web-01", "web_02"]),
            ("  web   B-01 ", ["Web-01"]),
            ("web_", ["web_02"]),
            ("%", ["api%3"]),
            ("\\", []),
            ("10.0.4", ["Web-01", "web_02"]),
            ("FE80:", ["api%3"]),
            ("tag:SHOP", ["Web-01", "api%3"]),
            ("tag:role", ["Web-01", "api%3", "web_02"]),
            ("tag:role=WEB", ["Web-01"]),
            ("tag:role=w", []),
            ("tag:rol_", []),
            ("TAG:web web", ["Web-01"]),
            ("web\x00b-01", ["Web-01"]),
            ("\ud800web-01", []),
            ("\x00", ["Web-01", "api%3", "web_02"]),
            ("x" * 5_000, []),
        ],
    )
    def test_words(self, scope, text, found):
        assert sorted(names(show(scope, query(q=text)))) == found

    def test_an_id_finds_its_instance(self, scope, inventory):
        assert names(show(scope, query(q=inventory[1].uid.upper()))) == ["web_02"]

    def test_what_has_spaces_goes_in_quotes(self, scope, inventory):
        InstanceTag.objects.create(instance=inventory[0], key="team", value="web shop")
        assert names(show(scope, query(q='tag:"team=web shop"'))) == ["Web-01"]
        assert names(show(scope, query(q='"web'))) == ["Web-01", "web_02"]

    def test_any_number_of_words_can_be_asked_for(self, scope):
        assert show(scope, query(q="w " * 3_000)).page.paginator.count == 2

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"os": "windows"}, ["api%3"]),
            ({"os": "plan9"}, ["Web-01", "api%3", "web_02"]),
            ({"connection": "unreachable"}, []),
            ({"connection": "unknown"}, ["Web-01", "api%3", "web_02"]),
            ({"tag": ["role=web", "role=db"]}, ["Web-01", "web_02"]),
            ({"tag": ["role=web", "shop"]}, ["Web-01"]),
            ({"tag": ["shop"]}, ["Web-01"]),
            ({"tag": ["role=web", "role=db"], "q": "_02"}, ["web_02"]),
            ({"tag": ["\x00", "\ud800"]}, []),
        ],
    )
    def test_facets(self, scope, fields, found):
        assert sorted(names(show(scope, query(**fields)))) == found

    def test_the_tags_of_the_inventory_are_offered(self, scope):
        assert show(scope).tags == ["role=db", "role=web", "shop", "shop=role"]
        assert "gone=tag" in show(scope, query(tag="gone=tag")).tags


class TestScope:
    """Only what the team may use in the region is ever found."""

    def test_others_are_not_listed_found_selected_or_added(self, scope, foreign):
        everything = {"instances": [foreign.uid], "paste": f"secret-01\n{foreign.uid}\n127.0.0.9"}
        shown = show(scope, query(q="secret", **everything))
        assert (names(shown), shown.selected, shown.elsewhere, shown.gone) == ([], 0, [], 1)
        assert press(scope, "select-matching", q="secret").getlist("instances") == []
        after = press(scope, "add", **everything)
        assert after.getlist("instances") == []
        assert "0 found, 3 not found (secret-01, " in show(scope, after).told

    def test_what_is_lent_is_there_once(self, cast, foreign):
        Grant.objects.create(instance=foreign, team=cast.team, accepted_at=timezone.now())
        assert names(show(Scope(cast.team, cast.region), query(q="secret"))) == ["secret-01"]
        own = Scope(cast.other_team, cast.region)
        loan = Grant.objects.create(instance=foreign, team=cast.other_team)
        assert names(show(own)) == ["secret-01"]  # its own
        loan.accepted_at = timezone.now()
        loan.save()
        assert names(show(own)) == ["secret-01"]
        assert press(own, "select-matching").getlist("instances") == [foreign.uid]

    def test_other_regions_are_other_inventories(self, cast, fleet):
        region = Region.objects.create(uid="far-away", name="Far away")
        shown = show(Scope(cast.team, region), query(instances=[fleet[0].uid]))
        assert (shown.total, shown.selected) == (0, 0)


class TestRows:
    """What a row says, and whether it can be chosen."""

    @pytest.mark.parametrize(
        ("columns", "label", "icon"),
        [
            ({}, "Not checked yet", "idle"),
            ({"connection": "reachable"}, "Reachable", "ok"),
            (
                {"connection": "reachable", "checked_at": NOON - timedelta(seconds=4)},
                "Reachable, 4 s ago",
                "ok",
            ),
            (
                {"connection": "reachable", "checked_at": NOON - timedelta(minutes=3)},
                "Reachable, 3 min ago",
                "ok",
            ),
            (
                {"connection": "reachable", "checked_at": NOON + timedelta(minutes=3)},
                "Reachable, 0 s ago",
                "ok",
            ),
            ({"connection": "host_key_changed"}, "Host key changed", "bad"),
            ({"connection": "sign_in_refused"}, "Sign-in refused", "warn"),
            ({"connection": "unreachable"}, "Unreachable", "off"),
            ({"enabled": False, "connection": "reachable"}, "Switched off", "off"),
        ],
    )
    def test_connections_have_a_word_and_a_shape(self, scope, tagged, columns, label, icon):
        tagged("web-01", **columns)
        look = show(scope).rows[0].look
        assert (str(look.label), look.icon) == (label, icon)

    def test_since_when_one_is_unreachable(self, scope, tagged):
        now = timezone.now()
        tagged("web-01", connection="unreachable", connection_since=now - timedelta(days=1))
        words = str(show(scope, now=now).rows[0].look.label)
        assert re.fullmatch(r"Unreachable since \d\d:\d\d yesterday", words)

    def test_eligibility_follows_the_type(self, scope, tagged):
        tagged("web-01")
        tagged("win-01", os_type="windows")
        reasons = {row.instance.name: row.reason for row in show(scope).rows}
        assert reasons["web-01"] == ""
        assert reasons["win-01"].startswith("Shell runs on Linux")
        reasons = {row.instance.name: row.reason for row in show(scope, None, POWERSHELL).rows}
        assert reasons["web-01"].startswith("Bat and PowerShell run on Windows")

    def test_the_reason_has_what_the_check_found(self, scope, tagged):
        tagged("web-01", connection="unreachable", connection_info="No answer on 10.0.4.11:22.")
        tagged("web-02", connection="reachable", connection_info="All is well.", enabled=False)
        down, off = show(scope).rows
        assert down.reason.endswith("No answer on 10.0.4.11:22.")
        assert "All is well" not in off.reason


class TestPaging:
    """Pages of 25, and a selection that stays over them."""

    def test_counts(self, scope, rack):
        Instance.objects.filter(pk=rack[0].pk).update(connection="unreachable")
        shown = show(scope, query(page="2"))
        assert (len(shown.rows), shown.page.paginator.count, shown.fit) == (5, 30, 29)

    @pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 9, "9" * 5_000, "²", "\x00", ""])
    def test_a_page_that_is_not_there_is_another(self, scope, rack, page):
        assert show(scope, query(page=page)).rows

    def test_the_selection_stays(self, scope, rack):
        picked = [rack[0].uid, rack[29].uid]
        after = press(scope, "page:2", instances=picked, q="web")
        shown = show(scope, after)
        assert after.getlist("instances") == picked
        assert shown.page.number == 2
        assert [row.instance.name for row in shown.rows if row.selected] == ["web-29"]
        assert [one.name for one, _ in shown.elsewhere] == ["web-00"]

    def test_a_search_begins_at_the_first_page(self, scope, rack):
        after = press(scope, "search", instances=[rack[29].uid], q="web-0", page="2")
        shown = show(scope, after)
        assert (shown.page.number, len(shown.rows), shown.selected) == (1, 10, 1)

    def test_show_selected_only(self, scope, rack):
        shown = show(scope, query(shown="1", instances=[rack[3].uid, rack[28].uid]))
        assert (names(shown), shown.elsewhere) == (["web-03", "web-28"], [])

    def test_rows_that_are_on_a_page_can_be_asked_for_again(self, scope, rack):
        shown = show(scope, query(on=[rack[29].uid, rack[1].uid, "i-\x00", "i-ü"], q="nothing"))
        assert names(shown) == ["web-01", "web-29"]


class TestSelecting:
    """All that match, none, and the limit."""

    def test_all_that_match_and_fit(self, scope, rack):
        Instance.objects.filter(pk=rack[1].pk).update(connection="host_key_changed")
        after = press(scope, "select-matching", q="web-0", instances=[rack[29].uid])
        assert set(after.getlist("instances")) == {
            *(one.uid for one in rack[:10] if one != rack[1]),
            rack[29].uid,
        }

    def test_the_limit_is_said_before_anything_is_left_out(self, cast, scope, rack):
        limit = {"team": cast.team, "region": cast.region, "key": "instances_per_task"}
        QuotaOverride.objects.create(limit=26, **limit)
        shown = show(scope)
        assert (shown.more, shown.too_many, shown.room, shown.fit) == (True, True, 26, 30)
        after = press(scope, "select-matching", instances=[rack[29].uid])
        shown = show(scope, after)
        assert (shown.selected, shown.room, shown.more) == (26, 0, False)
        assert [one.name for one, _ in shown.elsewhere] == ["web-29"]

    def test_a_selection_over_the_limit_stays_whole(self, cast, scope, rack):
        limit = {"team": cast.team, "region": cast.region, "key": "instances_per_task"}
        QuotaOverride.objects.create(limit=2, **limit)
        picked = [one.uid for one in rack[:4]]
        after = press(scope, "select-matching", instances=picked)
        assert after.getlist("instances") == picked
        assert show(scope, after).room == 0

    def test_what_fits_no_longer_stays_until_it_is_removed(self, scope, fleet):
        picked = [one.uid for one in fleet[:2]]
        shown = show(scope, query(instances=picked, type="RunPowerShellScript"), POWERSHELL)
        assert (shown.selected, shown.unfit) == (2, 2)
        after = press(scope, "remove-unfit", POWERSHELL, instances=picked)
        assert after.getlist("instances") == []
        kept = press(scope, "remove-unfit", SHELL, instances=picked)
        assert kept.getlist("instances") == picked

    def test_clear_and_reset(self, scope, fleet):
        fields = {"instances": [fleet[0].uid], "q": "web", "tag": ["a"], "shown": "1", "page": "2"}
        cleared = press(scope, "clear", **fields)
        assert (cleared.getlist("instances"), cleared["q"]) == ([], "web")
        assert not show(scope, cleared).filters.shown
        reset = press(scope, "reset", **fields)
        assert reset.getlist("instances") == [fleet[0].uid]
        assert show(scope, reset).filters == Filters()

    @pytest.mark.parametrize(
        "action", ["", "parameters", "page:", "page:x", "page:1\n", "toString"]
    )
    def test_other_buttons_are_not_its_business(self, action):
        assert not picker.knows(action)

    def test_enter_behind_a_new_search_is_that_search(self):
        assert picker.pressed(query(by="enter", q=" web", searched="")) == "search"
        assert picker.pressed(query(by="enter", q="web", searched="web")) == ""
        assert picker.pressed(query(q="web", searched="")) == ""
        assert picker.pressed(query(action="clear", q="web")) == "clear"


class TestPasting:
    """A list of names, ids and addresses."""

    def test_every_way_to_call_an_instance(self, scope, tagged):
        made = [
            tagged("web-01", host="10.0.4.11"),
            tagged("web 02", host="10.0.4.12"),
            tagged("web-03", host="10.0.4.13"),
            tagged("web-04", host="fe80::4", port=2222),
            tagged("web-05", host="10.0.4.15"),
        ]
        text = f"WEB-01\r\nweb 02\n\n  {made[2].uid};[fe80::4]:2222, web-05 web-01"
        after = press(scope, "add", paste=text)
        assert after.getlist("instances") == [one.uid for one in made]
        assert show(scope, after).told == "5 found"

    def test_the_answer_says_what_became_of_each(self, scope, tagged):
        tagged("web-01")
        tagged("web-04", connection="unreachable")
        tagged("pos-01", os_type="windows")
        tagged("twin", host="10.0.0.1")
        tagged("twin", host="10.0.0.2")
        after = press(scope, "add", paste="web-01,web-04,pos-01,twin,wbe-03,x9,x9")
        assert show(scope, after).told == (
            "1 found, 1 offline (web-04), 1 can't be selected (pos-01), "
            "1 match several instances, use the ID (twin), 2 not found (wbe-03, x9)"
        )

    def test_what_is_found_is_added_to_what_was_selected(self, scope, fleet):
        after = press(scope, "add", paste="web-02 web-01", instances=[fleet[2].uid, fleet[0].uid])
        assert after.getlist("instances") == [fleet[2].uid, fleet[0].uid, fleet[1].uid]
        assert after["paste"] == "web-02 web-01"

    def test_what_the_limit_leaves_out_is_said(self, cast, scope, rack):
        limit = {"team": cast.team, "region": cast.region, "key": "instances_per_task"}
        QuotaOverride.objects.create(limit=3, **limit)
        after = press(scope, "add", paste="web-00 web-01 web-02 web-03 web-04")
        assert len(after.getlist("instances")) == 3
        assert show(scope, after).told == "5 found, 2 left out at the limit"

    @pytest.mark.parametrize("text", ["", " \n,;\t\r\n"])
    def test_an_empty_list(self, scope, fleet, text):
        told = show(scope, press(scope, "add", paste=text)).told
        assert told == "Paste at least one name, ID or address."

    def test_text_that_no_database_takes(self, scope, fleet):
        after = press(scope, "add", paste="web-01\n\x00\nweb-02\ud800\nü")
        shown = show(scope, after)
        assert shown.told == "1 found, 2 not found (web-02?, ü)"

    def test_a_long_list_is_answered_and_a_longer_one_refused(self, scope, rack):
        lines = [f"x{number}" for number in range(PASTED_ENTRIES - 1)] + ["web-07"]
        after = press(scope, "add", paste="\n".join(lines))
        assert after.getlist("instances") == [rack[7].uid]
        with translation.override("en"):
            told = show(scope, after).told
            assert told.startswith("1 found, 9,999 not found (x0, x1, x2, x3, x4 and 9,994 more)")
            after = press(scope, "add", paste="\n".join([*lines, "web-08"]))
            told = show(scope, after).told
        assert after.getlist("instances") == []
        assert told == "The list has 10,001 entries. Paste 10,000 or fewer at a time."

    def test_long_entries_are_shortened_in_the_answer(self, scope, fleet):
        told = show(scope, press(scope, "add", paste="x" * 100_000)).told
        assert len(told) < 100

    def test_entries_and_their_words(self):
        assert pasted_entries("a\nb c,d;;\r\n e") == [["a"], ["b c", "b", "c"], ["d"], ["e"]]


class TestPage:
    """The same over HTTP: the whole form without JavaScript, and the fragment."""

    @pytest.fixture
    def bob(self, cast, sign_in) -> Client:
        return sign_in(cast.bob)

    @pytest.fixture
    def form(self) -> dict[str, object]:
        return {
            "source": "new",
            "name": "Hello",
            "type": "RunShellScript",
            "content": "echo {hi}\r\n",
            "timeout": "77",
            "q": "web",
            "client_token": "token-1",
        }

    def ticked(self, answer) -> set[str]:
        text = answer.content.decode()
        tags = re.findall(r"<input[^>]*name=\"instances\"[^>]*>", text)
        return {
            re.search(r'value="([^"]*)"', tag)[1]
            for tag in tags
            if "checked" in tag or 'type="hidden"' in tag
        }

    @pytest.mark.parametrize(
        "action",
        ["search", "page:2", "add", "select-matching", "clear", "reset", "remove-unfit", "reload"],
    )
    def test_every_button_keeps_the_form(self, bob, rack, form, action):
        picked = {rack[0].uid, rack[29].uid}
        answer = bob.post(
            "/run/", {**form, "action": action, "instances": list(picked), "paste": "web-03"}
        )
        assert answer.status_code == 200
        text = answer.content.decode()
        assert 'role="alert" tabindex="-1" id="errors"' not in text
        assert 'value="Hello"' in text
        assert "echo {hi}" in text
        assert 'value="77"' in text
        after = self.ticked(answer)
        if action == "clear":
            assert after == set()
        else:
            assert picked <= after
        assert (rack[3].uid in after) == (action in {"add", "select-matching"})

    def test_an_invalid_form_keeps_the_search_and_the_selection(self, bob, rack, form):
        picked = {rack[0].uid, rack[29].uid}
        answer = bob.post("/run/", {**form, "timeout": "x", "instances": list(picked), "page": "2"})
        assert answer.status_code == 422
        assert self.ticked(answer) == picked
        assert 'id="id_q" value="web"' in answer.content.decode()
        assert "26–30 of 30 matches" in answer.content.decode()

    def test_the_fragment_has_rows_and_what_is_selected_elsewhere(self, bob, rack):
        answer = bob.get("/run/instances/", {"action": "page:2", "instances": [rack[0].uid]})
        text = answer.content.decode()
        assert answer.status_code == 200
        assert "<html" not in text
        assert "26–30 of 30 matches · 30 can be selected" in " ".join(text.split())
        assert self.ticked(answer) == {rack[0].uid}

    def test_rows_that_cant_be_chosen_say_why(self, bob, tagged):
        down = tagged("web-04", connection="unreachable", connection_info="<No> answer.")
        text = bob.get("/run/instances/").content.decode()
        assert re.search(rf'data-unfit aria-describedby="why-{down.uid}" disabled', text)
        assert (
            f'id="why-{down.uid}">Can&#x27;t be selected.' in text or "Can't be selected." in text
        )
        assert "&lt;No&gt; answer." in text

    def test_the_type_decides(self, bob, fleet):
        answer = bob.get(
            "/run/instances/", {"type": "RunPowerShellScript", "instances": [fleet[0].uid]}
        )
        text = answer.content.decode()
        assert "1 selected instance can't run PowerShell" in text.replace("&#x27;", "'")
        assert "PowerShell commands run on Windows instances" in text

    def test_nothing_matches(self, bob, fleet):
        text = bob.get("/run/instances/", {"q": "<storefront>"}).content.decode()
        assert "Nothing matches “&lt;storefront&gt;”" in text
        assert "Clear search" in text
        assert "No instances are selected" in bob.get("/run/instances/?shown=1").content.decode()

    def test_an_empty_inventory(self, bob):
        assert "No instances yet" in bob.get("/run/").content.decode()

    def test_odd_text_is_no_error(self, bob, fleet):
        for odd in ("%00", "%ED%A0%80", "%FF", "9" * 5_000):
            for name in ("q", "tag", "os", "page", "instances", "on", "shown", "type", "action"):
                assert bob.get(f"/run/instances/?{name}={odd}").status_code == 200

    def test_outsiders(self, cast, client, sign_in, foreign, fleet):
        assert client.get("/run/instances/").status_code in {302, 401}
        text = sign_in(cast.charlie).get("/run/instances/").content.decode()
        assert "secret-01" in text
        assert "web-01" not in text

    WAITING = "pasted names haven&#x27;t been added. Add them or clear the list."

    def test_a_pasted_list_that_was_not_added_is_not_passed_over(self, bob, rack, form):
        sent = {**form, "q": "", "name": "", "paste": "web-03\nweb-04, nobody", "timeout": "77"}
        answer = bob.post("/run/", {**sent, "instances": [rack[3].uid]})
        assert answer.status_code == 422
        text = answer.content.decode()
        assert text.count(f"2 {self.WAITING}") == 2
        assert text.count("Enter a command name.") == 2
        assert '<a href="#id_paste">' in text
        assert re.search(
            r'<details class="paste" open>.*aria-invalid="true".*id="e-paste"', text, 16
        )
        assert "web-03\nweb-04, nobody</textarea>" in text.replace("\r\n", "\n")
        assert self.ticked(answer) == {rack[3].uid}
        assert Invocation.objects.count() == 0

    def test_a_pasted_list_that_was_added_selected_or_emptied_is_fine(self, bob, rack, form):
        sent = {**form, "q": "", "paste": "web-03\nweb-04\nnobody"}
        added = bob.post("/run/", {**sent, "action": "add"})
        fields = shown_fields(added.content.decode())
        assert fields["added"] != [""]
        searched = shown_fields(
            bob.post("/run/", {**fields, "action": "search", "q": "web"}).content.decode()
        )
        assert searched["added"] == fields["added"]
        changed = {**searched, "paste": ["web-03\nweb-04\nnobody\nsomebody"]}
        assert bob.post("/run/", changed).status_code == 422
        for number, fine in enumerate(
            (
                searched,
                {**fields, "instances": [rack[3].uid]},
                {**sent, "paste": "web-03, web-04", "instances": [rack[3].uid, rack[4].uid]},
                {**sent, "paste": " ;\n,", "instances": [rack[3].uid]},
            )
        ):
            assert bob.post("/run/", {**fine, "client_token": f"t{number}"}).status_code == 303

    def test_one_name_or_too_many_that_were_not_added(self, bob, rack, form):
        one = bob.post("/run/", {**form, "paste": "web-03", "instances": [rack[0].uid]})
        assert "1 pasted name hasn&#x27;t been added. Add it or clear the list." in (
            one.content.decode()
        )
        many = bob.post("/run/", {**form, "paste": "x," * 10_001, "instances": [rack[0].uid]})
        assert f"10,001 {self.WAITING}" in many.content.decode()
