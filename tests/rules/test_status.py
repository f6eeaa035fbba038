"""The table of states, and the roll-up of runs into a task."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.rules import states_page
from commands.rules.status import (
    FAILURES,
    FINAL,
    STOPS,
    TRANSITIONS,
    ErrorCode,
    RunStatus,
    TaskStatus,
    cloud_assistant_code,
    is_final,
    legacy,
    legacy_roll_up,
    may_become,
    reached,
    roll_up,
)

ROOT = Path(__file__).resolve().parents[2]
ERROR_CODES = ROOT / "docs/error-codes.md"
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


def test_the_page_of_states_is_the_code():
    assert (ROOT / "docs/states.md").read_text() == states_page.page()
    drawn = re.findall(r"^    (\w+) --> (\w+)$", states_page.page(), re.MULTILINE)
    allowed = [(before, after) for before, ways in TRANSITIONS.items() for after in ways]
    assert sorted(drawn) == sorted((before.value, after.value) for before, after in allowed)


@pytest.mark.parametrize(
    ("before", "reported", "becomes"),
    [
        (S.PENDING, S.RUNNING, S.RUNNING),
        (S.PENDING, S.ABORTED, S.ABORTED),
        (S.RUNNING, S.TIMEOUT, S.TIMEOUT),
        # Somebody wants it stopped, and whoever carries it does not know.
        (S.STOPPING, S.RUNNING, S.STOPPING),
        (S.STOPPING, S.ABORTED, S.CANCELLED),
        (S.STOPPING, S.INVALID, S.CANCELLED),
        (S.STOPPING, S.TERMINATED, S.TERMINATED),
        (S.STOPPING, S.SUCCESS, S.SUCCESS),
        (S.STOPPING, S.FAILED, S.FAILED),
        (S.STOPPING, S.TIMEOUT, S.TIMEOUT),
        # Nobody wanted it stopped, and it was.
        (S.RUNNING, S.TERMINATED, S.ERROR),
        (S.RUNNING, S.PENDING, None),
        (S.RUNNING, S.CANCELLED, None),
    ],
)
def test_what_a_run_becomes_of_which_something_is_reported(before, reported, becomes):
    assert reached(before, reported) is becomes


@given(st.sampled_from(sorted(FINAL)), st.sampled_from(list(RunStatus)))
def test_of_what_has_ended_nothing_is_reported_any_more(before, reported):
    assert reached(before, reported) is None


@given(st.sampled_from(list(RunStatus)), st.sampled_from(list(RunStatus)))
def test_what_is_reached_is_always_allowed(before, reported):
    becomes = reached(before, reported)
    assert becomes is None or may_become(before, becomes)


@pytest.mark.parametrize(
    ("status", "older"),
    [
        ("Pending", "Running"),
        ("Running", "Running"),
        ("Stopping", "Stopping"),
        ("Success", "Finished"),
        ("Failed", "Finished"),
        ("Timeout", "Failed"),
        ("Error", "Failed"),
        ("Invalid", "Failed"),
        ("Aborted", "Failed"),
        ("Cancelled", "Stopped"),
        ("Terminated", "Stopped"),
    ],
)
def test_the_older_word_of_a_run(status, older):
    assert legacy(status) == older


@pytest.mark.parametrize(
    ("statuses", "older"),
    [
        ([], "Running"),
        ([S.PENDING, S.FAILED], "Running"),
        ([S.RUNNING, S.STOPPING], "Running"),
        ([S.STOPPING, S.SUCCESS], "Stopping"),
        ([S.CANCELLED, S.TERMINATED], "Stopped"),
        ([S.TIMEOUT, S.ABORTED], "Failed"),
        ([S.SUCCESS, S.FAILED], "Finished"),
        ([S.SUCCESS, S.TERMINATED], "Finished"),
        ([S.SUCCESS, S.TIMEOUT], "PartialFailed"),
        ([S.TIMEOUT, S.TERMINATED], "PartialFailed"),
    ],
)
def test_the_older_word_of_a_task(statuses, older):
    assert legacy_roll_up(statuses) == older


def test_codes_in_cloud_assistants_words():
    assert cloud_assistant_code("") == ""
    assert cloud_assistant_code("ExecutionTimeout") == "ExecutionTimeout"
    assert cloud_assistant_code("ConnectionRefused") == "ClientNotRunning"
    assert cloud_assistant_code("HostKeyChanged") == "ExecutionException"
    assert cloud_assistant_code("StoppedBeforeStart") == ""
    documented = set(re.findall(r"^\| `(\w+)` \(CA\)", ERROR_CODES.read_text(), re.MULTILINE))
    assert documented == {code.value for code in ErrorCode if cloud_assistant_code(code) == code}
