"""How fast a task spreads: what comes next, and what may be asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import InvalidFields
from commands.rules.problems import Problems
from commands.rules.rate import Rate, RateInput, Standing, Wait, check, limit_sentence, step

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def checked(**fields):
    problems = Problems()
    rate = check(RateInput(**fields), problems)
    problems.raise_any()
    return rate


def at(total=10, held=0, active=0, failed=0, batch_end=10, ago=0.0):
    return Standing(total, held, active, failed, batch_end, NOW - timedelta(seconds=ago))


def test_what_is_typed():
    assert checked() == Rate()
    assert not Rate().limited
    assert checked(concurrency=" 5 ", canary="2", batch_pause="30", max_failures=" 10 % ") == Rate(
        concurrency=5, canary=2, pause_s=30, max_failures="10%"
    )
    assert checked(canary="1", batch_pause="confirm") == Rate(canary=1, confirm=True)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"concurrency": "0"}, {"concurrency"}),
        ({"concurrency": "many"}, {"concurrency"}),
        ({"concurrency": "-1"}, {"concurrency"}),
        ({"concurrency": "10001"}, {"concurrency"}),
        ({"canary": "1.5"}, {"canary"}),
        ({"max_failures": "0"}, {"max_failures"}),
        ({"max_failures": "101%"}, {"max_failures"}),
        ({"max_failures": "%"}, {"max_failures"}),
        ({"max_failures": "²"}, {"max_failures"}),
        ({"canary": "1", "batch_pause": "soon"}, {"batch_pause"}),
        ({"canary": "1", "batch_pause": "86401"}, {"batch_pause"}),
        ({"batch_pause": "30"}, {"batch_pause"}),
        ({"batch_pause": "confirm"}, {"batch_pause"}),
        ({"concurrency": "x", "max_failures": "x"}, {"concurrency", "max_failures"}),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(fields, wrong):
    with pytest.raises(InvalidFields) as caught:
        checked(**fields)
    assert set(caught.value.errors) == wrong
    assert all(texts == [texts[0]] and texts[0] for texts in caught.value.errors.values())


@pytest.mark.parametrize(
    ("limit", "total", "number"),
    [("", 50, 0), ("3", 50, 3), ("10%", 50, 5), ("10%", 3, 1), ("1%", 50, 1), ("100%", 7, 7)],
)
def test_the_limit_of_failures(limit, total, number):
    assert Rate(max_failures=limit).failure_limit(total) == number


def test_at_most_so_many_at_a_time():
    rate = Rate(concurrency=3)
    assert rate.first_batch(10) == 10
    assert step(rate, at(held=7, active=3), NOW).release == 0
    assert step(rate, at(held=7, active=3), NOW).wait is Wait.TURN
    assert step(rate, at(held=7, active=1), NOW).release == 2
    assert step(rate, at(held=1, active=0), NOW).release == 1


def test_the_first_batch_ends_before_the_others_begin():
    rate = Rate(canary=2)
    assert rate.first_batch(10) == 2
    assert step(rate, at(held=8, active=1, batch_end=2), NOW).release == 0
    then = step(rate, at(held=8, batch_end=2), NOW)
    assert (then.release, then.batch_end) == (8, 10)


def test_a_pause_between_batches():
    rate = Rate(concurrency=4, canary=1, pause_s=30)
    waits = step(rate, at(held=9, batch_end=1, ago=10), NOW)
    assert (waits.release, waits.wait) == (0, Wait.PAUSE)
    assert waits.until == NOW + timedelta(seconds=20)
    over = step(rate, at(held=9, batch_end=1, ago=30), NOW)
    assert (over.release, over.batch_end) == (4, 5)
    # A batch may be larger than what runs at a time.
    large = Rate(concurrency=2, canary=5, pause_s=30)
    assert step(large, at(held=8, active=1, batch_end=5), NOW).release == 1


def test_a_batch_that_waits_for_a_person():
    rate = Rate(canary=2, confirm=True)
    held = at(held=8, batch_end=2, ago=10_000)
    assert step(rate, held, NOW).wait is Wait.CONFIRM
    assert step(rate, held, NOW, confirmed=True).release == 8
    running = at(held=8, active=1, batch_end=2)
    assert step(rate, running, NOW, confirmed=True).release == 0


def test_too_many_failures_cancel_the_rest():
    rate = Rate(concurrency=1, max_failures="2")
    assert step(rate, at(held=5, failed=1), NOW).release == 1
    assert step(rate, at(held=5, failed=2), NOW).cancel
    assert limit_sentence(3, 50) == (
        "3 of 50 failed, the limit of this task. It was not started here."
    )


rates = st.builds(
    Rate,
    concurrency=st.integers(0, 6),
    max_failures=st.sampled_from(["", "", "1", "3", "10%", "50%"]),
    pause_s=st.integers(0, 3),
    confirm=st.booleans(),
    canary=st.integers(0, 6),
)


@given(rates, st.integers(1, 30), st.randoms(use_true_random=False))
def test_every_task_comes_to_its_end_and_never_exceeds_what_was_asked(rate, total, random):
    end = rate.first_batch(total)
    released = min(end, rate.concurrency or end)
    active, failed, cancelled, now = released, 0, 0, NOW
    for _ in range(20 * total):
        assert not rate.concurrency or active <= rate.concurrency
        held = total - released - cancelled
        where = Standing(total, held, active, failed, end, now)
        what = step(rate, where, now)
        if what.wait is Wait.PAUSE:
            what = step(rate, where, what.until)
        if what.wait is Wait.CONFIRM:
            assert rate.confirm
            assert active == 0
            what = step(rate, where, now, confirmed=True)
        if what.cancel:
            assert failed >= rate.failure_limit(total)
            cancelled += held
        end, released, active = what.batch_end, released + what.release, active + what.release
        if released + cancelled == total and not active:
            return
        assert active, "a task stalls"
        active -= 1
        failed += random.random() < 0.3
    raise AssertionError("a task never ends")
