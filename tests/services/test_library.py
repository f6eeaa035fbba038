"""The library: versions, edits at the same time, deleting, pins, searching."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands.errors import Conflict, Denied, EditConflict, Invalid, InvalidFields, QuotaExceeded
from commands.models import (
    Command,
    CommandPin,
    CommandVersion,
    Invocation,
    QuotaOverride,
    Region,
    Run,
)
from commands.rules.quotas import Quota
from commands.rules.schema import ParameterSchema
from commands.services import invocations, library, quotas, teams
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HELLO = CommandInput(name="Hello", type="RunShellScript", content="echo hi\n")


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


@pytest.fixture
def keep(cast, place):
    def make(name="Hello", *, actor=None, **columns):
        given = replace(HELLO, name=name, **columns)
        return library.create_command(actor=actor or cast.bob, **place, command=given, now=NOON)

    return make


@pytest.fixture
def edit(cast):
    def change(command, based_on, *, actor=None, **columns):
        return library.edit_command(
            actor=actor or cast.bob,
            command=command,
            definition=replace(HELLO, **columns),
            based_on=based_on,
            now=NOON + timedelta(hours=1),
        )

    return change


@pytest.fixture
def run(cast, place, fleet):
    def start(command):
        return invocations.invoke_command(
            actor=cast.bob,
            **place,
            command=SavedInput(command.uid),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )

    return start


def finish(task):
    Run.objects.filter(invocation=task).update(
        status="Success", exit_code=0, finished_at=timezone.now()
    )


def allow_one(place):
    QuotaOverride.objects.create(**place, key=Quota.SAVED_COMMANDS.value, limit=1)


def only(commands):
    return [command.name for command in commands]


class TestCreating:
    """A new command of the library."""

    def test_it_is_version_1_and_uses_a_place(self, cast, place, keep):
        schema = ParameterSchema(default="a")
        made = keep(
            content="echo {{x}}",
            use_params=True,
            parameters={"X": schema},
            timeout="5",
            tags=(("env", "prod"),),
            runners_may_type=True,
        )
        assert (made.kept, made.latest, made.created_by, made.updated_by) == (
            True,
            1,
            cast.bob,
            cast.bob,
        )
        assert (made.tags, made.runners_may_type) == ({"env": "prod"}, True)
        version = made.versions.get()
        assert (version.number, version.name, version.timeout) == (1, "Hello", 10)
        assert version.schemas() == {"x": schema}
        usage = quotas.usage(**place, key=Quota.SAVED_COMMANDS, now=NOON)
        assert usage.used == 1

    def test_everything_wrong_is_said_at_once_and_nothing_is_made(self, keep):
        with pytest.raises(InvalidFields) as caught:
            keep(name="", content="", timeout="x")
        assert set(caught.value.errors) == {"name", "content", "timeout"}
        assert not Command.objects.exists()

    def test_a_full_library_takes_no_more(self, place, keep):
        allow_one(place)
        keep()
        with pytest.raises(QuotaExceeded):
            keep(name="Second")
        assert only(Command.objects.all()) == ["Hello"]

    def test_who_may(self, cast, place, keep):
        for actor in (cast.vera, cast.charlie):
            with pytest.raises(Denied):
                keep(actor=actor)
        teams.add_member(team=cast.team, user=cast.charlie, role="runner")
        with pytest.raises(Denied):
            keep(actor=cast.charlie)


class TestEditing:
    """Every edit is a version."""

    def test_it_adds_a_version_and_moves_the_command_on(self, cast, keep, edit):
        command = keep()
        made = edit(
            command, 1, actor=cast.alice, name="Hallo", description="says it", content="echo ho"
        )
        command.refresh_from_db()
        assert (made.number, made.created_by, command.latest) == (2, cast.alice, 2)
        assert (command.name, command.description) == ("Hallo", "says it")
        assert (command.updated_by, command.created_by) == (cast.alice, cast.bob)
        assert command.updated_at == NOON + timedelta(hours=1)
        first = command.versions.get(number=1)
        assert (first.name, first.description, first.content) == ("Hello", "", "echo hi\n")

    def test_versions_never_change(self, keep):
        version = keep().versions.get()
        version.content = "echo changed"
        with pytest.raises(TypeError):
            version.save()

    def test_an_edit_that_says_the_same_makes_no_version(self, keep, edit):
        command = keep(content="echo {{x}}", use_params=True, timeout="5")
        same = edit(command, 1, content="echo {{x}}\r\n".strip(), use_params=True, timeout="10")
        assert same.number == 1
        assert command.versions.count() == 1
        command.refresh_from_db()
        assert command.updated_at == NOON

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "Other"},
            {"description": "d"},
            {"timeout": "61"},
            {"workdir": "/tmp"},
            {"use_params": True},
            {"launcher": "python3 -u"},
            {"run_as": "deploy"},
            {"termination": "Process"},
            {"tags": (("a", "b"),)},
            {"runners_may_type": True},
        ],
    )
    def test_whatever_is_changed_makes_one(self, keep, edit, change):
        assert edit(keep(), 1, **change).number == 2

    def test_a_change_of_a_parameter_makes_one(self, keep, edit):
        text = {"content": "echo {{x}}", "use_params": True}
        command = keep(**text)
        assert edit(command, 1, **text, parameters={"x": ParameterSchema()}).number == 1
        assert edit(command, 1, **text, parameters={"x": ParameterSchema(default="1")}).number == 2

    def test_of_two_who_edit_the_second_is_told_who_was_first(self, cast, keep, edit):
        command = keep()
        edit(command, 1, actor=cast.alice, content="echo alice")
        stale = Command.objects.get(pk=command.pk)
        with pytest.raises(EditConflict, match=r"alice saved v2 while you were editing\.") as lost:
            edit(stale, 1, content="echo bob")
        assert (lost.value.number, lost.value.by) == (2, "alice")
        assert isinstance(lost.value, Conflict)
        assert command.versions.count() == 2
        assert edit(stale, 2, content="echo bob").number == 3

    @pytest.mark.parametrize("based_on", [0, -1, 2, 10**9])
    def test_a_version_that_is_not_the_newest_is_no_base(self, keep, edit, based_on):
        with pytest.raises(EditConflict):
            edit(keep(), based_on, content="echo other")

    def test_its_type_stays(self, keep, edit):
        with pytest.raises(Invalid, match="type can't change") as caught:
            edit(keep(), 1, type="RunBatScript", content="echo")
        assert caught.value.field == "type"

    def test_what_is_gone_can_not_be_edited(self, cast, place, keep, edit):
        command = keep()
        library.delete_commands(actor=cast.bob, **place, uids=[command.uid])
        with pytest.raises(Conflict, match="deleted"):
            edit(command, 1, content="echo late")

    def test_what_was_never_kept_can_not_be_edited(self, cast, place, fleet, edit):
        task = invocations.run_command(
            actor=cast.bob,
            **place,
            command=HELLO,
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        with pytest.raises(Conflict):
            edit(task.command, 1, content="echo other")

    def test_who_may(self, cast, keep, edit):
        command = keep()
        for actor in (cast.vera, cast.charlie):
            with pytest.raises(Denied):
                edit(command, 1, actor=actor, content="echo x")
            with pytest.raises(Denied):
                library.restore_version(
                    actor=actor, command=command, number=1, based_on=1, now=NOON
                )


class TestRestoring:
    """An old version comes back as a new one."""

    def test_it_says_what_the_old_one_said(self, cast, keep, edit):
        command = keep(
            content="echo {{x}}", use_params=True, parameters={"x": ParameterSchema(required=True)}
        )
        edit(command, 1, name="Other", content="echo other", timeout="99")
        made = library.restore_version(
            actor=cast.alice, command=command, number=1, based_on=2, now=NOON
        )
        assert (made.number, made.restored_from, made.name) == (3, 1, "Hello")
        assert (made.content, made.timeout, made.created_by) == ("echo {{x}}", 60, cast.alice)
        assert made.schemas() == {"x": ParameterSchema(required=True)}
        command.refresh_from_db()
        assert (command.latest, command.name) == (3, "Hello")

    def test_the_newest_one_needs_no_restoring(self, cast, keep):
        command = keep()
        same = library.restore_version(
            actor=cast.bob, command=command, number=1, based_on=1, now=NOON
        )
        assert (same.number, same.restored_from) == (1, None)

    def test_not_over_what_somebody_else_just_saved(self, cast, keep, edit):
        command = keep()
        edit(command, 1, content="echo 2")
        with pytest.raises(EditConflict):
            library.restore_version(actor=cast.bob, command=command, number=1, based_on=1, now=NOON)

    def test_a_version_that_never_was(self, cast, keep):
        with pytest.raises(Invalid, match="no version 7"):
            library.restore_version(actor=cast.bob, command=keep(), number=7, based_on=1, now=NOON)


class TestDeleting:
    """All or nothing, and past tasks keep what they ran."""

    def test_past_tasks_keep_their_copy_and_the_place_is_free(self, cast, place, keep, run):
        allow_one(place)
        command = keep()
        task = run(command)
        finish(task)
        library.delete_commands(actor=cast.bob, **place, uids=[command.uid])
        task.refresh_from_db()
        assert (task.command, task.version, task.content) == (None, None, "echo hi\n")
        assert task.command_uid == command.uid
        assert not CommandVersion.objects.exists()
        assert keep(name="Next").kept

    def test_not_while_one_of_them_is_running(self, cast, place, keep, run):
        idle, busy = keep(), keep(name="Busy")
        task = run(busy)
        with pytest.raises(Conflict, match=f"^Busy is still running in the task {task.uid}"):
            library.delete_commands(actor=cast.bob, **place, uids=[idle.uid, busy.uid])
        assert Command.objects.kept().count() == 2
        finish(task)
        library.delete_commands(actor=cast.bob, **place, uids=[idle.uid, busy.uid])
        assert not Command.objects.kept().exists()

    def test_one_that_is_missing_or_elsewhere_keeps_all(self, cast, place, keep):
        mine, south = keep(), Region.objects.create(uid="south", name="South")
        theirs = library.create_command(
            actor=cast.charlie,
            team=cast.other_team,
            region=cast.region,
            command=HELLO,
            now=NOON,
        )
        far = library.create_command(
            actor=cast.bob, team=cast.team, region=south, command=HELLO, now=NOON
        )
        for other in (theirs.uid, far.uid, "c-nowhere"):
            with pytest.raises(Invalid, match=r"^1 of the selected commands can't be found"):
                library.delete_commands(actor=cast.bob, **place, uids=[mine.uid, other])
        with pytest.raises(Invalid, match="at least one"):
            library.delete_commands(actor=cast.bob, **place, uids=[])
        assert Command.objects.count() == 3

    def test_who_may(self, cast, place, keep):
        command = keep()
        for actor in (cast.vera, cast.charlie):
            with pytest.raises(Denied):
                library.delete_commands(actor=actor, **place, uids=[command.uid])


class TestPins:
    """A pin is one person's."""

    def test_pinned_ones_come_first_for_whom_pinned_them(self, cast, keep):
        for name in ("alpha", "Beta", "gamma"):
            keep(name=name)
        gamma = Command.objects.get(name="gamma")
        library.pin(actor=cast.vera, command=gamma, pinned=True)
        library.pin(actor=cast.vera, command=gamma, pinned=True)
        assert only(Command.objects.pinned_first(cast.vera)) == ["gamma", "alpha", "Beta"]
        assert only(Command.objects.pinned_first(cast.bob)) == ["alpha", "Beta", "gamma"]
        library.pin(actor=cast.vera, command=gamma, pinned=False)
        assert not CommandPin.objects.exists()

    def test_who_may(self, cast, keep, run):
        with pytest.raises(Denied):
            library.pin(actor=cast.charlie, command=keep(), pinned=True)

    def test_only_what_is_kept(self, cast, keep):
        command = keep()
        command.kept = False
        with pytest.raises(Denied):
            library.pin(actor=cast.bob, command=command, pinned=True)


