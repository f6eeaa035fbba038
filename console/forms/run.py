"""The form of "Create or run a command": parses what was sent and shows it again.

What is *allowed* is the services' business; their sentences are put beside the fields.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from commands.errors import InvalidFields
from commands.rules import limits
from commands.rules.content import CommandType
from commands.rules.parameters import Scan, looks_secret, scan
from commands.services.invocations import CommandInput

PARAMETER_PREFIX = "param-"
"""What names of fields with values of parameters begin with."""


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """One parameter in the form; ``hidden`` says that its value looks like a secret."""

    key: str
    name: str
    uses: int
    value: str
    hidden: bool
    errors: list[str]

    @property
    def shown(self) -> str:
        """The value as a page may hold it: what looks like a secret is never sent back."""
        return "" if self.hidden else self.value


class _TextField(forms.CharField):
    """Text that reaches the rules as it was typed: they have better words for what is wrong."""

    default_validators = []

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, strip=False, **kwargs)
        self.validators = []

    def to_python(self, value: Any) -> str:
        """The value, with "" for none."""
        return "" if value is None else str(value)


class _IdsField(forms.Field):
    """Repeated values, as a list of text."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> list[str]:
        """The values, with [] for none."""
        return [str(item) for item in value or []]


class RunForm(forms.Form):
    """Fields as other programs post them; names are a contract."""

    source = _TextField(initial="new")
    name = _TextField()
    type = _TextField(initial=CommandType.SHELL.value)
    content = _TextField(widget=forms.Textarea, initial="#!/bin/bash\n")
    workdir = _TextField()
    timeout = _TextField(initial=str(limits.TIMEOUT_DEFAULT))
    description = _TextField()
    instances = _IdsField(required=False)
    client_token = _TextField(widget=forms.HiddenInput)
    use_params = forms.BooleanField(required=False)
    save = forms.BooleanField(required=False)

    def clean_source(self) -> str:
        """Only new commands can be run for now; say so rather than run something else."""
        source: str = self.cleaned_data["source"] or "new"
        if source != "new":
            raise forms.ValidationError(_("Saved commands can't be run yet. Choose New command."))
        return source

    def clean_save(self) -> bool:
        """A command that can't be kept must not look kept."""
        if self.cleaned_data["save"]:
            raise forms.ValidationError(_("Commands can't be saved yet. Turn Save command off."))
        return False

    def command(self) -> CommandInput:
        """The command as the services take it; only after ``is_valid``."""
        data = self.cleaned_data
        return CommandInput(
            name=data["name"],
            type=data["type"],
            content=data["content"],
            workdir=data["workdir"],
            timeout=data["timeout"],
            description=data["description"],
            use_params=data["use_params"],
            values={row.key: row.value for row in self.parameters()},
        )

    def parameters(self) -> list[ParameterRow]:
        """The parameters of the command as it stands in the form, with what was typed.

        Values of names that the command has no longer are left out: they are what remained of
        an earlier wording, and nobody meant to send them.
        """
        if not self["use_params"].value():
            return []
        typed = {
            name.removeprefix(PARAMETER_PREFIX).lower(): str(value)
            for name, value in self.data.items()
            if name.startswith(PARAMETER_PREFIX)
        }
        errors = self.errors if self.is_bound else {}
        return [
            ParameterRow(
                key=parameter.key,
                name=parameter.name,
                uses=parameter.uses,
                value=typed.get(parameter.key, ""),
                hidden=looks_secret(parameter.name),
                errors=[str(text) for text in errors.get(PARAMETER_PREFIX + parameter.key, [])],
            )
            for parameter in self._scan().parameters
        ]

    def builtins(self) -> list[str]:
        """Placeholders of the command that are filled for each instance by themselves."""
        return [f"ACS::{builtin.value}" for builtin in self._scan().builtins]

    def _scan(self) -> Scan:
        text = str(self["content"].value() or "") if self["use_params"].value() else ""
        return scan(text)

    def add_domain_errors(self, error: InvalidFields) -> None:
        """Put the services' sentences beside the fields they are about."""
        for field, texts in error.errors.items():
            for text in texts:
                if field.startswith(PARAMETER_PREFIX):
                    self.errors.setdefault(field, self.error_class()).append(text)
                else:
                    self.add_error(field if field in self.fields else None, text)

    def selected(self) -> set[str]:
        """Ids of the instances that are ticked."""
        return set(self["instances"].value() or [])


def new_client_token() -> str:
    """A fresh token: one for each time that the form is rendered."""
    return str(uuid.uuid4())
