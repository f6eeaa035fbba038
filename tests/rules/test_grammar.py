"""Placeholders: what is one, what it is called, and what is said of wrong ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import playwright
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid, InvalidFields
from commands.rules import grammar
from commands.rules.grammar import Builtin, Parameter
from tests.conftest import missing
from tests.rules.filling import NAMES, PLAIN, fill

SPACE = st.text(" \t\n\r\f\v", max_size=3)


def test_parameters_come_in_order_of_first_use_whatever_their_case():
    found = grammar.scan("a {{B}}\n {{ a\n}} {{b}} {{ACS::InstanceId}} {{acs :: instanceid}}")
    assert found.parameters == (Parameter("b", "B", 2, 1, 3), Parameter("a", "a", 1, 2, 2))
    assert found.builtins == (Builtin.INSTANCE_ID,)
    assert found.check() is found


@given(st.lists(st.tuples(PLAIN, SPACE, NAMES, SPACE), max_size=20), PLAIN)
def test_what_is_written_is_read(pieces, rest):
    content = "".join(f"{plain}{{{{{a}{name}{b}}}}}" for plain, a, name, b in pieces) + rest
    found = grammar.scan(content)
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
    assert grammar.scan(content) == grammar.Scan((), (builtin,), ())
    assert fill(content) == f"<{builtin}>"


@pytest.mark.parametrize(
    "content", ["{{", "}}", "{{a", "a}}", "{{a}", "{ {a} }", "{{a {b} }}", "{{{}}}"[:4], ""]
)
def test_braces_that_are_no_placeholder_are_plain_text(content):
    assert grammar.scan(content) == grammar.Scan((), (), ())
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
                "`{{.Names}}` on line 3, column 11, isn't a parameter name. "
                "If the script needs it literally, turn off Use parameters."
            ),
        ),
        (
            "\n\n{{my key}}",
            "CmdParam.InvalidParamName",
            "`{{my key}}` on line 3, column 1, isn't a valid name. Use letters, digits, - and _.",
        ),
        (
            "{{}}",
            "CmdParam.EmptyKey",
            (
                "`{{}}` on line 1, column 1, has no name. "
                "Write a name between the braces, or turn off Use parameters."
            ),
        ),
        (
            "{{" + "x" * 65 + "}}",
            "CmdParamName.ExceedLimit",
            "`{{" + "x" * 39 + "…}}` on line 1, column 1, is longer than 64 characters.",
        ),
        (
            "{{ACS::Evil}}",
            "CmdParam.InvalidParamName",
            (
                "`{{ACS::Evil}}` on line 1, column 1, isn't known. Known are RegionId, AccountId, "
                "InstanceId, InstanceName, InvokeId, CommandId."
            ),
        ),
        (
            '{{ACS::ScriptFileName|Ext(".py")}}',
            "CmdParam.InvalidParamName",
            (
                '`{{ACS::ScriptFileName|Ext(".py")}}` on line 1, column 1, belongs into a '
                "launcher, not into the command."
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
        grammar.scan(content).check()
    assert (caught.value.code, caught.value.message) == (code, sentence)
    assert caught.value.field == "content"
    if code != "CmdParamCount.ExceedLimit":
        assert fill(content) == content


@pytest.mark.parametrize("name", ["é", "a b", "ａ", "a.b", "\u00a0a", "a\x1c", "acs:x", "ACS::"])
def test_names_of_other_characters_are_refused(name):
    assert len(grammar.scan(f"{{{{{name}}}}}").problems) == 1


def test_all_problems_are_told_at_once_and_where():
    found = grammar.scan("{{}}\n x {{a b}} {{ok}}")
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
    space, name = grammar.WHITE_SPACE, grammar.NAME
    argument = json.dumps([grammar.PLACEHOLDER, space, name, samples])
    seen = subprocess.run([node, "-e", program, argument], capture_output=True, check=True)
    expected = [
        [
            [m[0], m[1].strip(space), bool(re.fullmatch(name, m[1].strip(space)))]
            for m in re.finditer(grammar.PLACEHOLDER, sample)
        ]
        for sample in samples
    ]
    assert json.loads(seen.stdout) == expected
