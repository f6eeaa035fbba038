"""Tables to download: no spreadsheet program computes a cell, wherever it splits the lines."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import results

SIGNS = "=+-@＝＋－＠"
TEXT = st.text(st.sampled_from([*SIGNS, *",;|\t\r\n\" '", "a", "1"]), max_size=8)


def cells(data: bytes, delimiter: str = ",") -> list[str]:
    text = io.StringIO(data.decode(), newline="")
    return [cell for row in csv.reader(text, delimiter=delimiter) for cell in row]


@pytest.mark.parametrize("start", [*SIGNS, "\t", "\r", "\n", " =", '"=', "\t@"])
def test_what_would_be_computed_is_text(start):
    [cell, number] = cells(results.table([[f"{start}1+1", -1]]))
    assert cell.startswith("'")
    assert cell.replace("'", "") == f"{start}1+1"
    assert number == "-1"


@pytest.mark.parametrize("plain", ["", "a=b", "1-2", "x@example.com", "it's; b=c", "2026-03-10"])
def test_what_is_plain_stays_as_it_is(plain):
    assert cells(results.table([["x", plain]]))[1] == plain


@given(st.lists(st.lists(TEXT, min_size=1, max_size=4), min_size=1, max_size=3))
def test_at_no_separator_a_cell_begins_like_a_formula(rows):
    data = results.table(rows)
    for delimiter in ",;|\t":
        for cell in cells(data, delimiter):
            assert not cell.strip(' \t\r\n"').startswith(tuple(SIGNS)), (delimiter, data)


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_nothing_else_is_changed(row):
    read = [cell.replace("'", "") for cell in cells(results.table([row]))]
    assert read == [value.replace("'", "") for value in row]
