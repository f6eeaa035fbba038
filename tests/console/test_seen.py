# ruff: noqa: F401, F811 - the fixtures of the other tests of streams
"""Whether it is the machine that it was: told while the task runs, and looked up once."""

from __future__ import annotations

import pytest
from django.utils import timezone

from commands.models import Run
from console import seen
from tests.console.test_streams import open_stream, script, server, task, wake_ups
from tests.services.carrying import create_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


@pytest.fixture
def before(cast, fleet):
    """What was seen of the first instance when something ran there last."""
    made = create_task(cast, fleet[:1], "say a")
    made.runs.update(machine_id="m1", host_key_fingerprint="SHA256:k1")
    return made


def test_a_stream_tells_of_another_machine(server, before, task, script, cast):
    run = script.run
    with open_stream(server, task, cast.vera, watch=run.instance_uid) as stream:
        [*_, first] = stream.until("state")
        assert '<div id="ran-on" hidden' in first.data
        script.change(
            run, status="Running", phase="following", started_at=timezone.now(),
            machine_id="m2", hostname="web-01.lan", host_key_fingerprint="SHA256:k1",
        )  # fmt: skip
        [*_, second] = stream.until("state")
    assert "Another machine than last time: its machine id was m1." in second.data
    assert "Another host key" not in second.data
    assert '<div id="ran-on" hx-swap-oob="true">' in second.data
    assert "web-01.lan" in second.data


def test_it_is_looked_up_once(before, task, django_assert_num_queries):
    run = task.runs.first()
    run.machine_id, run.host_key_fingerprint = "m2", "SHA256:k2"
    assert len(seen.differs(run)) == 2
    with django_assert_num_queries(0):
        assert len(seen.differs(run)) == 2


def test_that_there_was_nothing_is_not_remembered(task, cast, fleet):
    """What ran before may still be connecting."""
    earlier = Run.objects.get(pk=task.runs.first().pk)
    later = create_task(cast, fleet[:1], "say a").runs.get()
    later.machine_id = "m2"
    assert seen.differs(later) == []
    Run.objects.filter(pk=earlier.pk).update(machine_id="m1")
    assert len(seen.differs(later)) == 1
