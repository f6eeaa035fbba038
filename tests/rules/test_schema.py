"""What a command says of its parameters, and values that keep to it or not."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid, InvalidFields
from commands.rules import limits
from commands.rules.grammar import scan
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema, check_values, looks_secret
from tests.rules.filling import TEXT

SCANNED = scan("{{Name}} {{env}} {{zip}}").parameters
SCHEMA = {
    "name": ParameterSchema(required=True),
    "env": ParameterSchema(choices=("dev", "prod"), default="dev"),
    "zip": ParameterSchema(pattern="[0-9]{5}"),
}


def test_values_are_completed_with_defaults_and_ordered():
    values = check_values(SCANNED, {"ZIP": "12345", "NAME": "x"}, SCHEMA)
    assert list(values.items()) == [("name", "x"), ("env", "dev"), ("zip", "12345")]
    assert check_values(SCANNED, {}, {}) == {"name": "", "env": "", "zip": ""}
    assert check_values(SCANNED, {"name": "x", "env": ""}, SCHEMA)["env"] == ""


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
        check_values(SCANNED, given, SCHEMA)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_every_wrong_value_is_told_and_none_repeated():
    with pytest.raises(InvalidFields) as caught:
        check_values(SCANNED, {"env": "hunter2", "zip": "hunter2"}, SCHEMA)
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
def test_no_pattern_that_is_taken_takes_long(pattern):
    try:
        ParameterSchema.from_dict({"pattern": pattern})
    except Invalid:
        return
    began = time.thread_time()  # what others compute meanwhile does not count
    re.fullmatch(pattern, "a" * (limits.PARAMETER_PATTERN_VALUE_CHARS - 1) + "!")
    assert time.thread_time() - began < 2


@pytest.mark.parametrize("name", ["token", "DB_PASSWORD", "apiKey", "access-key-id", "pwd", "pass"])
def test_names_that_look_secret(name):
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["file", "service", "keyboard", "compass", "bypass2"])
def test_names_that_do_not_look_secret(name):
    assert not looks_secret(name)
