"""Rules about tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules import limits, tags


def test_tags_are_kept_in_order_without_white_space_around():
    assert list(tags.check_tags([(" b ", " x "), ("a", ""), ("B", "é")]).items()) == [
        ("b", "x"),
        ("a", ""),
        ("B", "é"),
    ]
    assert tags.check_tags([]) == {}


def test_the_largest_tags_pass():
    pairs = [(f"{number:064}", "🚀" * 128) for number in range(limits.TAGS)]
    assert tags.check_tags(pairs) == dict(pairs)


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([(str(number), "") for number in range(21)], "NumberExceed.Tags"),
        ([("", "x")], "MissingParameter.TagKey"),
        ([("  ", "x")], "MissingParameter.TagKey"),
        ([("a", "x"), (" a", "y")], "Duplicate.TagKey"),
        ([("k" * 65, "")], "InvalidTagKey.Malformed"),
        ([("acs:a", "")], "InvalidTagKey.Malformed"),
        ([("ALIYUN", "")], "InvalidTagKey.Malformed"),
        ([("a http://b", "")], "InvalidTagKey.Malformed"),
        ([("a\nb", "")], "InvalidTagKey.Malformed"),
        ([("\ud800", "")], "InvalidTagKey.Malformed"),
        ([("a", "v" * 129)], "InvalidTagValue.Malformed"),
        ([("a", "see HTTPS://b")], "InvalidTagValue.Malformed"),
        ([("a", "x\0")], "InvalidTagValue.Malformed"),
    ],
)
def test_tags_that_are_refused(pairs, code):
    with pytest.raises(Invalid) as caught:
        tags.check_tags(pairs)
    assert (caught.value.code, caught.value.field) == (code, "tags")


@given(st.lists(st.tuples(st.text(), st.text()), max_size=25))
def test_what_passes_keeps_the_limits(pairs):
    try:
        kept = tags.check_tags(pairs)
    except Invalid:
        return
    assert len(kept) == len(pairs) <= limits.TAGS
    assert all(0 < len(key) <= limits.TAG_KEY_CHARS for key in kept)
    assert all(len(value) <= limits.TAG_VALUE_CHARS for value in kept.values())
