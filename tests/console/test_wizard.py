"""The wizard without JavaScript: both sources, saving, preview, what is never lost or doubled."""

from __future__ import annotations

import html
import re
from urllib.parse import urlencode

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from commands.models import Command, Instance, Invocation, Role, Run
from commands.rules.quotas import Quota
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema
from commands.services import library, quotas, runs, teams
from commands.services.definitions import CommandInput
from tests.filled import shown_fields

pytestmark = pytest.mark.django_db

OF_THE_PAGE = {
    "source", "shown-source", "instances", "owner", "scope", "command", "csrfmiddlewaretoken"
}  # fmt: skip
"""Fields that nobody typed."""


@pytest.fixture
def form(fleet):
    return {
        "name": "Hello",
        "type": "RunShellScript",
        "content": "echo hi\r\n",
        "instances": [fleet[0].uid, fleet[1].uid],
        "client_token": "token-1",
    }


@pytest.fixture
def save(cast):
    def make(**columns):
        given = {"name": "Greet", "type": "RunShellScript", "content": "echo hi", **columns}
        return library.create_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(**given),
            now=timezone.now(),
        )

    return make


@pytest.fixture
def greet(save):
    return save(
        content="echo {{greeting}} {{token}}",
        use_params=True,
        workdir="/tmp",
        timeout=30,
        parameters={
            "greeting": ParameterSchema(default="hello", choices=("hello", "bye")),
            "token": ParameterSchema(secret=True, insertion=Insertion.QUOTED),
        },
    )


@pytest.fixture
def rita(cast, django_user_model):
    rita = django_user_model.objects.create_user("rita", password="rita-secret")
    teams.add_member(team=cast.team, user=rita, role=Role.RUNNER)
    return rita


def fill_library(cast, *, limit):
    cast.alice.is_staff = True
    quotas.set_limit(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        key=Quota.SAVED_COMMANDS,
        limit=limit,
    )


def scripts_of(task):
    ids = list(task.runs.order_by("pk").values_list("pk", flat=True))
    claimed = runs.claim(run_ids=ids, owner="worker", now=timezone.now())
    return [one.spec.script for one in claimed]


class TestSaving:
    """Save Command."""

    def test_a_saved_command_is_in_the_library_and_uses_a_place(self, sign_in, cast, form):
        answer = sign_in(cast.bob).post("/run/", {**form, "save": "on", "description": "Says hi"})
        assert answer.status_code == 303
        command = Command.objects.kept().get()
        assert (command.name, command.description) == ("Hello", "Says hi")
        assert Invocation.objects.get().command == command

    def test_a_full_library_keeps_the_form_and_off_lets_it_pass(self, sign_in, cast, form, save):
        save()
        fill_library(cast, limit=1)
        client = sign_in(cast.bob)
        refused = client.post("/run/", {**form, "save": "on"})
        page = refused.content.decode()
        assert refused.status_code == 422
        assert "Turn off Save command" in page
        assert 'href="#id_save"' in page
        fields = shown_fields(page)
        assert fields["content"] == ["echo hi\r\n"]
        assert set(fields["instances"]) == set(form["instances"])
        assert not Invocation.objects.exists()
        del fields["save"]
        assert client.post("/run/", fields).status_code == 303
        assert (Command.objects.kept().count(), Invocation.objects.count()) == (1, 1)

    def test_a_full_library_turns_it_off_from_the_start(self, sign_in, cast, save):
        client = sign_in(cast.bob)
        assert "save" in shown_fields(client.get("/run/").content.decode())
        save()
        fill_library(cast, limit=1)
        assert "save" not in shown_fields(client.get("/run/").content.decode())

    def test_saving_without_running(self, sign_in, cast, form, sent):
        sent_form = {**form, "action": "save", "instances": []}
        answer = sign_in(cast.bob).post("/run/", sent_form)
        command = Command.objects.kept().get()
        assert (answer.status_code, answer["Location"]) == (303, f"/commands/{command.uid}/")
        assert (Invocation.objects.count(), sent) == (0, [])

    def test_a_name_that_is_taken_is_a_note_and_no_error(self, sign_in, cast, form, save):
        save(name="Hello")
        client = sign_in(cast.bob)
        note = client.get("/run/name/", {"name": " Hello "}).content.decode()
        assert "Another saved command is called Hello." in note
        assert "Another" not in client.get("/run/name/", {"name": "Hullo\0"}).content.decode()
        assert client.post("/run/", {**form, "save": "on"}).status_code == 303

    def test_what_is_said_of_parameters_is_saved_with_it(self, sign_in, cast, form):
        about = {
            "use_params": "on",
            "content": "echo {{Where}} {{token}}",
            "param-where": "here",
            "about-description-where": "A place",
            "about-default-where": "here",
            "about-choices-where": "here\r\nthere",
            "about-required-where": "on",
            "about-insertion-where": "quoted",
            "param-token": "hunter2",
            "seen-token": "1",
            "secret-token": "on",
        }
        answer = sign_in(cast.bob).post("/run/", {**form, **about, "save": "on"})
        assert answer.status_code == 303
        version = Command.objects.kept().get().versions.get()
        assert version.schemas() == {
            "where": ParameterSchema(
                description="A place",
                default="here",
                choices=("here", "there"),
                required=True,
                insertion=Insertion.QUOTED,
            ),
            "token": ParameterSchema(secret=True),
        }
        assert scripts_of(Invocation.objects.get())[0] == b"echo 'here' hunter2\n"[:-1]

    def test_what_is_wrong_about_a_parameter_is_said_beside_it(self, sign_in, cast, form):
        about = {"use_params": "on", "content": "echo {{a}}", "about-pattern-a": "("}
        answer = sign_in(cast.bob).post("/run/", {**form, **about})
        page = answer.content.decode()
        assert answer.status_code == 422
        assert 'href="#e-about-a"' in page
        assert 'id="e-about-a"' in page
        assert 'value="("' in page


