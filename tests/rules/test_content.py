"""Rules about a command's text, name, path and timeout."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules import content, limits
from commands.rules.content import CommandType


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_encoded_size_is_that_of_base64(text):
    assert content.encoded_size(text) == len(base64.b64encode(text.encode()))


def test_line_ends_become_lf():
    assert content.check_content("a\r\nb\rc\n") == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Enter a command."),
        (" \n\t", "Enter a command."),
        ("a\nb\x00", "NUL character on line 2"),
        ("\ud800", "isn't valid text"),
        ("echo \ufffd", "isn't valid text"),
    ],
)
def test_content_that_is_refused(text, sentence):
    with pytest.raises(Invalid, match=sentence) as caught:
        content.check_content(text)
    assert caught.value.field == "content"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "Enter a command name"),
        ("x" * 129, "128 characters or fewer"),
        ("a\nb", "line breaks or control characters"),
        ("a\x00", "line breaks or control characters"),
        ("\udfff", "isn't valid text"),
    ],
)
def test_names_that_are_refused(name, sentence):
    with pytest.raises(Invalid, match=sentence) as caught:
        content.check_name(name)
    assert caught.value.field == "name"


def test_a_name_of_emoji_counts_characters():
    assert content.check_name(f" {'🚀' * 128} ") == "🚀" * 128


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("60", (60, 60)),
        ("", (60, 60)),
        (9, (10, 9)),
        ("0", (10, 0)),
        ("-5", (10, -5)),
        ("86400", (86_400, 86_400)),
        (" 10 ", (10, 10)),
    ],
)
def test_timeouts(given, expected):
    assert content.check_timeout(given) == expected


@pytest.mark.parametrize("given", ["abc", "9.5", "86401", "1e3", "½", "9" * 30, "10 s"])
def test_timeouts_that_are_refused(given):
    with pytest.raises(Invalid) as caught:
        content.check_timeout(given)
    assert caught.value.field == "timeout"


@given(st.integers(max_value=9))
def test_every_whole_number_below_the_minimum_is_raised(number):
    if abs(number) < 10**20:
        assert content.check_timeout(number)[0] == limits.TIMEOUT_MIN


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("", CommandType.SHELL, ""),
        ("  ", CommandType.BAT, ""),
        ("/var/log", CommandType.SHELL, "/var/log"),
        ("C:\\Temp", CommandType.POWERSHELL, "C:\\Temp"),
    ],
)
def test_execution_paths(path, kind, expected):
    assert content.check_workdir(path, kind) == expected


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("var/log", CommandType.SHELL),
        ("/tmp", CommandType.BAT),
        ("/" + "x" * 200, CommandType.SHELL),
        ("/a\nb", CommandType.SHELL),
    ],
)
def test_execution_paths_that_are_refused(path, kind):
    with pytest.raises(Invalid) as caught:
        content.check_workdir(path, kind)
    assert caught.value.field == "workdir"


def test_types():
    assert content.check_type("RunShellScript") is CommandType.SHELL
    with pytest.raises(Invalid):
        content.check_type("RunPerlScript")


@pytest.mark.parametrize("token", ["x" * 65, "ü", "a\nb"])
def test_client_tokens_that_are_refused(token):
    with pytest.raises(Invalid):
        content.check_client_token(token)


def test_much_white_space_costs_no_more_than_its_length():
    """A pattern that goes back over it takes the square: with this text, half an hour."""
    text = " " * 1_000_000 + "x"
    assert content.check_content(text) == text
