"""Rules about tags: pairs of key and value that commands and tasks can be filtered by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.text import UNSEEN
from commands.words import gettext as _

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
            raise _invalid(
                _("Use %(most)s tags or fewer.") % {"most": limits.TAGS}, "NumberExceed.Tags"
            )
        _check_key(key, number)
        _check_value(key, value)
        if key in tags:
            raise _invalid(
                _("The tag %(key)s is there twice. Remove one.") % {"key": key}, "Duplicate.TagKey"
            )
        tags[key] = value
    return tags


def _check_key(key: str, number: int) -> None:
    code = "InvalidTagKey.Malformed"
    if not key:
        raise _invalid(
            _("Enter a key for tag %(number)s.") % {"number": number}, "MissingParameter.TagKey"
        )
    if _UNPRINTABLE.search(key):
        raise _invalid(
            _("The key of tag %(number)s has a character that isn't valid text.")
            % {"number": number},
            code,
        )
    if len(key) > limits.TAG_KEY_CHARS:
        raise _invalid(
            _("The key of tag %(number)s must be %(most)s characters or fewer.")
            % {"number": number, "most": limits.TAG_KEY_CHARS},
            code,
        )
    if key.lower().startswith(_RESERVED):
        raise _invalid(_("The tag %(key)s can't start with acs: or aliyun.") % {"key": key}, code)
    if _ADDRESS.search(key):
        raise _invalid(_("The tag %(key)s can't contain http:// or https://.") % {"key": key}, code)


def _check_value(key: str, value: str) -> None:
    code = "InvalidTagValue.Malformed"
    if _UNPRINTABLE.search(value):
        raise _invalid(
            _("The value of tag %(key)s has a character that isn't valid text.") % {"key": key},
            code,
        )
    if len(value) > limits.TAG_VALUE_CHARS:
        raise _invalid(
            _("The value of tag %(key)s must be %(most)s characters or fewer.")
            % {"key": key, "most": limits.TAG_VALUE_CHARS},
            code,
        )
    if _ADDRESS.search(value):
        raise _invalid(
            _("The value of tag %(key)s can't contain http:// or https://.") % {"key": key}, code
        )


def _invalid(message: str, code: str) -> Invalid:
    return Invalid(message, field="tags", code=code)
