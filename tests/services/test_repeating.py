"""Running a task again: its frozen copy, on what is left of its instances, by those who may."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.utils import timezone

from commands.errors import Conflict, Denied, Invalid, InvalidFields, QuotaExceeded
from commands.models import Command, Instance, Invocation, Role, Run, User
from commands.rules.again import Again, Only
from commands.rules.quotas import Quota
from commands.rules.quoting import Insertion
from commands.rules.rate import RateInput
from commands.rules.schema import ParameterSchema
from commands.services import invocations, library, quotas, repeating, runs, scripts, teams
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput, Values
from tests.services.carrying import create_task

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

GREETING = CommandInput(
    name="Greet",
    type="RunShellScript",
    content="echo {{greeting}} {{who}} {{token}}\n",
    use_params=True,
    timeout=30,
    workdir="/tmp",
    run_as="deploy",
    termination="Process",
    tags=(("env", "prod"),),
    parameters={
        "greeting": ParameterSchema(default="hello"),
        "who": ParameterSchema(insertion=Insertion.QUOTED, required=True),
        "token": ParameterSchema(insertion=Insertion.QUOTED, secret=True),
    },
)
FROZEN = (
    "name", "type", "content", "workdir", "timeout", "timeout_asked", "use_params", "parameters",
    "launcher", "run_as", "termination", "tags", "values", "hidden", "concurrency", "canary",
    "batch_pause", "batch_confirm", "max_failures", "command_id", "version_id", "command_uid",
    "saved", "team_id", "region_id", "permission",
)  # fmt: skip


@pytest.fixture
def greet(cast) -> Command:
    return library.create_command(
        actor=cast.bob, team=cast.team, region=cast.region, command=GREETING, now=timezone.now()
    )


@pytest.fixture
def rita(cast) -> User:
    rita = User.objects.create_user("rita")
    teams.add_member(team=cast.team, user=rita, role=Role.RUNNER)
    return rita


@pytest.fixture
def greeted(cast, fleet, greet) -> Invocation:
    """A task of the saved command, as its creator's role allows it to anybody who runs those."""
    return invocations.invoke_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=SavedInput(greet.uid, timeout="20"),
        values=Values({"who": "you", "token": "hunter2"}),
        instance_uids=[instance.uid for instance in fleet],
        rate=RateInput(concurrency="2", canary="1", batch_pause="confirm", max_failures="50%"),
        now=timezone.now(),
    )


@pytest.fixture
def repeat(cast):
    def go(task, kind=Again.AGAIN, *, actor=None, now=None, **given):
        return invocations.repeat_invocation(
            actor=actor or cast.bob,
            invocation=task,
            kind=kind,
            now=now or timezone.now(),
            **given,
        )

    return go


def edit(cast, command, **changes):
    """Save another version of a command."""
    return library.edit_command(
        actor=cast.bob,
        command=command,
        definition=replace(GREETING, **changes),
        based_on=command.latest,
        now=timezone.now(),
    )


def end(task, *statuses):
    """Let the runs of a task end with ``statuses``, in their order."""
    for run, status in zip(task.runs.order_by("pk"), statuses, strict=True):
        failed = status == "Failed"
        Run.objects.filter(pk=run.pk).update(
            status=status,
            phase="finished",
            finished_at=timezone.now(),
            exit_code={"Failed": 1, "Success": 0}.get(status),
            error_code="ExitCodeNonzero" if failed else "",
        )


def scripts_of(task):
    """What a worker would run, by instance."""
    for run in task.runs.held():
        Run.objects.filter(pk=run.pk).update(**runs.queued(timezone.now()))
    claimed = runs.claim(
        run_ids=list(task.runs.values_list("pk", flat=True)), owner="me", now=timezone.now()
    )
    return [replace(one.spec, run_id="") for one in claimed]


def names_of(task):
    return list(task.runs.order_by("pk").values_list("instance_name", flat=True))


