"""The form of a command in the library: its definition, and which version an edit began with."""

from __future__ import annotations

from commands.models import Command, CommandVersion
from commands.rules import limits
from commands.rules.content import TEMPLATES, CommandType
from console.forms.definition import DefinitionForm, fields_of
from console.forms.fields import TextField


class CommandForm(DefinitionForm):
    """A definition, and what it is to replace.

    ``based_on`` is the version that was shown for editing; ``over`` a newer one that the person
    knows of and wants to replace all the same. ``group`` is the id of its resource group.
    """

    based_on = TextField()
    over = TextField()
    group = TextField()

    def base(self) -> int:
        """The number of the version that is to be replaced; 0 for nonsense, which none has."""
        number = self.cleaned_data["over"] or self.cleaned_data["based_on"]
        return int(number) if number.isdecimal() and number.isascii() and len(number) < 10 else 0


def blank(kind: CommandType) -> CommandForm:
    """The form of a new command that nobody has written yet."""
    return CommandForm(initial={"type": kind.value, "content": TEMPLATES[kind]})


def to_edit(command: Command, version: CommandVersion) -> CommandForm:
    """The form to edit ``command`` as ``version`` says."""
    return CommandForm(initial={**_fields(command, version), "based_on": str(version.number)})


def to_clone(command: Command, version: CommandVersion, suffix: str) -> CommandForm:
    """The form of a new command that says the same under another name."""
    name = version.name[: limits.NAME_CHARS - len(suffix)] + suffix
    return CommandForm(initial={**_fields(command, version), "name": name})


def _fields(command: Command, version: CommandVersion) -> dict[str, object]:
    return {**fields_of(command, version), "group": command.resource_group.uid}
