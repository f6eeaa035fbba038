"""A line of output as a terminal would leave it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.outputs.lines import LINE_BYTES
from console import ansi
from console.ansi import MOST_SPANS, PLAIN, Pen, Span, Style, spans, text_of
from console.lines import Assembler
from tests.console.test_lines import chunks, dropped

ESC = b"\x1b"


def text(data, **options):
    return text_of(spans(data, **options))


def look(data):
    """Text and classes, as short as it can be compared."""
    return [(part.text, part.classes) if part.classes else part.text for part in spans(data)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"plain", ["plain"]),
        (b"\x1b[31mred\x1b[0m no", [("red", "f1"), " no"]),
        (b"\x1b[31mred\x1b[m no", [("red", "f1"), " no"]),
        (b"\x1b[1;4;91mx\x1b[22;24;39my", [("x", "a-b a-u f9"), "y"]),
        (b"\x1b[44;37mx\x1b[49my", [("x", "f7 g4"), ("y", "f7")]),
        (b"\x1b[103mx", [("x", "fk g11")]),
        (b"\x1b[38;5;196mx\x1b[48;5;21my", [("x", "f196"), ("y", "fw g21")]),
        (b"\x1b[38:5:42mx", [("x", "f42")]),
        (b"\x1b[38;2;255;0;0mx", [("x", "f196")]),
        (b"\x1b[38:2::255:0:0mx\x1b[38:2:0:0:255my", [("x", "f196"), ("y", "f21")]),
        (b"\x1b[38;5;1;4mx", [("x", "a-u f1")]),
        (b"\x1b[4:3mx\x1b[4:0my", [("x", "a-u"), "y"]),
        (b"\x1b[7mx\x1b[27my", [("x", "fk gi"), "y"]),
        (b"\x1b[7;41mx", [("x", "fk gi")]),
        (b"\x1b[31;7mx", [("x", "fw g1")]),
        # what means nothing changes nothing
        (b"\x1b[38;5;256mx", ["x"]),
        (b"\x1b[38;5mx\x1b[38mx\x1b[38:5mx\x1b[48;2;1mx", ["xxxx"]),
        (b"\x1b[999;:;" + b"9" * 5_000 + b"mx", ["x"]),
        (b"\x1b[?31mx\x1b[31 my", ["xy"]),
        # other sequences are left out
        (b"a\x1b[2Jb\x1b[10;20Hc\x1b[?25ld", ["abcd"]),
        (b"a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", ["abc"]),
        (b"a\x1bPq#0\x1b\\b\x1b_x\x1b\\c\x1b^y\x1b\\d\x1bXz\x1b\\e", ["abcde"]),
        (b"a\x1b(Bb\x1b)0c\x1b#8d\x1b7e\x1b=f", ["abcdef"]),
        (b"a\x1b]0;never ends", ["a"]),
        (b"a\x1b[31", ["a"]),
        (b"a\x1b", ["a"]),
        (b"\x1b]0;aborted\x18b\x1b]0;by another\x1b[31mc", ["␘b", ("c", "f1")]),
        (b"\x1b\x1b\x1b[31mx", [("x", "f1")]),
        (b"\x1b[3\xc3\xa9", ["é"]),
        # the cursor goes back
        (b"abc\rX", ["Xbc"]),
        (b"10%\r20%\r", ["20%"]),
        (b"abc\r", ["abc"]),
        (b"abc\b\bX", ["aXc"]),
        (b"\b\ba", ["a"]),
        (b"_\bx", ["x"]),
        (b"\x1b[31mabc\x1b[0m\rX", ["X", ("bc", "f1")]),
        (b"abc\r\x1b[32mX", [("X", "f2"), "bc"]),
        (b"50% of it\r\x1b[Kdone", ["done"]),
        (b"50%\x1b[2K\rdone", ["done"]),
        (b"abcdef\b\b\x1b[1KX", ["    Xf"]),
        (b"grep \x1b[01;31m\x1b[Khit\x1b[m\x1b[K", ["grep ", ("hit", "a-b f1")]),
        (b"a\tb\rX", ["X       b"]),
        (b"abc\r\tX", ["abc     X"]),
        ("中文\rab".encode(), ["ab文"]),
        ("中文\ra".encode(), ["a 文"]),
        ("a中\r中".encode(), ["中 "]),
        ("e\u0301x\rY".encode(), ["Yx"]),
        ("abc\re\u0301".encode(), ["e\u0301bc"]),
        # what could deceive is shown
        (b"a\0b\x07\x7f", ["a␀b␇␡"]),
        (b"caf\xe9!", ["caf\\xe9!"]),
        ("a\u202eb\u2066c\u200ed\u061ce".encode(), ["a\\u202eb\\u2066c\\u200ed\\u061ce"]),
        ("a\u2028b\u0085c\u009b31m".encode(), ["a\\u2028b\\u0085c\\u009b31m"]),
    ],
)
def test_a_line_looks_as_a_terminal_would_leave_it(data, expected):
    assert look(data) == expected


def test_a_line_that_goes_on_shows_no_half_of_a_character():
    euro = "€".encode()
    assert text(b"a" + euro[:2], ended=False) == "a"
    assert text(b"a" + euro[:2], ended=True) == "a\\xe2\\x82"
    assert text(b"a\x1b[3", ended=False) == "a"


@pytest.mark.parametrize(
    ("data", "cut", "expected"),
    [
        (b"\x1b[1mx", False, Pen(Style(bold=True))),
        (b"x\x1b[3", True, Pen(PLAIN, b"\x1b[3")),
        (b"x\x1b[3", False, Pen()),
        (b"x\x1b]8;;http", True, Pen(PLAIN, b"\x1b]8;;http")),
        (b"x\x1b]8;;http\x1b", True, Pen(PLAIN, ESC)),
        (b"x\x1b]" + b"y" * 300, True, Pen()),
        (b"x\x1b[31m", True, Pen(Style(text=1))),
        (b"x\x1b]0;y\x07", True, Pen()),
    ],
)
def test_what_a_line_leaves_to_the_next(data, cut, expected):
    assert ansi.after(data, PLAIN, cut=cut) == expected


PIECES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [b"\x1b[31m", b"\x1b[0m", b"\x1b[1;48;5;200m", b"\x1b[", b"\x1b]0;", b"\x1b(B", b"\x1b[K"]
    ),
    st.sampled_from([b"\r", b"\b", b"\t", b"\x07", b"\x1b\\", b"\0", "中é\u0301".encode()]),
    st.sampled_from([b"<b>", b"&amp;", b'"', b"'", b"</span>", b"javascript:"]),
)
LINES = st.lists(PIECES, max_size=12).map(b"".join).map(lambda data: data.replace(b"\n", b""))


class Read(HTMLParser):
    """The text of HTML that knows one element: a span with classes of ours."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.text, self.depth = "", 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        assert tag == "span"
        for name, value in attributes:
            assert name == "class"
            assert re.fullmatch(r"((a-[bu]|[fg]\d{1,3}|f[kw]|gi)( |$))+", value)
        self.depth += 1

    def handle_endtag(self, tag):
        assert tag == "span"
        self.depth -= 1

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


