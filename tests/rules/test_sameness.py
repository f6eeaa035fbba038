r"""When outputs are the same: what a reader does not see is no difference, all else is."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.rules.sameness import PLACEHOLDER, Names, Sameness, loosened, normalised
from console import ansi

NAMES = ["web-01", "i-0123456789abcdef0123", "10.0.0.1:22", "web-01.example.com"]
OTHER = ["web-02", "i-ffffffffffffffffffff", "10.0.0.2:22", "web-02.example.com"]
# What output is made of where it is tricky, and any other bytes.
BITS = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
        b"\t",
        b"web-01",
        b"\x1b[2K",
        b"\x1b[31m",
        b"12:06",
        b"0xff",
        b"a",
    ]
)
TEXT = st.lists(st.one_of(BITS, st.binary(max_size=8)), max_size=30).map(b"".join)


def keys(*pieces: bytes, names: list[str] = NAMES, stderr: bytes = b""):
    same = Sameness(Names(names))
    for piece in pieces:
        same.feed("stdout", piece)
    same.feed("stderr", stderr)
    return same.keys()


@given(TEXT, st.lists(st.integers(0, 200), max_size=6))
def test_how_output_is_cut_makes_no_difference(data, cuts):
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]
    assert keys(*pieces) == keys(data)


@given(TEXT)
def test_normalising_twice_changes_nothing_more(data):
    names = Names(NAMES)
    once = normalised(data, names)
    assert normalised(once, names) == once or b"\x1b" in once or b"\r" in once
    loose = loosened(once)
    assert loosened(loose) == loose or b"\x1b" in loose


@given(TEXT)
def test_what_is_the_same_exactly_is_the_same_loosely(data):
    spaced = b"\n".join(line + b"  \t" for line in data.split(b"\n"))
    if keys(spaced).exact == keys(data).exact:
        assert keys(spaced).loose == keys(data).loose


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x1b"), max_size=20)))
def test_no_two_texts_that_read_otherwise_are_the_same(lines):
    text = "\n".join(line.rstrip(" \t") for line in lines).rstrip("\n").encode()
    assert (keys(text, names=[]) == keys(b"", names=[])) == (text == b"")
    assert keys(text + b"!", names=[]).exact != keys(text, names=[]).exact


@given(st.lists(st.sampled_from(["up", "{}", "{} is up", "at {}:80", "({})"]), max_size=8))
def test_an_instances_own_names_are_no_difference(lines):
    ours = "\n".join(lines).replace("{}", "web-01").encode()
    theirs = "\n".join(lines).replace("{}", "web-02").encode()
    assert keys(ours) == keys(theirs, names=OTHER)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a\n", b"a"),
        (b"a  \t\nb\n", b"a\nb\n"),
        (b"a\n\n\n", b"a\n"),
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"10%\r50%\r100%\n", b"100%\n"),
        (b"\x1b[2K\x1b[1Gdone\n", b"done\n"),
        (b"\x1b]0;title\x07done\n", b"done\n"),
        (b"I am web-01 at 10.0.0.1\n", "I am ‹instance› at ‹instance›\n".encode()),
        (b"https://web-01.example.com/", b"https://web-01/"),
        (b"working\x1b[1;2H\r\x1b[Kdone\n", b"done\n"),
        (b"50%\r\x1b[31m99%\x1b[0m\n", b"\x1b[31m99%\x1b[0m\n"),
        (b"abc\b\bX\n", b"aXc\n"),
        ("日本\rab\n".encode(), "ab本\n".encode()),
        ("日本\ra\n".encode(), "a 本\n".encode()),
        (b"abcdefghij\r\tX", b"abcdefghXj"),
    ],
)
def test_these_are_the_same(one, other):
    assert keys(one) == keys(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a", b"b"),
        (b" a", b"a"),
        (b"a\n\nb", b"a\nb"),
        (b"\x1b[31mdown", b"\x1b[32mdown"),
        (b"web-012", b"web-01"),
        (b"110.0.0.1", b"10.0.0.1"),
        (b"up for 3 s", b"up for 4 s"),
        (b"ERROR: disk is gone\rOK\n", b"all is well........\rOK\n"),
        (b"ERROR: disk is gone\rOK\n", b"OK\n"),
        (b"ERROR: disk is gone\rOK\n", b"ERROR: disk is gone\r\x1b[KOK\n"),
        (b"\x1b[31mfail\rOK\n", b"fail\rOK\n"),
        (b"\x1b[31mfail\r\x1b[0mOK\n", b"fail\rOK\n"),
        ("abc\r日\n".encode(), "日\n".encode()),
        (b"ERROR\x1b[2K", b"ERROR"),
    ],
)
def test_these_are_not_the_same(one, other):
    assert keys(one).exact != keys(other).exact


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"up for 3 s", b"up for 12.5 s"),
        (b"12:06:02 ok", b"2026-11-26T18:48:59.123 ok"),
        (b"Thu Nov 26 18:48:59 2026", b"Mon Jan  1 00:00:00 2024"),
        (b"pid 0x7ffe01", b"pid 17"),
        (b"id 550e8400-e29b-41d4-a716-446655440000", b"id 123e4567-e89b-12d3-a456-426614174000"),
        (b"commit 3fa9c01", b"commit 77aab23c"),
        (b"/dev/sda1   97%", b"/dev/sda2 100%"),
        (b"\x1b[31m97%\x1b[0m", b"97%"),
    ],
)
def test_these_are_the_same_but_for_numbers_and_times(one, other):
    assert keys(one).exact != keys(other).exact
    assert keys(one).loose == keys(other).loose


@pytest.mark.parametrize(
    ("one", "other"), [(b"3 ok", b"3 failed"), (b"decade", b"facade"), (b"5 kB", b"5 MB")]
)
def test_words_are_a_difference_however_loosely(one, other):
    assert keys(one).loose != keys(other).loose


# What a line is made of in which the cursor goes back.
BACK = st.sampled_from(
    [
        *("\r", "\b", "\t", " ", "a", "bcd", "日本", "e\u0301", "\u0301"),
        *(f"\x1b[{code}" for code in ("K", "1K", "2K", "31m", "0m", "3D")),
    ]
)


@given(st.lists(BACK, max_size=20).map("".join))
def test_what_is_compared_is_what_the_panel_shows(text):
    line = text.encode()
    shown = ansi.text_of(ansi.spans(line)).expandtabs()
    compared = re.sub(r"\x1b\[[0-9;:]*m", "", normalised(line, Names([])).decode())
    assert compared.expandtabs().rstrip(" ") == shown.rstrip(" ")


@pytest.mark.parametrize(
    "piece",
    ["x\r", "x\r\x1b[2K\t", "\r\x1b[K", "日\r", "\u0301", "\x1b[31mx\b", "\t\b"],
)
def test_a_line_of_megabytes_costs_what_its_bytes_cost(piece):
    # With a copy of the line for each piece, this would not end within hours.
    long = b"y" * 1_000_000
    made = normalised(long + b"\r" + piece.encode() * (300_000 // len(piece)), Names([]))
    assert len(made) < 4_000_000


def test_streams_are_told_apart_and_their_order_is_not():
    assert keys(b"a", stderr=b"b") != keys(b"b", stderr=b"a")
    one, other = Sameness(Names([])), Sameness(Names([]))
    for same, order in ((one, ("stdout", "stderr")), (other, ("stderr", "stdout"))):
        for stream in order:
            same.feed(stream, stream.encode() + b"\n")
    assert one.keys() == other.keys()


def test_a_gap_is_a_part_of_the_output():
    def with_gap(dropped):
        same = Sameness(Names([]))
        same.feed("stdout", b"head\n")
        if dropped:
            same.gap(dropped)
        same.feed("stdout", b"tail\n")
        return same.keys()

    assert len({with_gap(size).exact for size in (0, 10, 20)}) == 3
    assert with_gap(10).loose == with_gap(20).loose != with_gap(0).loose


def test_a_single_letter_is_no_name():
    assert Names(["a", ""]).hide_in(b"a b") == b"a b"
    assert Names(["ab"]).hide_in(b"ab c") == f"{PLACEHOLDER} c".encode()
