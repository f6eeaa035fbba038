"""Many names in few words, and in the order in which people count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.rules.names import natural, ranges

NAMES = st.one_of(
    st.builds("{}-{}".format, st.sampled_from(["web", "db", ""]), st.integers(0, 30)),
    st.builds("{}{:03}".format, st.sampled_from(["web-", "db."]), st.integers(0, 30)),
    st.text(max_size=6),
)


@given(st.sets(NAMES))
def test_nothing_is_lost_and_nothing_is_named_twice(names):
    found = ranges(names)
    assert sum(each.count for each in found) == len(names)
    ends = {end for each in found for end in (each.first, each.last)}
    assert ends <= names
    for each in found:
        assert each.count == 1 or each.count >= 3
        assert (each.first == each.last) == (each.count == 1)


@given(st.integers(0, 10**6), st.integers(3, 60), st.integers(0, 9))
def test_names_that_count_up_are_one_range(start, count, width):
    names = [f"web-{number:0{width}}.eu" for number in range(start, start + count)]
    (found,) = ranges(reversed(names))
    assert (found.first, found.last, found.count) == (names[0], names[-1], count)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], []),
        (["a"], ["a"]),
        (["web-1", "web-2"], ["web-1", "web-2"]),
        (["web-9", "web-10", "web-11"], ["web-9..web-11"]),
        (["db-1", "web-2", "db-2", "db-3"], ["db-1..db-3", "web-2"]),
        (["a-1", "a-2", "a-4", "a-5", "a-6"], ["a-1", "a-2", "a-4..a-6"]),
        (["n-8", "n-9", "n-010"], ["n-8", "n-9", "n-010"]),
    ],
)
def test_ranges(names, told):
    found = [
        each.first if each.count == 1 else f"{each.first}..{each.last}" for each in ranges(names)
    ]
    assert found == told


def test_people_count_nine_before_ten():
    assert sorted(["web-10", "Web-2", "db", "web-9"], key=natural) == [
        "db",
        "Web-2",
        "web-9",
        "web-10",
    ]
