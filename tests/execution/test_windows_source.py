"""The programs for Windows, read and not run: what a tokenizer can tell of them.

It knows enough of PowerShell for these two files: comments, strings of all kinds, brackets.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands.execution import ssh, windows

HERE = Path(windows.__file__).parent
FILES = ["bootstrap.ps1", "windows.ps1"]
TOKEN = re.compile(
    r"""(?P<here>@'\n.*?\n'@|@"\n.*?\n"@)
      | (?P<comment>\#[^\n]*)
      | (?P<single>'(?:[^'\n]|'')*')
      | (?P<double>"(?:[^"`\n]|`.)*")
      | (?P<variable>\$(?:global:|env:)?\w+|\$\{[^}]+\})
      | (?P<word>[A-Za-z_][\w-]*)
      | (?P<open>[@$]?\(|\[|[@]?\{)
      | (?P<close>[)\]}])
      | (?P<other>\s+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
PAIRS = {"(": ")", "[": "]", "{": "}"}
AUTOMATIC = re.compile(
    r"args|consolefilename|error|event|eventargs|eventsubscriber|executioncontext|false|foreach|home|"
    r"host|input|lastexitcode|matches|myinvocation|nestedpromptlevel|null|pid|profile|ps\w*|pwd|"
    r"sender|shellid|stacktrace|switch|this|true"
)
SET_BY_OTHERS = {"ccin", "ccnonce", "cctext", "cctoken"}
"""What the bootstrap sets, and the command line of the supervisor."""


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="ascii")


def tokens(name: str) -> list[tuple[str, str]]:
    return tokens_of(read(name))


def tokens_of(text: str) -> list[tuple[str, str]]:
    found = [(match.lastgroup or "", match[0]) for match in TOKEN.finditer(text)]
    assert "".join(part for _, part in found) == text
    return found


def unbalanced(text: str) -> str:
    """What is not closed, or closed too much; "" if all is well."""
    waiting: list[str] = []
    for kind, part in tokens_of(text):
        if kind == "open":
            waiting.append(PAIRS[part[-1]])
        elif kind == "close" and (not waiting or waiting.pop() != part):
            return f"unexpected {part}"
        elif kind == "other" and part in "'\"":
            return f"{part} without end"
    return "".join(waiting)


def code(name: str) -> str:
    """The text without comments and strings."""
    return "".join(
        " " if kind in ("comment", "here", "single", "double") else part
        for kind, part in tokens(name)
    )


def with_strings(name: str) -> str:
    """The text without comments, and without here-strings: those hold C#."""
    return "".join(part for kind, part in tokens(name) if kind not in ("comment", "here"))


@pytest.mark.parametrize("name", FILES)
def test_brackets_and_quotes_are_closed(name: str) -> None:
    assert unbalanced(read(name)) == ""
    sent = windows._source(name)
    assert unbalanced(sent) == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("function A { if ($x) { 'y' }", "}"),
        ("@('a', \"b)", '" without end'),
        ("$a[0)", "unexpected )"),
        ("'it''s' # } ' \"", ""),
        ('"a`"}" + @\'\n{ \' "\n\'@', ""),
    ],
)
def test_the_tokenizer_finds_what_is_wrong(text: str, problem: str) -> None:
    assert unbalanced(text) == problem


def test_the_c_sharp_is_balanced_and_old_enough() -> None:
    [source] = [part for kind, part in tokens("windows.ps1") if kind == "here"]
    plain = re.sub(r"//[^\n]*|\"[^\"\n]*\"", "", source[3:-3])
    for left, right in PAIRS.items():
        assert plain.count(left) == plain.count(right)
    # The compiler of the .NET Framework knows C# 5: none of what came later.
    assert not re.search(r"\$\"|\?\.|=>|\bnameof\b|\bout\s+var\b|\bis\s+not\b", plain)


@pytest.mark.parametrize("name", FILES)
def test_nothing_that_powershell_5_does_not_know(name: str) -> None:
    text = code(name)
    assert not re.search(r"&&|\|\||\?\?|\?\.|\?\[", text)
    assert not re.search(r"\$\w+\s*\?\s", text), "a ternary"
    newer = (
        r"-Parallel|-AsHashtable|Join-String|Get-Error|Test-Json|\bclean\s*\{|\$Is(Windows|Linux)"
    )
    assert not re.search(newer, text, re.IGNORECASE)


