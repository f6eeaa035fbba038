"""What a command says of its parameters, and whether the values of one run keep to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Final

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.grammar import Parameter, check_value, readable, shortened
from commands.rules.problems import raise_all
from commands.rules.quoting import Insertion
from commands.rules.text import REORDERING
from commands.words import gettext as _

SENSITIVE_NAME: Final = (
    r"token|secret|passw|passphrase|pwd|credential|(^|[_-])pass([_-]|$)|key(?!board|word)"
)
"""Part of names whose values are probably secret, in any case; for Python and JavaScript."""


@dataclass(frozen=True, slots=True)
class ParameterSchema:
    """What a saved command says of one parameter. Make it with ``from_dict``, which checks.

    ``default`` is for a value that is not given at all; a value given as ``""`` stays empty.
    ``choices`` and ``pattern`` (the whole value must match it) are not asked of an empty value
    of an optional parameter. A ``secret`` has no default: it would be kept in the open.
    """

    description: str = ""
    default: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    secret: bool = False
    insertion: Insertion = Insertion.AS_TYPED

    @classmethod
    def from_dict(cls, data: object, *, field: str = "parameters") -> ParameterSchema:
        """The schema that ``to_dict`` made, or a person wrote. Raises Invalid with ``field``."""
        try:
            schema = cls(**_members(data))
            _check_schema(schema)
        except Invalid as error:
            raise Invalid(
                error.message, field=field, code="InvalidParameter.ParameterDefinitions"
            ) from None
        return schema

    @classmethod
    def as_kept(cls, data: object) -> ParameterSchema:
        """What was kept, to show and edit it: today's rules are not asked.

        What has no place here, because another release wrote it, is left out.
        """
        members: dict[str, Any] = {}
        for name, value in data.items() if isinstance(data, Mapping) else ():
            if name in _USUAL:
                with suppress(Invalid):
                    members[name] = _member(name, value)
        return cls(**members)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; members that are as usual are left out."""
        plain: dict[str, Any] = {}
        for name, usual in _USUAL.items():
            value = getattr(self, name)
            if value != usual:
                plain[name] = list(value) if isinstance(value, tuple) else value
        if "insertion" in plain:
            plain["insertion"] = str(self.insertion)
        return plain


_USUAL: Final[Mapping[str, Any]] = {
    member.name: member.default for member in fields(ParameterSchema)
}


def check_values(
    parameters: Iterable[Parameter],
    given: Mapping[str, object],
    schema: Mapping[str, ParameterSchema],
) -> dict[str, str]:
    """The value of every parameter by key, defaults included, in the order of ``parameters``.

    ``given`` goes by name in any case; ``schema`` by key. Raises Invalid with everything that
    is wrong; the field of a wrong value is ``param-<key>``. No sentence repeats a value, which
    may be secret.
    """
    known = {parameter.key: parameter for parameter in parameters}
    values = _check_keys(known, given)
    problems: list[tuple[str, str, str]] = []
    for key, parameter in known.items():
        rules = schema.get(key, ParameterSchema())
        values.setdefault(key, rules.default)
        try:
            _check_against(rules, values[key], parameter.name)
        except Invalid as error:
            problems.append((f"param-{key}", error.message, error.code))
    raise_all(problems)
    return {key: values[key] for key in known}


def looks_secret(name: str) -> bool:
    """Whether hiding the value should be proposed for a parameter of this name."""
    return re.search(SENSITIVE_NAME, name, re.IGNORECASE) is not None


def _check_keys(known: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, str]:
    def refuse(message: str, code: str) -> Invalid:
        return Invalid(message, field="parameters", code=code)

    if len(given) > limits.PARAMETERS:
        raise refuse(
            _("A command can have %(most)s parameters. You gave %(number)s values.")
            % {"most": limits.PARAMETERS, "number": len(given)},
            "ParameterCount.ExceedLimit",
        )
    values: dict[str, str] = {}
    for name, value in given.items():
        key, shown = name.lower(), readable(name)
        if not 0 < len(name) <= limits.PARAMETER_NAME_BYTES:
            raise refuse(
                _("A parameter's name has 1 to %(most)s characters.")
                % {"most": limits.PARAMETER_NAME_BYTES},
                "ParameterKey.ExceedLimit",
            )
        if key in values:
            raise refuse(
                _("There are two values for %(shown)s.") % {"shown": shown},
                "ParameterKey.Duplicate",
            )
        if key not in known:
            raise refuse(
                _("The command has no parameter %(shown)s.") % {"shown": shown},
                "Parameter.NotMatched",
            )
        if not isinstance(value, str):
            raise refuse(
                _("The value of %(shown)s must be text.") % {"shown": shown},
                "ParameterType.NotSupported",
            )
        values[key] = value
    return values


