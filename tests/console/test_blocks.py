"""Blocks of lines: before a line, after one, and from the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from console import blocks
from console.blocks import last_lines, lines_after, lines_before
from console.lines import Assembler
from tests.console.test_lines import chunks, dropped

PARTS = st.lists(
    st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("a\n\r\x1b[31m", max_size=30)),
    max_size=12,
).map(lambda parts: [(stream, text.encode()) for stream, text in parts])


def everything(made):
    assembler, lines = Assembler(), {}
    for chunk in made:
        lines.update({line.number: line.spans for line in assembler.feed(chunk)})
    return sorted(lines.items())


def told(block):
    return [(line.number, line.spans) for line in block.lines]


@given(PARTS, st.integers(1, 30), st.integers(1, 5))
def test_lines_before_one_are_those_before_it(parts, before, most):
    made = chunks(*parts)
    all_lines = everything(made)
    block = lines_before(made, before, most)
    assert told(block) == [line for line in all_lines if line[0] < before][-most:]
    assert block.later == (len(all_lines) >= before)
    if block.lines:
        assert block.earlier == block.lines[0].number - 1


@given(PARTS, st.integers(0, 30), st.integers(1, 5))
def test_lines_after_one_are_those_after_it(parts, after, most):
    made = chunks(*parts)
    rest = [line for line in everything(made) if line[0] > after]
    block = lines_after(made, after, most)
    assert told(block) == rest[:most]
    assert block.later == (len(rest) > most)
    if not block.later and made:
        assert block.sequence == made[-1].sequence


def test_going_back_and_forth_over_a_gap_comes_to_an_end():
    made = chunks(*(("stdout", b"%d\n" % number) for number in range(1, 100)))
    kept = dropped(made, 5, 94)
    tail = last_lines(kept, 3)
    seen, before = [line.number for line in tail.lines], tail.earlier + 1
    while before > 1:
        block = lines_before(kept, before, 3)
        assert block.later
        assert block.earlier + 1 < before
        seen = [line.number for line in block.lines if not line.dropped] + seen
        before = block.earlier + 1
    assert seen == [1, 2, 3, 4, 5, *range(95, 100)]
    block = lines_after(kept, 4, 3)
    assert [(line.number, bool(line.dropped)) for line in block.lines] == [
        (5, False),
        (94, True),
        (95, False),
    ]
    assert [line.number for line in lines_after(kept, 40, 2).lines] == [95, 96]


def test_a_line_that_goes_on_far_behind_a_block_is_whole_in_it():
    parts = [("stdout", b"begin "), *(("stderr", b"e\n") for _ in range(9)), ("stdout", b"end\n")]
    made = chunks(*parts)
    for block in (lines_before(made, 3, 5), lines_after(made, 0, 2)):
        assert [line.text for line in block.lines] == ["begin end", "e"]
        assert block.later


def test_of_too_many_colours_in_a_block_the_last_show(monkeypatch):
    monkeypatch.setattr(blocks, "MOST_SPANS", 10)
    made = chunks(*[("stdout", b"\x1b[31ma\x1b[32mb\x1b[33mc\n")] * 5)
    block = last_lines(made, 4)
    assert [len(line.spans) for line in block.lines] == [1, 3, 3, 3]
    assert [line.text for line in block.lines] == ["abc"] * 4
    assert block.lines[0].spans[0].classes == ""