@given(LINES)
def test_html_is_the_text_and_nothing_else(data):
    parts = spans(data)
    read = Read(ansi.markup(parts))
    assert (read.text, read.depth) == (text_of(parts), 0)


@given(LINES)
def test_no_control_character_is_left(data):
    assert not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text(data))


@given(LINES.filter(lambda data: not re.search(rb"[\x08\r\x1b]", data)))
def test_without_sequences_text_is_what_was_printed(data):
    expected = data.decode(errors="backslashreplace").translate(ansi._SYMBOLS)
    assert text(data) == expected


@given(st.text("abc \r\b", max_size=40))
def test_going_back_overwrites_as_on_a_terminal(printed):
    cells, column = [], 0
    for character in printed:
        if character == "\r":
            column = 0
        elif character == "\b":
            column = max(0, column - 1)
        else:
            cells[column : column + 1] = [character]
            column += 1
    assert text(printed.encode()) == "".join(cells)


@given(LINES, st.integers(0, 200))
def test_what_a_line_leaves_is_what_it_would_end_with(data, at):
    end = b"\x1b\\\x18\r\x1b[2Kx"  # nothing but that is left
    whole = spans(data + end)
    first = ansi.after(data[:at], PLAIN, cut=True)
    pen = ansi.after(first.begun + data[at:], first.style, cut=True)
    assert spans(pen.begun + end, pen.style) == whole
    assert text_of(whole) == "x"


