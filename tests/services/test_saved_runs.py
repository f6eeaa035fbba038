"""Running commands of the library: as they stand, with changes, and by whom."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from django.utils import timezone

from commands.errors import Conflict, Denied, InvalidFields
from commands.models import Command, Instance, Invocation, Role
from commands.rules.quotas import Quota
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema
from commands.services import definitions, invocations, library, quotas, runs, scripts, teams
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput, Values

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

GREETING = CommandInput(
    name="Greet",
    type="RunShellScript",
    content="echo {{greeting}} {{who}}\n",
    use_params=True,
    timeout=30,
    workdir="/tmp",
    parameters={
        "greeting": ParameterSchema(default="hello"),
        "who": ParameterSchema(insertion=Insertion.QUOTED, required=True),
    },
)


@pytest.fixture
def greet(cast):
    return library.create_command(
        actor=cast.bob, team=cast.team, region=cast.region, command=GREETING, now=timezone.now()
    )


@pytest.fixture
def rita(cast, django_user_model):
    rita = django_user_model.objects.create_user("rita", password="rita-secret")
    teams.add_member(team=cast.team, user=rita, role=Role.RUNNER)
    return rita


@pytest.fixture
def invoke(cast, fleet):
    def go(command, *, actor=None, given=None, hidden=(), token="", **changes):
        return invocations.invoke_command(
            actor=actor or cast.bob,
            team=cast.team,
            region=cast.region,
            command=SavedInput(uid=command.uid, **changes),
            values=Values(given or {}, hidden),
            instance_uids=[fleet[0].uid],
            client_token=token,
            now=timezone.now(),
        )

    return go


def problems(caught):
    return caught.value.errors


def test_it_runs_as_it_stands(invoke, greet):
    task = invoke(greet, given={"who": "it's me"})
    assert (task.name, task.content, task.workdir, task.timeout) == (
        "Greet",
        "echo {{greeting}} {{who}}\n",
        "/tmp",
        30,
    )
    assert (task.command, task.command_uid, task.version.number) == (greet, greet.uid, 1)
    assert task.saved
    claimed = runs.claim(run_ids=[task.runs.get().pk], owner="w", now=timezone.now())
    assert claimed[0].spec.script == b"echo hello 'it'\\''s me'\n"


def test_path_and_timeout_change_for_this_task_only(invoke, greet):
    task = invoke(greet, given={"who": "x"}, workdir="/var", timeout="5")
    assert (task.workdir, task.timeout, task.timeout_asked) == ("/var", 10, 5)
    assert (greet.versions.get().workdir, greet.versions.get().timeout) == ("/tmp", 30)


def test_no_place_of_the_library_is_used(invoke, greet):
    invoke(greet, given={"who": "x"})
    assert Command.objects.count() == 1


def test_a_newer_version_than_the_person_saw_is_not_run(invoke, greet, cast):
    library.edit_command(
        actor=cast.alice,
        command=greet,
        definition=CommandInput(name="Greet", type="RunShellScript", content="rm x"),
        based_on=1,
        now=timezone.now(),
    )
    with pytest.raises(Conflict, match="version 2"):
        invoke(greet, given={"who": "x"}, version=1)
    assert not Invocation.objects.exists()
    assert invoke(greet, version=2).content == "rm x"


@pytest.mark.parametrize("uid", ["", "c-0", "\0", "é", "x" * 5000])
def test_a_command_that_is_not_there(invoke, greet, uid):
    with pytest.raises(Exception, match=r"saved command|was deleted") as caught:
        invoke(Command(uid=uid))
    assert caught.value.field == "command"


def test_commands_of_others_and_unsaved_ones_are_not_there(invoke, greet, cast):
    Command.objects.filter(pk=greet.pk).update(kept=False)
    with pytest.raises(Exception, match="was deleted"):
        invoke(greet, given={"who": "x"})
    Command.objects.filter(pk=greet.pk).update(kept=True, team=cast.other_team)
    with pytest.raises(Exception, match="was deleted"):
        invoke(greet, given={"who": "x"})


def test_a_missing_value_that_is_required(invoke, greet):
    with pytest.raises(InvalidFields) as caught:
        invoke(greet)
    assert problems(caught) == {"param-who": ["Enter a value for who."]}


def test_the_same_token_makes_one_task(invoke, greet):
    first = invoke(greet, given={"who": "x"}, token="t")
    assert invoke(greet, given={"who": "x"}, token="t") == first
    with pytest.raises(Conflict):
        invoke(greet, given={"who": "y"}, token="t")


class TestRunner:
    """A member that only runs saved commands."""

    def test_runs_them_as_they_stand(self, invoke, greet, rita):
        task = invoke(greet, actor=rita, given={"who": "x; reboot"})
        assert task.permission == "command:run"

    def test_can_not_give_values_that_are_inserted_as_typed(self, invoke, greet, rita):
        with pytest.raises(InvalidFields) as caught:
            invoke(greet, actor=rita, given={"who": "x", "greeting": "$(reboot)"})
        assert set(problems(caught)) == {"param-greeting"}
        assert not Invocation.objects.exists()

    def test_can_where_the_command_allows_it(self, invoke, greet, rita):
        greet.versions.update(runners_may_type=True)
        task = invoke(greet, actor=rita, given={"who": "x", "greeting": "hi"})
        assert task.permission == "command:run"

    def test_can_not_change_the_path(self, invoke, greet, rita):
        with pytest.raises(InvalidFields) as caught:
            invoke(greet, actor=rita, given={"who": "x"}, workdir="/home/rita")
        assert set(problems(caught)) == {"workdir"}

    def test_can_not_run_a_new_command_nor_keep_one(self, cast, fleet, rita):
        with pytest.raises(Denied):
            invocations.run_command(
                actor=rita,
                team=cast.team,
                region=cast.region,
                command=GREETING,
                instance_uids=[fleet[0].uid],
                now=timezone.now(),
            )
        with pytest.raises(Denied):
            library.create_command(
                actor=rita,
                team=cast.team,
                region=cast.region,
                command=GREETING,
                now=timezone.now(),
            )

    def test_an_operator_that_became_one_no_longer_runs_what_it_created(self, invoke, greet, cast):
        task = invoke(greet, given={"who": "x", "greeting": "$(id)"})
        assert task.permission == "invocation:create"
        cast.bob.memberships.update(role=Role.RUNNER)
        assert runs.claim(run_ids=[task.runs.get().pk], owner="w", now=timezone.now()) == []
        assert task.runs.get().error_code == "NoLongerAllowed"

    def test_lookers_run_nothing(self, invoke, greet, cast):
        for actor in (cast.vera, cast.charlie):
            with pytest.raises(Denied):
                invoke(greet, actor=actor, given={"who": "x"})


class TestSaving:
    """Save Command on a new one."""

    @pytest.fixture
    def run(self, cast, fleet):
        def go(**columns):
            return invocations.run_command(
                actor=cast.bob,
                team=cast.team,
                region=cast.region,
                command=CommandInput(name="Hi", type="RunShellScript", content="echo hi"),
                instance_uids=[fleet[0].uid],
                now=timezone.now(),
                **columns,
            )

        return go

    def test_on_keeps_it_and_off_does_not(self, run):
        assert run(save=True).command.kept
        assert not run(save=False).command.kept
        assert Command.objects.kept().count() == 1

    def test_a_full_library_refuses_the_whole_task(self, run, cast):
        cast.alice.is_staff = True
        quotas.set_limit(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            key=Quota.SAVED_COMMANDS,
            limit=1,
        )
        run(save=True)
        with pytest.raises(Exception, match="Turn off Save command") as caught:
            run(save=True)
        assert caught.value.field == "save"
        assert Invocation.objects.count() == 1
        run(save=False)
        assert (Command.objects.kept().count(), Invocation.objects.count()) == (1, 2)


class TestBinding:
    """What was created is what runs, or nothing does."""

    @pytest.mark.parametrize(
        "change",
        [
            {"content": "rm -rf /"},
            {"workdir": "/etc"},
            {"timeout": 86_400},
            {"run_as": "root"},
            {"launcher": "python3"},
            {"termination": "Process"},
            {"values": '{"greeting": "hello", "who": "mallory"}'},
            {"parameters": {}},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_task_that_was_altered_does_not_run(self, invoke, greet, change):
        task = invoke(greet, given={"who": "x"})
        Invocation.objects.filter(pk=task.pk).update(**change)
        run = task.runs.get()
        assert runs.claim(run_ids=[run.pk], owner="w", now=timezone.now()) == []
        run.refresh_from_db()
        assert (run.status, run.error_code) == ("Aborted", "TaskAltered")

    def test_a_run_can_not_be_moved_to_another_instance(self, invoke, greet, fleet):
        run = invoke(greet, given={"who": "x"}).runs.get()
        type(run).objects.filter(pk=run.pk).update(instance_uid=fleet[1].uid)
        assert runs.claim(run_ids=[run.pk], owner="w", now=timezone.now()) == []

    def test_a_hidden_value_can_not_be_found_out_by_trying(self, invoke, greet, settings):
        """Neither by running the same again nor with another secret key."""
        digests = {invoke(greet, given={"who": "1234"}).runs.get().digest for _ in range(2)}
        run = invoke(greet, given={"who": "1234"}).runs.get()
        settings.SECRET_KEY = "another" * 8
        assert runs.claim(run_ids=[run.pk], owner="w", now=timezone.now()) == []
        assert len(digests) == 2

    def test_what_is_wrong_with_one_task_spares_the_others(self, invoke, greet):
        bad, good = (invoke(greet, given={"who": "x"}) for _ in range(2))
        Invocation.objects.filter(pk=bad.pk).update(parameters={"who": {"evil": 1}})
        ids = [bad.runs.get().pk, good.runs.get().pk]
        claimed = runs.claim(run_ids=ids, owner="w", now=timezone.now())
        assert [one.run_id for one in claimed] == ids[1:]
        assert bad.runs.get().error_code == "TaskAltered"

    def test_secrets_are_in_no_repr(self, invoke, greet):
        task = invoke(greet, given={"who": "s3cretvalue"})
        run = task.runs.get()
        script = scripts.Script.of(task)
        data = script.data(scripts.place_of(run))
        assert b"s3cretvalue" in data
        for one in (script, scripts.Binding.of(run, data), Values({"who": "s3cretvalue"})):
            assert "s3cretvalue" not in repr(one)


class TestPreview:
    """The exact script, before there is a task."""

    @pytest.fixture
    def preview(self, cast):
        def go(command, *, on=(), given=None, hidden=(), actor=None):
            return invocations.preview(
                actor=actor or cast.bob,
                team=cast.team,
                region=cast.region,
                command=command,
                values=Values(given or {}, hidden),
                instance_uids=[instance.uid for instance in on],
                mark="<later>",
            )

        return go

    def test_its_digest_is_that_of_the_text_it_shows(self, preview, greet, fleet):
        shown = preview(SavedInput(greet.uid), on=fleet, given={"who": "x"})
        assert [one.instance for one in shown] == fleet
        assert shown[0].script == "echo hello 'x'\n"
        assert shown[0].digest == hashlib.sha256(b"echo hello 'x'\n").hexdigest()

    def test_its_digest_tells_nothing_of_hidden_values(self, preview, greet, fleet):
        digests = {
            preview(SavedInput(greet.uid), on=fleet, given={"who": pin}, hidden=["who"])[0].digest
            for pin in ("1234", "4711")
        }
        assert len(digests) == 1

    def test_hidden_values_are_not_shown(self, preview, greet, fleet):
        shown = preview(SavedInput(greet.uid), on=fleet, given={"who": "s3cret"}, hidden=["Who"])
        assert shown[0].script == "echo hello ••••••\n"

    def test_ids_that_are_assigned_later_are_marked(self, preview, fleet):
        command = CommandInput(
            name="",
            type="RunShellScript",
            content="echo {{ACS::InvokeId}} {{acs::InstanceName}}",
            use_params=True,
        )
        shown = preview(command, on=fleet[:1])
        assert (shown[0].script, shown[0].digest) == ("echo <later> web-01", "")
        nowhere = preview(command)
        assert (nowhere[0].script, nowhere[0].instance) == ("echo <later> <later>", None)

    def test_what_is_wrong_is_said_as_at_creation(self, preview, greet, fleet):
        with pytest.raises(InvalidFields):
            preview(SavedInput(greet.uid), on=fleet)
        Instance.objects.update(enabled=False)
        with pytest.raises(InvalidFields):
            preview(SavedInput(greet.uid), on=fleet, given={"who": "x"})

    def test_nothing_is_made(self, preview, greet, fleet, sent):
        preview(SavedInput(greet.uid), on=fleet, given={"who": "x"})
        assert (Invocation.objects.count(), sent) == (0, [])


def test_a_version_reads_back_as_what_was_typed(greet):
    again = definitions.of_version(greet, greet.versions.get())
    assert again == GREETING


def test_what_is_said_of_parameters_is_checked(cast):
    for schema in (ParameterSchema(secret=True, default="x"), ParameterSchema(pattern="(")):
        with pytest.raises(InvalidFields) as caught:
            library.create_command(
                actor=cast.bob,
                team=cast.team,
                region=cast.region,
                command=replace(GREETING, parameters={"who": schema}),
                now=timezone.now(),
            )
        assert set(problems(caught)) == {"parameters"}
    assert not Command.objects.exists()