class TestExisting:
    """A command of the library."""

    def test_a_link_fills_the_form(self, sign_in, cast, greet, fleet):
        client = sign_in(cast.bob)
        page = client.get(f"/run/?command={greet.uid}").content.decode()
        assert "echo {{greeting}} {{token}}" in page
        assert "version 1" in page
        fields = shown_fields(page)
        assert (fields["source"], fields["command"]) == (["existing"], [greet.uid])
        assert (fields["workdir"], fields["timeout"]) == (["/tmp"], ["30"])
        assert fields["param-greeting"] == ["hello"]
        sent = {**fields, "param-token": "it's", "timeout": "5", "instances": [fleet[0].uid]}
        answer = client.post("/run/", sent)
        assert answer.status_code == 303
        task = Invocation.objects.get()
        assert (task.timeout, task.timeout_asked, task.hidden) == (10, 5, ["token"])
        assert scripts_of(task) == [b"echo hello 'it'\\''s'"]

    def test_values_used_last_come_back_but_hidden_ones(self, sign_in, cast, greet, fleet):
        client = sign_in(cast.bob)
        url = f"/run/?command={greet.uid}"
        sent = {**shown_fields(client.get(url).content.decode()), "instances": [fleet[0].uid]}
        client.post("/run/", {**sent, "param-greeting": "bye", "param-token": "hunter2"})
        page = client.get(url).content.decode()
        assert shown_fields(page)["param-greeting"] == ["bye"]
        assert "hunter2" not in page
        other = sign_in(cast.alice).get(url).content.decode()
        assert shown_fields(other)["param-greeting"] == ["hello"]

    def test_a_program_needs_only_the_id(self, sign_in, cast, save, fleet):
        command = save()
        sent = {"source": "existing", "command": command.uid, "instances": [fleet[0].uid]}
        assert sign_in(cast.bob).post("/run/", sent).status_code == 303
        assert Invocation.objects.get().timeout == 60

    def test_switching_there_and_back_loses_nothing(self, sign_in, cast, form, save, fleet):
        other = save(name="Other", workdir="/var", timeout=99)
        client = sign_in(cast.bob)
        typed = {
            **shown_fields(client.get("/run/").content.decode()),
            **form,
            "description": "What for",
            "workdir": "/tmp",
            "timeout": "77",
            "use_params": "on",
            "content": "echo {{a}}",
            "param-a": "1",
            "about-default-a": "2",
            "launcher": "python3",
            "tags": "x=y",
        }
        there = client.post("/run/", {**typed, "source": "existing", "action": "source"})
        assert (there.status_code, "problem" in there.content.decode()) == (200, False)
        fields = shown_fields(there.content.decode())
        loaded = client.post("/run/", {**fields, "command": other.uid, "action": "load"})
        fields = shown_fields(loaded.content.decode())
        assert (fields["workdir"], fields["timeout"]) == (["/var"], ["99"])
        assert set(fields["instances"]) == set(form["instances"])
        back = client.post("/run/", {**fields, "source": "new", "action": "source"})
        again = shown_fields(back.content.decode())
        for name, value in typed.items():
            if name not in OF_THE_PAGE:
                expected = value if isinstance(value, list) else [value]
                assert again.get(name) == expected, name
        assert set(again["instances"]) == set(form["instances"])
        assert not Invocation.objects.exists()

    def test_another_source_is_shown_before_anything_runs(self, sign_in, cast, form, save):
        """Without JavaScript somebody may change the source and press Create at once."""
        save()
        client = sign_in(cast.bob)
        fields = shown_fields(client.get("/run/").content.decode())
        answer = client.post("/run/", {**fields, **form, "source": "existing"})
        assert answer.status_code == 200
        assert not Invocation.objects.exists()

    def test_a_copy_is_a_new_command(self, sign_in, cast, greet):
        page = sign_in(cast.bob).get(f"/run/?copy={greet.uid}").content.decode()
        fields = shown_fields(page)
        assert fields["name"] == ["Greet (copy)"]
        assert fields["content"] == ["echo {{greeting}} {{token}}"]
        assert fields["about-choices-greeting"] == ["hello\nbye"]
        assert fields["secret-token"] == ["on"]

    def test_one_that_was_edited_meanwhile_is_shown_again(self, sign_in, cast, save, fleet):
        command = save()
        client = sign_in(cast.bob)
        fields = shown_fields(client.get(f"/run/?command={command.uid}").content.decode())
        library.edit_command(
            actor=cast.alice,
            command=command,
            definition=CommandInput(name="Greet", type="RunShellScript", content="echo new"),
            based_on=1,
            now=timezone.now(),
        )
        sent = {**fields, "instances": [fleet[0].uid]}
        answer = client.post("/run/", sent)
        page = answer.content.decode()
        assert answer.status_code == 409
        assert "has changed since you chose it" in page
        assert "echo new" in page
        again = client.post("/run/", shown_fields(page))
        assert again.status_code == 303
        assert Invocation.objects.get().content == "echo new"

    def test_one_that_was_deleted_meanwhile(self, sign_in, cast, save, fleet):
        command = save()
        client = sign_in(cast.bob)
        fields = shown_fields(client.get(f"/run/?command={command.uid}").content.decode())
        library.delete_commands(
            actor=cast.bob, team=cast.team, region=cast.region, uids=[command.uid]
        )
        answer = client.post("/run/", {**fields, "instances": [fleet[0].uid]})
        assert answer.status_code == 422
        assert "That command was deleted. Choose another." in answer.content.decode()

    def test_none_chosen(self, sign_in, cast, fleet):
        sent = {"source": "existing", "instances": [fleet[0].uid]}
        answer = sign_in(cast.bob).post("/run/", sent)
        assert answer.status_code == 422
        assert "Choose a saved command." in answer.content.decode()

    def test_links_to_what_others_own(self, sign_in, cast, save):
        command = save()
        for query in ("command", "copy"):
            assert sign_in(cast.charlie).get(f"/run/?{query}={command.uid}").status_code == 404
            assert sign_in(cast.bob).get(f"/run/?{query}=c-nowhere").status_code == 404
            assert sign_in(cast.bob).get(f"/run/?{query}=%00").status_code == 404


