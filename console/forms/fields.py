"""Form fields that pass on what was typed: the rules have better words for what is wrong."""

from __future__ import annotations

from typing import Any

from django import forms


class TextField(forms.CharField):
    """Text as it was typed, with "" for none."""

    default_validators = []

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, strip=False, **kwargs)
        self.validators = []

    def to_python(self, value: Any) -> str:
        """The value, with "" for none."""
        return "" if value is None else str(value)


class IdsField(forms.Field):
    """Repeated values, as a list of text."""

    widget = forms.MultipleHiddenInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def to_python(self, value: Any) -> list[str]:
        """The values, with [] for none."""
        return [str(item) for item in value or []]


class SwitchField(forms.BooleanField):
    """A switch: on if it was sent at all."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)
