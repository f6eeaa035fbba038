"""The fields of a command, as the wizard and the library show them.

A form parses what was sent and shows it again. What is *allowed* is the services' business;
their sentences are put beside the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy

from commands.errors import Invalid, InvalidFields
from commands.models import Command, CommandVersion, Definition, Invocation, Region, Team
from commands.models.command import TerminationChoice
from commands.rules import limits
from commands.rules.content import TEMPLATES, CommandType, Termination, begun
from commands.rules.grammar import NAME, PLACEHOLDER, WHITE_SPACE, Builtin, Scan, scan
from commands.rules.quotas import Quota
from commands.rules.schema import SENSITIVE_NAME, ParameterSchema
from commands.services import quotas
from commands.services.definitions import CommandInput
from console.forms import parameters
from console.forms.fields import SwitchField, TextField
from console.forms.parameters import ParameterRow

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

ROWS = 5 * limits.PARAMETERS
"""Most parameters that a page has a row for. Those beyond what a command can have are there while
it is told that it has too many, so that no value is lost."""
LOST = gettext_lazy("The hidden value is no longer kept. Type it again.")


class DefinitionForm(forms.Form):
    """What to run and how; names of fields are a contract for programs that post them.

    ``kept`` are hidden values by key that are known from the last try.
    """

    name = TextField()
    type = TextField(initial=CommandType.SHELL.value)
    content = TextField(widget=forms.Textarea, initial=TEMPLATES[CommandType.SHELL])
    use_params = SwitchField()
    description = TextField()
    workdir = TextField()
    timeout = TextField(initial=str(limits.TIMEOUT_DEFAULT))
    timeout_asked = TextField()
    run_as = TextField()
    launcher = TextField()
    termination = TextField(initial=Termination.PROCESS_TREE.value)
    tags = TextField(widget=forms.Textarea)
    runners_may_type = SwitchField()

    def __init__(self, *args: Any, kept: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        self.kept = kept or {}
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        """Put what is wrong about a parameter's properties beside that parameter."""
        self._schemas: dict[str, ParameterSchema] = {}
        for row in self.parameters():
            if row.lost:
                self._add_error(parameters.VALUE + row.key, LOST)
            if row.fixed:
                continue
            try:
                self._schemas[row.key] = row.schema()
            except Invalid as error:
                self._add_error(error.field, error.message)
        return self.cleaned_data

    def definition(self) -> CommandInput:
        """The command as the services take it; only after ``is_valid``."""
        data = self.cleaned_data
        return CommandInput(
            name=data["name"],
            type=data["type"],
            content=data["content"],
            workdir=data["workdir"],
            timeout=self._timeout(),
            description=data["description"],
            use_params=data["use_params"],
            parameters=self._schemas,
            launcher=data["launcher"],
            run_as=data["run_as"],
            termination=data["termination"] or Termination.PROCESS_TREE.value,
            tags=_pairs(data["tags"]),
            runners_may_type=data["runners_may_type"],
        )

    def parameters(self) -> list[ParameterRow]:
        """The parameters of the command as it stands in the form, with what was typed."""
        typed, errors = self._typed(), self._row_errors()
        return [
            parameters.typed_row(parameter, typed, self.kept, errors)
            for place, parameter in enumerate(self._scan().parameters[:ROWS])
            if place < limits.PARAMETERS or parameters.VALUE + parameter.key in typed
        ]

    def builtins(self) -> list[str]:
        """Placeholders of the command that are filled for each instance by themselves."""
        return [f"ACS::{builtin.value}" for builtin in self._scan().builtins]

    def add_domain_errors(self, error: InvalidFields) -> None:
        """Put the services' sentences beside the fields they are about."""
        for field, texts in error.errors.items():
            for text in texts:
                self._add_error(field, text)

    def _timeout(self) -> str:
        """The timeout as it was typed: the page may have raised it already, and said so."""
        shown, asked = self.cleaned_data["timeout"], self.cleaned_data["timeout_asked"]
        raised = shown == str(limits.TIMEOUT_MIN) and re.fullmatch(r"-?[0-9]{1,9}", asked)
        return str(asked if raised and int(asked) < limits.TIMEOUT_MIN else shown)

    def _add_error(self, field: str, text: StrOrPromise) -> None:
        if field.startswith((parameters.VALUE, parameters.ABOUT)):
            self.errors.setdefault(field, self.error_class()).append(text)
        else:
            self.add_error(field if field in self.fields else None, text)

    def _typed(self) -> dict[str, str]:
        """What was sent, by names in lower case: parameters' names are the same in any case."""
        source = self.data if self.is_bound else self.initial
        return {name.lower(): str(source[name]) for name in source}

    def _row_errors(self) -> dict[str, list[str]]:
        return {name: [str(text) for text in texts] for name, texts in self.errors.items()}

    def _scan(self) -> Scan:
        text = str(self["content"].value() or "") if self["use_params"].value() else ""
        return scan(text.replace("\r\n", "\n")[: limits.FORM_CONTENT_CHARS])