class TestHidden:
    """Hidden values: never in a page, never lost without a word, never for another command."""

    @pytest.fixture
    def typed(self, form):
        return {
            **form,
            "use_params": "on",
            "content": "echo {{token}}",
            "param-token": "s3cret",
            "seen-token": "1",
            "secret-token": "on",
            "shown-source": "new",
            "source": "new",
        }

    def test_one_that_is_no_longer_kept_is_asked_for(self, sign_in, cast, typed):
        client = sign_in(cast.bob)
        sent = {**typed, "param-token": "", "kept-token": "1"}
        answer = client.post("/run/", sent)
        assert answer.status_code == 422
        assert "The hidden value is no longer kept. Type it again." in answer.content.decode()
        assert not Invocation.objects.exists()
        again = shown_fields(answer.content.decode())
        assert "kept-token" not in again
        assert client.post("/run/", {**again, "param-token": "x"}).status_code == 303

    def test_a_repeated_submit_of_a_kept_one_is_the_same_task(self, sign_in, cast, typed):
        client = sign_in(cast.bob)
        client.post("/run/", {**typed, "name": ""})
        sent = {**typed, "param-token": "", "kept-token": "1"}
        first, second = client.post("/run/", sent), client.post("/run/", sent)
        assert (first.status_code, first["Location"]) == (303, second["Location"])
        assert scripts_of(Invocation.objects.get())[0] == b"echo s3cret"

    def test_one_command_does_not_get_that_of_another(self, sign_in, cast, save, fleet):
        given = {
            "use_params": True,
            "parameters": {"token": ParameterSchema(secret=True)},
        }
        ours = save(name="A", content="echo a {{token}}", **given)
        theirs = save(name="B", content="echo b {{token}}", **given)
        client = sign_in(cast.bob)
        fields = shown_fields(client.get(f"/run/?command={ours.uid}").content.decode())
        wrong = client.post("/run/", {**fields, "param-token": "AAA", "timeout": "abc"})
        fields = shown_fields(wrong.content.decode())
        assert fields["kept-token"] == ["1"]
        other = client.post("/run/", {**fields, "command": theirs.uid, "action": "load"})
        fields = shown_fields(other.content.decode())
        assert "kept-token" not in fields
        client.post("/run/", {**fields, "kept-token": "1", "instances": [fleet[0].uid]})
        assert not Invocation.objects.exists()

    @pytest.mark.parametrize(
        "change",
        [{}, {"use_params": ""}, {"content": "echo {{other}}"}, {"content": "echo"}],
        ids=["as it is", "parameters off", "renamed", "removed"],
    )
    def test_it_is_in_no_page_when_the_source_changes(self, sign_in, cast, typed, save, change):
        save()
        sent = {name: value for name, value in {**typed, **change}.items() if value}
        answer = sign_in(cast.bob).post("/run/", {**sent, "source": "existing"})
        assert answer.status_code == 200
        assert "s3cret" not in answer.content.decode()

    def test_it_is_there_again_after_the_source_changed_and_changed_back(
        self, sign_in, cast, typed, save
    ):
        save()
        client = sign_in(cast.bob)
        there = client.post("/run/", {**typed, "source": "existing"})
        back = client.post("/run/", {**shown_fields(there.content.decode()), "source": "new"})
        fields = shown_fields(back.content.decode())
        assert fields["kept-token"] == ["1"]
        client.post("/run/", fields)
        assert scripts_of(Invocation.objects.get())[0] == b"echo s3cret"

    def test_a_kept_one_stays_hidden_when_the_switch_is_turned_off(self, sign_in, cast, typed):
        client = sign_in(cast.bob)
        client.post("/run/", {**typed, "name": ""})
        sent = {**typed, "param-token": "", "kept-token": "1"}
        del sent["secret-token"]
        client.post("/run/", sent)
        task = Invocation.objects.get()
        assert (scripts_of(task)[0], task.hidden) == (b"echo s3cret", ["token"])

    def test_a_name_that_looks_secret_may_have_a_default(self, sign_in, cast, save, fleet):
        command = save(
            content="echo {{region_key}}",
            use_params=True,
            parameters={"region_key": ParameterSchema(default="abc")},
        )
        client = sign_in(cast.bob)
        fields = shown_fields(client.get(f"/run/?command={command.uid}").content.decode())
        assert (fields["param-region_key"], "secret-region_key" in fields) == (["abc"], False)
        answer = client.post("/run/", {**fields, "instances": [fleet[0].uid]})
        assert answer.status_code == 303

    def test_the_default_of_one_is_in_no_page(self, sign_in, cast, typed, save):
        save()
        client = sign_in(cast.bob)
        sent = {**typed, "about-default-token": "d3fault"}
        for step in ({}, {"source": "existing"}, {"use_params": ""}):
            page = client.post("/run/", {**sent, "name": "", **step}).content.decode()
            assert "d3fault" not in page

    def test_a_long_client_token_does_not_fill_the_session(self, sign_in, cast, typed):
        client = sign_in(cast.bob)
        client.post("/run/", {**typed, "client_token": "x" * 100_000})
        assert len(client.session.get("hidden_values", "")) < 1_000


