"""The table of states, and the roll-up of runs into a task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.rules.status import (
    FAILURES,
    FINAL,
    STOPS,
    TRANSITIONS,
    RunStatus,
    TaskStatus,
    is_final,
    may_become,
    roll_up,
)

S, T = RunStatus, TaskStatus


def test_every_status_has_a_row_and_every_final_one_no_way_out():
    assert set(TRANSITIONS) == set(RunStatus)
    assert {S.SUCCESS} | FAILURES | STOPS == FINAL
    assert all(not may_become(end, other) for end in FINAL for other in S if end != other)


def test_every_status_can_be_reached_from_pending():
    reached = {S.PENDING}
    while True:
        more = reached.union(*(TRANSITIONS[status] for status in reached))
        if more == reached:
            break
        reached = more
    assert reached == set(RunStatus)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], T.PENDING),
        ([S.PENDING, S.PENDING], T.PENDING),
        ([S.PENDING, S.SUCCESS], T.RUNNING),
        ([S.PENDING, S.RUNNING], T.RUNNING),
        ([S.RUNNING, S.STOPPING], T.STOPPING),
        ([S.SUCCESS, S.SUCCESS], T.SUCCESS),
        ([S.SUCCESS, S.TERMINATED], T.SUCCESS),
        ([S.CANCELLED, S.TERMINATED], T.STOPPED),
        ([S.FAILED, S.TERMINATED], T.FAILED),
        ([S.TIMEOUT, S.ERROR, S.ABORTED, S.INVALID], T.FAILED),
        ([S.SUCCESS, S.FAILED], T.PARTIAL_FAILED),
    ],
)
def test_roll_up(statuses, expected):
    assert roll_up(statuses) is expected


@given(st.lists(st.sampled_from(list(RunStatus)), min_size=1))
def test_a_task_has_ended_exactly_when_all_its_runs_have(statuses):
    ended = roll_up(statuses) in {T.SUCCESS, T.FAILED, T.PARTIAL_FAILED, T.STOPPED}
    assert ended == all(is_final(status) for status in statuses)