class TestFinding:
    """Searching and counting."""

    def test_words_are_found_anywhere_and_names_come_first(self, keep):
        keep(name="Zip logs", content="tar -c")
        keep(name="Daily", description="archive of logs", content="tar -c")
        keep(name="Any", content="cat /var/LOGS/x")
        keep(name="Other", content="true")
        found = Command.objects.search("logs").order_by("rank", "name")
        assert only(found) == ["Zip logs", "Daily", "Any"]
        assert only(Command.objects.search("ARCHIVE tar")) == ["Daily"]
        assert only(Command.objects.search("logs nothing")) == []
        assert Command.objects.search(" \0 ").count() == 4
        assert only(Command.objects.search("100%_")) == []

    def test_what_only_an_old_version_says_is_not_found(self, keep, edit):
        edit(keep(content="echo before"), 1, content="echo after")
        assert only(Command.objects.search("before")) == []
        assert only(Command.objects.search("after")) == ["Hello"]

    def test_runs_are_counted_and_the_last_is_known(self, keep, run):
        ran, never = keep(), keep(name="Never")
        first = run(ran)
        last = run(ran)
        found = {command.pk: command for command in Command.objects.with_use()}
        assert (found[ran.pk].times_run, found[ran.pk].last_task) == (2, last.pk)
        assert (found[never.pk].times_run, found[never.pk].last_task) == (0, None)
        assert first.pk != last.pk

    def test_many_commands_take_as_many_queries_as_one(
        self, cast, keep, run, django_assert_num_queries
    ):
        def read():
            found = Command.objects.search("hello").pinned_first(cast.bob).with_use().with_newest()
            return [(one.times_run, one.newest[0].content) for one in found]

        run(keep())
        with django_assert_num_queries(2):
            read()
        for number in range(5):
            run(keep(name=f"Hello {number}"))
        with django_assert_num_queries(2):
            assert read() == [(1, "echo hi\n")] * 6


class TestAtTheSameTime:
    """What two people do at the same moment."""

    @pytest.mark.django_db(transaction=True)
    def test_of_many_edits_of_one_version_exactly_one_is_kept(self, keep, edit):
        command = keep()

        def attempt(number):
            try:
                return edit(Command.objects.get(pk=command.pk), 1, content=f"echo {number}").number
            except EditConflict as error:
                return error
            finally:
                connection.close()

        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(attempt, range(6)))
        assert [result for result in results if result == 2] == [2]
        assert all(error.number == 2 for error in results if error != 2)
        assert command.versions.count() == 2

    @pytest.mark.django_db(transaction=True)
    def test_deleting_and_running_end_in_order(self, cast, place, keep, run):
        command = keep()

        def attempt(number):
            try:
                if number % 2:
                    run(command)
                else:
                    library.delete_commands(actor=cast.bob, **place, uids=[command.uid])
                return "done"
            except (Conflict, Invalid) as error:
                return type(error)
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(attempt, range(4)))
        running = Invocation.objects.active().filter(command_uid=command.uid)
        assert all(task.command_id == command.pk for task in running)
        assert Command.objects.kept().exists() == running.exists()
