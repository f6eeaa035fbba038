"""Resource groups: every team has a default one; what is sorted into others, and what can't be."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from commands.errors import Conflict, Denied, IdempotencyMismatch, Invalid
from commands.models import AuditEvent, Command, Instance, Invocation, ResourceGroup, User
from commands.rules.again import Again
from commands.services import (
    instances,
    invocations,
    lending,
    library,
    resource_groups,
    teams,
)
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]
TRUE = CommandInput(name="True", type="RunShellScript", content="true")


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


@pytest.fixture
def group(cast):
    return resource_groups.create(actor=cast.alice, team=cast.team, name="Shop")


@pytest.fixture
def default(cast):
    return resource_groups.default_of(cast.team)


@pytest.fixture
def save(cast, place):
    def kept(**more):
        return library.create_command(
            actor=cast.bob, **place, command=TRUE, now=timezone.now(), **more
        )

    return kept


@pytest.fixture
def run(cast, place, fleet):
    def start(**more):
        given = {"command": TRUE, "instance_uids": [fleet[0].uid], "now": timezone.now(), **more}
        return invocations.run_command(actor=cast.bob, **place, **given)

    return start


def last(action):
    return AuditEvent.objects.filter(action=action).latest("pk")


class TestDefaults:
    """The group that is always there."""

    def test_every_team_begins_with_one(self, cast):
        first = User.objects.first()
        for team in (cast.team, teams.create_team(name="New", admin=first)):
            group = team.resource_groups.get()
            assert (group.name, group.is_default, group.uid[:3]) == ("Default", True, "rg-")

    def test_so_does_the_first_team(self, db):
        team = teams.create_first_team(username="admin", password="x", now=timezone.now())
        assert team.resource_groups.get().is_default

    def test_a_team_has_no_second_one(self, cast):
        with pytest.raises(IntegrityError), transaction.atomic():
            ResourceGroup.objects.create(team=cast.team, name="Other", is_default=True)

    def test_new_things_go_there(self, default, group, fleet, save, run):
        task = run()
        made = [fleet[0], save(), task, Command.objects.get(uid=task.command_uid)]
        assert {one.resource_group for one in made} == {default}


class TestNaming:
    """Groups that something new is put into."""

    def test_what_is_made_in_a_group(self, cast, place, group, credential, save, run, fleet):
        saved = save(group=group)
        web = instances.add_instance(
            actor=cast.alice,
            **place,
            name="new",
            host="10.0.0.9",
            user="root",
            credential=credential,
            host_key=fleet[0].host_key,
            group=group,
        )
        task = run(group=group, instance_uids=[web.uid], save=True)
        invoked = invocations.invoke_command(
            actor=cast.bob,
            **place,
            command=SavedInput(saved.uid),
            instance_uids=[web.uid],
            group=group,
            now=timezone.now(),
        )
        kept = Command.objects.get(uid=task.command_uid)
        made = [saved, web, task, kept, invoked]
        assert [one.resource_group for one in made] == [group] * 5

    def test_another_teams_group_can_not_be_named(self, cast, save, run):
        other = resource_groups.default_of(cast.other_team)
        for make in (save, run):
            with pytest.raises(Invalid) as error:
                make(group=other)
            assert error.value.code == "InvalidResourceGroup.NotFound"
        assert not Command.objects.exists()
        with pytest.raises(Invalid):
            resource_groups.find(team=cast.team, uid=other.uid)
        with pytest.raises(Invalid):
            resource_groups.find(team=cast.team, uid="rg-\0")

    def test_instances_of_a_group_run_tasks_of_that_group(self, cast, group, default, fleet, run):
        other = resource_groups.create(actor=cast.alice, team=cast.team, name="Other")
        resource_groups.move_instances(actor=cast.alice, group=other, instances=fleet[:1])
        for named in (group, default):
            with pytest.raises(Invalid) as error:
                run(group=named)
            assert (error.value.code, error.value.field) == (
                "InvalidInstance.NotMatch",
                "instances",
            )
        assert not Invocation.objects.exists()
        # Those of the default group run tasks of any, and without a name nothing is asked.
        assert run(group=group, instance_uids=[fleet[1].uid]).resource_group == group
        assert run().resource_group == default

    def test_the_groups_of_a_lender_do_not_matter(self, cast, group, fleet):
        resource_groups.move_instances(actor=cast.alice, group=group, instances=fleet[:1])
        grant = lending.lend_instance(actor=cast.alice, instance=fleet[0], team=cast.other_team)
        lending.accept(actor=cast.charlie, grant=grant, now=timezone.now())
        task = invocations.run_command(
            actor=cast.charlie,
            team=cast.other_team,
            region=cast.region,
            command=TRUE,
            instance_uids=[fleet[0].uid],
            group=resource_groups.create(actor=cast.charlie, team=cast.other_team, name="Ours"),
            now=timezone.now(),
        )
        assert task.resource_group.name == "Ours"
        assert Instance.objects.get(pk=fleet[0].pk).resource_group == group

    def test_a_task_is_repeated_in_its_group(self, cast, group, run):
        again = invocations.repeat_invocation(
            actor=cast.bob, invocation=run(group=group), kind=Again.AGAIN, now=timezone.now()
        )
        assert again.resource_group == group

    def test_a_token_stands_for_a_request_in_one_group(self, group, run):
        assert run(client_token="t", group=group) == run(client_token="t", group=group)
        with pytest.raises(IdempotencyMismatch):
            run(client_token="t")


class TestChanging:
    """Renaming and removing groups."""

    def test_names(self, cast, group):
        for name in ("", " ", "x" * 51, "two\nlines"):
            with pytest.raises(Invalid) as error:
                resource_groups.create(actor=cast.alice, team=cast.team, name=name)
            assert error.value.field == "name"
            with pytest.raises(Invalid):
                resource_groups.rename(actor=cast.alice, group=group, name=name)
        with pytest.raises(Conflict, match="Default already"):
            resource_groups.create(actor=cast.alice, team=cast.team, name=" Default ")
        with pytest.raises(Conflict):
            resource_groups.rename(actor=cast.alice, group=group, name="Default")
        # Another team may call its own the same.
        assert resource_groups.create(actor=cast.charlie, team=cast.other_team, name="Shop")
        assert [one.name for one in cast.team.resource_groups.all()] == ["Default", "Shop"]

    def test_renaming_is_noted_once(self, cast, group):
        assert last("resource-group:create").target_uid == group.uid
        for _ in range(2):
            renamed = resource_groups.rename(actor=cast.alice, group=group, name="Store")
        assert (renamed.uid, renamed.name) == (group.uid, "Store")
        event = AuditEvent.objects.get(action="resource-group:rename")
        assert (event.target_name, event.details) == ("Store", {"from": "Shop"})

    def test_the_default_group_stays(self, cast, default):
        with pytest.raises(Conflict, match="default group"):
            resource_groups.remove(actor=cast.alice, group=default)
        assert resource_groups.rename(actor=cast.alice, group=default, name="Rest").is_default

    @pytest.mark.parametrize("what", ["instance", "command"])
    def test_one_that_is_not_empty_stays(self, cast, group, fleet, save, what):
        if what == "instance":
            resource_groups.move_instances(actor=cast.alice, group=group, instances=fleet[:1])
        else:
            save(group=group)
        with pytest.raises(Conflict, match="Move them to another group first"):
            resource_groups.remove(actor=cast.alice, group=group)
        assert ResourceGroup.objects.filter(pk=group.pk).exists()

    def test_tasks_of_one_that_is_removed_are_in_the_default_group(self, cast, group, default, run):
        task = run(group=group)
        resource_groups.remove(actor=cast.alice, group=group)
        task.refresh_from_db()
        assert task.resource_group == task.command.resource_group == default
        assert last("resource-group:remove").target_name == "Shop"
        for late in (
            lambda: run(group=group),
            lambda: resource_groups.rename(actor=cast.alice, group=group, name="X"),
            lambda: resource_groups.remove(actor=cast.alice, group=group),
        ):
            with pytest.raises((Invalid, Conflict)):
                late()


class TestMoving:
    """What is put into another group."""

    def test_instances(self, cast, group, default, fleet):
        move = {"actor": cast.alice, "instances": fleet[:2]}
        assert resource_groups.move_instances(group=group, **move) == fleet[:2]
        assert resource_groups.move_instances(group=group, **move) == []
        assert list(group.instances.all()) == fleet[:2]
        event = AuditEvent.objects.get(action="resource-group:move-instances")
        assert event.details == {"moved": ["web-01", "web-02"]}
        resource_groups.move_instances(group=default, **move)
        assert not group.instances.exists()

    def test_commands(self, cast, group, save):
        saved = save()
        assert resource_groups.move_commands(actor=cast.bob, group=group, commands=[saved]) == [
            saved
        ]
        assert list(group.commands.all()) == [saved]
        assert last("resource-group:move-commands").details == {"moved": ["True"]}
        assert saved.versions.count() == 1

    def test_nothing_of_another_team(self, cast, group, fleet, save):
        theirs = resource_groups.default_of(cast.other_team)
        teams.add_member(team=cast.other_team, user=cast.alice, role="team_admin")
        with pytest.raises(Denied):
            resource_groups.move_instances(actor=cast.alice, group=theirs, instances=fleet)
        with pytest.raises(Denied):
            resource_groups.move_commands(actor=cast.alice, group=theirs, commands=[save()])
        assert not theirs.instances.exists()
        assert not theirs.commands.exists()