@pytest.mark.parametrize("name", FILES)
def test_no_automatic_variable_is_assigned(name: str) -> None:
    assigned = re.findall(r"\$(?:global:)?(\w+)\s*[-+]?=(?!=)", code(name))
    looped = re.findall(r"foreach\s*\(\s*\$(\w+)\s+in", code(name))
    declared = re.findall(r"function \w+\(([^)]*)\)", code(name))
    parameters = re.findall(r"\$(\w+)", " ".join(declared))
    names = {each.lower() for each in assigned + looped + parameters}
    assert "ccnonce" in names or "ccsource" in names
    assert not {each for each in names if AUTOMATIC.fullmatch(each)}


def test_every_function_is_there_and_used() -> None:
    for name in FILES:
        text = with_strings(name)
        defined = set(re.findall(r"^function (Cc\w+)", text, re.MULTILINE))
        used = set(re.findall(r"(?<![\w$])(?<!function )(Cc[A-Z]\w+)", text)) - {"CcNative"}
        by_others = {"CcMain", "CcParameters", "CcDecode"}
        assert used - defined <= by_others
        assert defined - used <= by_others


def test_every_value_of_the_console_is_set_somewhere() -> None:
    text = with_strings("windows.ps1")
    read_ = {each.lower() for each in re.findall(r"\$(cc\w+)", text, re.IGNORECASE)}
    set_here = {
        each.lower()
        for each in re.findall(
            r"\$(?:global:)?(cc\w+)\s*=(?!=)", code("windows.ps1"), re.IGNORECASE
        )
    }
    program = windows.start_program("0" * 32, spec()).decode()
    sent = {each.lower() for each in re.findall(r"\$global:(cc\w+)=", program)}
    assert read_ <= set_here | sent | SET_BY_OTHERS
    assert sent <= read_


def spec() -> windows.RunSpec:
    return windows.RunSpec("t-1", b"", language="powershell")


def test_standard_input_is_left_alone_by_powershell_itself() -> None:
    """It reads it for a command that names this variable, also within a string."""
    assert "$input" not in windows._source("bootstrap.ps1").lower()
    assert "-InputFormat None" in windows.command()


def test_warnings_of_the_compiler_are_no_errors() -> None:
    text = code("windows.ps1")
    assert text.count("Add-Type") == text.count("-IgnoreWarnings") == 2


def test_every_refusal_has_a_sentence() -> None:
    text = with_strings("windows.ps1")
    words = set(re.findall(r"'refused (\w+)'", text)) | set(
        re.findall(r"return '([A-Z]\w+)'", text)
    )
    words |= set(re.findall(r"catch \{ '([A-Z]\w+)' \}", text))
    assert words <= ssh._REFUSALS.keys()
    assert windows.REFUSALS.keys() <= words


def test_functions_of_the_native_part_exist() -> None:
    [source] = [part for kind, part in tokens("windows.ps1") if kind == "here"]
    called = set(re.findall(r"\[CcNative\]::(\w+)", with_strings("windows.ps1")))
    offered = set(re.findall(r"public static \w+ (\w+)\(", source))
    assert called == offered


def test_the_order_of_what_must_not_happen_twice() -> None:
    """The claim is made before the script exists, and the script is in its job before it runs."""
    text = read("windows.ps1")
    supervise = text[text.index("function CcSupervise") : text.index("# --- starting")]
    steps = ["Add-Type", 'CcExclusive "$ccDir\\sup"', "CcIsDone", "CcBlock", "Prepare(", "Resume("]
    places = [supervise.index(step) for step in steps]
    assert places == sorted(places)
    prepare = text[text.index("public static int Prepare") : text.index("static int Failed")]
    order = ["Limit(KillOnClose)", "CreateProcessW", "Suspended", "AssignProcessToJobObject"]
    assert [prepare.index(each) for each in order] == sorted(prepare.index(each) for each in order)
    detach = text[text.index("public static int Detach") : text.index("static IntPtr Open")]
    assert "IntPtr.Zero, false," in " ".join(detach.split())
    assert "Breakaway | NewGroup | NoWindow" in detach