class TestReturning:
    """What was typed for one source or command is there again on coming back to it."""

    @pytest.fixture
    def two(self, save):
        given = {"use_params": True, "workdir": "/tmp"}
        return (
            save(name="A", content="echo a {{word}} {{token}}", **given),
            save(name="B", content="echo b {{word}}", **given),
        )

    def test_over_another_command_and_another_source(self, sign_in, cast, two):
        client = sign_in(cast.bob)
        first, second = two
        fields = shown_fields(client.get(f"/run/?command={first.uid}").content.decode())
        typed = {
            **fields,
            "param-word": "mine",
            "param-token": "s3cret",
            "seen-token": "1",
            "secret-token": "on",
            "workdir": "/var/tmp",
            "timeout": "777",
        }
        steps = [
            {"command": second.uid, "action": "load"},
            {"source": "new", "action": "source"},
            {"source": "existing", "command": first.uid, "action": "load"},
        ]
        for step in steps:
            page = client.post("/run/", {**typed, **step}).content.decode()
            assert "s3cret" not in page
            typed = shown_fields(page)
        assert (typed["param-word"], typed["kept-token"]) == (["mine"], ["1"])
        assert (typed["workdir"], typed["timeout"]) == (["/var/tmp"], ["777"])

    def test_after_signing_in_again_in_the_midst_of_a_switch(self, cast, form, two):
        client = Client()
        client.force_login(cast.bob)
        fields = shown_fields(client.get("/run/").content.decode())
        Session.objects.all().delete()
        sent = {**fields, **form, "source": "existing", "description": "What for"}
        body = urlencode(sent, doseq=True)
        answer = client.post("/run/", body, content_type="application/x-www-form-urlencoded")
        client.post(answer["Location"], {"username": "bob", "password": "bob-secret"})
        again = shown_fields(client.get("/run/").content.decode())
        assert (again["name"], again["description"]) == (["Hello"], ["What for"])

    def test_a_newer_version_brings_its_own_settings(self, sign_in, cast, two, fleet):
        first, _ = two
        client = sign_in(cast.bob)
        fields = shown_fields(client.get(f"/run/?command={first.uid}").content.decode())
        choice = ParameterSchema(required=True, choices=("prod", "dev"))
        library.edit_command(
            actor=cast.alice,
            command=first,
            definition=CommandInput(
                name="A",
                type="RunShellScript",
                content="echo {{word}}",
                use_params=True,
                workdir="/var",
                timeout=900,
                parameters={"word": choice},
            ),
            based_on=1,
            now=timezone.now(),
        )
        sent = {**fields, "param-word": "staging", "instances": [fleet[0].uid]}
        answer = client.post("/run/", sent)
        again = shown_fields(answer.content.decode())
        assert answer.status_code == 409
        assert (again["workdir"], again["timeout"]) == (["/var"], ["900"])
        assert again["param-word"] == [""]


