"""Filling scripts: one pass, and hidden values never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules import parameters
from commands.rules.content import CommandType
from commands.rules.quoting import Insertion
from tests.rules.filling import NAMES, PLAIN, TEXT, VALUES, fill


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
