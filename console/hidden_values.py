"""Hidden values of a form between two tries: a page never holds them, yet nobody types them twice.

They wait in the session, encrypted, for 15 minutes: by the form's client token, and by its
*slot*, which says what they are for (a new command, or which saved one). A value that was typed
for one command is never filled into another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.fernet import InvalidToken
from django.http import HttpRequest

from commands.models.fields import cipher
from commands.rules import limits

_KEY = "hidden_values"
SECONDS = 15 * 60
FORMS = 10
"""Forms and slots of one session whose hidden values are kept: the newest."""
BYTES = 64 * 1024
"""Most bytes of the values of one form; more are not kept."""


def keep(request: HttpRequest, token: str, slot: str, values: Mapping[str, str]) -> None:
    """Add values, by key, to those that are kept for a slot of a form."""
    if not values or not 0 < len(token) <= limits.CLIENT_TOKEN_CHARS:
        return
    kept = _load(request)
    name = f"{slot} {token}"
    together = {**known(request, token, slot), **values}
    kept.pop(name, None)
    if sum(len(value.encode()) for value in together.values()) <= BYTES:
        kept[name] = {"until": time.time() + SECONDS, "values": together}
    _store(request, dict(list(kept.items())[-FORMS:]))


def known(request: HttpRequest, token: str, slot: str) -> dict[str, str]:
    """The values, by key, that are kept for a slot of a form."""
    found = _load(request).get(f"{slot} {token}")
    return dict(found["values"]) if found else {}


def forget(request: HttpRequest, token: str, slot: str) -> None:
    """Forget what is kept for a slot of a form: it has served."""
    kept = _load(request)
    if kept.pop(f"{slot} {token}", None):
        _store(request, kept)


def _load(request: HttpRequest) -> dict[str, Any]:
    sealed = request.session.get(_KEY)
    if not sealed:
        return {}
    try:
        kept: dict[str, Any] = json.loads(cipher().decrypt(sealed.encode()))
    except InvalidToken:  # the keys were changed: they have to be typed again
        return {}
    return {token: one for token, one in kept.items() if one["until"] > time.time()}


def _store(request: HttpRequest, kept: Mapping[str, Any]) -> None:
    if kept:
        request.session[_KEY] = cipher().encrypt(json.dumps(kept).encode()).decode()
    elif _KEY in request.session:
        del request.session[_KEY]
