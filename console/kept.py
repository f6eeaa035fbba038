"""The form of somebody who was signed out meanwhile, until she has signed in again.

It waits in the session of the then anonymous visitor, encrypted, for 15 minutes, and is given
once, only to the person who filled it in: each form says who that is in a signed field.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from cryptography.fernet import InvalidToken
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest, QueryDict

from commands.models import User
from commands.models.fields import cipher

SECONDS = 15 * 60
BYTES = 64 * 1024
"""Longest body that is kept."""
OWNER = "owner"
"""The field of a form that says who filled it in."""
_KEY = "kept_form"
_NOT_KEPT = ("csrfmiddlewaretoken", OWNER)


class Waiting(Enum):
    """What became of a form that was sent without being signed in."""

    KEPT = "kept"
    TOO_LARGE = "too large"


def owner_mark(user: User) -> str:
    """The value of a form's field ``owner``: it names ``user`` and can't be made up."""
    return _signer().sign(str(user.pk))


def keep(request: HttpRequest) -> None:
    """Keep what was posted, or that it was too large; nothing if it is nobody's form.

    Call it in a view, where the CSRF token has been checked. A newer form replaces an older one.
    """
    owner = _owner(request.POST.get(OWNER, ""))
    if owner is None or request.content_type != "application/x-www-form-urlencoded":
        return
    body = request.POST.copy()
    for name in _NOT_KEPT:
        body.pop(name, None)
    small = len(request.body) <= BYTES
    form = {"owner": owner, "path": request.path, "body": body.urlencode() if small else None}
    request.session[_KEY] = cipher().encrypt(json.dumps(form).encode()).decode()


def waiting(request: HttpRequest) -> Waiting | None:
    """What the sign-in page has to say about a form; None if there is none."""
    form = _load(request)
    if form is None:
        return None
    return Waiting.TOO_LARGE if form["body"] is None else Waiting.KEPT


def settle(request: HttpRequest) -> None:
    """Forget, once somebody has signed in, a form that is not to be given to that person."""
    form = _load(request)
    if form is None or form["body"] is None or form["owner"] != str(request.user.pk):
        _forget(request)


def take(request: HttpRequest) -> QueryDict | None:
    """What to fill the form of this page with; it is forgotten with that. None for nothing.

    Only a GET takes it: nobody sees what answers a HEAD.
    """
    settle(request)
    form = _load(request)
    if form is None or request.method != "GET" or form["path"] != request.path:
        return None
    _forget(request)
    return QueryDict(form["body"])


def _signer() -> Signer:
    return Signer(salt="console.kept")


def _owner(mark: str) -> str | None:
    try:
        return _signer().unsign(mark)
    except BadSignature:
        return None


def _load(request: HttpRequest) -> dict[str, Any] | None:
    sealed = request.session.get(_KEY)
    if not sealed:
        return None
    try:
        form: dict[str, Any] = json.loads(cipher().decrypt(sealed.encode(), ttl=SECONDS))
    except InvalidToken:  # too old, or the keys were changed
        _forget(request)
        return None
    return form


def _forget(request: HttpRequest) -> None:
    request.session.pop(_KEY, None)
