"""Steps of a preflight: which error is met where, and what that says of the others."""

from __future__ import annotations

import pytest

from commands.rules.preflight import WAY, Mark, Step, marks, step_of
from commands.rules.status import ErrorCode


def test_without_a_problem_all_is_well():
    assert set(marks([]).values()) == {Mark.OK}


@pytest.mark.parametrize(
    ("code", "step"),
    [
        (ErrorCode.CONNECTION_TIMEOUT, Step.REACH),
        (ErrorCode.JUMP_HOST_BUSY, Step.REACH),
        (ErrorCode.NO_LONGER_ALLOWED, Step.REACH),
        (ErrorCode.HOST_KEY_CHANGED, Step.HOST_KEY),
        (ErrorCode.SIGN_IN_REFUSED, Step.SIGN_IN),
        (ErrorCode.RUN_AS_REFUSED, Step.USER),
    ],
)
def test_who_fails_on_the_way_is_not_asked_for_more(code, step):
    assert step_of(code) is step
    found = marks([code])
    place = WAY.index(step)
    assert [found[one] for one in WAY[:place]] == [Mark.OK] * place
    assert found[step] is Mark.BAD
    rest = [found[one] for one in Step if one not in WAY[: place + 1]]
    assert set(rest) == {Mark.SKIPPED}


def test_all_that_is_wrong_on_the_instance_shows():
    found = marks([ErrorCode.DIRECTORY_NOT_EXISTS, ErrorCode.DISK_FULL])
    bad = {step for step, mark in found.items() if mark is Mark.BAD}
    assert bad == {Step.PATH, Step.SPACE}
    assert found[Step.INTERPRETER] is Mark.OK


def test_what_nobody_looked_at_is_not_said_to_be_well():
    assert marks([], interpreter=False)[Step.INTERPRETER] is Mark.SKIPPED
    found = marks([], whole=False)
    assert {step for step, mark in found.items() if mark is Mark.OK} == set(WAY)
