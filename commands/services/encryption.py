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


@dataclass(frozen=True, slots=True)
class Rotated:
    """What became of the secrets of one column, in rows."""

    model: str
    field: str
    fresh: int = 0
    """Were encrypted with the newest key already."""
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
    each row is looked at by itself, and one that somebody changes is left to that change.
    """
    for model, field in columns():
        yield _rotate_column(model, field)


def _rotate_column(model: type[models.Model], field: str) -> Rotated:
    newest = Fernet(settings.CONSOLE_ENCRYPTION_KEYS[0])
    fresh = renewed = 0
    unreadable: list[int] = []
    for key, token in _tokens(model, field):
        if _decrypts(newest, token):
            fresh += 1
        elif not _decrypts(cipher(), token):
            unreadable.append(key)
        else:
            renewed += _renew(model, field, key, token)
    return Rotated(model._meta.label, field, fresh, renewed, tuple(unreadable))


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