def fields_of(command: Command, version: CommandVersion) -> dict[str, str]:
    """The form fields that say the same as a version, to show it for editing or copying."""
    fields = _fields_of(version, version.name, command.type, version.tags)
    fields["description"] = version.description
    return fields | ({"runners_may_type": "on"} if version.runners_may_type else {})


def fields_of_task(invocation: Invocation) -> dict[str, str]:
    """The form fields that say the same as a task's frozen copy, values not included."""
    return _fields_of(invocation, invocation.name, invocation.type, invocation.tags)


def _fields_of(stored: Definition, name: str, kind: str, tags: dict[str, str]) -> dict[str, str]:
    fields = {
        "name": name,
        "type": kind,
        "content": stored.content,
        "workdir": stored.workdir,
        "timeout": str(stored.timeout),
        "run_as": stored.run_as,
        "launcher": stored.launcher,
        "termination": stored.termination,
        "tags": "\n".join(f"{key}={value}" for key, value in tags.items()),
        **parameters.fields_of(stored.schemas_as_kept()),
    }
    return fields | ({"use_params": "on"} if stored.use_params else {})


def _pairs(text: str) -> list[tuple[str, str]]:
    """Tags as typed, ``key=value`` or ``key``, separated by line breaks or commas."""
    parts = [part.partition("=") for part in re.split(r"[\r\n,]+", text) if part.strip()]
    return [(key, value) for key, _, value in parts]


def page_context(form: DefinitionForm, team: Team, region: Region) -> dict[str, Any]:
    """What ``run/_definition.html`` takes, apart from what differs between the pages."""
    unusual = ("run_as", "launcher", "tags")
    return {
        "form": form,
        "limits": Limits(),
        "content_limit": quotas.limit(team=team, region=region, key=Quota.CONTENT_SIZE),
        "grammar": Grammar(),
        "parameters": form.parameters(),
        "builtins": form.builtins(),
        "blank_row": parameters.blank_row(),
        "types": _TYPES,
        "terminations": TerminationChoice.choices,
        "more_open": any(form[name].value() or form[name].errors for name in unusual)
        or form["termination"].value() == Termination.PROCESS.value
        or bool(form["runners_may_type"].value()),
    }


def with_beginning(data: QueryDict) -> QueryDict:
    """What was sent; where nothing was written yet, with what its type begins with."""
    found = data.copy()
    kind = str(data.get("type", ""))
    if kind in set(CommandType):
        found["content"] = begun(str(data.get("content", "")), CommandType(kind))
    return found


_TYPES = [
    (kind.value, word, system, TEMPLATES[kind])
    for kind, word, system in (
        (CommandType.SHELL, "Shell", "Linux"),
        (CommandType.BAT, "Bat", "Windows"),
        (CommandType.POWERSHELL, "PowerShell", "Windows"),
    )
]


class Grammar:
    """What the browser needs to find parameters while somebody types; the server decides."""

    placeholder = PLACEHOLDER
    name = NAME
    white_space = WHITE_SPACE.encode("unicode_escape").decode()
    sensitive_name = SENSITIVE_NAME
    builtins = tuple(Builtin)


class Limits:
    """The numbers that forms show."""

    parameters = limits.PARAMETERS
    parameter_name_bytes = limits.PARAMETER_NAME_BYTES
    name_chars = limits.NAME_CHARS
    description_chars = limits.DESCRIPTION_CHARS
    workdir_chars = limits.WORKDIR_CHARS
    launcher_bytes = limits.LAUNCHER_BYTES
    tags = limits.TAGS
    timeout_min = limits.TIMEOUT_MIN
    timeout_default = limits.TIMEOUT_DEFAULT
    timeout_max = limits.TIMEOUT_MAX
