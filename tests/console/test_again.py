"""Pages that run a task again: asked first, by whom, on what, and the form filled with it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from django.utils import timezone

from commands.models import Instance, Invocation, Region, Role, Run, User
from commands.rules.quotas import Quota
from commands.rules.quoting import Insertion
from commands.rules.rate import RateInput
from commands.rules.schema import ParameterSchema
from commands.services import invocations, library, quotas, sameness, teams
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput, Values
from tests.filled import shown_fields
from tests.services.carrying import create_task

pytestmark = pytest.mark.django_db

DEPLOY = CommandInput(
    name="Deploy",
    type="RunShellScript",
    content="deploy {{what}} {{token}}\n",
    use_params=True,
    parameters={
        "what": ParameterSchema(insertion=Insertion.QUOTED),
        "token": ParameterSchema(insertion=Insertion.QUOTED, secret=True),
    },
)


@pytest.fixture
def rita(cast) -> User:
    rita = User.objects.create_user("rita")
    teams.add_member(team=cast.team, user=rita, role=Role.RUNNER)
    return rita


@pytest.fixture
def saved(cast):
    return library.create_command(
        actor=cast.bob, team=cast.team, region=cast.region, command=DEPLOY, now=timezone.now()
    )


@pytest.fixture
def task(cast, fleet, saved):
    """A task of a saved command: it failed, timed out, and was stopped."""
    made = invocations.invoke_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=SavedInput(saved.uid, timeout="5"),
        values=Values({"what": "<web>", "token": "hunter2"}),
        instance_uids=[instance.uid for instance in fleet],
        rate=RateInput(concurrency="3", canary="1", batch_pause="confirm"),
        now=timezone.now(),
    )
    codes = {"Failed": 1}
    states = ("Failed", "Timeout", "Terminated")
    for run, status in zip(made.runs.order_by("pk"), states, strict=True):
        Run.objects.filter(pk=run.pk).update(
            status=status,
            phase="finished",
            exit_code=codes.get(status),
            finished_at=timezone.now(),
        )
    return made


def edit(cast, saved, **changes):
    library.edit_command(
        actor=cast.bob,
        command=saved,
        definition=replace(DEPLOY, **changes),
        based_on=saved.latest,
        now=timezone.now(),
    )
    saved.refresh_from_db()


def fields_of(page):
    """Names and values of the hidden fields that a question carries."""
    asked = page[page.index('action="/tasks/') :].split("</form>")[0]
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', asked)
    fields: dict[str, list[str]] = {}
    for name, value in found:
        fields.setdefault(name, []).append(value)
    fields.pop("csrfmiddlewaretoken", None)
    return fields


class TestAsking:
    """``GET /tasks/<id>/again/``."""

    def test_it_says_what_and_where_and_what_it_uses_and_changes_nothing(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        page = client.get(f"/tasks/{task.uid}/again/").content.decode()
        assert "Run v1 on the same 3 instances?" in page
        assert "Uses 1 run (2 of 5,000)." in page
        assert "<title>Run v1 on the same 3 instances?" in page
        assert "hunter2" not in page
        assert re.search(r'name="param-token" value="" type="password" autocomplete="off"', page)
        assert 'name="param-what"' not in page
        part = client.get(f"/tasks/{task.uid}/again/", headers={"HX-Target": "asked"})
        assert part.content.decode().lstrip().startswith("<form")
        assert part["Vary"].startswith("HX-Target")
        assert Invocation.objects.count() == 1

    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            ("only=failed", "Retry on 2 failed instances?"),
            ("only=stopped", "Retry on 1 stopped instance?"),
            ("instance={0}", "Retry on web-01?"),
            ("instance={0}&instance={2}", "Retry on 2 instances?"),
        ],
    )
    def test_on_some_of_them(self, sign_in, cast, task, fleet, query, sentence):
        query = query.format(*(instance.uid for instance in fleet))
        page = sign_in(cast.bob).get(f"/tasks/{task.uid}/again/?{query}").content.decode()
        if query == "only=stopped":
            sentence = "Retry on web-03?"
        assert sentence in page

    def test_where_it_can_not_run_is_listed(self, sign_in, cast, task, fleet):
        Instance.objects.filter(pk=fleet[0].pk).update(connection="unreachable")
        client = sign_in(cast.bob)
        page = client.get(f"/tasks/{task.uid}/again/?only=failed").content.decode()
        assert "Retry on 1 failed instance?" in page
        assert "1 of 2 can't be used now and will be skipped:" in page
        assert re.search(r"web-01 <small>It didn&#x27;t answer when it was checked last\.", page)
        page = client.get(f"/tasks/{task.uid}/again/").content.decode()
        assert "Run v1 on 2 of the same 3 instances?" in page
        Instance.objects.update(enabled=False)
        page = client.get(f"/tasks/{task.uid}/again/").content.decode()
        assert "None of these instances can be used now" in page
        assert "will be skipped" not in page
        assert 'type="submit">' not in page.partition('class="card ask"')[2]

    def test_where_nothing_failed(self, sign_in, cast, task):
        Run.objects.update(status="Success", exit_code=0)
        page = sign_in(cast.bob).get(f"/tasks/{task.uid}/again/?only=failed").content.decode()
        assert "It has failed on no instance" in page

    def test_what_was_never_saved_has_no_version(self, sign_in, cast, fleet):
        task = create_task(cast, fleet, "say a")
        client = sign_in(cast.bob)
        page = client.get(f"/tasks/{task.uid}/again/").content.decode()
        assert "Run the command on the same 3 instances?" in page
        task = create_task(cast, fleet[:1], "say a")
        page = client.get(f"/tasks/{task.uid}/again/").content.decode()
        assert "Run the command on web-01 again?" in page

    def test_a_full_day_is_said_at_once(self, sign_in, cast, task):
        cast.alice.is_staff = True
        quotas.set_limit(
            actor=cast.alice, team=cast.team, region=cast.region, key=Quota.TASKS_PER_DAY, limit=1
        )
        client = sign_in(cast.bob)
        page = client.get(f"/tasks/{task.uid}/again/").content.decode()
        assert "Your team has used" in page
        assert "Uses 1 run" not in page
        answer = client.post(f"/tasks/{task.uid}/again/", {"param-token": "t"})
        assert answer.status_code == 422
        assert "Your team has used" in answer.content.decode()

    @pytest.mark.parametrize(
        "query", ["only=some", "version=2", "version=latest", "instance=i-1", "instance=%00"]
    )
    def test_what_is_not_there(self, sign_in, cast, task, query):
        client = sign_in(cast.bob)
        assert client.get(f"/tasks/{task.uid}/again/?{query}").status_code == 404


class TestRunning:
    """``POST /tasks/<id>/again/``."""

    def test_the_whole_task(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        fields = fields_of(client.get(f"/tasks/{task.uid}/again/").content.decode())
        assert fields.keys() == {"client_token"}
        answer = client.post(f"/tasks/{task.uid}/again/", {**fields, "param-token": "new"})
        made = Invocation.objects.latest("pk")
        assert (answer.status_code, answer["Location"]) == (303, f"/tasks/{made.uid}/")
        assert (made.again_of, made.again_kind, made.runs.count()) == (task, "again", 3)
        assert '"token": "new"' in made.values
        again = client.post(f"/tasks/{task.uid}/again/", {**fields, "param-token": "new"})
        assert again["Location"] == answer["Location"]
        assert Invocation.objects.count() == 2
        page = client.get(answer["Location"]).content.decode()
        assert "This task was already created at" in page
        assert f'Repeat of <a href="/tasks/{task.uid}/">' in page
        assert f'Run again as <a href="/tasks/{made.uid}/">' in (
            client.get(f"/tasks/{task.uid}/").content.decode()
        )
        state = client.get(f"/tasks/{made.uid}/status.json").json()
        assert (state["again_of"], state["again_kind"]) == (task.uid, "again")

    def test_where_it_failed(self, sign_in, cast, task, fleet):
        client = sign_in(cast.bob)
        url = f"/tasks/{task.uid}/again/"
        fields = fields_of(client.get(f"{url}?only=failed").content.decode())
        assert fields["instance"] == [fleet[0].uid, fleet[1].uid]
        # One that fails after the question was asked is not what was asked about.
        Run.objects.filter(instance_uid=fleet[2].uid).update(status="Failed", exit_code=1)
        client.post(url, {**fields, "param-token": "t"})
        made = Invocation.objects.latest("pk")
        assert made.again_kind == "retry"
        assert [run.instance_name for run in made.runs.order_by("pk")] == ["web-01", "web-02"]
        page = client.get(f"/tasks/{made.uid}/").content.decode()
        assert f'Retry of <a href="/tasks/{task.uid}/">' in page

    def test_programs_need_no_question(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        for only, names in (("failed", ["web-01", "web-02"]), ("stopped", ["web-03"])):
            sent = {"only": only, "param-token": "t"}
            assert client.post(f"/tasks/{task.uid}/again/", sent).status_code == 303
            made = Invocation.objects.latest("pk")
            assert [run.instance_name for run in made.runs.order_by("pk")] == names
        assert "(2)" in client.get(f"/tasks/{task.uid}/").content.decode()

    def test_where_nothing_failed_nothing_runs(self, sign_in, cast, task):
        Run.objects.update(status="Success", exit_code=0)
        answer = sign_in(cast.bob).post(f"/tasks/{task.uid}/again/", {"only": "failed"})
        assert answer.status_code == 422
        assert Invocation.objects.count() == 1

    def test_a_hidden_value_that_is_missing_is_asked_for_there(self, sign_in, cast, task):
        answer = sign_in(cast.bob).post(f"/tasks/{task.uid}/again/", {"param-token": ""})
        page = answer.content.decode()
        assert answer.status_code == 422
        assert re.search(r'id="e-param-token">.*Enter a value for token again', page)
        assert 'aria-invalid="true"' in page
        assert Invocation.objects.count() == 1

    def test_what_was_skipped_is_said(self, sign_in, cast, task, fleet):
        fields = fields_of(
            sign_in(cast.bob).get(f"/tasks/{task.uid}/again/?only=failed").content.decode()
        )
        Instance.objects.filter(pk=fleet[0].pk).update(enabled=False)
        answer = sign_in(cast.bob).post(
            f"/tasks/{task.uid}/again/", {**fields, "param-token": "t"}, follow=True
        )
        text = "1 instance can&#x27;t be used now and was skipped: web-01."
        assert text in answer.content.decode()

    def test_another_request_with_the_same_token(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        url = f"/tasks/{task.uid}/again/"
        client.post(url, {"client_token": "t", "param-token": "a"})
        answer = client.post(url, {"client_token": "t", "param-token": "b"})
        page = answer.content.decode()
        assert answer.status_code == 409
        assert "You changed the form after it was sent" in page
        assert fields_of(page)["client_token"] != ["t"]

    @pytest.mark.parametrize("token", ["x" * 65, "ü"])
    def test_a_hopeless_token(self, sign_in, cast, task, token):
        answer = sign_in(cast.bob).post(
            f"/tasks/{task.uid}/again/", {"client_token": token, "param-token": "a"}
        )
        assert answer.status_code == 422
        assert 'role="alert"' in answer.content.decode()

    def test_the_newest_version(self, sign_in, cast, task, saved):
        edit(cast, saved, content="deploy {{what}} {{where}}\n", parameters={})
        client = sign_in(cast.bob)
        url = f"/tasks/{task.uid}/again/"
        page = client.get(f"{url}?version=latest").content.decode()
        assert "Run the latest version, v2, on the same 3 instances?" in page
        assert 'name="param-where"' in page
        fields = fields_of(page)
        assert (fields["version"], fields["number"]) == (["latest"], ["2"])
        edit(cast, saved, content="deploy {{what}}\n", parameters={})
        answer = client.post(url, {**fields, "param-where": "here"})
        assert answer.status_code == 409
        assert "v3" in answer.content.decode()
        fields = fields_of(answer.content.decode())
        assert client.post(url, fields).status_code == 303
        made = Invocation.objects.latest("pk")
        assert (made.again_kind, made.version.number) == ("latest", 3)
        page = client.get(f"{url}").content.decode()
        assert "It runs what ran then. The saved command is v3 now." in page

    def test_values_that_cannot_be_read_are_said(self, sign_in, cast, task, settings):
        settings.CONSOLE_ENCRYPTION_KEYS = ["8J0nUVZRYDfXyMHkTcNrv5JjX4FoFqUuvVIbYYEbnXY="]
        client = sign_in(cast.bob)
        url = f"/tasks/{task.uid}/again/"
        assert "can&#x27;t be decrypted" in client.get(url).content.decode()
        answer = client.post(url, {"param-token": "t"})
        assert answer.status_code == 422
        assert "can&#x27;t be decrypted" in answer.content.decode()
        page = client.get(f"/run/?from={task.uid}").content.decode()
        assert "can&#x27;t be decrypted" in page


class TestWho:
    """Roles, and what of it a task's page shows."""

    def test_who_may_not(self, sign_in, client, cast, task):
        for person in (cast.vera, cast.charlie):
            there = sign_in(person)
            for send in (there.get, there.post):
                assert send(f"/tasks/{task.uid}/again/").status_code == 404
        assert sign_in(cast.charlie).get(f"/run/?from={task.uid}").status_code in (200, 404)
        assert client.post(f"/tasks/{task.uid}/again/").status_code == 303  # to sign in
        assert Invocation.objects.count() == 1

    def test_what_is_offered(self, sign_in, cast, task, saved, rita):
        url = f"/tasks/{task.uid}/"
        page = sign_in(cast.bob).get(url).content.decode()
        assert f'href="{url}again/"' in page
        assert f'href="/run/?from={task.uid}"' in page
        assert "version=latest" not in page
        assert 'class="btn pri" href="' + f'{url}again/?only=failed"' in page
        assert "Retry 2 failed" in page
        assert "Retry 1 stopped" in page
        assert "again/" not in sign_in(cast.vera).get(url).content.decode()
        assert "Retry 2 failed" in sign_in(rita).get(url).content.decode()
        edit(cast, saved, content="deploy {{what}}\n", parameters={})
        page = sign_in(rita).get(url).content.decode()
        assert "Retry 2 failed" not in page
        assert "again/?version=latest" in page

    def test_while_it_runs_the_retry_is_not_what_stands_out(self, sign_in, cast, task, fleet):
        Run.objects.filter(instance_uid=fleet[2].uid).update(status="Running", finished_at=None)
        page = sign_in(cast.bob).get(f"/tasks/{task.uid}/").content.decode()
        assert f'class="btn" href="/tasks/{task.uid}/again/?only=failed"' in page

    def test_a_runner_repeats_a_saved_command_as_it_stands(self, sign_in, task, rita):
        client = sign_in(rita)
        answer = client.post(f"/tasks/{task.uid}/again/", {"param-token": "t"})
        assert answer.status_code == 303
        made = Invocation.objects.latest("pk")
        assert (made.permission, made.created_by) == ("command:run", rita)


