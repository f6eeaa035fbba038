"""Collects what is wrong with several fields, so that a person sees all of it at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from commands.errors import Invalid, InvalidFields

T = TypeVar("T")


class Problems:
    """What was found wrong so far, as sentences by field."""

    def __init__(self) -> None:
        self._errors: dict[str, list[str]] = {}
        self._codes: dict[str, str] = {}

    def collect(self, check: Callable[[], T], fallback: T) -> T:
        """The result of ``check``, or ``fallback`` where it finds something wrong."""
        try:
            return check()
        except InvalidFields as error:
            for name, texts in error.errors.items():
                self._errors.setdefault(name, []).extend(texts)
                self._codes.setdefault(name, error.code if name == error.field else Invalid.code)
        except Invalid as error:
            self.add(error.field, error.message, code=error.code)
        return fallback

    def add(self, field: str, sentence: str, *, code: str = Invalid.code) -> None:
        """Note one thing that is wrong with ``field``."""
        self._errors.setdefault(field, []).append(sentence)
        self._codes.setdefault(field, code)

    def __bool__(self) -> bool:
        """Whether anything was wrong."""
        return bool(self._errors)

    def about(self, fields: Collection[str]) -> Problems:
        """Those with some fields only."""
        found = Problems()
        found._errors = {name: texts for name, texts in self._errors.items() if name in fields}
        found._codes = {name: code for name, code in self._codes.items() if name in fields}
        return found

    def sentences(self) -> list[str]:
        """All that was wrong, whatever it is about."""
        return [text for texts in self._errors.values() for text in texts]

    def raise_any(self) -> None:
        """Raise InvalidFields if anything was wrong, with the field and the code of the first."""
        for first, code in self._codes.items():
            raise InvalidFields(self._errors, field=first, code=code)


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
        first, _, code = problems[0]
        raise InvalidFields(errors, field=first, code=code)