class TestRunner:
    """A member that only runs saved commands."""

    def test_sees_saved_commands_and_no_way_to_write_one(self, sign_in, rita, greet):
        page = sign_in(rita).get("/run/").content.decode()
        assert shown_fields(page)["source"] == ["existing"]
        assert 'value="new"' not in page
        assert 'value="save"' not in page

    def test_runs_one(self, sign_in, rita, greet, fleet):
        client = sign_in(rita)
        fields = shown_fields(client.get(f"/run/?command={greet.uid}").content.decode())
        answer = client.post("/run/", {**fields, "instances": [fleet[0].uid]})
        assert answer.status_code == 303

    def test_is_told_what_it_may_not(self, sign_in, rita, greet, fleet):
        client = sign_in(rita)
        fields = shown_fields(client.get(f"/run/?command={greet.uid}").content.decode())
        sent = {**fields, "param-greeting": "bye", "instances": [fleet[0].uid]}
        answer = client.post("/run/", sent)
        assert answer.status_code == 422
        assert "inserted as typed" in answer.content.decode()

    def test_can_not_post_a_new_one(self, sign_in, rita, form):
        assert sign_in(rita).post("/run/", form).status_code == 404
        assert not Invocation.objects.exists()


class TestPreview:
    """What would run, before anything does."""

    def test_each_instance_has_its_script_and_digest(self, sign_in, cast, form, fleet):
        client = sign_in(cast.bob)
        filled = {
            **form,
            "use_params": "on",
            "content": "echo {{ACS::InstanceName}} {{token}}",
            "param-token": "hunter2",
        }
        answer = client.post("/run/", {**filled, "action": "preview"})
        page = answer.content.decode()
        assert answer.status_code == 200
        assert "echo web-01 ••••••" in page
        assert "hunter2" not in page
        digest = re.search(r'class="digest">([0-9a-f]{64})<', page)
        assert digest
        second = client.post(
            "/run/",
            {
                **shown_fields(page),
                "action": "preview",
                "preview-instance": fleet[1].uid,
            },
        )
        assert "echo web-02 ••••••" in second.content.decode()
        assert (Invocation.objects.count(), Run.objects.count()) == (0, 0)
        created = client.post("/run/", shown_fields(second.content.decode()))
        assert created.status_code == 303
        assert digest[1] in client.get(created["Location"]).content.decode()

    def test_ids_of_the_task_are_assigned_at_creation(self, sign_in, cast, form):
        filled = {**form, "use_params": "on", "content": "echo {{ACS::InvokeId}}"}
        page = sign_in(cast.bob).post("/run/", {**filled, "action": "preview"}).content.decode()
        assert "echo ‹assigned at creation›" in page
        assert 'class="digest"' not in page

    def test_neither_name_nor_instance_is_needed(self, sign_in, cast, form):
        sent = {**form, "name": "", "instances": [], "action": "preview"}
        answer = sign_in(cast.bob).post("/run/", sent)
        assert (answer.status_code, "No instance is selected" in answer.content.decode()) == (
            200,
            True,
        )

    def test_what_is_wrong_is_said(self, sign_in, cast, form):
        sent = {**form, "content": "", "action": "preview"}
        assert sign_in(cast.bob).post("/run/", sent).status_code == 422


