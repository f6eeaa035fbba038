"""Forms of the team portal. What is allowed is said by services; their words go beside fields."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import QueryDict

from commands.errors import CommandConsoleError, Invalid, InvalidFields
from commands.models import Restriction, Role, User
from commands.services.invitations import account_errors
from console.forms.fields import IdsField, SwitchField, TextField

Kind = Restriction.Kind


class InviteForm(forms.Form):
    """Whom to invite, and as what."""

    email = TextField()
    role = TextField(initial=Role.OPERATOR.value)


class AccountForm(forms.Form):
    """The account of somebody who joins."""

    username = TextField()
    full_name = TextField()
    password = TextField()

    def clean(self) -> None:
        """Say all that is wrong at once; a password may not resemble the names either."""
        data = dict(self.cleaned_data)
        for field, texts in account_errors(data["username"], data["full_name"]).items():
            self.add_error(field, texts)
        user = User(username=data["username"], first_name=data["full_name"])
        try:
            validate_password(data["password"], user)
        except ValidationError as error:
            self.add_error("password", error)


class NarrowingForm(forms.Form):
    """What a membership is narrowed to: values one a line, and commands by their ids."""

    tags = TextField()
    commands = IdsField()
    run_as = TextField()
    not_run_as = TextField()

    def pairs(self) -> list[tuple[str, str]]:
        """What was chosen, as kinds and values."""
        data = self.cleaned_data
        lines = {
            Kind.INSTANCE_TAG: data["tags"].splitlines(),
            Kind.COMMAND: data["commands"],
            Kind.RUN_AS: data["run_as"].splitlines(),
            Kind.NOT_RUN_AS: data["not_run_as"].splitlines(),
        }
        return [(kind.value, value) for kind, values in lines.items() for value in _filled(values)]


class RequestForm(forms.Form):
    """A request for a higher limit."""

    quota = TextField()
    wanted = TextField()
    reason = TextField()


class SettingsForm(forms.Form):
    """A team's settings."""

    name = TextField()
    keep_days = TextField()
    second_factor_required = SwitchField()


class KeyForm(forms.Form):
    """A new access key; ``days`` until it expires, "" for never.

    ``code`` is of a second factor, ``password`` of who has none; neither is shown again.
    """

    name = TextField()
    expires = TextField()
    code = TextField()
    password = TextField()
    client_token = TextField()

    def days(self) -> int | None:
        """Days until it expires, None for never; 0, which there is not, for nonsense."""
        text = self.cleaned_data["expires"]
        return (whole(text) or 0) if text else None


class ApprovalForm(forms.Form):
    """Which tasks need approval: tags and users one a line, numbers as they were typed."""

    tags = TextField()
    run_as = TextField()
    more_than = TextField()
    hours = TextField()


class LendForm(forms.Form):
    """Which instance to lend, and the id of the team that it is lent to."""

    instance = TextField()
    team = TextField()


def narrowing_of(restrictions: Iterable[Restriction]) -> NarrowingForm:
    """The form that shows what a membership is narrowed to."""
    values: dict[str, list[str]] = {kind.value: [] for kind in Kind}
    for restriction in restrictions:
        values[restriction.kind].append(restriction.value)
    return NarrowingForm(
        initial={
            "tags": "\n".join(values[Kind.INSTANCE_TAG]),
            "commands": values[Kind.COMMAND],
            "run_as": "\n".join(values[Kind.RUN_AS]),
            "not_run_as": "\n".join(values[Kind.NOT_RUN_AS]),
        }
    )


def as_typed(data: QueryDict) -> NarrowingForm:
    """The form for narrowing as somebody left it, unchecked."""
    return NarrowingForm(initial={**data.dict(), "commands": data.getlist("commands")})


def whole(text: str) -> int | None:
    """The whole number that somebody typed, with or without separators; None for anything else."""
    digits = re.sub(r"[\s,.'’]", "", text)
    return int(digits) if re.fullmatch("[0-9]{1,9}", digits) else None


def refuse(
    form: forms.Form, error: CommandConsoleError, names: Mapping[str, str] | None = None
) -> None:
    """Put what a service said beside the fields of ``form``.

    ``names`` maps fields that the service calls by another name.
    """
    form.is_valid()
    found: Mapping[str, list[str]] = {"": [error.message]}
    if isinstance(error, InvalidFields):
        found = error.errors
    elif isinstance(error, Invalid):
        found = {error.field: [error.message]}
    for name, texts in found.items():
        field = (names or {}).get(name, name)
        for text in texts:
            form.add_error(field if field in form.fields else None, text)


def _filled(values: Iterable[str]) -> list[str]:
    return [value.strip() for value in values if value.strip()]