def _check_against(rules: ParameterSchema, value: str, name: str) -> None:
    code = "InvalidParameter.Parameters"
    check_value(value, name)
    if REORDERING.search(value):
        raise Invalid(
            _(
                "The value of %(name)s has an invisible character that makes it read differently "
                "from what runs. Remove it."
            )
            % {"name": name},
            code="InvalidParameterCharset.Parameters",
        )
    if not value:
        if rules.required:
            raise Invalid(
                _("Enter a value for %(name)s.") % {"name": name}, code="Parameter.MissingValue"
            )
    elif rules.choices and value not in rules.choices:
        raise Invalid(_("Choose a value for %(name)s from its list.") % {"name": name}, code=code)
    elif rules.pattern and len(value) > limits.PARAMETER_PATTERN_VALUE_CHARS:
        most = limits.PARAMETER_PATTERN_VALUE_CHARS
        raise Invalid(
            _("The value of %(name)s must be %(most)s characters or fewer.")
            % {"name": name, "most": most},
            code=code,
        )
    elif rules.pattern and not re.fullmatch(rules.pattern, value):
        raise Invalid(
            _("The value of %(name)s must match %(pattern)s.")
            % {"name": name, "pattern": rules.pattern},
            code=code,
        )


def _members(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise Invalid(_("A parameter is described by names and values."))
    members: dict[str, Any] = {}
    for name, value in data.items():
        if name not in _USUAL:
            raise Invalid(
                _("A parameter has no property %(name)s.") % {"name": shortened(str(name))}
            )
        members[name] = _member(name, value)
    return members


def _member(name: str, value: object) -> object:
    if name == "choices":
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise Invalid(_("The choices of a parameter must be a list of texts."))
    if name == "insertion":
        if value in tuple(Insertion):
            return Insertion(str(value))
        raise Invalid(
            _("A value is inserted in one of these ways: %(ways)s.")
            % {"ways": ", ".join(Insertion)}
        )
    if type(value) is not type(_USUAL[name]):
        if isinstance(_USUAL[name], bool):
            text = _("The property %(name)s of a parameter must be true or false.")
        else:
            text = _("The property %(name)s of a parameter must be text.")
        raise Invalid(text % {"name": name})
    return value


def _check_schema(schema: ParameterSchema) -> None:
    if len(schema.description) > limits.DESCRIPTION_CHARS:
        raise Invalid(
            _("Description must be %(most)s characters or fewer.")
            % {"most": limits.DESCRIPTION_CHARS}
        )
    for text in (schema.description, schema.default, schema.pattern, *schema.choices):
        check_value(text, _("a parameter's property"))
        if REORDERING.search(text):
            raise Invalid(_("A property has an invisible character that changes how it reads."))
    if len(schema.choices) > limits.PARAMETER_CHOICES:
        raise Invalid(_("Give %(most)s choices or fewer.") % {"most": limits.PARAMETER_CHOICES})
    if "" in schema.choices or len(set(schema.choices)) < len(schema.choices):
        raise Invalid(_("Choices can't be empty, and each can be there only once."))
    if schema.pattern:
        _check_pattern(schema.pattern)
    if schema.default:
        if schema.secret:
            raise Invalid(_("A hidden parameter can't have a default value."))
        _check_against(schema, schema.default, _("the default"))


_PATTERN_PART = re.compile(
    r"""(?P<back>\\[1-9])|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<extension>\(\?(?!:))
    |(?P<repeated>\)(?:[*+]|\{\d*,?\d*\}))
    |\{(?P<from>\d*)(?P<comma>,?)(?P<to>\d*)\}|(?P<many>[*+])|(?P<maybe>\?)|(?P<or>\|)|.
    """,
    re.VERBOSE | re.DOTALL,
)


def _check_pattern(pattern: str) -> None:
    """Refuse patterns that don't compile or could take long.

    Python's engine tries one way to match after the other. Without repeated groups, back
    references and extensions, the ways are at most the product of what each quantifier and
    alternative allows, values being short; the bound keeps a check below a second.
    """
    if len(pattern) > limits.PARAMETER_PATTERN_CHARS:
        raise Invalid(
            _("Pattern must be %(most)s characters or fewer.")
            % {"most": limits.PARAMETER_PATTERN_CHARS}
        )
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        raise Invalid(_("The pattern isn't a regular expression.")) from None
    ways = 1
    for part in _PATTERN_PART.finditer(pattern):
        if part["back"] or part["extension"] or part["repeated"]:
            raise Invalid(
                _("The pattern can't have repeated groups, back references or (?…) extensions.")
            )
        ways *= _ways(part)
    if ways > limits.PARAMETER_PATTERN_WAYS:
        raise Invalid(
            _("The pattern could take too long to check. Use fewer repeats and alternatives.")
        )


def _ways(part: re.Match[str]) -> int:
    most = limits.PARAMETER_PATTERN_VALUE_CHARS
    if part["maybe"] or part["or"]:
        return 2
    if part["many"] or (part["comma"] and not part["to"]):
        return most + 1
    if part["comma"]:
        return min(int(part["to"]), most) - min(int(part["from"] or 0), most) + 1
    return 1