class TestTheFrozenCopy:
    """What runs again is what ran."""

    def test_everything_is_as_it_was(self, repeat, greeted):
        made = repeat(greeted, values={"token": "hunter2"})
        assert made.uid != greeted.uid
        for name in FROZEN:
            assert getattr(made, name) == getattr(greeted, name), name
        assert (made.again_of, made.again_kind) == (greeted, "again")
        assert names_of(made) == names_of(greeted)
        assert made.runs.held().count() == 2
        shown = [scripts.shown_digest(scripts.shown(task.runs.first())) for task in (made, greeted)]
        assert shown[0] == shown[1]
        assert scripts_of(made) == scripts_of(greeted)

    def test_what_the_saved_command_says_now_does_not_matter(self, cast, repeat, greeted, greet):
        edit(cast, greet, content="rm -rf {{who}}\n", workdir="/", parameters={})
        made = repeat(greeted, values={"token": "other"})
        assert (made.content, made.workdir) == (greeted.content, "/tmp")
        assert (made.command, made.version.number) == (greet, 1)
        assert scripts_of(made)[0].script == b"echo hello 'you' 'other'\n"

    def test_nor_whether_it_is_there(self, cast, repeat, greeted, greet):
        end(greeted, "Success", "Success", "Success")
        library.delete_commands(
            actor=cast.bob, team=cast.team, region=cast.region, uids=[greet.uid]
        )
        old = Invocation.objects.get(pk=greeted.pk)
        made = repeat(old, values={"token": "t"})
        assert (made.command, made.version, made.command_uid) == (None, None, greet.uid)
        assert scripts_of(made)[0].script == b"echo hello 'you' 't'\n"

    def test_one_deleted_while_it_is_asked(self, cast, repeat, greeted, greet):
        """The row that was read still names it."""
        end(greeted, "Success", "Success", "Success")
        library.delete_commands(
            actor=cast.bob, team=cast.team, region=cast.region, uids=[greet.uid]
        )
        made = repeat(greeted, values={"token": "t"})
        made.refresh_from_db()
        assert (made.command, made.version) == (None, None)

    def test_a_command_that_was_never_saved(self, cast, fleet, repeat):
        task = create_task(cast, fleet, "say {{ACS::CommandId}}", use_params=True, timeout=5)
        made = repeat(task)
        assert (made.timeout, made.timeout_asked, made.saved) == (10, 5, False)
        assert made.command_id == task.command_id
        assert scripts_of(made) == scripts_of(task)
        assert Command.objects.count() == 1

    def test_hidden_values_are_given_anew_and_others_are_not(self, repeat, greeted):
        assert [one.key for one in repeating.questions(greeted)] == ["token"]
        made = repeat(greeted, values={"TOKEN": "new", "who": "somebody else"})
        assert scripts_of(made)[0].script == b"echo hello 'you' 'new'\n"
        assert made.hidden == ["token"]

    @pytest.mark.parametrize("given", [{}, {"token": ""}, {"who": "x"}])
    def test_without_them_nothing_runs(self, repeat, greeted, given):
        with pytest.raises(Invalid) as told:
            repeat(greeted, values=given)
        assert "Enter a value for token again" in str(told.value)
        assert told.value.errors.keys() == {"param-token"}
        assert Invocation.objects.count() == 1

    def test_one_that_was_empty_may_be_empty_again(self, cast, fleet, repeat):
        task = create_task(
            cast, fleet[:1], "say a{{b}}", use_params=True,
            parameters={"b": ParameterSchema(secret=True)},
        )  # fmt: skip
        assert scripts_of(repeat(task))[0].script == b"say a"

    def test_what_todays_rules_make_something_else_of_is_not_run(self, cast, fleet, repeat):
        task = create_task(cast, fleet, "say a")
        Invocation.objects.filter(pk=task.pk).update(content="say a\r\n")
        task.refresh_from_db()
        with pytest.raises(Conflict, match="can't run exactly as it did"):
            repeat(task)

    def test_what_todays_rules_refuse_is_told(self, cast, fleet, repeat):
        task = create_task(cast, fleet, "say a")
        Invocation.objects.filter(pk=task.pk).update(workdir="not a path")
        task.refresh_from_db()
        with pytest.raises(InvalidFields, match="must start with /"):
            repeat(task)

    def test_values_that_cannot_be_read(self, repeat, greeted, settings):
        settings.CONSOLE_ENCRYPTION_KEYS = ["8J0nUVZRYDfXyMHkTcNrv5JjX4FoFqUuvVIbYYEbnXY="]
        old = Invocation.objects.defer("values").get(pk=greeted.pk)
        with pytest.raises(Invalid, match="can't be decrypted"):
            repeat(old, values={"token": "t"})


