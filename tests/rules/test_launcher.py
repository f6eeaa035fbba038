"""The grammar of launchers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules import launcher, limits

PATH = "/run/a b/script.py"


@pytest.mark.parametrize(
    ("text", "argv", "extension"),
    [
        ('python3 -u {{ACS::ScriptFileName|Ext(".py")}}', ["python3", "-u", PATH], ".py"),
        ("python3 -u {{ACS::ScriptFileName|Ext(.py)}}", ["python3", "-u", PATH], ".py"),
        (
            "perl {{ acs :: scriptfilename | EXT ( 'pl' ) }} -x",
            ["perl", PATH, "-x"],
            ".pl",
        ),
        ("python3", ["python3", PATH], ""),
        ("a --file={{ACS::ScriptFileName}}.x", ["a", f"--file={PATH}.x"], ""),
        ("a 'b c' \"d 'e'\" f'g h", ["a", "b c", "d 'e'", "f'g", "h", PATH], ""),
        ("a '' \"{{ACS::ScriptFileName}};exit $?\"", ["a", "", f"{PATH};exit $?"], ""),
        ("  @@a\t$HOME > * ", ["@a", "$HOME", ">", "*", PATH], ""),
        ("a {{ b }", ["a", "{{", "b", "}", PATH], ""),
    ],
)
def test_launchers(text, argv, extension):
    read = launcher.parse(text)
    assert (read.argv(PATH), read.extension) == (argv, extension)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "MissingParameter"),
        (" \t ", "MissingParameter"),
        ("a\nb", "InvalidParameterCharacter.Launcher"),
        ("a\0", "InvalidParameterCharacter.Launcher"),
        ("a\ud800", "InvalidParameterCharacter.Launcher"),
        ("é" * 513, "InvalidLauncher.LengthLimitExceeded"),
        ("a {{ACS::ScriptFileName}} {{ACS::ScriptFileName}}", "InvalidEnvironmentParameter"),
        ("{{ACS::ScriptFileName}}", "InvalidParameter.Launcher"),
        ("a {{name}}", "InvalidEnvironmentParameter"),
        ("a {{}}", "InvalidEnvironmentParameter"),
        ("a {{ACS::InstanceId}}", "InvalidEnvironmentParameter"),
        ("a {{ACS::ScriptFileName|Ext(../x)}}", "InvalidEnvironmentParameter"),
        ("a {{ACS::ScriptFileName|Ext('.py\")}}", "InvalidEnvironmentParameter"),
        ("a {{ACS::ScriptFileName|Ext(.abcdefghijklmnop)}}", "InvalidEnvironmentParameter"),
        ("a 'b", "InvalidParameter.Launcher"),
        ('"', "InvalidParameter.Launcher"),
        ("'' a", "InvalidParameter.Launcher"),
        ("@plugin a", "InvalidParameter.Launcher"),
    ],
)
def test_launchers_that_are_refused(text, code):
    with pytest.raises(Invalid) as caught:
        launcher.parse(text)
    assert (caught.value.code, caught.value.field) == (code, "launcher")


def test_the_longest_launcher_passes():
    assert launcher.parse("x" * limits.LAUNCHER_BYTES).argv("p") == ["x" * 1024, "p"]


WORDS = st.text(
    st.characters(min_codepoint=32, exclude_characters="\"'{}\x7f", exclude_categories=["Cs"]),
    max_size=12,
)


@given(st.lists(WORDS, max_size=6))
def test_words_in_quotes_come_back_as_they_are(words):
    text = " ".join(["x", *(f"'{word}'" for word in words)])
    assert launcher.parse(text).argv(PATH) == ["x", *words, PATH]
    text = f"x {{{{ACS::ScriptFileName}}}} {text[2:]}"
    assert launcher.parse(text).argv(PATH) == ["x", PATH, *words]
