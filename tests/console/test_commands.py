"""Pages of the library: list, one command, its versions, editing, deleting. No JavaScript here."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from django.contrib.messages import get_messages
from django.urls import get_resolver, reverse
from django.utils import timezone

from commands.models import (
    Command,
    CommandPin,
    CommandVersion,
    Membership,
    QuotaOverride,
    Region,
    Run,
)
from commands.rules.quotas import Quota
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema
from commands.services import invocations, library, teams
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput
from tests.filled import shown_fields

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

HELLO = CommandInput(
    name="Hello <b>",
    type="RunShellScript",
    content="#!/bin/bash\necho {{greeting}} <script>\n",
    description="Says <i>hello</i>",
    use_params=True,
    parameters={"greeting": ParameterSchema(default="hi", required=True, description="What")},
)


@pytest.fixture
def keep(cast):
    def make(name="Hello <b>", *, region=None, **columns):
        return library.create_command(
            actor=cast.bob,
            team=cast.team,
            region=region or cast.region,
            command=replace(HELLO, name=name, **columns),
            now=timezone.now(),
        )

    return make


@pytest.fixture
def command(keep):
    return keep()


@pytest.fixture
def edit(cast):
    def change(command, based_on, **columns):
        if "parameters" not in columns:
            columns = {**columns, "parameters": {}}
        return library.edit_command(
            actor=cast.alice,
            command=command,
            definition=replace(HELLO, **columns),
            based_on=based_on,
            now=timezone.now(),
        )

    return change


@pytest.fixture
def run(cast, fleet):
    def start(command, *, ended=True):
        task = invocations.invoke_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=SavedInput(command.uid),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        if ended:
            Run.objects.filter(invocation=task).update(
                status="Failed", exit_code=3, finished_at=timezone.now()
            )
        return task

    return start


@pytest.fixture
def runner(cast):
    Membership.objects.filter(team=cast.team, user=cast.vera).update(role="runner")
    return cast.vera


def fields(**changes):
    """What the form of a command posts."""
    return {
        "name": "Hello",
        "type": "RunShellScript",
        "content": "echo hi\r\n",
        "workdir": "",
        "timeout": "60",
        **changes,
    }


def said(answer):
    return [str(message) for message in get_messages(answer.wsgi_request)]


def names(answer):
    return [row.command.name for row in answer.context["rows"]]


class TestList:
    """/commands/."""

    def test_what_it_shows_of_a_command(self, sign_in, cast, command, run):
        task = run(command)
        run(command)
        answer = sign_in(cast.vera).get("/commands/")
        page = answer.content.decode()
        assert "Hello &lt;b&gt;" in page
        assert "Says &lt;i&gt;hello&lt;/i&gt;" in page
        assert "<i>hello" not in page
        row = answer.context["rows"][0]
        assert (row.parameters, row.times_run, row.by) == (["greeting"], 2, "bob")
        assert row.last.status == "Failed"
        assert row.last.uid != task.uid
        assert f'href="{row.last.url}"' in page

    def test_buttons_are_those_of_the_role(self, sign_in, cast, command, runner):
        page = sign_in(runner).get("/commands/").content.decode()
        assert f"/run/?command={command.uid}" in page
        assert f"/commands/{command.uid}/edit/" not in page
        assert "/commands/delete/" not in page
        assert "/commands/new/" not in page
        Membership.objects.filter(user=runner).update(role="viewer")
        assert (
            f"/run/?command={command.uid}" not in sign_in(runner).get("/commands/").content.decode()
        )
        page = sign_in(cast.bob).get("/commands/").content.decode()
        for path in (f"/commands/{command.uid}/edit/", "/commands/new/", "/commands/delete/"):
            assert path in page

    def test_search_and_type(self, sign_in, cast, keep):
        keep("Archive logs", use_params=False, content="tar", parameters={})
        keep("Other", use_params=False, content="dir", parameters={}, type="RunBatScript")
        client = sign_in(cast.vera)
        assert names(client.get("/commands/?q=TAR")) == ["Archive logs"]
        assert names(client.get("/commands/?type=RunBatScript")) == ["Other"]
        assert names(client.get("/commands/?type=nonsense")) == ["Archive logs", "Other"]
        page = client.get("/commands/?q=<x>\0").content.decode()
        assert "Nothing matches" in page
        assert "&lt;x&gt;" in page
        assert "Clear search" in page
        assert client.get(f"/commands/?q={'x' * 10_000}&page=-1").status_code == 200

    def test_htmx_gets_the_results_alone(self, sign_in, cast, command):
        part = sign_in(cast.vera).get("/commands/", headers={"hx-target": "results"})
        assert "<html" not in part.content.decode()
        assert "Hello &lt;b&gt;" in part.content.decode()
        assert "HX-Target" in part["Vary"]

    def test_empty(self, sign_in, cast):
        page = sign_in(cast.bob).get("/commands/").content.decode()
        assert "Save a command once, run it in five clicks." in page
        assert 'href="/run/"' in page

    def test_only_this_team_and_region(self, sign_in, cast, keep):
        keep("Far", region=Region.objects.create(uid="far", name="Far"))
        assert "Far<" not in sign_in(cast.bob).get("/commands/").content.decode().split("<main")[1]
        keep("Near")
        assert names(sign_in(cast.bob).get("/commands/")) == ["Near"]
        assert "Near" not in sign_in(cast.charlie).get("/commands/").content.decode()

    def test_pages_of_fifty_that_keep_the_search(self, sign_in, cast, keep):
        for number in range(51):
            keep(f"Hello {number:02}")
        answer = sign_in(cast.vera).get("/commands/?q=hello")
        assert len(names(answer)) == 50
        assert "?q=hello&amp;page=2" in answer.content.decode()
        assert names(sign_in(cast.vera).get("/commands/?q=hello&page=2")) == ["Hello 50"]

    def test_as_many_queries_for_many_commands_as_for_one(
        self, sign_in, cast, keep, run, django_assert_max_num_queries
    ):
        run(keep("First", parameters={"greeting": ParameterSchema(default="x")}))
        client = sign_in(cast.bob)
        client.get("/commands/")
        with django_assert_max_num_queries(33) as first:
            client.get("/commands/")
        for number in range(6):
            run(keep(f"More {number}", parameters={"greeting": ParameterSchema(default="x")}))
        with django_assert_max_num_queries(len(first)):
            client.get("/commands/")

    @pytest.mark.parametrize(("limit", "words"), [(10, "1</b> of 10 saved"), (1, "Full")])
    def test_the_meter_says_how_full_it_is(self, sign_in, cast, command, limit, words):
        key = Quota.SAVED_COMMANDS.value
        QuotaOverride.objects.create(team=cast.team, region=cast.region, key=key, limit=limit)
        page = sign_in(cast.vera).get("/commands/").content.decode()
        assert words in page
        assert ('data-level="over"' in page) == (limit == 1)

    def test_the_meter_warns_at_four_fifths(self, sign_in, cast, keep):
        key = Quota.SAVED_COMMANDS.value
        QuotaOverride.objects.create(team=cast.team, region=cast.region, key=key, limit=5)
        for number in range(4):
            keep(f"Hello {number}")
        page = sign_in(cast.vera).get("/commands/").content.decode()
        assert "1 left" in page
        assert 'data-level="warn"' in page

    def test_somebody_without_a_team(self, sign_in, cast):
        cast.team.memberships.filter(user=cast.bob).delete()
        client = sign_in(cast.bob)
        assert "not a member of any team" in client.get("/commands/").content.decode()
        assert client.get("/commands/new/").status_code == 404


class TestPin:
    """/commands/<uid>/pin/."""

    def test_it_is_on_top_for_me_and_goes_again(self, sign_in, cast, keep):
        keep("alpha")
        zeta = keep("zeta")
        client = sign_in(cast.vera)
        path = f"/commands/{zeta.uid}/pin/"
        answer = client.post(path, {"pinned": "on", "next": "/commands/?q=a"})
        assert (answer.status_code, answer["Location"]) == (303, "/commands/?q=a")
        assert names(client.get("/commands/")) == ["zeta", "alpha"]
        assert names(sign_in(cast.bob).get("/commands/")) == ["alpha", "zeta"]
        assert client.post(path, {"next": "//evil.example"})["Location"] == "/commands/"
        assert not CommandPin.objects.exists()

    def test_htmx_gets_the_star_alone(self, sign_in, cast, command):
        answer = sign_in(cast.vera).post(
            f"/commands/{command.uid}/pin/", {"pinned": "on"}, headers={"hx-request": "true"}
        )
        assert 'aria-pressed="true"' in answer.content.decode()
        assert "<html" not in answer.content.decode()


class TestDetail:
    """/commands/<uid>/."""

    def test_script_parameters_and_defaults(self, sign_in, cast, command):
        page = sign_in(cast.vera).get(f"/commands/{command.uid}/").content.decode()
        assert '<span class="k">{{greeting}}</span> &lt;script&gt;' in page
        assert '<span class="line com">#!/bin/bash</span>' in page
        for text in ("required", "<code>hi</code>", "What", "Home folder", "60 seconds"):
            assert text in page

    def test_its_runs(self, sign_in, cast, command, run):
        task = run(command)
        page = sign_in(cast.vera).get(f"/commands/{command.uid}/").content.decode()
        assert f'href="/tasks/{task.uid}/"' in page
        assert ">v1<" in page
        assert "Failed" in page

    def test_its_versions(self, sign_in, cast, command, edit):
        edit(command, 1, content="echo 2")
        page = sign_in(cast.vera).get(f"/commands/{command.uid}/?tab=versions").content.decode()
        assert "newest" in page
        assert "alice" in page
        assert "/restore/" not in page
        page = sign_in(cast.bob).get(f"/commands/{command.uid}/?tab=versions").content.decode()
        assert f'action="/commands/{command.uid}/restore/"' in page

    def test_without_parameters(self, sign_in, cast, keep):
        plain = keep(use_params=False, parameters={})
        page = sign_in(cast.vera).get(f"/commands/{plain.uid}/").content.decode()
        assert "braces in the command stay as they are" in page
        assert "echo {{greeting}} &lt;script&gt;" in page


class TestHistory:
    """/commands/<uid>/history/ and /restore/."""

    def test_what_changed(self, sign_in, cast, command, edit):
        edit(
            command,
            1,
            name="New name",
            content="#!/bin/bash\necho {{greeting}} <b>\n",
            timeout="90",
            launcher="python3 -u",
            parameters={"greeting": ParameterSchema(default="<hey>")},
        )
        page = sign_in(cast.vera).get(f"/commands/{command.uid}/history/").content.decode()
        assert re.search(r'class="d old".*?&lt;<mark>script</mark>&gt;', page, re.DOTALL)
        assert re.search(r'class="d new".*?&lt;<mark>b</mark>&gt;', page, re.DOTALL)
        for text in (
            "<del>Hello &lt;b&gt;</del>",
            "<ins>New name</ins>",
            "<del>60 seconds</del>",
            "<ins>90 seconds</ins>",
            "<ins>python3 -u</ins>",
            "<ins>default &lt;hey&gt;</ins>",
            "Parameter greeting",
        ):
            assert text in page
        assert "Execution path" not in page

    def test_everything_said_of_a_parameter_is_compared(self, sign_in, cast, command, edit):
        edit(
            command,
            1,
            content="echo {{greeting}} {{token}}",
            parameters={
                "greeting": ParameterSchema(choices=("a", "b"), insertion=Insertion.QUOTED),
                "token": ParameterSchema(secret=True, pattern="[a-z]+"),
            },
        )
        page = sign_in(cast.vera).get(f"/commands/{command.uid}/history/").content.decode()
        assert "<del>required · default hi · What</del>" in page
        assert "<ins>quoted · one of a, b</ins>" in page
        assert "<ins>hidden · matches [a-z]+</ins>" in page
        page = sign_in(cast.vera).get(f"/commands/{command.uid}/").content.decode()
        for text in ("Quoted", "hidden", "<code>[a-z]+</code>", "<code>a</code>, <code>b</code>"):
            assert text in page

    def test_any_two_versions(self, sign_in, cast, command, edit):
        for number in (1, 2, 3):
            edit(command, number, content=f"echo {number}")
        client = sign_in(cast.vera)
        path = f"/commands/{command.uid}/history/"
        answer = client.get(f"{path}?from=1&to=3")
        assert (answer.context["old"].number, answer.context["new"].number) == (1, 3)
        answer = client.get(f"{path}?to=2")
        assert (answer.context["old"].number, answer.context["new"].number) == (1, 2)
        assert "They say the same." in client.get(f"{path}?from=2&to=2").content.decode()
        for wrong in ("?to=9", "?to=x", "?from=0", "?from=%00", f"?to={'9' * 50}", "?to=²"):
            assert client.get(path + wrong).status_code == 404, wrong

    def test_restoring_makes_a_new_version(self, sign_in, cast, command, edit):
        edit(command, 1, content="echo 2")
        client = sign_in(cast.bob)
        path = f"/commands/{command.uid}/restore/"
        answer = client.post(path, {"number": "1", "based_on": "2"})
        assert (answer.status_code, answer["Location"]) == (303, f"/commands/{command.uid}/")
        assert said(answer) == ["v1 was restored as v3."]
        assert command.versions.first().restored_from == 1
        answer = client.post(path, {"number": "3", "based_on": "3"})
        assert said(answer)[-1] == "v3 already says what v3 said."

    def test_not_over_a_newer_version(self, sign_in, cast, command, edit):
        edit(command, 1, content="echo 2")
        answer = sign_in(cast.bob).post(
            f"/commands/{command.uid}/restore/", {"number": "1", "based_on": "1"}
        )
        assert answer["Location"] == f"/commands/{command.uid}/history/"
        assert said(answer) == ["Nothing was restored. alice saved v2 while you were editing."]
        assert command.versions.count() == 2


class TestDelete:
    """/commands/delete/."""

    def test_one_is_asked_for_first(self, sign_in, cast, command):
        client = sign_in(cast.bob)
        page = client.get(f"/commands/delete/?uid={command.uid}").content.decode()
        assert "Delete Hello &lt;b&gt;?" in page
        assert "Past tasks keep their copy of the command." in page
        assert Command.objects.exists()
        answer = client.post("/commands/delete/", {"uid": command.uid})
        assert (answer.status_code, answer["Location"]) == (303, "/commands/")
        assert said(answer) == ["1 command was deleted."]
        assert not Command.objects.exists()

    def test_several_are_named(self, sign_in, cast, keep):
        uids = [keep("One").uid, keep("Two").uid]
        client = sign_in(cast.bob)
        page = client.get("/commands/delete/", {"uid": uids}).content.decode()
        assert "Delete 2 commands?" in page
        assert "<li>One</li><li>Two</li>" in page
        answer = client.post("/commands/delete/", {"uid": uids})
        assert said(answer) == ["2 commands were deleted."]

    def test_htmx_gets_the_question_alone(self, sign_in, cast, command):
        path = f"/commands/delete/?uid={command.uid}"
        part = sign_in(cast.bob).get(path, headers={"hx-target": "asked"}).content.decode()
        assert "<html" not in part
        assert "Delete Hello" in part

    def test_not_while_it_runs(self, sign_in, cast, command, run):
        task = run(command, ended=False)
        answer = sign_in(cast.bob).post("/commands/delete/", {"uid": command.uid})
        assert answer.status_code == 409
        assert f"is still running in the task {task.uid}" in answer.content.decode()
        assert Command.objects.kept().exists()

    def test_nothing_selected(self, sign_in, cast, command):
        for answer in (
            sign_in(cast.bob).get("/commands/delete/"),
            sign_in(cast.bob).post("/commands/delete/"),
        ):
            assert answer["Location"] == "/commands/"
            assert said(answer) == ["Select at least one command first."]

    def test_with_one_that_is_not_ours_nothing_is_deleted(self, sign_in, cast, command):
        theirs = library.create_command(
            actor=cast.charlie,
            team=cast.other_team,
            region=cast.region,
            command=HELLO,
            now=timezone.now(),
        )
        for other in (theirs.uid, "c-nowhere", "c-\0"):
            answer = sign_in(cast.bob).post("/commands/delete/", {"uid": [command.uid, other]})
            assert answer.status_code == 404
        assert Command.objects.count() == 2


class TestNew:
    """/commands/new/."""

    def test_a_command_is_kept(self, sign_in, cast):
        client = sign_in(cast.bob)
        assert client.get("/commands/new/").status_code == 200
        answer = client.post(
            "/commands/new/",
            fields(
                content="echo {{x}} {{token}}",
                use_params="on",
                tags="env=prod\nteam",
                **{
                    "about-default-x": "1",
                    "about-required-x": "on",
                    "seen-token": "1",
                    "secret-token": "on",
                    "seen-x": "1",
                },
            ),
        )
        made = Command.objects.get()
        assert (answer.status_code, answer["Location"]) == (303, f"/commands/{made.uid}/")
        assert made.kept
        assert made.tags == {"env": "prod", "team": ""}
        assert made.versions.get().schemas() == {
            "x": ParameterSchema(default="1", required=True),
            "token": ParameterSchema(secret=True),
        }

    def test_a_copy(self, sign_in, cast, keep):
        source = keep("x" * 128, workdir="/tmp", timeout="90")
        client = sign_in(cast.bob)
        answer = client.get(f"/commands/new/?from={source.uid}")
        form = answer.context["form"]
        assert form["name"].value() == "x" * 121 + " (copy)"
        assert form["workdir"].value() == "/tmp"
        page = answer.content.decode()
        assert 'name="about-default-greeting" value="hi"' in page

    def test_errors_lose_nothing(self, sign_in, cast):
        answer = sign_in(cast.bob).post(
            "/commands/new/", fields(name="", timeout="abc", workdir="tmp", content="echo 🚀")
        )
        page = answer.content.decode()
        assert answer.status_code == 422
        assert "<title>Error:" in page.replace("\n", "")
        for text in ("There are 3 problems", "abc", "echo 🚀", "Enter a command name."):
            assert text in page
        assert not Command.objects.exists()

    def test_a_full_library(self, sign_in, cast, command):
        QuotaOverride.objects.create(
            team=cast.team, region=cast.region, key=Quota.SAVED_COMMANDS.value, limit=1
        )
        answer = sign_in(cast.bob).post("/commands/new/", fields())
        assert answer.status_code == 422
        assert "Delete it, or request more." in answer.content.decode()

    def test_without_javascript_parameters_are_updated_by_a_button(self, sign_in, cast):
        answer = sign_in(cast.bob).post(
            "/commands/new/",
            fields(name="", content="echo {{x}}", use_params="on", action="parameters"),
        )
        assert answer.status_code == 200
        assert [row.key for row in answer.context["parameters"]] == ["x"]
        assert not Command.objects.exists()


class TestEdit:
    """/commands/<uid>/edit/."""

    def test_it_shows_what_is_and_keeps_what_is_sent(self, sign_in, cast, command):
        client = sign_in(cast.bob)
        path = f"/commands/{command.uid}/edit/"
        page = client.get(path).content.decode()
        assert 'name="based_on" value="1"' in page
        assert "echo {{greeting}} &lt;script&gt;" in page
        answer = client.post(path, fields(name="Renamed", based_on="1"))
        assert (answer.status_code, answer["Location"]) == (303, f"/commands/{command.uid}/")
        assert said(answer) == ["Saved v2."]
        command.refresh_from_db()
        assert (command.name, command.latest) == ("Renamed", 2)

    def test_what_the_form_shows_sent_back_changes_nothing(self, sign_in, cast, keep):
        command = keep(
            content="echo {{greeting}} {{token}} {{x}}",
            tags=(("env", "prod"), ("x", "")),
            launcher="python3 -u",
            runners_may_type=True,
            termination="Process",
            parameters={
                "greeting": ParameterSchema(
                    description="d", default="a", required=True, choices=("a", "b")
                ),
                "token": ParameterSchema(secret=True, pattern="[a-z]+"),
            },
        )
        client = sign_in(cast.bob)
        path = f"/commands/{command.uid}/edit/"
        shown = client.get(path).context["form"].initial
        answer = client.post(path, shown)
        assert said(answer) == ["Nothing was changed."]
        assert command.versions.count() == 1

    def test_errors_lose_nothing(self, sign_in, cast, command):
        answer = sign_in(cast.bob).post(
            f"/commands/{command.uid}/edit/", fields(based_on="1", timeout="x", content="echo mine")
        )
        assert answer.status_code == 422
        assert "echo mine" in answer.content.decode()
        assert command.versions.count() == 1

    def test_its_type_can_not_be_changed(self, sign_in, cast, command):
        answer = sign_in(cast.bob).post(
            f"/commands/{command.uid}/edit/", fields(based_on="1", type="RunBatScript")
        )
        assert answer.status_code == 422
        assert "type can&#x27;t change" in answer.content.decode()

    def test_a_conflict_says_who_was_first_and_loses_nothing(self, sign_in, cast, command, edit):
        edit(command, 1, content="echo alice\n", description="hers")
        client = sign_in(cast.bob)
        path = f"/commands/{command.uid}/edit/"
        mine = fields(name="Mine", content="echo bob\r\n", description="his", based_on="1")
        answer = client.post(path, mine)
        page = answer.content.decode()
        assert answer.status_code == 409
        assert "alice saved v2 while you were editing." in page
        assert "Save mine as v3" in page
        assert re.search(r'class="d old".*?<mark>alice</mark>', page, re.DOTALL)
        assert re.search(r'class="d new".*?<mark>bob</mark>', page, re.DOTALL)
        assert "<del>hers</del>" in page
        assert 'value="Mine"' in page
        assert command.versions.count() == 2
        assert client.post(path, mine).status_code == 409
        answer = client.post(path, {**mine, "over": "2"})
        assert said(answer)[-1] == "Saved v3."
        assert command.versions.first().content == "echo bob\n"

    def test_what_is_deleted_meanwhile_loses_nothing(self, sign_in, cast, command, monkeypatch):
        change = library.edit_command

        def late(**given):
            library.delete_commands(
                actor=cast.alice, team=cast.team, region=cast.region, uids=[command.uid]
            )
            return change(**given)

        monkeypatch.setattr(library, "edit_command", late)
        answer = sign_in(cast.bob).post(
            f"/commands/{command.uid}/edit/", fields(based_on="1", content="echo mine")
        )
        assert answer.status_code == 409
        assert "was deleted while you were editing" in answer.content.decode()
        assert "echo mine" in answer.content.decode()

    def test_without_javascript_parameters_are_updated_by_a_button(self, sign_in, cast, command):
        answer = sign_in(cast.bob).post(
            f"/commands/{command.uid}/edit/",
            fields(content="echo {{new}}", use_params="on", based_on="1", action="parameters"),
        )
        assert [row.key for row in answer.context["parameters"]] == ["new"]
        assert command.versions.count() == 1

    @pytest.mark.parametrize("based_on", ["", "x", "-1", "²", "9" * 40])
    def test_nonsense_is_a_conflict(self, sign_in, cast, command, based_on):
        answer = sign_in(cast.bob).post(f"/commands/{command.uid}/edit/", fields(based_on=based_on))
        assert answer.status_code == 409


def test_a_form_that_was_sent_signed_out_comes_back_after_the_sign_in(client, cast, command):
    path = f"/commands/{command.uid}/edit/"
    client.force_login(cast.bob)
    owner = client.get(path).context["owner"]
    client.logout()
    body = urlencode(fields(name="Typed", based_on="1", owner=owner))
    answer = client.post(path, body, content_type="application/x-www-form-urlencoded")
    assert answer["Location"].startswith("/sign-in/")
    client.post("/sign-in/", {"username": "bob", "password": "bob-secret"})
    page = client.get(path).content.decode()
    assert "Your form is back as you left it." in page
    assert 'value="Typed"' in page
    assert 'name="based_on" value="1"' in page
    assert 'value="Typed"' not in client.get(path).content.decode()


@pytest.fixture
def addresses(command):
    """Every address below /commands/<uid>/, and those that take its uid in a query."""
    below = [p for p in get_resolver().url_patterns if str(p.pattern).startswith("commands/<")]
    assert len(below) == 5
    paths = [reverse(pattern.name, args=[command.uid]) for pattern in below]
    return [*paths, f"/commands/delete/?uid={command.uid}", f"/commands/new/?from={command.uid}"]


def ask(client, path):
    """The answer of an address, with what a form there would send."""
    if path.endswith(("/pin/", "/restore/")):
        return client.post(path, {"number": "1", "based_on": "1", "pinned": "on"})
    return client.get(path)


def test_every_address_is_404_for_outsiders_and_asks_strangers_to_sign_in(
    sign_in, client, cast, addresses
):
    for path in addresses:
        assert ask(sign_in(cast.charlie), path).status_code == 404, path
        for wrong in ("c-0", "%00", "%F0%9F%9A%80"):
            nowhere = path.replace("c-", wrong)
            assert ask(sign_in(cast.bob), nowhere).status_code == 404, nowhere
        assert ask(client, path)["Location"].startswith("/sign-in/"), path
    assert client.get("/commands/")["Location"].startswith("/sign-in/")


def test_changes_by_outsiders_are_404(sign_in, cast, command, addresses):
    for path in addresses:
        if "new" in path:
            continue
        body = fields(number="1", based_on="1", uid=command.uid)
        assert sign_in(cast.charlie).post(path, body).status_code in (404, 405), path
    assert list(Command.objects.values_list("latest", flat=True)) == [1]


@pytest.mark.parametrize("role", ["viewer", "runner"])
def test_who_only_looks_or_runs_can_change_nothing(sign_in, cast, command, role):
    Membership.objects.filter(user=cast.vera).update(role=role)
    client = sign_in(cast.vera)
    for path in (
        "/commands/new/",
        f"/commands/{command.uid}/edit/",
        f"/commands/{command.uid}/restore/",
        f"/commands/delete/?uid={command.uid}",
    ):
        body = fields(number="1", based_on="1", uid=command.uid)
        assert client.post(path, body).status_code == 404, path
    assert client.get("/commands/new/").status_code == 404
    assert client.get(f"/commands/{command.uid}/edit/").status_code == 404
    assert client.get(f"/commands/delete/?uid={command.uid}").status_code == 404
    assert client.get(f"/commands/{command.uid}/").status_code == 200


def test_a_command_that_was_not_saved_has_no_page(sign_in, cast, fleet):
    task = invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=replace(HELLO, use_params=False, parameters={}),
        instance_uids=[fleet[0].uid],
        now=timezone.now(),
    )
    assert sign_in(cast.bob).get(f"/commands/{task.command_uid}/").status_code == 404


def test_an_operator_of_two_teams_can_clone_from_one_to_the_other(sign_in, cast, command):
    teams.add_member(team=cast.other_team, user=cast.bob, role="operator")
    client = sign_in(cast.bob)
    client.post("/scope/", {"team": cast.other_team.pk, "region": cast.region.pk})
    assert client.get(f"/commands/new/?from={command.uid}").status_code == 200
    client.post("/commands/new/", fields(name="Mine too"))
    assert Command.objects.get(name="Mine too").team == cast.other_team


OLD = [
    ({"pattern": "(a+)+b", "description": "Kept"}, "pattern"),
    ({"choices": ["a", "a"], "description": "Kept"}, "Choices"),
    ({"later": 1, "description": "Kept"}, "no property later"),
    ({"description": ["Kept"]}, "must be text"),
    ("Kept", "by names and values"),
]


class TestOldRules:
    """What a stored command says and the rules of today refuse: shown, told, and edited."""

    @pytest.fixture(params=OLD, ids=["pattern", "choices", "unknown", "kind", "text"])
    def old(self, request, command):
        kept, why = request.param
        CommandVersion.objects.filter(command=command).update(parameters={"greeting": kept})
        return command, why

    @pytest.mark.parametrize("path", ["", "?tab=versions", "edit/", "history/"])
    def test_its_pages_are_there(self, sign_in, cast, old, path):
        command, why = old
        answer = sign_in(cast.bob).get(f"/commands/{command.uid}/{path}")
        assert answer.status_code == 200
        if "history" not in path:
            told = answer.content.decode()
            assert "is no longer allowed, so the command can" in told
            assert why in told
            assert path == "edit/" or f'<a href="/commands/{command.uid}/edit/">Edit the' in told

    @pytest.mark.parametrize("address", ["/commands/new/?from=", "/run/?copy=", "/run/?command="])
    def test_forms_of_it_are_there(self, sign_in, cast, old, address):
        assert sign_in(cast.bob).get(f"{address}{old[0].uid}").status_code == 200

    def test_running_it_says_why_not_and_where_to_edit(self, sign_in, cast, old, fleet):
        command, _ = old
        client = sign_in(cast.bob)
        sent = {
            "source": "existing", "command": command.uid, "version": "1", "param-greeting": "x",
            "instances": [fleet[0].uid],
        }  # fmt: skip
        for action in ("preview", ""):
            answer = client.post("/run/", {**sent, "action": action})
            assert answer.status_code == 422
            page = answer.content.decode()
            assert "parameter greeting is no longer allowed: " in page
            assert f'<a href="/commands/{command.uid}/edit/">' in page
        assert Run.objects.count() == 0

    def test_a_runner_is_told_and_gets_no_link(self, sign_in, runner, old):
        page = sign_in(runner).get(f"/run/?command={old[0].uid}").content.decode()
        assert "is no longer allowed" in page
        assert f"/commands/{old[0].uid}/edit/" not in page

    def test_an_edit_mends_it(self, sign_in, cast, old, fleet):
        command, _ = old
        client = sign_in(cast.bob)
        address = f"/commands/{command.uid}/edit/"
        shown = shown_fields(client.get(address).content.decode(), "command-form")
        mended = {**shown, "about-pattern-greeting": "", "about-choices-greeting": "a\r\nb"}
        assert client.post(address, mended).status_code == 303
        page = client.get(f"/commands/{command.uid}/").content.decode()
        assert "is no longer allowed" not in page
        client.post("/run/", {
            "source": "existing", "command": command.uid, "version": "2", "param-greeting": "a",
            "instances": [fleet[0].uid],
        })  # fmt: skip
        assert Run.objects.count() == 1

    def test_a_restored_version_is_checked(self, sign_in, cast, command, edit):
        edit(command, 1, content="echo two {{greeting}}")
        first = CommandVersion.objects.filter(command=command, number=1)
        first.update(parameters={"greeting": {"pattern": "(a+)+b"}})
        answer = sign_in(cast.bob).post(
            f"/commands/{command.uid}/restore/", {"number": "1", "based_on": "2"}
        )
        assert answer.status_code == 303
        assert "Nothing was restored." in said(answer)[0]
