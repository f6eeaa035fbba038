"""Placeholders, insertion, and the proof that a quoted value never becomes code.

sh literals are tried on the shells themselves. No PowerShell and no cmd runs here: theirs are
checked against the rules of those languages, not against the programs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import playwright
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from commands.errors import Invalid, InvalidFields
from commands.rules import limits, parameters
from commands.rules.content import CommandType
from commands.rules.parameters import Builtin, Insertion, Parameter, ParameterSchema
from tests.conftest import missing

SHELLS = {"sh": ["/bin/sh"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
SPACE = st.text(" \t\n\r\f\v", max_size=3)
PLAIN = st.text(st.characters(exclude_characters="{}\0", exclude_categories=["Cs"]))
VALUES = {builtin: f"<{builtin}>" for builtin in Builtin}
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


def fill(content, values=None, quoted=(), command_type=CommandType.SHELL):
    insertions = dict.fromkeys(quoted, Insertion.QUOTED)
    return parameters.fill(content, values or {}, VALUES, insertions, command_type=command_type)


# --- The grammar -------------------------------------------------------------------------------


def test_parameters_come_in_order_of_first_use_whatever_their_case():
    found = parameters.scan("a {{B}}\n {{ a\n}} {{b}} {{ACS::InstanceId}} {{acs :: instanceid}}")
    assert found.parameters == (Parameter("b", "B", 2, 1, 3), Parameter("a", "a", 1, 2, 2))
    assert found.builtins == (Builtin.INSTANCE_ID,)
    assert found.check() is found


@given(st.lists(st.tuples(PLAIN, SPACE, NAMES, SPACE), max_size=20), PLAIN)
def test_what_is_written_is_read(pieces, rest):
    content = "".join(f"{plain}{{{{{a}{name}{b}}}}}" for plain, a, name, b in pieces) + rest
    found = parameters.scan(content)
    names = [name for _, _, name, _ in pieces]
    assert found.problems == ()
    assert [p.key for p in found.parameters] == list(dict.fromkeys(n.lower() for n in names))
    assert sum(p.uses for p in found.parameters) == len(names)
    for parameter in found.parameters:
        line = content.split("\n")[parameter.line - 1]
        assert line[parameter.column - 1 :].startswith("{{")


@pytest.mark.parametrize("builtin", Builtin)
def test_every_built_in_is_known_and_not_counted(builtin):
    content = f"{{{{ aCs :: {builtin.upper()}\n}}}}"
    assert parameters.scan(content) == parameters.Scan((), (builtin,), ())
    assert fill(content) == f"<{builtin}>"


@pytest.mark.parametrize(
    "content", ["{{", "}}", "{{a", "a}}", "{{a}", "{ {a} }", "{{a {b} }}", "{{{}}}"[:4], ""]
)
def test_braces_that_are_no_placeholder_are_plain_text(content):
    assert parameters.scan(content) == parameters.Scan((), (), ())
    assert fill(content) == content


def test_the_innermost_braces_count():
    assert fill("{{{x}}} {{a{{x}}", {"x": "1"}) == "{1} {{a1"


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (
            "docker ps \\\n\n--format '{{.Names}}'",
            "CmdParam.InvalidParamName",
            (
                "`{{.Names}}` on line 3 isn't a parameter name. "
                "If the script needs it literally, turn off Use parameters."
            ),
        ),
        (
            "\n\n{{my key}}",
            "CmdParam.InvalidParamName",
            "`{{my key}}` on line 3 isn't a valid name. Use letters, digits, - and _.",
        ),
        (
            "{{}}",
            "CmdParam.EmptyKey",
            (
                "`{{}}` on line 1 has no name. "
                "Write a name between the braces, or turn off Use parameters."
            ),
        ),
        (
            "{{" + "x" * 65 + "}}",
            "CmdParamName.ExceedLimit",
            "`{{" + "x" * 39 + "…}}` on line 1 is longer than 64 characters.",
        ),
        (
            "{{ACS::Evil}}",
            "CmdParam.InvalidParamName",
            (
                "`{{ACS::Evil}}` on line 1 isn't known. Known are RegionId, AccountId, "
                "InstanceId, InstanceName, InvokeId, CommandId."
            ),
        ),
        (
            '{{ACS::ScriptFileName|Ext(".py")}}',
            "CmdParam.InvalidParamName",
            (
                '`{{ACS::ScriptFileName|Ext(".py")}}` on line 1 belongs into a launcher, '
                "not into the command."
            ),
        ),
        (
            "".join(f"{{{{p{n}}}}}" for n in range(21)),
            "CmdParamCount.ExceedLimit",
            "A command can have 20 parameters. This one has 21.",
        ),
    ],
)
def test_placeholders_that_are_refused(content, code, sentence):
    with pytest.raises(Invalid) as caught:
        parameters.scan(content).check()
    assert (caught.value.code, caught.value.message) == (code, sentence)
    assert caught.value.field == "content"
    if code != "CmdParamCount.ExceedLimit":
        assert fill(content) == content


@pytest.mark.parametrize("name", ["é", "a b", "ａ", "a.b", "\u00a0a", "a\x1c", "acs:x", "ACS::"])
def test_names_of_other_characters_are_refused(name):
    assert len(parameters.scan(f"{{{{{name}}}}}").problems) == 1


def test_all_problems_are_told_at_once_and_where():
    found = parameters.scan("{{}}\n x {{a b}} {{ok}}")
    assert [(p.line, p.column) for p in found.problems] == [(1, 1), (2, 4)]
    with pytest.raises(InvalidFields) as caught:
        found.check()
    assert len(caught.value.errors["content"]) == 2
    assert caught.value.code == "CmdParam.EmptyKey"


def test_a_browser_finds_the_same_placeholders():
    node = shutil.which("node") or str(Path(playwright.__file__).parent / "driver/node")
    if not Path(node).exists():
        missing("node")
    samples = [
        "{{{x}}} {{ a\n}} {{}} {{a{{b}}c}} {{😀}} {{\v\u00a0x\u2028}} {{",
        "{{.N}}{{ACS :: InvokeId}}",
    ]  # fmt: skip
    program = (
        "const [p, w, n, texts] = JSON.parse(process.argv[1]);"
        "const cut = s => s.replace(new RegExp(`^[${w}]+|[${w}]+$`, 'g'), '');"
        "console.log(JSON.stringify(texts.map(t => [...t.matchAll(new RegExp(p, 'g'))]"
        ".map(m => [m[0], cut(m[1]), new RegExp(`^(?:${n})$`).test(cut(m[1]))]))))"
    )
    space, name = parameters.WHITE_SPACE, parameters.NAME
    argument = json.dumps([parameters.PLACEHOLDER, space, name, samples])
    seen = subprocess.run([node, "-e", program, argument], capture_output=True, check=True)
    expected = [
        [
            [m[0], m[1].strip(space), bool(re.fullmatch(name, m[1].strip(space)))]
            for m in re.finditer(parameters.PLACEHOLDER, sample)
        ]
        for sample in samples
    ]
    assert json.loads(seen.stdout) == expected


# --- Filling -----------------------------------------------------------------------------------


def test_the_example_of_the_procedure():
    content = "#! /bin/bash \nOF=/backup/my-backup-$(date +%Y%m%d).tgz\ntar -cf $OF {{file}}"
    typed = fill(content, {"file": "/app/usrcredential"})
    assert typed.endswith("tar -cf $OF /app/usrcredential")
    quoted = fill(content, {"file": "/app/usrcredential"}, quoted=["file"])
    assert quoted.endswith("tar -cf $OF '/app/usrcredential'")


def test_keys_have_no_case_and_missing_values_are_empty():
    assert fill("[{{Name}}{{ NAME }}{{other}}]", {"nAmE": "x"}) == "[xx]"


def test_inserted_values_are_not_scanned_again():
    values = {"a": "{{b}}", "b": "{{a}}{{ACS::RegionId}}", "c": "{"}
    assert fill("{{a}} {{b}} {{c}}{a}}", values) == "{{b}} {{a}}{{ACS::RegionId}} {{a}}"


@given(st.lists(st.tuples(PLAIN, NAMES), max_size=8), st.data())
def test_filling_is_one_pass(pieces, data):
    keys = {name.lower() for _, name in pieces}
    hostile = TEXT | st.sampled_from(["{{", "}}", "{{x}}", *(f"{{{{{key}}}}}" for key in keys)])
    values = {key: data.draw(hostile) for key in keys}
    content = "".join(f"{plain}{{{{{name}}}}}" for plain, name in pieces)
    assert fill(content, values) == "".join(plain + values[name.lower()] for plain, name in pieces)


@pytest.mark.parametrize("value", ["a\0", "\ud800"])
def test_values_that_nothing_could_carry_are_refused(value):
    for quoted in ([], ["x"]):
        with pytest.raises(Invalid, match="isn't valid text") as caught:
            fill("{{x}}", {"x": value}, quoted)
        assert caught.value.field == "param-x"


def test_a_built_in_without_a_value_and_a_script_with_nul_are_refused():
    with pytest.raises(Invalid, match="has no value here"):
        parameters.fill("{{ACS::InvokeId}}", {}, {}, {}, command_type=CommandType.SHELL)
    with pytest.raises(Invalid, match="NUL"):
        fill("\0{{x}}", quoted=["x"])


def test_hidden_values_are_not_shown():
    shown = parameters.show(
        "a {{p}} {{Q}} {{r}} {{s}} {{ACS::InvokeId}}",
        {"p": "1", "q": "2", "r": "3 3", "s": "4"},
        VALUES,
        {"p": Insertion.QUOTED, "r": Insertion.QUOTED},
        command_type=CommandType.SHELL,
        hidden=["P", "q"],
    )
    assert shown == "a •••••• •••••• '3 3' 4 <InvokeId>"


# --- Quoting: sh, on the real shells -----------------------------------------------------------


@pytest.mark.parametrize("name", SHELLS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXT | st.lists(st.sampled_from(ATTACKS)).map("".join), min_size=10, max_size=80))
@example(["'", "''", "\\'", "\n", "a\r\nb", "", "$(id)", "`id`", "!!", "~", "*", "-n", "ﷺ😀\u202e"])
def test_sh_reads_back_every_value(name, values):
    script = "printf '%s\\0' " + " ".join(parameters.quote(v, CommandType.SHELL) for v in values)
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
    runs = " ".join(parameters.quote(script, CommandType.SHELL) for script in accepted)
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
    parameters.check_insertions(content, {"X": Insertion.QUOTED}, CommandType.SHELL)
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
        parameters.check_insertions(content, {"x": Insertion.QUOTED}, CommandType.SHELL)
    assert caught.value.field == "content"
    with pytest.raises(Invalid):
        fill(content, {"x": "a"}, quoted=["x"])


def test_other_values_may_not_open_quotes_around_a_quoted_one():
    content = "echo {{typed}} {{ACS::InstanceName}} {{x}}"
    assert fill(content, {"typed": "a", "x": "b"}, ["x"]) == "echo a <InstanceName> 'b'"
    parameters.check_insertions(content, {"x": Insertion.QUOTED}, CommandType.SHELL)
    with pytest.raises(Invalid):
        fill(content, {"typed": "it's", "x": "b"}, ["x"])


@pytest.mark.parametrize("first", ["#!/usr/bin/python3", "#!/usr/bin/env -S bash", "#!/bin/zsh"])
def test_literals_are_made_for_sh_only(first):
    parameters.check_insertions(first, {}, CommandType.SHELL)
    with pytest.raises(Invalid, match="for sh and bash only"):
        fill(f"{first}\nprint({{{{x}}}})", {"x": "a"}, ["x"])


@pytest.mark.parametrize("part", ["$(", '"$(', '"', "${", "[[", "$((", '"$(echo "', "'\n", "<#"])
def test_reading_hostile_scripts_is_quick(part):
    for kind in (CommandType.SHELL, CommandType.POWERSHELL):
        with pytest.raises(Invalid):
            parameters.check_insertions(
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
    literal = parameters.quote(value, CommandType.POWERSHELL)
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
        literal = parameters.quote(value, CommandType.BAT)
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
        parameters.quote("C:\\", CommandType.BAT)
    assert fill("echo {{x}}", {}, ["x"], CommandType.BAT) == 'echo ""'


# --- Values and what a command says of them ----------------------------------------------------

SCANNED = parameters.scan("{{Name}} {{env}} {{zip}}").parameters
SCHEMA = {
    "name": ParameterSchema(required=True),
    "env": ParameterSchema(choices=("dev", "prod"), default="dev"),
    "zip": ParameterSchema(pattern="[0-9]{5}"),
}


def test_values_are_completed_with_defaults_and_ordered():
    values = parameters.check_values(SCANNED, {"ZIP": "12345", "NAME": "x"}, SCHEMA)
    assert list(values.items()) == [("name", "x"), ("env", "dev"), ("zip", "12345")]
    assert parameters.check_values(SCANNED, {}, {}) == {"name": "", "env": "", "zip": ""}
    assert parameters.check_values(SCANNED, {"name": "x", "env": ""}, SCHEMA)["env"] == ""


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"nme": "x"}, "Parameter.NotMatched", "parameters"),
        ({"name": "x", "NAME": "y"}, "ParameterKey.Duplicate", "parameters"),
        ({"": "x"}, "ParameterKey.ExceedLimit", "parameters"),
        ({"n" * 65: "x"}, "ParameterKey.ExceedLimit", "parameters"),
        ({"name": 1}, "ParameterType.NotSupported", "parameters"),
        ({str(n): "" for n in range(21)}, "ParameterCount.ExceedLimit", "parameters"),
        ({}, "Parameter.MissingValue", "param-name"),
        ({"name": "\0"}, "InvalidParameterCharset.Parameters", "param-name"),
        ({"name": "x", "env": "Dev"}, "InvalidParameter.Parameters", "param-env"),
        ({"name": "x", "zip": "12345\n"}, "InvalidParameter.Parameters", "param-zip"),
        ({"name": "x", "zip": "1" * 257}, "InvalidParameter.Parameters", "param-zip"),
    ],
)
def test_values_that_are_refused(given, code, field):
    with pytest.raises(Invalid) as caught:
        parameters.check_values(SCANNED, given, SCHEMA)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_every_wrong_value_is_told_and_none_repeated():
    with pytest.raises(InvalidFields) as caught:
        parameters.check_values(SCANNED, {"env": "hunter2", "zip": "hunter2"}, SCHEMA)
    assert caught.value.errors["param-name"] == ["Enter a value for Name."]
    assert set(caught.value.errors) == {"param-name", "param-env", "param-zip"}
    assert "hunter2" not in caught.value.message


@given(
    st.builds(
        ParameterSchema,
        description=TEXT.filter(lambda text: len(text) <= 512),
        required=st.booleans(),
        choices=st.lists(TEXT.filter(bool), unique=True, max_size=5).map(tuple),
        pattern=st.sampled_from(["", "[a-z]+", r"v?\d{1,3}(?:\.\d+)?"]),
        secret=st.booleans(),
        insertion=st.sampled_from(Insertion),
    )
)
def test_schemas_go_through_json(schema):
    plain = json.loads(json.dumps(schema.to_dict()))
    assert ParameterSchema.from_dict(plain) == schema


@pytest.mark.parametrize(
    "data",
    [
        None, [], {"descripton": ""}, {"default": 1}, {"required": 1}, {"required": "true"},
        {"choices": "ab"}, {"choices": ["a", 1]}, {"choices": [""]}, {"choices": ["a", "a"]},
        {"choices": [str(n) for n in range(101)]}, {"insertion": "raw"}, {"insertion": []},
        {"description": "x" * 513}, {"description": "\ud800"}, {"secret": True, "default": "x"},
        {"choices": ["a"], "default": "b"}, {"pattern": "a", "default": "b"}, {"pattern": "("},
        {"pattern": "x" * 201}, {"pattern": "(a+)+$"}, {"pattern": "(a|a)*"}, {"pattern": "(.)\\1"},
        {"pattern": "(?=a)a"}, {"pattern": ".*.*.*.*"}, {"pattern": "a?" * 25},
        {"pattern": "(a*){9}"}, {"pattern": "a{9999999999999999999999}"}, {1: 2},
    ],
)  # fmt: skip
def test_schemas_that_are_refused(data):
    with pytest.raises(Invalid) as caught:
        ParameterSchema.from_dict(data, field="schema-x")
    assert caught.value.field == "schema-x"
    assert caught.value.code == "InvalidParameter.ParameterDefinitions"


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}",
        "[]*+?(]+",
        "(?:dev|test|prod)",
        r"\(a\)+",
        "a{,9}b{2,}",
    ],
)
def test_patterns_that_are_quick_are_taken(pattern):
    assert ParameterSchema.from_dict({"pattern": pattern}).pattern == pattern


@given(st.from_regex(r"(?:[ab.](?:[*+?]|\{\d,\d\d\}|)|[(|)]){1,12}", fullmatch=True))
@settings(deadline=2000)
def test_no_pattern_that_is_taken_takes_long(pattern):
    try:
        ParameterSchema.from_dict({"pattern": pattern})
    except Invalid:
        return
    re.fullmatch(pattern, "a" * (limits.PARAMETER_PATTERN_VALUE_CHARS - 1) + "!")


@pytest.mark.parametrize("name", ["token", "DB_PASSWORD", "apiKey", "access-key-id", "pwd", "pass"])
def test_names_that_look_secret(name):
    assert parameters.looks_secret(name)


@pytest.mark.parametrize("name", ["file", "service", "keyboard", "compass", "bypass2"])
def test_names_that_do_not_look_secret(name):
    assert not parameters.looks_secret(name)