class TestMore:
    """User, launcher, tags, termination."""

    def test_they_reach_the_worker(self, sign_in, cast, form):
        more = {
            "run_as": "deploy",
            "launcher": "python3 -u",
            "tags": "team=web, urgent\r\ncost=12",
            "termination": "Process",
        }
        assert sign_in(cast.bob).post("/run/", {**form, **more}).status_code == 303
        task = Invocation.objects.get()
        assert task.tags == {"team": "web", "urgent": "", "cost": "12"}
        ids = [run.pk for run in task.runs.all()]
        spec = runs.claim(run_ids=ids, owner="w", now=timezone.now())[0].spec
        assert (spec.run_as, spec.whole_tree) == ("deploy", False)
        assert spec.launcher.argv("/x") == ["python3", "-u", "/x"]

    @pytest.mark.parametrize(
        ("name", "value", "sentence"),
        [
            ("run_as", "-rf", "A user"),
            ("run_as", "a;b", "A user"),
            ("run_as", "#0", "A user"),
            ("launcher", "{{x}}", "known in a launcher"),
            ("launcher", "x" * 1025, "1,024 bytes"),
            ("tags", "acs:x=1", "start with acs:"),
            ("tags", ",".join(f"k{n}" for n in range(21)), "20 tags or fewer"),
            ("termination", "Everything", "Choose what a stop ends"),
            ("description", "x" * 513, "512 characters or fewer"),
            ("source", "both", "Choose New command or Existing"),
        ],
    )
    def test_what_is_wrong_stands_beside_its_field(
        self, sign_in, cast, form, name, value, sentence
    ):
        answer = sign_in(cast.bob).post("/run/", {**form, name: value})
        page = html.unescape(answer.content.decode())
        assert answer.status_code == 422
        assert sentence in page
        assert f'href="#id_{name}"' in page
        assert f'id="id_{name}"' in page
        assert not Invocation.objects.exists()


def test_a_timeout_that_the_page_has_raised_is_told_all_the_same(sign_in, cast, form):
    client = sign_in(cast.bob)
    client.post("/run/", {**form, "timeout": "10", "timeout_asked": "5"})
    assert Invocation.objects.get().timeout_asked == 5
    Invocation.objects.all().delete()
    client.post("/run/", {**form, "timeout": "60", "timeout_asked": "5"})
    assert Invocation.objects.get().timeout_asked == 60


def test_types_for_windows_are_called_experimental(sign_in, cast):
    page = sign_in(cast.bob).get("/run/").content.decode()
    assert "Bat and PowerShell are experimental: not yet run on Windows." in page


def test_bat_is_saved_and_runs_nowhere_yet(sign_in, cast, form, fleet):
    Instance.objects.filter(pk=fleet[0].pk).update(os_type="windows")
    client = sign_in(cast.bob)
    bat = {**form, "type": "RunBatScript", "content": "echo hi\r\n", "workdir": "C:\\"}
    refused = client.post("/run/", {**bat, "instances": [fleet[0].uid]})
    assert refused.status_code == 422
    assert "CONSOLE_WINDOWS" in refused.content.decode()
    assert client.post("/run/", {**bat, "action": "save"}).status_code == 303
    assert Command.objects.kept().get().versions.get().content == "echo hi\n"


def test_a_form_stays_with_the_team_it_was_made_for(sign_in, cast, form, fleet):
    """Another tab has chosen another team meanwhile."""
    teams.add_member(team=cast.other_team, user=cast.bob, role=Role.OPERATOR)
    client = sign_in(cast.bob)
    client.post("/scope/", {"team": cast.team.pk, "region": cast.region.pk})
    fields = shown_fields(client.get("/run/").content.decode())
    client.post("/scope/", {"team": cast.other_team.pk, "region": cast.region.pk})
    assert client.post("/run/", {**fields, **form}).status_code == 303
    assert Invocation.objects.get().team == cast.team
    foreign = {**fields, **form, "scope": f"{cast.team.uid} {cast.region.uid}"}
    assert sign_in(cast.charlie).post("/run/", foreign).status_code == 409