class TestWhere:
    """The instances of the new task."""

    def test_only_where_it_failed_or_where_it_was_stopped(self, repeat, cast, make_instance):
        states = ["Success", "Failed", "Timeout", "Error", "Invalid", "Aborted", "Cancelled",
                  "Terminated"]  # fmt: skip
        fleet = [make_instance(f"web-{n}") for n in range(len(states))]
        task = create_task(cast, fleet, "say a")
        end(task, *states)
        failed = repeating.chosen(task, only=Only.FAILED)
        stopped = repeating.chosen(task, only=Only.STOPPED)
        assert [run.instance_name for run in failed] == [f"web-{n}" for n in (1, 2, 3, 4, 5)]
        assert [run.instance_name for run in stopped] == ["web-6", "web-7"]
        made = repeat(task, Again.RETRY, instance_uids=[run.instance_uid for run in failed])
        assert names_of(made) == [f"web-{n}" for n in (1, 2, 3, 4, 5)]
        assert made.again_kind == "retry"

    def test_those_that_cannot_be_used_are_left_out(self, repeat, cast, fleet):
        task = create_task(cast, fleet, "say a")
        Instance.objects.filter(pk=fleet[0].pk).update(connection="unreachable")
        fleet[1].delete()
        where = repeating.where(task, repeating.chosen(task))
        assert [one.name for one in where.usable] == ["web-03"]
        assert {one.name: one.reason for one in where.left_out} == {
            "web-01": "It didn't answer when it was checked last.",
            "web-02": repeating.NOT_THERE,
        }
        assert names_of(repeat(task)) == ["web-03"]

    def test_of_an_instance_that_is_no_longer_lent_nothing_shows(self, cast, fleet):
        task = create_task(cast, fleet, "say a")
        Instance.objects.filter(pk=fleet[0].pk).update(team=cast.other_team, enabled=False)
        [left_out] = repeating.where(task, repeating.chosen(task)).left_out
        assert (left_out.name, left_out.reason) == ("web-01", repeating.NOT_THERE)

    def test_without_any_nothing_runs(self, repeat, cast, fleet):
        task = create_task(cast, fleet, "say a")
        Instance.objects.update(enabled=False)
        with pytest.raises(Invalid, match="None of these instances"):
            repeat(task)
        assert Invocation.objects.count() == 1

    def test_an_instance_that_the_task_never_ran_on(self, repeat, cast, fleet):
        task = create_task(cast, fleet[:1], "say a")
        with pytest.raises(Invalid, match="does not run on"):
            repeat(task, Again.RETRY, instance_uids=[fleet[1].uid])


class TestOnce:
    """Pressing twice, quotas."""

    def test_the_same_token_makes_one_task(self, repeat, cast, fleet):
        task = create_task(cast, fleet, "say a")
        first = repeat(task, client_token="t")
        Instance.objects.filter(pk=fleet[0].pk).update(enabled=False)
        assert repeat(task, client_token="t") == first
        assert Invocation.objects.count() == 2
        with pytest.raises(Conflict):
            repeat(task, Again.RETRY, instance_uids=[fleet[1].uid], client_token="t")

    def test_it_uses_one_run_of_the_day(self, repeat, cast, fleet):
        task = create_task(cast, fleet, "say a")
        here = {"team": cast.team, "region": cast.region, "key": Quota.TASKS_PER_DAY}
        repeat(task)
        assert quotas.usage(**here, now=timezone.now()).used == 2
        cast.bob.is_staff = True
        quotas.set_limit(actor=cast.bob, **here, limit=2)
        with pytest.raises(QuotaExceeded):
            repeat(task)

    def test_the_older_task_may_go(self, repeat, cast, fleet):
        task = create_task(cast, fleet, "say a")
        made = repeat(task)
        task.delete()
        made.refresh_from_db()
        assert (made.again_of, made.again_kind) == (None, "again")


