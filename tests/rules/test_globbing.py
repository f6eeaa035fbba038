"""Patterns with stars: what they mean, and that none takes long."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.rules.globbing import Patterns, is_pattern, matches

texts = st.text("ab*?.", max_size=12)


@given(texts, st.text("ab.", max_size=12))
def test_it_means_what_python_means(pattern, name):
    expected = re.fullmatch(fnmatch.translate(pattern), name) is not None
    assert matches(pattern, name) == expected


def test_many_stars_are_no_trap():
    assert not matches("*a" * 100 + "b", "a" * 250)


def test_an_exception_counts_for_the_whole_line():
    line = Patterns.of(["*.example", "!db.example"])
    assert line.is_of("web.example")
    assert not line.is_of("db.example")
    assert not line.is_of("web.test")
    assert not Patterns.of(["a" * 300 + "*"]).is_of("a" * 300)


@pytest.mark.parametrize(("text", "is_one"), [("web-1", False), ("*", True), ("!a", True)])
def test_what_is_a_pattern(text, is_one):
    assert is_pattern(text) == is_one
