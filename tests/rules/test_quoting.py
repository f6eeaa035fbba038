"""Literals, and the proof that a quoted value never becomes code.

sh literals are tried on the shells themselves. No PowerShell and no cmd runs here: theirs are
checked against the rules of those languages, not against the programs.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules.content import CommandType
from commands.rules.parameters import check_insertions
from commands.rules.quoting import Insertion, quote
from tests.conftest import missing
from tests.rules.filling import TEXT, fill

SHELLS = {"sh": ["/bin/sh"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
# Enough to find a way out of every kind of quoting and to notice that it was found.
ATTACKS = [
    "$(:>pwned)", "`:>pwned`", "\n:>pwned\n", "';:>pwned;'", '";:>pwned;"', "&:>pwned&",
    ");:>pwned;(", "\\", "'", '"', "#", "\n", "}", "EOF\n:>pwned\n", "x[$(:>pwned)]",
    "${x:=`:>pwned`}",
]  # fmt: skip


def shell(name):
    argv = SHELLS[name]
    if not shutil.which(argv[0]):
        missing(argv[0])
    return argv


# --- Quoting: sh, on the real shells -----------------------------------------------------------


@pytest.mark.parametrize("name", SHELLS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXT | st.lists(st.sampled_from(ATTACKS)).map("".join), min_size=10, max_size=80))
@example(["'", "''", "\\'", "\n", "a\r\nb", "", "$(id)", "`id`", "!!", "~", "*", "-n", "ﷺ😀\u202e"])
def test_sh_reads_back_every_value(name, values):
    script = "printf '%s\\0' " + " ".join(quote(v, CommandType.SHELL) for v in values)
    done = subprocess.run(shell(name), input=script.encode(), capture_output=True, check=True)
    assert done.stdout == "".join(f"{value}\0" for value in values).encode()
    assert done.stderr == b""


FRAGMENTS = [
    "{{x}}", " ", "\n", ";", "'", '"', "\\", "#", " # ", "$", "$(", ")", "((", "))", "(", "`",
    "${", "}", "${y}", "${#y}", "${y#z}", "${y:-'}", "<<E\n", "\nE\n", "<<<", ">", "<", "&", "|",
    "[", "]", "[[ ", " ]]", "=~", "=", "{", "a", "a=", ": ", "echo ", "case a in a) ", ";; esac",
    '"$(echo "', '")"', "$'", '$"', "$((1+", "\\\n", "!", "$#", "it's", '"$(: ', "\r", "a[", "]=1",
    "if :; then ", "fi", "f() { ", "; }",
]  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    scripts=st.lists(
        st.tuples(
            # A few fragments, repeated: more telling than many different ones.
            st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).flatmap(
                lambda few: st.lists(st.sampled_from(few), max_size=14)
            ),
            st.integers(0, 10),
        ),
        min_size=30,
        max_size=30,
    ),
    attack=st.lists(st.sampled_from(ATTACKS), min_size=1, max_size=3).map("".join),
    name=st.sampled_from(list(SHELLS)),
)
def test_a_quoted_value_is_not_code_wherever_it_is_let_in(tmp_path, scripts, attack, name):
    accepted = []
    for fragments, place in scripts:
        content = "".join([*fragments[:place], "{{x}}", *fragments[place:]])
        try:
            accepted.append(fill(content, {"x": attack}, quoted=["x"]))
        except Invalid:
            continue
    if not accepted:
        return
    # Each script in a shell of its own; nothing but built-in commands can be started.
    runs = " ".join(quote(script, CommandType.SHELL) for script in accepted)
    binary = " ".join(shutil.which(part) or part for part in shell(name))
    outer = f'PATH=; for s in {runs}; do {binary} -c "$s" x </dev/null; done'
    subprocess.run(["bash"], input=outer.encode(), cwd=tmp_path, capture_output=True, check=False)
    assert not (tmp_path / "pwned").exists(), accepted


def test_the_attacks_work_where_values_are_as_typed(tmp_path):
    for number, attack in enumerate(["$(:>pwned)", "`:>pwned`", "\n:>pwned\n"]):
        place = tmp_path / str(number)
        place.mkdir()
        script = fill('echo "{{x}}"' if number < 2 else "# {{x}}", {"x": attack})
        subprocess.run(["/bin/sh"], input=script.encode(), cwd=place, check=False)
        assert (place / "pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        "#!/usr/bin/env bash\nset -euo pipefail\nf={{x}}\n",
        'd="$(dirname "$(readlink -f "$0")")"; [ -f "$d/a" ] && echo {{x}}',
        "case $1 in a|b) echo {{x}};; esac",
        "echo $((1 + 2)) $# $@ ${1:-x} ${y#z} a#b {{x}}",
        "# it's a comment\nf() { local a=\"$1\"; }\nf {{x}}'tail' > /dev/null 2>&1",
        "trap 'rm -f x' EXIT\necho \"a \\\" $USER's\" {{x}}",
        "[ -z {{x}} ] || (cd {{x}} && echo $(ls {{x}}))",
        "cat {{x}} <<E\nno more after this\nE\n",
        "#!/bin/busybox sh\n{{x}}",
        "args=(-a \"$1\" 'b c')\necho {{x}} >&2",
    ],
)
def test_usual_scripts_take_quoted_values(content):
    check_insertions(content, {"X": Insertion.QUOTED}, CommandType.SHELL)
    assert "{{" not in fill(content, {"x": "a b"}, quoted=["x"])


@pytest.mark.parametrize(
    "content",
    [
        'echo "{{x}}"', "echo '{{x}}'", "# {{x}}", "cat <<E\n{{x}}\nE", "`{{x}}`", "\\{{x}}",
        "${{x}}", "a[{{x}}]=1", "[[ {{x}} -eq 1 ]]", "$(( {{x}} ))", "((y={{x}}))",
        '"$(echo {{x}})"', ">&{{x}}", ">&2{{x}}", "a=(|b) {{x}}", "a=({{x}}",
        "echo \\\n# {{x}}", "echo $'\\'' {{x}}", '"${y:-\'}" {{x}}', "[[ a =~ # ]]; {{x}}",
    ],
)  # fmt: skip
def test_other_places_are_refused(content):
    with pytest.raises(Invalid, match=r"`\{\{x\}\}` on line \d is inserted quoted") as caught:
        check_insertions(content, {"x": Insertion.QUOTED}, CommandType.SHELL)
    assert caught.value.field == "content"
    with pytest.raises(Invalid):
        fill(content, {"x": "a"}, quoted=["x"])


def test_other_values_may_not_open_quotes_around_a_quoted_one():
    content = "echo {{typed}} {{ACS::InstanceName}} {{x}}"
    assert fill(content, {"typed": "a", "x": "b"}, ["x"]) == "echo a <InstanceName> 'b'"
    check_insertions(content, {"x": Insertion.QUOTED}, CommandType.SHELL)
    with pytest.raises(Invalid):
        fill(content, {"typed": "it's", "x": "b"}, ["x"])


@pytest.mark.parametrize("first", ["#!/usr/bin/python3", "#!/usr/bin/env -S bash", "#!/bin/zsh"])
def test_literals_are_made_for_sh_only(first):
    check_insertions(first, {}, CommandType.SHELL)
    with pytest.raises(Invalid, match="for sh and bash only"):
        fill(f"{first}\nprint({{{{x}}}})", {"x": "a"}, ["x"])


@pytest.mark.parametrize("part", ["$(", '"$(', '"', "${", "[[", "$((", '"$(echo "', "'\n", "<#"])
def test_reading_hostile_scripts_is_quick(part):
    for kind in (CommandType.SHELL, CommandType.POWERSHELL):
        with pytest.raises(Invalid):
            check_insertions(
                f"{part * 3001} '{{{{x}}}}'\"{{{{x}}}}\"", {"x": Insertion.QUOTED}, kind
            )


# --- Quoting: PowerShell and cmd, by their rules -----------------------------------------------


def read_powershell(literal):
    """What PowerShell makes of a literal: strings in straight quotes, and [char]s added."""
    if literal.startswith("("):
        literal = literal[1:-1]
    units, rest = [], literal
    while rest:
        match = re.match(r"\+?(?:'((?:[^']|'')*)'|\[char\](\d+))", rest)
        assert match, rest
        text = match[1]
        units += [int(match[2])] if text is None else list(map(ord, text.replace("''", "'")))
        rest = rest[match.end() :]
    return b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be")


@given(TEXT)
@example("it's ‘so’ “good” $(x) `n 😀")
def test_powershell_reads_back_every_value(value):
    literal = quote(value, CommandType.POWERSHELL)
    assert literal.isascii()
    assert read_powershell(literal) == value


@pytest.mark.parametrize(
    "content",
    [
        "Write-Output {{x}}", "$x={{x}}; # it's", "f -Path {{x}} | g", "if ($a -eq {{x}}) { 'b' }",
        "<# it's #> Write-Host \"a $($x.y) $b ${c} `\" \" 'it''s'; f({{x}},{{x}})",
    ],
)  # fmt: skip
def test_usual_powershell_takes_quoted_values(content):
    assert "'a b'" in fill(content, {"x": "a b"}, ["x"], CommandType.POWERSHELL)


@pytest.mark.parametrize(
    "content",
    [
        '"{{x}}"', "'{{x}}'", "“{{x}}”", "# {{x}}", "<# {{x}} #>", "@'\n{{x}}\n'@", "f --% {{x}}",
        "`{{x}}", "${{x}}", "@{{x}}", "'a'{{x}}", "{{x}}{{x}}", "a{{x}}", '"$({{x}})"', "‘ {{x}} ’",
        '"`" {{x}}"', "f –-% {{x}}",
    ],
)  # fmt: skip
def test_other_places_in_powershell_are_refused(content):
    with pytest.raises(Invalid, match="inserted quoted"):
        fill(content, {"x": "a"}, ["x"], CommandType.POWERSHELL)


@given(TEXT)
@example("C:\\Program Files\\a-b_1.log")
def test_cmd_takes_only_what_means_nothing_to_it(value):
    try:
        literal = quote(value, CommandType.BAT)
    except Invalid:
        return
    assert literal == f'"{value}"'
    assert not set(value) & set("%!\"&|<>()^\r\n\t'`")
    assert value.isascii()
    assert not value.endswith("\\")


@pytest.mark.parametrize("character", "%!\"&|<>()^\n\r\t'`é\x1a\x7f")
def test_what_cmd_could_take_for_code_is_refused(character):
    with pytest.raises(Invalid, match="can't be quoted for Bat") as caught:
        fill("echo {{X}}", {"x": f"a{character}b"}, ["x"], CommandType.BAT)
    assert caught.value.field == "param-x"
    with pytest.raises(Invalid):
        quote("C:\\", CommandType.BAT)
    assert fill("echo {{x}}", {}, ["x"], CommandType.BAT) == 'echo ""'