COLOURED = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.one_of(PIECES, st.sampled_from([b"\n", b"x" * (LINE_BYTES - 3), b"\x1b[3", b"1mx"])),
    ),
    max_size=20,
)


def all_spans(made):
    assembler, shown = Assembler(), {}
    for chunk in made:
        shown.update({line.number: line.spans for line in assembler.feed(chunk)})
    return shown


def of_stream(made, stream):
    assembler, shown = Assembler(), {}
    for chunk in made:
        for line in assembler.feed(chunk):
            if line.stream == stream:
                shown[line.number] = line.spans
    return list(shown.values())


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), PIECES | st.just(b"\n")), max_size=12)
)
def test_borders_of_chunks_change_nothing(parts):
    single = [(name, data[i : i + 1]) for name, data in parts for i in range(len(data))]
    for stream in ("stdout", "stderr"):
        shown = of_stream(chunks(*parts), stream)
        assert of_stream(chunks(*single), stream) == shown


@given(COLOURED, st.integers(0, 20))
def test_who_passes_over_chunks_sees_the_same_colours(parts, first):
    fed, skipping = Assembler(), Assembler()
    for number, chunk in enumerate(chunks(*parts)):
        lines = fed.feed(chunk)
        if number < first:
            skipping.skip(chunk)
        else:
            assert skipping.feed(chunk) == lines
        assert skipping.open_lines() == fed.open_lines()


def test_colours_go_on_over_line_ends_of_their_stream_only():
    made = chunks(
        ("stdout", b"\x1b[31mred\nstill\n"), ("stderr", b"plain\n"), ("stdout", b"on\x1b[0m\noff")
    )
    red = lambda text: (Span(text, "f1"),)  # noqa: E731
    plain = lambda text: (Span(text),)  # noqa: E731
    shown = all_spans(made)
    assert [shown[n] for n in sorted(shown)] == [
        red("red"),
        red("still"),
        plain("plain"),
        red("on"),
        plain("off"),
    ]


def test_a_sequence_goes_on_where_a_line_is_cut_for_its_length():
    shown = all_spans(chunks(("stdout", b"x" * (LINE_BYTES - 3) + b"\x1b[31mred")))
    assert shown[2] == (Span("red", "f1"),)


def test_behind_a_gap_a_stream_begins_plain_unless_nothing_of_it_is_missing():
    made = chunks(
        ("stdout", b"\x1b[31mred\n"),
        ("stderr", b"\x1b[32mgreen\n"),
        ("stdout", b"more\n"),
        ("stdout", b"out\n"),
        ("stderr", b"err\n"),
    )
    shown = all_spans(dropped(made, 2, 3))
    assert shown[4] == (Span("out"),)
    assert shown[5] == (Span("err", "f2"),)


def test_a_line_is_plain_behind_what_is_missing_in_it():
    made = chunks(*(("stdout", part) for part in (b"\x1b[31mab\x1b[3", b"2mcd", b"ef\n", b"gh")))
    shown = all_spans(dropped(made, 1, 2))
    assert shown == {1: (Span("ab", "f1"), Span("…ef")), 2: (Span("gh"),)}


def test_a_line_of_many_colours_is_plain_at_its_end():
    data = b"".join(b"\x1b[3%dm%d" % (n % 8, n % 8) for n in range(1_200))
    parts = spans(data)
    assert len(parts) == MOST_SPANS
    assert parts[-1].classes == ""
    assert len(text_of(parts)) == 1_200


@pytest.mark.parametrize(
    "line",
    [
        b"\x1b[31m" * 1_600,
        b"\x1b[" * 4_096,
        b"\x1b" * 8_192,
        b"\x1b]" * 4_096,
        b"\x1b[" + b"1;" * 4_095,
        b"\x1b[" + b"9" * 8_189 + b"m",
        b"x\r" * 4_096,
        b"\b" * 8_192,
        b"\t\b" * 4_096,
        "\u0301".encode() * 4_096,
        b"\x1b[1Kx" * 1_600,
    ],
)
def test_hostile_lines_come_to_an_end(line):
    for _ in range(20):
        parts = spans(line)
        ansi.after(line, PLAIN, cut=True)
    assert len(parts) <= MOST_SPANS
    assert len(text_of(parts)) <= 8 * LINE_BYTES
