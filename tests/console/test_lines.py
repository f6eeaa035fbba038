"""Bytes into numbered lines."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from commands.outputs.store import Chunk
from console.lines import MAX_CHARS, Assembler, last_lines, plain

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


def test_an_endless_line_goes_on_in_further_lines():
    parts = [("stdout", b"x" * 50_000), ("stdout", b"x" * 50_000)]
    texts = [text for _, text in shown(parts)]
    assert max(map(len, texts)) == MAX_CHARS
    assert "".join(texts) == "x" * 100_000


def test_a_line_of_exactly_the_longest_length_leaves_no_empty_one():
    assert shown([("stdout", b"x" * MAX_CHARS + b"\ny")]) == [
        ("stdout", "x" * MAX_CHARS),
        ("stdout", "y"),
    ]


def test_terminal_tricks_become_text():
    assert plain("10%\r20%\r") == "20%"
    assert plain("\x1b[1;31mred\x1b[0m\x00") == "red␀"


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
                st.integers(1, 3).map(lambda n: b"x" * (MAX_CHARS // 2 * n) + b"\n"),
                st.integers(1, 3).map(lambda n: b"y" * (MAX_CHARS // 2 * n)),
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
