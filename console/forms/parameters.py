"""Parameters in a form: a value for each, whether it is hidden, and what is said of it.

Fields are called by the parameter's key (its name in lower case), which has letters, digits,
``-`` and ``_`` only. What was typed for names that the command has no longer is left out: it
remained of an earlier wording, and nobody meant to send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from commands.rules.grammar import Parameter
from commands.rules.quoting import Insertion
from commands.rules.schema import ParameterSchema, looks_secret

VALUE = "param-"
"""Prefix of values."""
HIDE = "secret-"
"""Prefix of the switches that hide a value."""
SEEN = "seen-"
"""Prefix of marks that a switch was on the page: then its absence means that it was off."""
KEPT = "kept-"
"""Prefix of marks that an empty hidden field stands for the value of the last try."""
ABOUT = "about-"
"""Prefix of what is said of a parameter: ``about-<property>-<key>``."""

USUAL = ParameterSchema()
"""What is said of a parameter that nothing is said of."""

_TEXTS = ("description", "default", "pattern")


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """One parameter in a form. ``about`` is what is said of it, as typed, by property.

    ``kept`` says that its hidden value is known from the last try and need not be typed again,
    ``lost`` that it was and no longer is;
    ``fixed`` that it belongs to a saved command, which says what it says; ``locked`` that this
    command hides it always.
    """

    key: str
    name: str
    uses: int
    value: str = field(repr=False)
    hidden: bool
    kept: bool
    lost: bool
    about: Mapping[str, Any]
    fixed: bool = False
    locked: bool = False
    errors: list[str] = field(default_factory=list)
    about_errors: list[str] = field(default_factory=list)

    @property
    def braced(self) -> str:
        """Its name as it stands in a command."""
        return f"{{{{{self.name}}}}}"

    @property
    def shown(self) -> str:
        """The value as a page may hold it: hidden ones are never sent back."""
        return "" if self.hidden else self.value

    @property
    def choices(self) -> list[str]:
        """The values that it can be chosen from, in their order."""
        return [line for line in str(self.about["choices"]).splitlines() if line]

    @property
    def described(self) -> bool:
        """Whether anything unusual is said of it: then a fold about it begins open."""
        usual = _plain(USUAL)
        return any(value != usual[name] for name, value in self.about.items() if name != "secret")

    def schema(self) -> ParameterSchema:
        """What is said of it. Raises Invalid with the field ``about-<key>``."""
        plain = {**self.about, "choices": self.choices, "secret": self.hidden}
        return ParameterSchema.from_dict(plain, field=f"{ABOUT}{self.key}")


def typed_row(
    parameter: Parameter,
    data: Mapping[str, str],
    kept: Mapping[str, str],
    errors: Mapping[str, list[str]],
) -> ParameterRow:
    """The row of a parameter in a command that is being written."""
    key = parameter.key
    hidden = HIDE + key in data if SEEN + key in data else looks_secret(parameter.name)
    return _row(parameter, data, kept, errors, hidden, _typed_about(key, data))


def saved_row(
    parameter: Parameter,
    schema: ParameterSchema,
    data: Mapping[str, str],
    kept: Mapping[str, str],
    errors: Mapping[str, list[str]],
    last: Mapping[str, str],
) -> ParameterRow:
    """The row of a parameter of a saved command; ``last`` are the values used last, by key."""
    key = parameter.key
    start = last.get(key, schema.default)
    proposed = looks_secret(parameter.name) and not start
    if SEEN + key in data:
        proposed = HIDE + key in data
    if schema.choices and start not in schema.choices:
        start = schema.default
    shown = data if VALUE + key in data else {**data, VALUE + key: start}
    hidden = schema.secret or proposed
    row = _row(parameter, shown, kept, errors, hidden, _plain(schema))
    return replace(row, fixed=True, locked=schema.secret)


def blank_row() -> ParameterRow:
    """A row for the browser to make rows of; its name and key are ``__name__`` and ``__key__``."""
    parameter = Parameter("__key__", "__name__", uses=1, line=1, column=1)
    return _row(parameter, {}, {}, {}, hidden=False, about=_plain(USUAL))


def _row(
    parameter: Parameter,
    data: Mapping[str, str],
    kept: Mapping[str, str],
    errors: Mapping[str, list[str]],
    hidden: bool,
    about: Mapping[str, Any],
) -> ParameterRow:
    key = parameter.key
    value = data.get(VALUE + key, "")
    # What was typed unseen stays so: it is not shown by turning the switch off later.
    again = not value and KEPT + key in data
    is_kept = again and key in kept
    return ParameterRow(
        key=key,
        name=parameter.name,
        uses=parameter.uses,
        value=kept[key] if is_kept else value,
        hidden=hidden or again,
        kept=is_kept,
        lost=again and not is_kept,
        about=about,
        errors=errors.get(VALUE + key, []),
        about_errors=errors.get(ABOUT + key, []),
    )


def _typed_about(key: str, data: Mapping[str, str]) -> dict[str, Any]:
    about: dict[str, Any] = {name: data.get(f"{ABOUT}{name}-{key}", "") for name in _TEXTS}
    about["choices"] = data.get(f"{ABOUT}choices-{key}", "").replace("\r\n", "\n")
    about["required"] = f"{ABOUT}required-{key}" in data
    about["insertion"] = data.get(f"{ABOUT}insertion-{key}") or Insertion.AS_TYPED.value
    return about


def _plain(schema: ParameterSchema) -> dict[str, Any]:
    return {
        "description": schema.description,
        "default": schema.default,
        "pattern": schema.pattern,
        "choices": "\n".join(schema.choices),
        "required": schema.required,
        "insertion": schema.insertion.value,
    }


def fields_of(schemas: Mapping[str, ParameterSchema]) -> dict[str, str]:
    """The form fields that say the same as ``schemas``, to show a command for editing."""
    fields: dict[str, str] = {}
    for key, schema in schemas.items():
        for name, value in _plain(schema).items():
            if value:
                fields[f"{ABOUT}{name}-{key}"] = "on" if value is True else str(value)
        fields[SEEN + key] = "1"
        if schema.secret:
            fields[HIDE + key] = "on"
    return fields