def test_a_form_of_a_team_that_was_left_does_nothing_elsewhere(sign_in, cast, form):
    client = sign_in(cast.bob)
    fields = shown_fields(client.get("/run/").content.decode())
    teams.add_member(team=cast.other_team, user=cast.bob, role=Role.OPERATOR)
    cast.team.memberships.filter(user=cast.bob).delete()
    for action in ("", "save"):
        answer = client.post("/run/", {**fields, **form, "action": action})
        assert answer.status_code == 409
        assert "no longer in the team" in answer.content.decode()
    page = {**shown_fields(answer.content.decode(), "run-form")}
    assert page["content"] == ["echo hi\r\n"]
    answer = client.post("/commands/new/", {**fields, **form})
    assert answer.status_code == 409
    assert (Invocation.objects.count(), Command.objects.count()) == (0, 0)


def test_a_value_that_a_program_leaves_out_is_the_default(sign_in, cast, greet, fleet):
    client = sign_in(cast.bob)
    sent = {"source": "existing", "command": greet.uid, "instances": [fleet[0].uid]}
    client.post("/run/", {**sent, "param-greeting": "bye"})
    client.post("/run/", sent)
    assert [scripts_of(task)[0] for task in Invocation.objects.order_by("pk")] == [
        b"echo bye ''",
        b"echo hello ''",
    ]


@pytest.mark.parametrize("timeout", ["-" + "9" * 19, "-" + "9" * 20, "-" + "9" * 3000, "0", "-1"])
def test_any_whole_number_below_ten_becomes_ten(sign_in, cast, form, timeout):
    assert sign_in(cast.bob).post("/run/", {**form, "timeout": timeout}).status_code == 303
    assert Invocation.objects.get().timeout == 10


def test_a_hundred_thousand_placeholders_make_no_huge_page(sign_in, cast, form):
    for content in ("".join(f"{{{{a{n}}}}}" for n in range(100_000)), "{{!}}" * 100_000):
        sent = {**form, "use_params": "on", "content": content}
        answer = sign_in(cast.bob).post("/run/", sent)
        assert answer.status_code == 422
        assert len(answer.content) < 3 * len(content) + 200_000
        assert len(answer.context["parameters"]) <= 20


def test_thousands_of_tags_to_filter_by(sign_in, cast, form):
    client = sign_in(cast.bob)
    tags = [f"t{n}" for n in range(3000)]
    assert client.post("/run/", {**form, "tag": tags, "action": "search"}).status_code == 200
    assert client.get("/run/instances/", {"tag": tags[:300]}).status_code == 200


def test_values_outlive_parameters_being_switched_off(sign_in, cast, form):
    client = sign_in(cast.bob)
    typed = {
        **form,
        "name": "",
        "content": "echo {{a}} {{token}}",
        "param-a": "one",
        "about-default-a": "two",
        "seen-a": "1",
        "param-token": "s3cret",
        "seen-token": "1",
        "secret-token": "on",
    }
    off = client.post("/run/", typed).content.decode()
    assert "s3cret" not in off
    fields = shown_fields(off)
    again = client.post("/run/", {**fields, "use_params": "on", "name": "ok"})
    assert again.status_code == 303
    assert scripts_of(Invocation.objects.get())[0] == b"echo one s3cret"


@pytest.mark.parametrize("address", ["/run/", "/commands/new/"])
def test_one_parameter_too_many_keeps_the_values_of_all(cast, sign_in, form, address):
    names = [f"p{n}" for n in range(21)]
    typed = {
        **{f"param-{name}": f"value of {name}" for name in names},
        **{f"about-description-{name}": f"about {name}" for name in names},
        **{f"seen-{name}": "1" for name in names},
    }
    content = "echo " + " ".join(f"{{{{{name}}}}}" for name in names)
    sent = {**form, **typed, "content": content, "use_params": "on"}
    response = sign_in(cast.bob).post(address, sent)
    assert response.status_code == 422
    page = response.content.decode()
    assert page.count("A command can have 20 parameters. This one has 21.") == 2
    assert "There is 1 problem." in page
    again = shown_fields(page, "run-form" if address == "/run/" else "command-form")
    assert {name: again.get(name) for name in typed} == {
        name: [value] for name, value in typed.items()
    }


