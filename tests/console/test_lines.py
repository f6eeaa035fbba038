"""Bytes into numbered lines."""

from __future__ import annotations

from copy import deepcopy as copy
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.outputs.lines import LINE_BYTES, Numbering
from commands.outputs.store import Chunk, Gap
from console.blocks import last_lines
from console.lines import Assembler, gap_bytes, sentence, size

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def chunks(*parts):
    sizes = {"stdout": 0, "stderr": 0}
    made = []
    for sequence, (stream, data) in enumerate(parts):
        made.append(Chunk(sequence, stream, sizes[stream], data, NOW))
        sizes[stream] += len(data)
    return made


def shown(parts):
    assembler = Assembler()
    texts = {}
    for chunk in chunks(*parts):
        for line in assembler.feed(chunk):
            assert line.replaces == (line.number in texts)
            texts[line.number] = (line.stream, line.text)
    return [texts[number] for number in sorted(texts)]


def test_streams_are_numbered_together_and_open_lines_are_shown_again():
    assert shown([("stdout", b"a\nb"), ("stderr", b"oops\n"), ("stdout", b"c\nd\n")]) == [
        ("stdout", "a"),
        ("stdout", "bc"),
        ("stderr", "oops"),
        ("stdout", "d"),
    ]


def test_a_character_cut_in_two_is_put_together():
    euro = "€".encode()
    assert shown([("stdout", euro[:1]), ("stdout", euro[1:] + b"\n")]) == [("stdout", "€")]


def test_what_is_no_utf_8_is_shown_byte_by_byte():
    assert shown([("stdout", "é\n".encode("latin-1")), ("stderr", b"caf\xe9!\n")]) == [
        ("stdout", "\\xe9"),
        ("stderr", "caf\\xe9!"),
    ]
    assert shown([("stdout", "中文\n".encode("gbk"))]) == [("stdout", "\\xd6\\xd0\\xce\\xc4")]
    assert shown([("stdout", b"a\xe2\x82\nb")]) == [("stdout", "a\\xe2\\x82"), ("stdout", "b")]


def test_an_endless_line_of_characters_of_several_bytes_is_cut_between_them():
    texts = [text for _, text in shown([("stdout", "€".encode() * 10_000)])]
    assert "".join(texts) == "€" * 10_000
    assert len(texts) == 4


def test_an_endless_line_goes_on_in_further_lines():
    parts = [("stdout", b"x" * 50_000), ("stdout", b"x" * 50_000)]
    texts = [text for _, text in shown(parts)]
    assert max(map(len, texts)) == LINE_BYTES
    assert "".join(texts) == "x" * 100_000


def test_a_line_of_exactly_the_longest_length_leaves_no_empty_one():
    assert shown([("stdout", b"x" * LINE_BYTES + b"\ny")]) == [
        ("stdout", "x" * LINE_BYTES),
        ("stdout", "y"),
    ]


def test_terminal_tricks_become_text():
    assert shown([("stdout", b"10%\r20%\r\n")]) == [("stdout", "20%")]
    assert shown([("stdout", b"\x1b[1;31mred\x1b[0m\0")]) == [("stdout", "red␀")]


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=40))))
def test_cutting_chunks_differently_shows_the_same_text_of_each_stream(parts):
    def text_of(stream, parts):
        return [text for name, text in shown(parts) if name == stream]

    single = [(name, data[i : i + 1]) for name, data in parts for i in range(len(data))]
    for stream in ("stdout", "stderr"):
        assert text_of(stream, parts) == text_of(stream, single)


