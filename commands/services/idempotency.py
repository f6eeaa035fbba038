"""Requests that may come twice: the same token makes one task, another request is a conflict."""

from __future__ import annotations

import json

from django.utils.crypto import salted_hmac

from commands.errors import IdempotencyMismatch
from commands.models import Invocation, Team, User
from commands.words import gettext as _


def digest(*request: object) -> str:
    """A digest of what was asked; ``request`` must be JSON's types.

    Keyed, so that nobody who reads the database can guess a weak value from it.
    """
    return salted_hmac("invocation", json.dumps(request), algorithm="sha256").hexdigest()


def earlier(*, actor: User, team: Team, token: str, digest: str) -> Invocation | None:
    """The task that ``actor`` made with this token before; None for the first time.

    Raises IdempotencyMismatch if that was another request.
    """
    if not token:
        return None
    found = Invocation.objects.filter(team=team, created_by=actor, client_token=token).first()
    if found is not None and found.request_digest != digest:
        raise IdempotencyMismatch(
            _("You changed the form after it was sent. Check it and create again.")
        )
    return found
