"""Resource groups in the API: what goes into one, what is found by it, and what is refused."""

from __future__ import annotations

import pytest
from django.utils import timezone

from commands.models import Command, Instance, Invocation
from commands.services import lending, resource_groups
from tests.console.api.test_actions import b64, fine, refused

pytestmark = pytest.mark.django_db
SHELL = {"Type": "RunShellScript", "CommandContent": "echo hello"}
NOT_FOUND = (404, "InvalidResourceGroup.NotFound")


@pytest.fixture
def group(cast):
    return resource_groups.create(actor=cast.alice, team=cast.team, name="Shop")


@pytest.fixture
def other(cast):
    return resource_groups.create(actor=cast.alice, team=cast.team, name="Other")


@pytest.fixture
def shop(cast, group, fleet):
    """The first instance, in the group."""
    resource_groups.move_instances(actor=cast.alice, group=group, instances=fleet[:1])
    return fleet[0]


def create(bob, name, **more):
    given = {"Name": name, "Type": "RunShellScript", "CommandContent": b64("true"), **more}
    return fine(bob.call("CreateCommand", **given))["CommandId"]


def test_what_is_made_goes_to_the_group_that_is_named(bob, group, shop):
    uid = create(bob, "in it", ResourceGroupId=group.uid)
    assert Command.objects.get(uid=uid).resource_group == group
    on = {"InstanceId_1": shop.uid, "ResourceGroupId": group.uid}
    for body in (
        fine(bob.call("RunCommand", **SHELL, **on, KeepCommand="true")),
        fine(bob.call("InvokeCommand", CommandId=uid, **on)),
    ):
        task = Invocation.objects.get(uid=body["InvokeId"])
        assert task.resource_group == task.command.resource_group == group
    fine(bob.call("RunCommand", **SHELL, InstanceId_1=shop.uid))
    assert Invocation.objects.first().resource_group.is_default


@pytest.mark.parametrize("action", ["RunCommand", "InvokeCommand"])
def test_instances_of_another_group_are_refused(bob, group, other, shop, fleet, action):
    given = {"CommandId": create(bob, "x")} if action == "InvokeCommand" else SHELL
    on = {"InstanceId_1": shop.uid, "InstanceId_2": fleet[1].uid}
    answer = bob.call(action, **given, **on, ResourceGroupId=other.uid)
    assert refused(answer) == (400, "InvalidInstance.NotMatch")
    assert not Invocation.objects.exists()
    # The second one is in the default group, and fits with any.
    fine(bob.call(action, **given, **on, ResourceGroupId=group.uid))


@pytest.mark.parametrize("uid", ["rg-1", "rg-\u00fc", "theirs"])
def test_a_group_that_the_team_does_not_have(bob, cast, fleet, uid):
    saved = create(bob, "x")
    if uid == "theirs":
        uid = resource_groups.default_of(cast.other_team).uid
    on = {"InstanceId_1": fleet[0].uid, "ResourceGroupId": uid}
    assert refused(bob.call("RunCommand", **SHELL, **on)) == NOT_FOUND
    assert refused(bob.call("InvokeCommand", CommandId=saved, **on)) == NOT_FOUND
    for action in (
        "DescribeCommands",
        "DescribeInvocations",
        "DescribeInvocationResults",
        "DescribeInstances",
        "DescribeCloudAssistantStatus",
    ):
        assert refused(bob.call(action, ResourceGroupId=uid)) == NOT_FOUND


def test_lists_have_what_is_in_the_group_that_is_named(bob, group, shop, fleet):
    default = resource_groups.default_of(group.team)
    for name, there in (("in it", group), ("outside", default)):
        create(bob, name, ResourceGroupId=there.uid)
        on = {"InstanceId_1": fleet[1].uid, "ResourceGroupId": there.uid}
        fine(bob.call("RunCommand", **SHELL, **on, Name=name))

    def told(action, *path, **wanted):
        body = fine(bob.call(action, ResourceGroupId=group.uid, **wanted))
        for name in path:
            body = body[name]
        return body

    (command,) = told("DescribeCommands", "Commands", "Command")
    assert (command["Name"], command["ResourceGroupId"]) == ("in it", group.uid)
    (task,) = told("DescribeInvocations", "Invocations", "Invocation")
    assert task["CommandName"] == "in it"
    results = told("DescribeInvocationResults", "Invocation", "InvocationResults")
    assert [one["InvokeId"] for one in results["InvocationResult"]] == [task["InvokeId"]]
    (instance,) = told("DescribeInstances", "Instances", "Instance")
    assert (instance["InstanceName"], instance["ResourceGroupId"]) == ("web-01", group.uid)
    status = told("DescribeCloudAssistantStatus", "InstanceCloudAssistantStatusSet")
    assert len(status["InstanceCloudAssistantStatus"]) == 1
    everything = fine(bob.call("DescribeInstances"))["Instances"]["Instance"]
    assert sorted(one["ResourceGroupId"] == default.uid for one in everything) == [
        False,
        True,
        True,
    ]


def test_the_group_of_a_lender_is_not_told(cast, program_of, shop):
    grant = lending.lend_instance(actor=cast.alice, instance=shop, team=cast.other_team)
    lending.accept(actor=cast.charlie, grant=grant, now=timezone.now())
    charlie = program_of(cast.charlie, cast.other_team)
    (instance,) = fine(charlie.call("DescribeInstances"))["Instances"]["Instance"]
    assert (instance["InstanceId"], instance["ResourceGroupId"]) == (shop.uid, "")
    named = {"ResourceGroupId": resource_groups.default_of(cast.other_team).uid}
    assert fine(charlie.call("DescribeInstances", **named))["TotalCount"] == 0
    fine(charlie.call("RunCommand", **SHELL, InstanceId_1=shop.uid, **named))
    assert Instance.objects.get(pk=shop.pk).resource_group.name == "Shop"
