"""The form of "Create or run a command": parses what was sent and shows it again.

What is *allowed* is the services' business; their sentences are put beside the fields.
"""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from commands.errors import InvalidFields
from commands.rules import limits
from commands.rules.content import CommandType
from commands.services.invocations import CommandInput


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

    def clean_use_params(self) -> bool:
        """Parameters are refused rather than sent to the instances unfilled."""
        if self.cleaned_data["use_params"]:
            raise forms.ValidationError(_("Parameters can't be used yet. Turn them off."))
        return False

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
        )

    def add_domain_errors(self, error: InvalidFields) -> None:
        """Put the services' sentences beside the fields they are about."""
        for field, texts in error.errors.items():
            for text in texts:
                self.add_error(field if field in self.fields else None, text)

    def selected(self) -> set[str]:
        """Ids of the instances that are ticked."""
        return set(self["instances"].value() or [])


def new_client_token() -> str:
    """A fresh token: one for each time that the form is rendered."""
    return str(uuid.uuid4())