class TestTheForm:
    """``/run/?from=<task>``."""

    def fields(self, client, query):
        answer = client.get(f"/run/?{query}")
        assert answer.status_code == 200
        page = answer.content.decode()
        return page, shown_fields(page)

    def test_a_saved_command_as_it_was(self, sign_in, cast, task, saved, fleet):
        page, fields = self.fields(sign_in(cast.bob), f"from={task.uid}")
        assert fields["source"] == ["existing"]
        assert fields["command"] == [saved.uid]
        assert fields["timeout"] == ["10"]
        assert fields["param-what"] == ["<web>"]
        assert fields["param-token"] == [""]
        assert "hunter2" not in page
        assert "The hidden value of token has to be typed again." in page
        assert set(fields["instances"]) == {instance.uid for instance in fleet}
        assert (fields["concurrency"], fields["canary"]) == (["3"], ["1"])
        assert fields["batch_pause"] == ["confirm"]

    def test_the_form_makes_the_same_task(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        _, fields = self.fields(client, f"from={task.uid}")
        assert client.post("/run/", {**fields, "param-token": "t"}).status_code == 303
        made = Invocation.objects.latest("pk")
        assert (made.content, made.timeout, made.rate) == (task.content, 10, task.rate)
        assert '"what": "<web>"' in made.values
        assert made.hidden == ["token"]

    def test_one_that_was_edited_since_becomes_a_new_command(self, sign_in, cast, task, saved):
        edit(cast, saved, content="other\n", parameters={})
        page, fields = self.fields(sign_in(cast.bob), f"from={task.uid}")
        assert fields["source"] == ["new"]
        assert fields["content"] == [task.content]
        assert fields["name"] == ["Deploy"]
        assert "save" not in fields
        assert "The saved command is v2 now." in page
        assert fields["secret-token"]
        answer = sign_in(cast.bob).post("/run/", {**fields, "param-token": "t"})
        assert answer.status_code == 303
        made = Invocation.objects.latest("pk")
        assert (made.content, made.parameters) == (task.content, task.parameters)

    def test_one_that_was_deleted_too(self, sign_in, cast, task, saved):
        library.delete_commands(
            actor=cast.bob, team=cast.team, region=cast.region, uids=[saved.uid]
        )
        page, fields = self.fields(sign_in(cast.bob), f"from={task.uid}")
        assert fields["source"] == ["new"]
        assert "The saved command was deleted since." in page

    def test_who_runs_saved_commands_only_gets_the_newest(self, sign_in, cast, task, saved, rita):
        _, fields = self.fields(sign_in(rita), f"from={task.uid}")
        assert fields["param-what"] == ["<web>"]
        edit(cast, saved, content="other\n", parameters={}, timeout=70)
        page, fields = self.fields(sign_in(rita), f"from={task.uid}")
        assert (fields["source"], fields["command"]) == (["existing"], [saved.uid])
        assert fields["timeout"] == ["70"]
        assert "The saved command has changed since: this is v2." in page

    def test_a_new_command_is_not_saved_unless_somebody_says_so(self, sign_in, cast, fleet):
        task = create_task(
            cast, fleet[:2], "say {{key_id}} {{a}}", use_params=True, run_as="deploy",
            tags=(("env", "prod"),), termination="Process", timeout=99, workdir="/tmp",
        )  # fmt: skip
        page, fields = self.fields(sign_in(cast.bob), f"from={task.uid}")
        assert fields["source"] == ["new"]
        assert "save" not in fields
        expected = {
            "name": "n", "content": "say {{key_id}} {{a}}", "run_as": "deploy", "timeout": "99",
            "tags": "env=prod", "termination": "Process", "workdir": "/tmp", "use_params": "on",
        }  # fmt: skip
        assert {name: fields[name] for name in expected} == {
            name: [value] for name, value in expected.items()
        }
        assert "secret-key_id" not in fields  # it was not hidden, whatever it is called
        assert 'class="told"' not in page

    def test_only_some_instances_and_those_that_can_be_used(self, sign_in, cast, task, fleet):
        client = sign_in(cast.bob)
        Instance.objects.filter(pk=fleet[0].pk).update(connection="unreachable")
        page, fields = self.fields(client, f"from={task.uid}&only=failed")
        assert fields["instances"] == [fleet[1].uid]
        assert "An instance can&#x27;t be selected now: web-01" in page
        _, fields = self.fields(client, f"from={task.uid}&instance={fleet[2].uid}")
        assert fields["instances"] == [fleet[2].uid]

    @pytest.mark.parametrize("query", ["from={0}&only=x", "from={0}&instance=i-1", "from=t-1"])
    def test_what_is_not_there(self, sign_in, cast, task, query):
        assert sign_in(cast.bob).get(f"/run/?{query.format(task.uid)}").status_code == 404

    def test_one_of_another_region_is_said_to_be_there(self, sign_in, cast, task):
        far = Region.objects.create(uid="zz-far", name="Far")
        Invocation.objects.update(region=far)
        page, fields = self.fields(sign_in(cast.bob), f"from={task.uid}")
        assert "Deploy belongs to Storefront in Far." in page
        assert fields["name"] == [""]

    def test_instances_may_be_chosen_by_a_link(self, sign_in, cast, fleet, task):
        query = f"instance={fleet[0].uid}&instance={fleet[2].uid}&instance=i-elsewhere"
        _, fields = self.fields(sign_in(cast.bob), query)
        assert set(fields["instances"]) == {fleet[0].uid, fleet[2].uid}


class TestTheMachine:
    """Where a script ran, beside its output."""

    def see(self, task, **columns):
        Run.objects.filter(invocation=task).update(**columns)

    def test_what_was_seen_is_shown(self, sign_in, cast, fleet):
        task = create_task(cast, fleet[:1], "say a")
        client = sign_in(cast.vera)
        url = f"/tasks/{task.uid}/"
        assert '<div id="ran-on" hidden>' in client.get(url).content.decode()
        self.see(task, hostname="web-01.lan", machine_id="m1", host_key_fingerprint="SHA256:k1")
        page = client.get(url).content.decode()
        assert '<div id="ran-on">' in page
        for text in ("web-01.lan", "m1", "SHA256:k1"):
            assert text in page
        assert "than last time" not in page

    def test_another_machine_than_last_time(self, sign_in, cast, fleet):
        first, second, third = (create_task(cast, fleet[:1], "say a") for _ in range(3))
        self.see(first, machine_id="m1", host_key_fingerprint="SHA256:k1")
        self.see(second, machine_id="m2", host_key_fingerprint="SHA256:k1")
        self.see(third, machine_id="m2", host_key_fingerprint="SHA256:k2")
        client = sign_in(cast.vera)
        pages = [
            client.get(f"/tasks/{task.uid}/").content.decode() for task in (first, second, third)
        ]
        machine = "Another machine than last time: its machine id was m1."
        key = "Another host key than last time: it was SHA256:k1."
        assert [(machine in page, key in page) for page in pages] == [
            (False, False),
            (True, False),
            (False, True),
        ]

    def test_an_instance_that_is_gone_has_none_before(self, sign_in, cast, fleet):
        first, second = (create_task(cast, fleet[:1], "say a") for _ in range(2))
        self.see(first, machine_id="m1")
        self.see(second, machine_id="m2")
        fleet[0].delete()
        page = sign_in(cast.vera).get(f"/tasks/{second.uid}/").content.decode()
        assert "than last time" not in page


class TestGroups:
    """Retrying instances with the same result."""

    def test_a_group_stands_for_its_instances(self, sign_in, cast, task):
        sameness.compare(task)
        key = next(
            group.key
            for group in sameness.groups_of(task.runs.all(), loose=False)
            if group.first.status == "Failed"
        )
        names = {run.instance_uid for run in sameness.runs_of_group(task, key)}
        page = sign_in(cast.bob).get(f"/tasks/{task.uid}/again/", {"group": key})
        assert page.status_code == 200
        assert set(fields_of(page.content.decode())["instance"]) == names

    def test_a_group_that_is_not_there_is_404(self, sign_in, cast, task):
        client = sign_in(cast.bob)
        for key in ("", "made-up", "\0"):
            assert client.get(f"/tasks/{task.uid}/again/", {"group": key}).status_code == 404