def test_only_the_last_lines_are_kept():
    tail = last_lines(chunks(("stdout", b"1\n2\n3"), ("stdout", b"3\n4\n")), 2)
    assert [(line.number, line.text) for line in tail.lines] == [(3, "33"), (4, "4")]
    assert (tail.earlier, tail.sequence) == (2, 1)


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=30))),
    st.integers(1, 5),
)
def test_the_last_lines_are_the_end_of_all_lines(parts, most):
    everything = {}
    assembler = Assembler()
    for chunk in chunks(*parts):
        everything.update({line.number: line.text for line in assembler.feed(chunk)})
    tail = last_lines(chunks(*parts), most)
    expected = sorted(everything.items())[-most:]
    assert [(line.number, line.text) for line in tail.lines] == expected
    assert tail.earlier + len(tail.lines) == len(everything)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stderr"]),
            st.one_of(
                st.binary(max_size=30),
                st.integers(1, 3).map(lambda n: b"x" * (LINE_BYTES // 2 * n) + b"\n"),
                st.integers(1, 3).map(lambda n: b"y" * (LINE_BYTES // 2 * n)),
            ),
        ),
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_skipping_comes_to_the_same_as_feeding(parts, first):
    fed, skipping = Assembler(), Assembler()
    for number, chunk in enumerate(chunks(*parts)):
        lines = fed.feed(chunk)
        if number < first:
            skipping.skip(chunk)
        else:
            assert skipping.feed(chunk) == lines
        assert skipping.count == fed.count
        assert skipping.open_lines() == fed.open_lines()


def dropped(made, first, until):
    """``made`` without chunks ``first`` to ``until``, as they are read then."""
    numbering = Numbering()
    for chunk in made[:until]:
        numbering.skip(chunk.stream, chunk.offset, chunk.data)
    parts = made[:first], made[first:until], made[until:]
    amounts = [sum(len(chunk.data) for chunk in part) for part in parts]
    gap = Gap(first - 1, *amounts, tuple(numbering.state()))
    return [*made[:first], replace(made[until], gap=gap), *made[until + 1 :]]


TEXTS = st.one_of(
    st.text("aé€𝄞\n", min_size=1, max_size=9), st.sampled_from(["€" * 2_730, "x" * LINE_BYTES])
)


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), TEXTS), min_size=2, max_size=9),
    st.integers(1, 5),
    st.data(),
)
def test_lines_behind_a_gap_are_as_if_nothing_was_dropped(parts, pieces, data):
    made = chunks(
        *(
            (stream, raw[len(raw) * n // pieces : len(raw) * (n + 1) // pieces])
            for stream, raw in ((stream, text.encode()) for stream, text in parts)
            for n in range(pieces)
            if len(raw) >= pieces
        ),
        ("stdout", b"end"),
        ("stderr", b"end"),
    )
    first = data.draw(st.integers(0, len(made) - 2))
    until = data.draw(st.integers(first + 1, len(made) - 1))
    full, late = Assembler(), Assembler()
    for chunk in made[:until]:
        full.feed(chunk)
    begun, kept = full.count, dropped(made, first, until)
    for chunk in kept[:first]:
        late.feed(chunk)
    for chunk, there in zip(made[until:], kept[first:], strict=True):
        for line, other in zip(full.feed(chunk), late.feed(there), strict=True):
            assert (other.number, other.open) == (line.number, line.open)
            if line.number > begun:
                assert other.text == line.text
            else:  # its beginning was dropped, or its middle; no character is shown in part
                start, _, end = other.text.rpartition("…")
                assert line.text.startswith(start)
                assert line.text.endswith(end)
        assert late.count == full.count


def test_a_gap_stands_in_its_place_and_is_told_once():
    made = chunks(*(("stdout", b"%d\n" % number) for number in range(9)))
    kept = dropped(made, 3, 6)
    tail = last_lines(kept, 100)
    [gap] = [line for line in tail.lines if line.dropped]
    assert [line.text for line in tail.lines] == ["0", "1", "2", gap.text, "6", "7", "8"]
    assert [line.number for line in tail.lines] == [1, 2, 3, 6, 7, 8, 9]
    assert gap.text == "The first and last 6 bytes are kept. 6 bytes between them was dropped."
    assert (tail.earlier, tail.sequence) == (0, 8)
    tail = last_lines(kept, 4)
    assert [line.text for line in tail.lines] == [gap.text, "6", "7", "8"]
    assert tail.earlier == 3
    tail = last_lines(kept, 2)
    assert [line.text for line in tail.lines] == ["7", "8"]
    assert tail.earlier == 7


def test_a_line_with_its_middle_dropped_is_one_line():
    made = chunks(*(("stdout", part) for part in (b"abc\xe2", b"\x82\xac", b"\x9d\x84", b"xyz\n")))
    lines = last_lines(dropped(made, 1, 2), 100).lines
    assert [(line.number, line.text) for line in lines if not line.dropped] == [(1, "abc…xyz")]


def test_who_has_all_before_the_gap_reads_on_and_bytes_that_never_came_end_a_line():
    made = chunks(("stdout", b"ab"), ("stderr", b"x"), ("stdout", b"c\xe2"))
    late = replace(made[2], sequence=3, offset=9, data=b"\xacd\n")
    assembler = Assembler()
    for chunk in made:
        assembler.feed(chunk)
    with_gap = replace(late, sequence=3, offset=4, gap=Gap(1, 3, 2, 3, (77, 4, 0, 0, 1, 0, 0)))
    assert [line.number for line in copy(assembler).feed(late)] == [3]
    assert [line.text for line in copy(assembler).feed(late)] == ["d"]
    assert [line.text for line in copy(assembler).feed(with_gap)] == ["abc\\xe2\\xacd"]


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (Gap(9, 2**20, 1_992_295, 2**20), "The first and last 1 MB are kept. 1.9 MB between"),
        (Gap(9, 2**20, 2_000_000, 2**20 + 65_536), "The first and last 1 MB are kept. 1.9 MB"),
        (Gap(9, 700, 5 * 2**30, 1), "The first 700 bytes and the last 1 byte are kept. 5 GB bet"),
    ],
)
def test_what_is_said_of_a_gap(gap, expected):
    assert sentence(gap).startswith(expected)


def test_sizes_are_never_rounded_up():
    given = [1, 1023, 1024, 2**20 - 1, 2**20, 2**30 - 1]
    assert [size(n) for n in given] == [
        "1 byte",
        "1,023 bytes",
        "1 kB",
        "1,023.9 kB",
        "1 MB",
        "1,023.9 MB",
    ]


def test_the_gap_among_raw_bytes_is_a_line_of_its_own():
    gap = Gap(0, 4, 1_234_567, 4)
    told = (
        b"[The first and last 4 bytes are kept. 1.1 MB between them was dropped. (1,234,567 bytes)]"
    )
    assert gap_bytes(gap, b"ab\n") == told + b"\n"
    assert gap_bytes(gap, b"ab") == b"\n" + told + b"\n"
    assert gap_bytes(gap, b"") == told + b"\n"
