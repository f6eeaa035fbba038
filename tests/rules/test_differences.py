"""What differs between two texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.rules import differences as rules
from commands.rules.differences import CONTEXT, Kind, Line, Part, differences

LINES = st.lists(st.sampled_from(["", "a", "b c", "b d", "é"]), max_size=30)
TEXTS = st.builds(lambda lines, end: "\n".join(lines) + end, LINES, st.sampled_from(["", "\n"]))


def shown(line: Line) -> str:
    marked = "".join(f"[{part.text}]" if part.changed else part.text for part in line.parts)
    sign = {Kind.SAME: " ", Kind.OLD: "-", Kind.NEW: "+", Kind.GAP: "~"}[line.kind]
    return sign + marked


def test_the_same_text_has_no_differences():
    assert differences("a\nb\n", "a\nb\n") == []
    assert differences("", "") == []


def test_words_that_changed_are_marked_where_lines_are_alike():
    found = differences("echo one two\n", "echo one three\n")
    assert [shown(line) for line in found] == ["-echo one [two]", "+echo one [three]"]


def test_lines_that_share_nothing_are_not_marked():
    found = differences("echo one\n", "exit 3; true\n")
    assert [shown(line) for line in found] == ["-echo one", "+exit 3; true"]


def test_what_is_far_from_a_change_is_left_out():
    old = [f"line {number}" for number in range(1, 21)]
    new = [*old[:9], "other", *old[10:]]
    found = differences("\n".join(old) + "\n", "\n".join(new) + "\n")
    assert (found[0].kind, found[-1].kind) == (Kind.GAP, Kind.GAP)
    assert sum(line.kind == Kind.SAME for line in found) == 2 * CONTEXT
    assert [(line.old, line.new) for line in found[1:5]] == [(7, 7), (8, 8), (9, 9), (10, None)]


def test_a_missing_line_break_at_the_end_is_a_difference():
    assert differences("a", "a\n") == [
        Line(Kind.OLD, 1, None, (Part("a"),), ended=False),
        Line(Kind.NEW, None, 1, (Part("a"),)),
    ]


def test_one_very_long_line_is_shown_whole():
    old, new = "a " * 5_000, "b " * 5_000
    assert [line.parts for line in differences(old, new)] == [(Part(old),), (Part(new),)]


def test_what_would_take_too_long_is_shown_as_changed():
    """Every second word is the same, and could belong to any of so many places."""
    words = [f"w{n}" for n in range(199)]
    old = " ".join(words) + "\n"
    new = " ".join([*words[:99], "other", *words[100:]]) + "\n"
    [first, _] = differences(old, new)
    assert len(first.parts) > 1
    found = differences(old * 80, new * 80)
    assert [line.kind for line in found] == [Kind.OLD] * 80 + [Kind.NEW] * 80
    assert found[0].parts == first.parts
    assert found[79].parts == (Part(old.rstrip("\n")),)


def test_the_steps_are_for_all_of_a_comparison():
    asked = []

    class Counting(rules._Steps):
        def take(self, number):
            allowed = super().take(number)
            asked.append(number if allowed else 0)
            return allowed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "_Steps", Counting)
        line = "".join(f"{chr(97 + n % 26)} " for n in range(199))
        differences(f"{line}\n" * 80, f"{line[::-1]}\n" * 80)
        assert sum(asked) <= rules._STEPS
        assert asked[-1] == 0


@given(TEXTS, TEXTS, st.sampled_from([0, 5, 50, rules._STEPS]))
def test_the_lines_are_those_of_the_texts(old, new, steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "_STEPS", steps)
        found = differences(old, new)
    assert (found == []) == (old == new)
    for text, side in ((old, "old"), (new, "new")):
        lines = text.split("\n")
        for line in found:
            if number := getattr(line, side):
                assert "".join(part.text for part in line.parts) == lines[number - 1]
                assert line.ended == (number < len(lines))
    removed = sum(line.kind == Kind.OLD for line in found)
    added = sum(line.kind == Kind.NEW for line in found)
    count = [text.count("\n") + (not text.endswith("\n") and bool(text)) for text in (old, new)]
    assert count[1] - count[0] == added - removed
