"""What is done is recorded: by every service with an actor, with names and without secrets."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from commands.errors import Conflict
from commands.models import AuditEvent, Instance, Role
from commands.rules.again import Again
from commands.services import (
    administration,
    audit,
    credentials,
    instances,
    invocations,
    library,
    teams,
)
from commands.services.definitions import CommandInput
from commands.services.instances import NewCredential, Place
from commands.services.plans import SavedInput, Values
from tests.conftest import HOST_KEY

SERVICES = Path(__file__).resolve().parents[2] / "commands/services"
UNRECORDED = {
    "accounts.mark_looked_at": "only what somebody has seen",
    "accounts.set_preferences": "only how pages look to oneself",
    "approvals.refusal": "changes nothing",
    "hostkeys.ask_host_key": "changes nothing",
    "hostkeys.shown_now": "changes nothing",
    "idempotency.earlier": "changes nothing",
    "importing.ask_for_keys": "prepares an import; what it does is recorded when it is finished",
    "importing.begin": "prepares an import",
    "importing.choose": "prepares an import",
    "importing.give_up": "forgets what was only prepared",
    "instances.check_jump_host": "changes nothing",
    "plans.outline": "changes nothing",
    "invocations.preview": "changes nothing",
    "library.pin": "only what somebody sees on top",
    "preflight.begin": "looks at instances and changes nothing there",
    "quota_requests.told": "only that somebody has read a decision",
    "repeating.may_repeat": "changes nothing",
    "repeating.may_run_latest": "changes nothing",
    "second_factor.begin": "in force only when it is confirmed, which is recorded",
    "trying.check_now": "the console checks by itself all the time",
    "trying.test_connection": "changes nothing",
}
"""Services with an actor that record nothing, and why."""

SECRET = "planted-secret-7f3a"


class Services:
    """Who calls whom among the services, by their source."""

    def __init__(self) -> None:
        self.functions = {
            f"{path.stem}.{node.name}": node
            for path in SERVICES.glob("*.py")
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef)
        }

    def with_actor(self):
        for name, node in self.functions.items():
            arguments = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
            if "actor" in arguments and not node.name.startswith("_") and name != "audit.record":
                yield name

    def records(self, name, seen=frozenset()):
        """Whether a function calls ``audit.record``, or one that does."""
        if name == "audit.record":
            return True
        if name in seen or name not in self.functions:
            return False
        module = name.partition(".")[0]
        calls = [one.func for one in ast.walk(self.functions[name]) if isinstance(one, ast.Call)]
        called = {
            f"{module}.{call.id}" if isinstance(call, ast.Name) else ast.unparse(call)
            for call in calls
            if isinstance(call, ast.Name | ast.Attribute)
        }
        return any(self.records(one, seen | {name}) for one in called)


def test_every_service_with_an_actor_records_what_it_does():
    services = Services()
    silent = {name for name in services.with_actor() if not services.records(name)}
    assert silent == set(UNRECORDED)
    assert len(set(services.with_actor()) - silent) > 30


def test_calls_are_followed_only_where_they_lead():
    services = Services()
    assert services.records("invocations.run_command")
    assert not services.records("invocations.preview")
    assert not services.records("no.such_function")


def last(action):
    return AuditEvent.objects.filter(action=action).latest("pk")


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


def command(name="Say", content="echo hello", **more):
    return CommandInput(name=name, type="RunShellScript", content=content, **more)


@pytest.mark.django_db
class TestTasks:
    """Creating tasks, and what becomes of them."""

    @pytest.fixture
    def run(self, cast, place, fleet):
        def make(**more):
            uids = [instance.uid for instance in fleet]
            given = {"command": command(), "instance_uids": uids, "now": timezone.now(), **more}
            return invocations.run_command(actor=cast.bob, **place, **given)

        return make

    def test_a_new_task(self, cast, run, fleet):
        task = run()
        event = last("task:create")
        assert (event.actor_name, event.team_uid) == ("bob", cast.team.uid)
        assert (event.target_uid, event.target_name) == (task.uid, "Say")
        assert event.details["on"] == ["web-01", "web-02", "web-03"]
        assert (event.details["instances"], event.details["saved"]) == (3, False)

    def test_one_with_a_saved_command_says_which_and_keeping_one_is_noted(self, run):
        task = run(save=True)
        assert last("command:create").target_uid == task.command_uid
        assert last("task:create").details["command"] == task.command_uid

    def test_a_repeated_request_makes_no_second_event(self, run):
        assert run(client_token="once") == run(client_token="once")
        assert AuditEvent.objects.filter(action="task:create").count() == 1

    def test_one_that_is_run_again_says_of_which(self, cast, run):
        task = run()
        again = invocations.repeat_invocation(
            actor=cast.bob, invocation=task, kind=Again.AGAIN, now=timezone.now()
        )
        event = last("task:again")
        assert (event.target_uid, event.details["again_of"]) == (again.uid, task.uid)

    def test_stopping_twice_is_noted_once(self, cast, run, fleet):
        task = run()
        for _ in range(2):
            invocations.stop_invocation(
                actor=cast.bob,
                invocation=task,
                instance_uids=[fleet[0].uid],
                now=timezone.now(),
            )
        event = AuditEvent.objects.get(action="task:stop")
        assert event.details == {"never_started": 1, "ended": 0, "on": ["web-01"]}

    def test_nothing_to_continue_is_not_noted(self, cast, run):
        invocations.continue_invocation(actor=cast.bob, invocation=run(), now=timezone.now())
        assert not AuditEvent.objects.filter(action="task:continue").exists()


@pytest.mark.django_db
class TestLibrary:
    """Commands that are kept."""

    def test_the_life_of_a_command(self, cast, place):
        now = timezone.now()
        kept = library.create_command(actor=cast.bob, **place, command=command(), now=now)

        def edit(content, based_on):
            library.edit_command(
                actor=cast.alice,
                command=kept,
                definition=command(content=content),
                based_on=based_on,
                now=now,
            )

        edit("echo other", 1)
        edit("echo other", 2)  # says the same: no version, no event
        library.restore_version(actor=cast.bob, command=kept, number=1, based_on=2, now=now)
        library.delete_commands(actor=cast.alice, **place, uids=[kept.uid])
        events = AuditEvent.objects.filter(target_uid=kept.uid).order_by("pk")
        assert list(events.values_list("action", "actor_name")) == [
            ("command:create", "bob"),
            ("command:edit", "alice"),
            ("command:restore", "bob"),
            ("command:delete", "alice"),
        ]
        assert last("command:restore").details == {"version": 3, "restored_from": 1}


@pytest.mark.django_db
class TestInstances:
    """Instances and what belongs to them."""

    def test_the_life_of_an_instance(self, cast, make_instance, credential):
        web, bastion = make_instance("web"), make_instance("bastion")
        actor, now = cast.alice, timezone.now()
        where = Place("web-2", web.host, 2222, "deploy", credential, web.os_type)
        instances.update_instance(
            actor=actor, instance=web, place=where, tags=[("a", "b")], host_key=HOST_KEY, now=now
        )
        changed = last("instance:edit").details
        assert changed == {
            "name": ["web", "web-2"],
            "port": [22, 2222],
            "user": ["root", "deploy"],
            "tags": [[], ["a=b"]],
        }
        web = Instance.objects.get(pk=web.pk)
        instances.set_tags(actor=actor, instance=web, tags=[("a", "b")])  # the same
        assert not AuditEvent.objects.filter(action="instance:tags").exists()
        instances.set_tags(actor=actor, instance=web, tags=[])
        instances.set_enabled(actor=actor, instance=web, enabled=False)
        instances.set_enabled(actor=actor, instance=web, enabled=True)
        web = Instance.objects.get(pk=web.pk)
        instances.set_jump_host(actor=actor, instance=web, jump_host=bastion)
        assert last("instance:jump-host").details == {"jump_host": "bastion"}
        with pytest.raises(Conflict):
            instances.remove_instance(actor=actor, instance=bastion)
        assert not AuditEvent.objects.filter(action="instance:remove").exists()
        uid = web.uid
        instances.remove_instance(actor=actor, instance=web)
        acts = AuditEvent.objects.filter(target_uid=uid).order_by("pk")
        assert list(acts.values_list("action", flat=True)) == [
            "instance:add",
            "instance:edit",
            "instance:tags",
            "instance:disable",
            "instance:enable",
            "instance:jump-host",
            "instance:remove",
        ]


@pytest.mark.django_db
class TestMembers:
    """Who is in a team."""

    def test_with_an_actor_it_is_noted_who_did_it_and_without_nothing(self, cast):
        assert not AuditEvent.objects.filter(action__startswith="member:").exists()
        give = {"team": cast.team, "user": cast.vera, "actor": cast.alice}
        teams.add_member(role=Role.OPERATOR, **give)
        teams.add_member(role=Role.OPERATOR, **give)
        event = AuditEvent.objects.get(action="member:role")
        assert event.details == {"from": "viewer", "to": "operator"}


@pytest.mark.django_db
class TestSignIns:
    """Who signs in, and who tries."""

    def sign_in(self, client, name, password):
        data = {"username": name, "password": password}
        return client.post("/sign-in/", data, REMOTE_ADDR="192.0.2.9")

    def test_in_and_out(self, cast):
        client = Client()
        self.sign_in(client, "bob", "bob-secret")
        client.post("/sign-out/")
        event = last("session:sign-in")
        assert (event.actor_name, event.outcome, event.origin) == ("bob", "done", "192.0.2.9")
        assert last("session:sign-out").actor_name == "bob"

    def test_wrong_passwords_and_the_pause_after_them(self, cast, settings):
        settings.AXES_FAILURE_LIMIT = 3
        client = Client()
        for _ in range(8):
            self.sign_in(client, "vera", SECRET)
        failed = AuditEvent.objects.filter(action="session:sign-in", outcome="failed")
        assert {(one.target_name, one.origin, one.actor_id) for one in failed} == {
            ("vera", "192.0.2.9", None)
        }
        assert failed.count() == 2
        locked = AuditEvent.objects.get(action="session:lock-out")
        assert (locked.target_name, locked.outcome) == ("vera", "refused")

    def test_a_name_that_nobody_has_may_be_a_password(self, cast):
        self.sign_in(Client(), SECRET, "x")
        assert last("session:sign-in").target_name == ""
        self.sign_in(Client(), "\0" + SECRET, "x")
        assert SECRET not in str(list(AuditEvent.objects.values()))


@pytest.mark.django_db
class TestPages:
    """What pages refuse and give away."""

    def test_what_somebody_is_refused(self, cast, sign_in, monkeypatch):
        fields = {"name": "x", "type": "RunShellScript", "content": "true", "instances": ["i-1"]}
        assert sign_in(cast.vera).post("/run/", fields).status_code == 404
        event = last("page:denied")
        assert (event.actor_name, event.outcome, event.target_name) == ("vera", "refused", "run")
        assert event.team_uid == cast.team.uid
        assert event.details == {"method": "POST", "permission": "command:run"}

    def test_nobody_is_not_noted(self, cast):
        Client().get("/tasks/t-nothing/")
        Client().post("/run/", {})
        assert not AuditEvent.objects.filter(action="page:denied").exists()

    def test_output_that_is_taken_away(self, cast, place, fleet, sign_in):
        task = invocations.run_command(
            actor=cast.bob,
            **place,
            command=command(),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        vera = sign_in(cast.vera)
        vera.head(f"/tasks/{task.uid}/results.csv")
        assert not AuditEvent.objects.filter(action="output:download").exists()
        for file in (f"i/{fleet[0].uid}/log.txt", "output.zip", "results.csv"):
            assert vera.get(f"/tasks/{task.uid}/{file}").status_code == 200
        taken = AuditEvent.objects.filter(action="output:download", target_uid=task.uid)
        assert [one.details["file"] for one in taken.order_by("pk")] == [
            "log.txt",
            "output.zip",
            "results.csv",
        ]
        assert {one.actor_name for one in taken} == {"vera"}


@pytest.mark.django_db
def test_what_a_command_does_comes_from_the_command_line(cast, monkeypatch):
    call_command("rotate_encryption_key")
    event = last("encryption-keys:rotate")
    assert (event.origin, event.actor_id) == ("command line", None)
    assert audit.record(actor=cast.bob, action="x:y").origin == ""


@pytest.mark.django_db
def test_secrets_are_in_no_event_log_message_or_page(cast, place, sign_in, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    now, seen = timezone.now(), []
    kept = instances.add_credential(
        actor=cast.alice, **place, name="planted", password=SECRET + "-1"
    )
    credentials.replace_secret(actor=cast.alice, credential=kept, password=SECRET + "-2")
    web = instances.add_instance(
        actor=cast.alice,
        **place,
        name="web",
        host="10.1.2.3",
        user="root",
        credential=NewCredential("other", password=SECRET + "-3"),
        host_key=HOST_KEY,
    )
    script = "use {{token}} and {{plain}}"
    saved = library.create_command(
        actor=cast.bob, **place, command=command(content=script, use_params=True), now=now
    )
    values = Values({"token": SECRET + "-4", "plain": SECRET + "-5"}, hidden=["token"])
    task = invocations.invoke_command(
        actor=cast.bob,
        **place,
        command=SavedInput(saved.uid),
        values=values,
        instance_uids=[web.uid],
        now=now,
    )
    invocations.repeat_invocation(
        actor=cast.bob,
        invocation=task,
        kind=Again.AGAIN,
        values={"token": SECRET + "-6"},
        now=now,
    )
    invocations.stop_invocation(actor=cast.bob, invocation=task, now=now)
    cast.alice.is_staff = cast.alice.is_superuser = True
    cast.alice.save()
    administration.set_active(actor=cast.alice, user=cast.vera, active=False, now=timezone.now())
    alice = sign_in(cast.alice)
    alice.post(f"/admin/commands/credential/{kept.pk}/change/", {"password": SECRET + "-7"})
    for path in (
        f"/tasks/{task.uid}/",
        f"/instances/{web.uid}/",
        f"/instances/{web.uid}/edit/",
        "/admin/commands/auditevent/?all=",
        "/admin/commands/credential/",
        f"/admin/commands/credential/{kept.pk}/change/",
        f"/admin/commands/credential/{kept.pk}/history/",
        f"/admin/commands/invocation/{task.pk}/change/",
    ):
        answer = alice.get(path)
        assert answer.status_code == 200, path
        # A value that was not hidden is the team's to see.
        text = answer.text.replace(SECRET + "-5", "")
        assert SECRET not in text, path
        seen.append(path)
    assert AuditEvent.objects.count() > 9
    assert audit.altered(list(AuditEvent.objects.all())) == set()  # as they were read, not made
    assert SECRET not in str(list(AuditEvent.objects.values()))
    assert SECRET not in caplog.text
    assert len(seen) == 8
