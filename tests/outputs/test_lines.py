"""Numbers of lines: the same however the bytes are cut, counted quickly or one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from commands.outputs.lines import LINE_BYTES, STREAMS, Numbering

DATA = st.one_of(
    st.binary(max_size=30),
    st.integers(-4, 4).map(lambda n: b"x" * (LINE_BYTES + n)),
    st.integers(0, 6).map(lambda n: b"x" * (LINE_BYTES - 1) + b"\xe2" + b"\x82" * n + b"y\n"),
    st.just(b"\x80" * (2 * LINE_BYTES)),
)
PARTS = st.lists(st.tuples(st.sampled_from(STREAMS), DATA), max_size=6)


def lines(parts):
    """Stream and text of each line, in order of their numbers."""
    numbering, texts = Numbering(), {}
    for stream, data in parts:
        for piece in numbering.take(stream, numbering.offsets[stream], data):
            assert piece.fresh == (piece.number not in texts)
            _, text = texts.get(piece.number, (stream, b""))
            texts[piece.number] = stream, text + data[piece.start : piece.end]
    assert sorted(texts) == list(range(1, numbering.count + 1))
    return [texts[number] for number in sorted(texts)]


@given(PARTS, st.integers(1, 5_000))
def test_cutting_chunks_differently_makes_the_same_lines(parts, size):
    single = [
        (stream, data[at : at + size]) for stream, data in parts for at in range(0, len(data), size)
    ]
    assert lines(parts) == lines(single)


@given(PARTS, st.integers(0, 6))
def test_counting_quickly_and_going_on_from_a_state_come_to_the_same(parts, first):
    one, other = Numbering(), Numbering()
    for number, (stream, data) in enumerate(parts):
        offset = one.offsets[stream]
        before = {one.open_number(stream)} - {0}
        pieces = list(one.take(stream, offset, data))
        if number < first:
            begun = other.skip(stream, offset, data)
            was_open = one.open_number(stream) in before
            if data:
                open_at = -1 if was_open else pieces[-1].start
                assert begun == (len(data) if pieces[-1].ended else open_at)
        else:
            assert list(other.take(stream, offset, data)) == pieces
        assert other.state() == one.state()
        other = Numbering.restored(other.state())


def test_no_line_is_endless_and_no_character_is_cut():
    text = b"a" * (LINE_BYTES - 1) + "€€".encode()
    assert lines([("stdout", text)]) == [
        ("stdout", text[: LINE_BYTES + 2]),
        ("stdout", "€".encode()),
    ]
    sizes = [len(line) for _, line in lines([("stdout", b"\x80" * 20_000)])]
    assert max(sizes) == LINE_BYTES + 3


def test_bytes_that_never_came_end_a_line():
    numbering = Numbering()
    numbering.skip("stdout", 0, b"ab")
    numbering.skip("stderr", 0, b"x")
    assert [piece.number for piece in numbering.take("stdout", 9, b"c")] == [3]
    assert numbering.skip("stdout", 99, b"d") == 0
    assert numbering.open_number("stdout") == 4
    assert numbering.open_number("stderr") == 2
