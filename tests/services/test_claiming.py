"""What taking runs over costs: it stands before the start of the first of them."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands.services import invocations, runs
from commands.services.invocations import CommandInput, Values

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
