"""Rules about tags: pairs of key and value that commands and tasks can be filtered by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.text import UNSEEN

_RESERVED = ("acs:", "aliyun")
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|" + UNSEEN.pattern)


def check_tags(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Values by key, in the order given, white space around both removed.

    No pairs at all are fine: tags are optional. Raises Invalid for the first pair that breaks
    a rule, with the field ``tags``. Keys differ by case, but reserved beginnings are refused
    in any case.
    """
    tags: dict[str, str] = {}
    for number, (raw_key, raw_value) in enumerate(pairs, start=1):
        key, value = raw_key.strip(), raw_value.strip()
        if number > limits.TAGS:
            raise _invalid(f"Use {limits.TAGS} tags or fewer.", "NumberExceed.Tags")
        _check_key(key, number)
        _check_value(key, value)
        if key in tags:
            raise _invalid(f"The tag {key} is there twice. Remove one.", "Duplicate.TagKey")
        tags[key] = value
    return tags


def _check_key(key: str, number: int) -> None:
    code = "InvalidTagKey.Malformed"
    if not key:
        raise _invalid(f"Enter a key for tag {number}.", "MissingParameter.TagKey")
    if _UNPRINTABLE.search(key):
        raise _invalid(f"The key of tag {number} has a character that isn't valid text.", code)
    if len(key) > limits.TAG_KEY_CHARS:
        raise _invalid(
            f"The key of tag {number} must be {limits.TAG_KEY_CHARS} characters or fewer.", code
        )
    if key.lower().startswith(_RESERVED):
        raise _invalid(f"The tag {key} can't start with acs: or aliyun.", code)
    if _ADDRESS.search(key):
        raise _invalid(f"The tag {key} can't contain http:// or https://.", code)


def _check_value(key: str, value: str) -> None:
    code = "InvalidTagValue.Malformed"
    if _UNPRINTABLE.search(value):
        raise _invalid(f"The value of tag {key} has a character that isn't valid text.", code)
    if len(value) > limits.TAG_VALUE_CHARS:
        raise _invalid(
            f"The value of tag {key} must be {limits.TAG_VALUE_CHARS} characters or fewer.", code
        )
    if _ADDRESS.search(value):
        raise _invalid(f"The value of tag {key} can't contain http:// or https://.", code)


def _invalid(message: str, code: str) -> Invalid:
    return Invalid(message, field="tags", code=code)
