"""What taking runs over costs, as it stands before the start of the first of them; and who may."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands.models import Instance, Membership, Restriction, Run
from commands.services import invocations, runs
from commands.services.definitions import CommandInput
from commands.services.plans import Values
from tests.services.carrying import create_task

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


def queries_of_claim(cast, instances) -> int:
    task = invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(
            name="n", type="RunShellScript", content="say {{word}}", use_params=True
        ),
        values=Values({"word": "hello"}, hidden=["word"]),
        instance_uids=[each.uid for each in instances],
        now=timezone.now(),
    )
    ids = list(task.runs.values_list("pk", flat=True))
    with CaptureQueriesContext(
        connection,
    ) as captured:
        claimed = runs.claim(run_ids=ids, owner="w", now=timezone.now())
    assert len(claimed) == len(instances)
    return len(captured)


def test_more_runs_of_a_task_need_no_more_queries(cast, make_instance):
    many = [make_instance(f"host-{number}") for number in range(12)]
    assert queries_of_claim(cast, many) == queries_of_claim(cast, many[:2])


LATER = runs.LEASE + timedelta(seconds=1)


def leave(cast, instance):
    Membership.objects.filter(team=cast.team, user=cast.bob).delete()


def narrow(cast, instance):
    membership = Membership.objects.get(team=cast.team, user=cast.bob)
    Restriction.objects.create(membership=membership, kind="not_run_as", value="root")


def take_back(cast, instance):
    Instance.objects.filter(pk=instance.pk).update(team=cast.other_team)


def switch_off(cast, instance):
    Instance.objects.filter(pk=instance.pk).update(enabled=False)


def lead_through_a_jump_host(cast, instance):
    columns = ("region", "resource_group", "credential", "host", "user", "host_key")
    jump_host = Instance.objects.create(
        team=cast.team,
        name=f"jump-{instance.pk}",
        **{name: getattr(instance, name) for name in columns},
    )
    Instance.objects.filter(pk=instance.pk).update(jump_host=jump_host)


def switch_the_way_off(cast, instance):
    Instance.objects.filter(behind=instance).update(enabled=False)


def become_another_system(cast, instance):
    Instance.objects.filter(pk=instance.pk).update(os_type="windows")


PERSON, PLACE = "may no longer run it here", "or its jump host was switched off"


@pytest.mark.parametrize(
    ("taken_away", "said"),
    [
        (leave, PERSON),
        (narrow, PERSON),
        (take_back, PERSON),
        (switch_off, PLACE),
        (switch_the_way_off, PLACE),
        (become_another_system, PLACE),
    ],
)
def test_a_start_that_was_never_answered_is_asked_for_again_only_by_who_may(
    cast, make_instance, taken_away, said
):
    """A worker may be lost before it has sent anything, and the next one may come much later."""
    instances = [make_instance(f"host-{number}") for number in range(3)]
    for instance in instances:
        lead_through_a_jump_host(cast, instance)
    task = create_task(cast, instances, "say a")
    ids = list(task.runs.order_by("pk").values_list("pk", flat=True))
    now = timezone.now()
    assert len(runs.claim(run_ids=ids, owner="lost", now=now)) == 3
    Run.objects.filter(pk=ids[1]).update(base="/home/x/.command-console")  # known to run
    Run.objects.filter(pk=ids[2]).update(status="Stopping")  # it will be told to begin nothing
    assert len(runs.claim(run_ids=ids, owner="lost again", now=now + LATER)) == 3
    for instance in instances:
        taken_away(cast, instance)
        if taken_away in (leave, narrow):
            break
    taken = runs.claim(run_ids=ids, owner="other", now=now + 2 * LATER)
    assert [one.run_id for one in taken] == ids[1:]
    left = Run.objects.get(pk=ids[0])
    assert (left.status, left.error_code) == ("Error", "OutcomeUnknown")
    assert said in left.error_info