class TestType:
    """What a command begins with follows its type, and the type used last is proposed."""

    def test_an_untouched_beginning_follows_the_type(self, cast, sign_in, fleet):
        client = sign_in(cast.bob)
        first = shown_fields(client.get("/run/").content.decode())
        assert (first["type"], first["content"]) == (["RunShellScript"], ["#!/bin/bash\n"])
        seen = []
        for kind in ("RunBatScript", "RunPowerShellScript", "RunShellScript"):
            first = {**first, "type": [kind], "action": "parameters"}
            first = shown_fields(client.post("/run/", first).content.decode())
            seen.append(first["content"])
        assert seen == [["@echo off\n"], [""], ["#!/bin/bash\n"]]

    @pytest.mark.parametrize("action", ["parameters", "search", "reload"])
    def test_what_was_written_stays(self, cast, sign_in, form, action):
        typed = {**form, "type": "RunBatScript", "content": "#!/bin/bash\necho mine"}
        page = sign_in(cast.bob).post("/run/", {**typed, "action": action}).content.decode()
        assert shown_fields(page)["content"] == ["#!/bin/bash\necho mine"]

    def test_in_the_library_too(self, cast, sign_in):
        client = sign_in(cast.bob)
        page = client.get("/commands/new/").content.decode()
        sent = {
            **shown_fields(page, "command-form"), "type": "RunBatScript", "action": "parameters"
        }  # fmt: skip
        page = client.post("/commands/new/", sent).content.decode()
        assert shown_fields(page, "command-form")["content"] == ["@echo off\n"]

    @pytest.mark.parametrize("content", ["@echo off", "@ECHO OFF\r\n\r\n", "#!/bin/sh", ""])
    def test_a_beginning_alone_is_no_command(self, cast, sign_in, form, content):
        page = sign_in(cast.bob).post("/run/", {**form, "type": "RunBatScript", "content": content})
        assert page.status_code == 422
        assert "Enter a command." in page.content.decode()

    def test_the_type_used_last_is_proposed(self, cast, sign_in, save, form):
        bob, alice = sign_in(cast.bob), sign_in(cast.alice)
        save(type="RunBatScript", content="dir")
        for address, form_id in (("/run/", "run-form"), ("/commands/new/", "command-form")):
            fields = shown_fields(bob.get(address).content.decode(), form_id)
            assert (fields["type"], fields["content"]) == (["RunBatScript"], ["@echo off\n"])
            assert shown_fields(alice.get(address).content.decode(), form_id)["type"] == [
                "RunShellScript"
            ]
        assert bob.post("/run/", form).status_code == 303
        assert shown_fields(bob.get("/run/").content.decode())["type"] == ["RunShellScript"]


def test_a_draft_may_fill_a_form_that_nobody_has_written(cast, sign_in, form, greet):
    client = sign_in(cast.bob)

    def fresh(answer):
        return re.search(r'data-fresh="(\w*)"', answer.content.decode())[1]

    assert fresh(client.get("/run/")) == "yes"
    saved = client.get(f"/run/?command={greet.uid}")
    assert (fresh(saved), fresh(client.get(f"/run/?copy={greet.uid}"))) == ("no", "no")
    back = {**shown_fields(saved.content.decode()), "source": "new", "action": "source"}
    assert fresh(client.post("/run/", back)) == "yes"
    for typed in ({"new-name": "Mine"}, {"new-content": "echo mine"}):
        assert fresh(client.post("/run/", {**back, **typed})) == ""
    assert fresh(client.post("/run/", {**form, "action": "parameters"})) == ""
    assert fresh(client.post("/run/", {**form, "name": ""})) == ""


class TestContentSize:
    """The team's own limit of a command's size."""

    def test_the_form_counts_against_it_and_loses_nothing(self, cast, sign_in, form):
        cast.alice.is_staff = True
        place = {"team": cast.team, "region": cast.region}
        quotas.set_limit(actor=cast.alice, **place, key=Quota.CONTENT_SIZE, limit=2_000)
        client = sign_in(cast.bob)
        assert 'data-limit="2000"' in client.get("/run/").text
        assert 'data-limit="2000"' in client.get("/commands/new/").text
        sent = {**form, "content": "x" * 1_503, "description": "Kept"}
        said = "Command has 2,004 bytes after Base64; the limit is 2,000."
        for url, form_id in (("/run/", "run-form"), ("/commands/new/", "command-form")):
            fields = {**shown_fields(client.get(url).text, form_id), **sent}
            refused = client.post(url, fields)
            assert refused.status_code == 422
            assert said in refused.text
            again = shown_fields(refused.text, form_id)
            assert again["content"] == [sent["content"]]
            assert again["description"] == ["Kept"]
            assert again["name"] == ["Hello"]