class TestWho:
    """Roles."""

    @pytest.fixture
    def plain(self, cast, fleet, greet) -> Invocation:
        """A task that whoever runs saved commands could have made."""
        return invocations.invoke_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=SavedInput(greet.uid),
            values=Values({"who": "you", "token": "hunter2"}),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )

    def test_who_runs_saved_commands_runs_one_again_as_it_stands(self, repeat, rita, plain):
        assert repeating.may_repeat(rita, plain)
        made = repeat(plain, actor=rita, values={"token": "mine"})
        assert (made.permission, made.created_by) == ("command:run", rita)
        assert scripts_of(made)[0].script == b"echo hello 'you' 'mine'\n"

    @pytest.mark.parametrize(
        "changes", [{"content": "echo {{greeting}} {{who}} {{token}} more\n"}, {"workdir": "/"}]
    )
    def test_not_after_it_was_edited(self, cast, repeat, rita, plain, greet, changes):
        edit(cast, greet, **changes)
        assert not repeating.may_repeat(rita, plain)
        assert repeating.may_run_latest(rita, plain)
        with pytest.raises(Denied):
            repeat(plain, actor=rita, values={"token": "mine"})
        assert repeat(plain, values={"token": "mine"}).permission == "invocation:create"

    def test_but_after_it_was_renamed(self, cast, repeat, rita, plain, greet):
        edit(cast, greet, name="Salute")
        made = repeat(plain, actor=rita, values={"token": "mine"})
        assert (made.name, made.version.number) == ("Greet", 1)

    def test_nor_after_it_left_the_library(self, repeat, rita, plain, greet):
        Command.objects.filter(pk=greet.pk).update(kept=False)
        assert not repeating.may_repeat(rita, plain)
        assert not repeating.may_run_latest(rita, plain)
        with pytest.raises(Denied):
            repeat(plain, actor=rita, values={"token": "mine"})

    def test_nor_with_values_that_are_code(self, cast, fleet, repeat, rita, greet):
        task = invocations.invoke_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=SavedInput(greet.uid),
            values=Values({"greeting": "x; reboot", "who": "you", "token": "t"}),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        assert not repeating.may_repeat(rita, task)
        with pytest.raises(InvalidFields, match="it could be any code") as told:
            repeat(task, actor=rita, values={"token": "mine"})
        assert list(told.value.errors) == ["param-greeting"]

    def test_a_hidden_value_that_is_inserted_as_typed_is_code_too(self, cast, fleet, repeat, rita):
        command = library.create_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name="n", type="RunShellScript", content="say {{a}}", use_params=True,
                parameters={"a": ParameterSchema(secret=True)},
            ),
            now=timezone.now(),
        )  # fmt: skip
        task = invocations.invoke_command(
            actor=rita,
            team=cast.team,
            region=cast.region,
            command=SavedInput(command.uid),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        assert repeating.may_repeat(rita, task)
        with pytest.raises(InvalidFields, match="it could be any code"):
            repeat(task, actor=rita, values={"a": "; reboot"})
        assert repeat(task, actor=rita).permission == "command:run"

    def test_what_was_never_saved_is_for_those_who_may_run_anything(
        self, cast, fleet, repeat, rita
    ):
        task = create_task(cast, fleet, "say a")
        assert repeating.may_repeat(cast.alice, task)
        for person in (rita, cast.vera, cast.charlie, None):
            assert not repeating.may_repeat(person, task)
        for person in (rita, cast.vera, cast.charlie):
            with pytest.raises(Denied):
                repeat(task, actor=person)
        assert Invocation.objects.count() == 1


class TestLatest:
    """What the saved command says now, instead."""

    def test_it_runs_the_newest_version_with_the_values_from_then(
        self, cast, repeat, greeted, greet
    ):
        assert repeating.changed_since(greeted) is None
        edit(cast, greet, content="echo {{who}} {{greeting}} {{token}}\n")
        newer = repeating.changed_since(greeted)
        assert newer.number == 2
        made = repeat(greeted, Again.LATEST, version=2, values={"token": "t"})
        assert (made.version, made.again_kind, made.again_of) == (newer, "latest", greeted)
        assert made.rate == greeted.rate
        assert scripts_of(made)[0].script == b"echo 'you' hello 't'\n"

    def test_parameters_that_it_adds_are_asked_for_and_others_dropped(
        self, cast, repeat, greeted, greet
    ):
        edit(cast, greet, content="echo {{who}} {{when}}\n", parameters={})
        newer = repeating.changed_since(greeted)
        assert [one.key for one in repeating.questions(greeted, newer)] == ["when"]
        made = repeat(greeted, Again.LATEST, version=2, values={"when": "now"})
        assert scripts_of(made)[0].script == b"echo you now\n"

    def test_a_version_that_nobody_has_seen_is_not_run(self, cast, repeat, greeted, greet):
        edit(cast, greet, content="echo {{who}}\n", parameters={})
        greet.refresh_from_db()
        edit(cast, greet, content="reboot # {{who}}\n", parameters={})
        with pytest.raises(Conflict, match="this is version 3 now"):
            repeat(greeted, Again.LATEST, version=2)

    def test_a_command_that_is_gone(self, repeat, greeted, greet):
        Command.objects.filter(pk=greet.pk).update(kept=False)
        with pytest.raises(Invalid, match="was deleted"):
            repeat(greeted, Again.LATEST, version=2, values={"token": "t"})


class TestTheMachine:
    """Which machine a result is from."""

    def seen(self, task, **columns):
        Run.objects.filter(invocation=task).update(**columns)
        return task.runs.first()

    def before(self, run):
        return Run.objects.seen_before(
            run.pk, instance_id=run.instance_id, team_id=run.invocation.team_id
        )

    def test_the_last_result_on_the_same_instance(self, cast, fleet):
        first = self.seen(create_task(cast, fleet[:1], "say a"), machine_id="m1")
        create_task(cast, fleet[:1], "say a")  # it saw nothing
        self.seen(create_task(cast, fleet[1:2], "say a"), machine_id="m2")
        last = self.seen(create_task(cast, fleet[:1], "say a"), machine_id="m3")
        assert self.before(last) == first
        assert self.before(first) is None

    def test_not_one_of_another_team(self, cast, fleet):
        first = create_task(cast, fleet[:1], "say a")
        self.seen(first, machine_id="m1")
        Invocation.objects.filter(pk=first.pk).update(team=cast.other_team)
        last = self.seen(create_task(cast, fleet[:1], "say a"), machine_id="m3")
        assert self.before(last) is None
