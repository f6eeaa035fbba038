"""Filling a script: one pass over plain text; what was inserted is never looked at again.

A value goes in *as typed*, so that whoever gives it writes a part of the script, or *quoted*
(``rules.quoting``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from commands.errors import Invalid
from commands.rules.content import CommandType
from commands.rules.grammar import (
    PLACEHOLDER,
    WHITE_SPACE,
    Builtin,
    builtin_of,
    check_value,
    is_parameter,
)
from commands.rules.quoting import HOLE, Insertion, close, quote
from commands.rules.redaction import HIDDEN
from commands.words import gettext as _


def fill(
    content: str,
    values: Mapping[str, str],
    builtins: Mapping[Builtin, str],
    insertions: Mapping[str, Insertion],
    *,
    command_type: CommandType,
) -> str:
    """The script with its values: what runs.

    ``values`` and ``insertions`` go by key in any case; a value that is missing is empty, an
    insertion that is missing is as typed. Every quoted value is proved to stand in the open,
    with the other values in place. What ``scan`` finds wrong stays as it is. Raises Invalid if
    a value can't be made a literal there, or a built-in has no value.
    """
    given, quoted = _by_key(values), _quoted(insertions)
    literals: list[str] = []

    def text(key: str, name: str) -> str:
        value = check_value(given.get(key, ""), name)
        if key not in quoted:
            return value
        literals.append(quote(value, command_type, name=name))
        return HOLE

    return close(_replace(content, text, builtins), content, literals, quoted, command_type)


def show(
    content: str,
    values: Mapping[str, str],
    builtins: Mapping[Builtin, str],
    insertions: Mapping[str, Insertion],
    *,
    command_type: CommandType,
    hidden: Collection[str],
) -> str:
    """The script as ``fill`` makes it, for people: ``HIDDEN`` for the values of ``hidden`` keys.

    Values are left out rather than searched, so even a secret of one character doesn't show.
    """
    given, quoted = _by_key(values), _quoted(insertions)
    unseen = {key.lower() for key in hidden}

    def text(key: str, name: str) -> str:
        if key in unseen:
            return HIDDEN
        value = check_value(given.get(key, ""), name)
        return quote(value, command_type, name=name) if key in quoted else value

    return _replace(content, text, builtins)


def check_insertions(
    content: str, insertions: Mapping[str, Insertion], command_type: CommandType
) -> None:
    """Whether quoted parameters stand in the open, before there are any values.

    To be asked when a command is saved; raises Invalid with the field ``content``. A command
    with a launcher must not have quoted parameters at all: its language is unknown.
    """
    quoted = _quoted(insertions)
    holes = _replace(content, lambda key, _: HOLE if key in quoted else "x", None)
    close(holes, content, ["x"] * holes.count(HOLE), quoted, command_type)


def _replace(
    content: str, text: Callable[[str, str], str], builtins: Mapping[Builtin, str] | None
) -> str:
    def replacement(match: re.Match[str]) -> str:
        name = match[1].strip(WHITE_SPACE)
        if builtin := builtin_of(name):
            return _builtin(builtin, builtins)
        return text(name.lower(), name) if is_parameter(name) else match[0]

    if HOLE in content:
        raise Invalid(
            _("Command has a NUL character. Remove it."),
            field="content",
            code="CmdContent.IllegalCharacter",
        )
    return re.sub(PLACEHOLDER, replacement, content)


def _builtin(builtin: Builtin, values: Mapping[Builtin, str] | None) -> str:
    if values is None:
        return "x"
    if builtin not in values:
        raise Invalid(
            _("`{{ACS::%(builtin)s}}` has no value here.") % {"builtin": builtin},
            field="content",
            code="InvalidSystemBuiltInParameter",
        )
    return check_value(values[builtin], builtin)


def _by_key(values: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in values.items()}


def _quoted(insertions: Mapping[str, Insertion]) -> frozenset[str]:
    return frozenset(key.lower() for key, how in insertions.items() if how is Insertion.QUOTED)
