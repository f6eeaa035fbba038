"""The form of "Create or run a command": a command, new or saved, and where it runs."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _

from commands.models import CommandVersion
from commands.rules import limits
from commands.rules.grammar import Scan, scan
from commands.services.plans import SavedInput, Values
from console.forms import parameters
from console.forms.definition import DefinitionForm
from console.forms.fields import IdsField, SwitchField, TextField
from console.forms.parameters import ParameterRow
from console.forms.rate import RateFields

NEW, EXISTING = "new", "existing"


class RunForm(RateFields, DefinitionForm):
    """Fields as other programs post them; names are a contract.

    ``saved`` is the version that the form shows where the source is an existing command: its
    text is not taken from what was sent. ``last`` are the values used last with it, by key.
    """

    source = TextField(initial=NEW)
    command = TextField()
    version = TextField()
    save = SwitchField()
    instances = IdsField()
    paste = TextField()
    tell_me = SwitchField()
    client_token = TextField(widget=forms.HiddenInput)

    def __init__(
        self,
        sent: QueryDict,
        *,
        saved: CommandVersion | None = None,
        last: Mapping[str, str] | None = None,
        kept: Mapping[str, str] | None = None,
    ) -> None:
        self.sent = sent
        self.saved = saved
        self.last = last or {}
        super().__init__(sent, kept=kept)

    def clean_source(self) -> str:
        """Where the command comes from; a program that does not say means a new one."""
        source: str = self.cleaned_data["source"] or NEW
        if source not in {NEW, EXISTING}:
            raise forms.ValidationError(_("Choose New command or Existing command."))
        return source

    def clean_version(self) -> int | None:
        """The number of the version that the person has seen; None if that was not said."""
        text: str = self.cleaned_data["version"]
        if text and not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise forms.ValidationError(_("That version doesn't exist. Choose the command again."))
        return int(text) if text else None

    def clean(self) -> dict[str, Any]:
        """Refuse two values for one parameter: nobody could say which was meant."""
        names = Counter[str]()
        for name, values in self.sent.lists():
            if name.lower().startswith(parameters.VALUE):
                names[name.lower()] += len(values)
        for name, number in names.items():
            if number > 1:
                self._add_error(name, _("There are two values for it. Send one."))
        return super().clean()

    @property
    def existing(self) -> bool:
        """Whether a saved command is to be run."""
        return bool(self["source"].value() == EXISTING)

    @property
    def slot(self) -> str:
        """What hidden values of this form are for: a new command, or which saved one."""
        return str(self["command"].value() or "") if self.existing else NEW

    @property
    def rate_open(self) -> bool:
        """Whether there is something to see beside the usual."""
        return super().rate_open or bool(self["tell_me"].value() or self["tell_me"].errors)

    def saved_command(self) -> SavedInput:
        """The saved command and what is different this time; only after ``is_valid``."""
        data = self.cleaned_data
        return SavedInput(
            uid=data["command"],
            version=data["version"],
            workdir=data["workdir"] if "workdir" in self.sent else None,
            timeout=self._timeout() if "timeout" in self.sent else None,
        )

    def values(self) -> Values:
        """The values of the parameters.

        With a new command an empty field stands for its default; with a saved one the field
        began with the default, so who emptied it means the empty value. If there are too many
        parameters, the command is what is wrong, not the values.
        """
        rows = self.parameters()[: limits.PARAMETERS]
        given = {row.key: row.value for row in rows if row.value or row.fixed}
        return Values(given, [row.key for row in rows if row.hidden])

    def parameters(self) -> list[ParameterRow]:
        """The parameters of the command, new or saved, with what was typed."""
        if not self.existing:
            return super().parameters()
        if self.saved is None:
            return []
        schemas = self.saved.schemas_as_kept()
        return [
            parameters.saved_row(
                parameter,
                schemas.get(parameter.key, parameters.USUAL),
                self._typed(),
                self.kept,
                self._row_errors(),
                self.last,
            )
            for parameter in self._scan().parameters
        ]

    def selected(self) -> list[str]:
        """Ids of the instances that are ticked, in the order in which they were sent."""
        return list(self["instances"].value() or [])

    def _scan(self) -> Scan:
        if not self.existing:
            return super()._scan()
        return scan(self.saved.content if self.saved and self.saved.use_params else "")


def new_client_token() -> str:
    """A fresh token: one for each time that the form is rendered."""
    return str(uuid.uuid4())
