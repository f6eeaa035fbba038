"""Rotation of encryption keys: every secret in the database is encrypted again with the newest.

``EncryptedTextField`` decrypts with any of the configured keys and encrypts with the first. A key
can be taken off the list once nothing is encrypted with it any more; that is what this sees to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models.functions import Cast

from commands.models.fields import EncryptedTextField, cipher

BATCH = 200
"""Rows that are read at once."""
PASSES = 5
"""Most times that a column is gone over: somebody may change secrets faster than that."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What became of the secrets of one column, in rows."""

    model: str
    field: str
    fresh: int = 0
    """Were encrypted with the newest key without its doing."""
    renewed: int = 0
    unreadable: tuple[int, ...] = ()
    """Primary keys of rows that no configured key decrypts; they stay as they are."""


def columns() -> list[tuple[type[models.Model], str]]:
    """Every encrypted column of the project, by model and field name."""
    return [
        (model, field.name)
        for model in apps.get_models()
        for field in model._meta.local_concrete_fields
        if isinstance(field, EncryptedTextField)
    ]


def rotate() -> Iterator[Rotated]:
    """Encrypt with the newest key what another one encrypted; what was done, column by column.

    It may be cut short and begun again at any time, and secrets may be read and changed meanwhile:
    each row is looked at by itself, and one that somebody changes is left to that change. A process
    that has another key first changes it to that one's: so it is looked at again, and ``remaining``
    says at the end what came too late.
    """
    for model, field in columns():
        yield _rotate_column(model, field)


def remaining() -> dict[str, int]:
    """Secrets that are not encrypted with the newest key but can be read, by their column."""
    newest, any_of_them = _newest(), cipher()
    found: dict[str, int] = {}
    for model, field in columns():
        tokens = (token for _key, token in _tokens(model, field))
        older = (token for token in tokens if not _decrypts(newest, token))
        if number := sum(_decrypts(any_of_them, token) for token in older):
            found[f"{model._meta.label}.{field}"] = number
    return found


def _rotate_column(model: type[models.Model], field: str) -> Rotated:
    renewed: set[int] = set()
    for _pass in range(PASSES):
        seen = _go_over(model, field, renewed)
        if not seen.older:
            break
    return Rotated(model._meta.label, field, seen.fresh, len(renewed), tuple(seen.unreadable))


@dataclass(slots=True)
class _Seen:
    """What a column had when it was gone over; ``older`` came under another key."""

    fresh: int
    older: int
    unreadable: list[int]


def _go_over(model: type[models.Model], field: str, renewed: set[int]) -> _Seen:
    """Look at every token once; rows that are encrypted again are added to ``renewed``."""
    newest, seen = _newest(), _Seen(0, 0, [])
    for key, token in _tokens(model, field):
        if _decrypts(newest, token):
            seen.fresh += key not in renewed
        elif not _decrypts(cipher(), token):
            seen.unreadable.append(key)
        else:
            seen.older += 1
            if _renew(model, field, key, token):
                renewed.add(key)
    return seen


def _newest() -> Fernet:
    return Fernet(settings.CONSOLE_ENCRYPTION_KEYS[0])


def _tokens(model: type[models.Model], field: str) -> Iterator[tuple[int, str]]:
    """Primary keys and tokens as they are stored, of every row that has one."""
    last = 0
    while batch := list(
        _raw(model, field)
        .filter(pk__gt=last)
        .exclude(token="")
        .order_by("pk")
        .values_list("pk", "token")[:BATCH]
    ):
        yield from batch
        last = batch[-1][0]


def _raw(model: type[models.Model], field: str) -> models.QuerySet[Any]:
    """Rows with the stored text of ``field`` as ``token``: reading the field would decrypt it."""
    return model._base_manager.annotate(token=Cast(field, models.TextField()))


def _renew(model: type[models.Model], field: str, key: int, token: str) -> bool:
    """Encrypt one secret again, unless it was changed since ``token`` was read."""
    secret = cipher().decrypt(token.encode()).decode()
    return bool(_raw(model, field).filter(pk=key, token=token).update(**{field: secret}))


def _decrypts(with_keys: Any, token: str) -> bool:
    try:
        with_keys.decrypt(token.encode())
    except InvalidToken:
        return False
    return True
