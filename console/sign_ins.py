"""Notes in the audit trail who signs in and out, and who tries to.

A name that was typed is noted only if somebody is called that: people type passwords there, too.
"""

from __future__ import annotations

import hashlib
from typing import Any

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.cache import cache
from django.dispatch import receiver
from django.http import HttpRequest

from commands.models import AuditEvent, User
from commands.services import audit


@receiver(user_logged_in)
def signed_in(request: HttpRequest | None, user: User, **_signal: Any) -> None:
    """Note that somebody signed in."""
    with audit.origin(_address(request)):
        audit.record(actor=user, action="session:sign-in", target_name=user.username)


@receiver(user_logged_out)
def signed_out(request: HttpRequest | None, user: User | None, **_signal: Any) -> None:
    """Note that somebody signed out, or was because the session was over."""
    if user is not None:
        with audit.origin(_address(request)):
            audit.record(actor=user, action="session:sign-out", target_name=user.username)


@receiver(user_login_failed)
def failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_signal: Any) -> None:
    """Note a wrong password or code. What comes while the name is locked is ``locked_out``."""
    if getattr(request, "axes_locked_out", False):
        return
    with audit.origin(_address(request)):
        audit.record(
            actor=None,
            action="session:sign-in",
            target_name=_known(credentials.get("username")),
            outcome=AuditEvent.Outcome.FAILED,
        )


@receiver(user_locked_out)
def locked_out(request: HttpRequest, username: str | None, **_signal: Any) -> None:
    """Note that a name has to wait, once for each pause, however often it is tried meanwhile."""
    who = hashlib.sha256(f"{username} {_address(request)}".encode(errors="replace")).hexdigest()
    if not cache.add(f"locked-out-{who}", True, settings.AXES_COOLOFF_TIME.total_seconds()):
        return
    with audit.origin(_address(request)):
        audit.record(
            actor=None,
            action="session:lock-out",
            target_name=_known(username),
            outcome=AuditEvent.Outcome.REFUSED,
        )


def _known(name: str | None) -> str:
    """``name``, if somebody is called that."""
    if not name or "\0" in name or not name.isprintable():
        return ""
    found = User.objects.filter(username=name).values_list("username", flat=True).first()
    return found or ""


def _address(request: HttpRequest | None) -> str:
    return request.META.get("REMOTE_ADDR", "") if request is not None else ""
