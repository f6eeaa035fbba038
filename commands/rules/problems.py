"""Collects what is wrong with several fields, so that a person sees all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from commands.errors import Invalid, InvalidFields

T = TypeVar("T")


class Problems:
    """What was found wrong so far, as sentences by field."""

    def __init__(self) -> None:
        self._errors: dict[str, list[str]] = {}

    def collect(self, check: Callable[[], T], fallback: T) -> T:
        """The result of ``check``, or ``fallback`` where it finds something wrong."""
        try:
            return check()
        except InvalidFields as error:
            for name, texts in error.errors.items():
                self._errors.setdefault(name, []).extend(texts)
        except Invalid as error:
            self.add(error.field, error.message)
        return fallback

    def add(self, field: str, sentence: str) -> None:
        """Note one thing that is wrong with ``field``."""
        self._errors.setdefault(field, []).append(sentence)

    def raise_any(self) -> None:
        """Raise InvalidFields if anything was wrong."""
        if self._errors:
            raise InvalidFields(self._errors)


def raise_all(problems: Sequence[tuple[str, str, str]]) -> None:
    """Raise what is wrong, given as (field, sentence, code); nothing wrong is fine.

    One is an Invalid; several are an InvalidFields with the code of the first.
    """
    if len(problems) == 1:
        field, message, code = problems[0]
        raise Invalid(message, field=field, code=code)
    if problems:
        errors: dict[str, list[str]] = {}
        for field, message, _ in problems:
            errors.setdefault(field, []).append(message)
        error = InvalidFields(errors)
        error.code = problems[0][2]
        raise error
