"""Sessions of a person, seen as a whole; their access keys end with them if they want that."""

from __future__ import annotations

from datetime import datetime
from importlib import import_module

from django.conf import settings
from django.db import transaction
from django.db.models import F

from commands.models import User
from commands.services import access_keys, audit


@transaction.atomic
def end_all(*, actor: User, keys: bool = False, now: datetime) -> int:
    """End every session of ``actor``, this one too unless the caller binds it anew.

    With ``keys`` their access keys are revoked, in all teams. Says how many those were.
    """
    User.objects.filter(pk=actor.pk).update(session_generation=F("session_generation") + 1)
    actor.refresh_from_db(fields=["session_generation"])
    audit.record(actor=actor, action="session:end-all", target_name=actor.username, now=now)
    return access_keys.end_all(actor=actor, owner=actor, now=now) if keys else 0


def forget_expired() -> None:
    """Delete sessions that are over; nobody can go on with one."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


@transaction.atomic
def set_password(*, actor: User, password: str, keys: bool = False, now: datetime) -> int:
    """Give ``actor`` another password, which ends every session as ``end_all`` does.

    With ``keys`` their access keys are revoked, in all teams. Says how many those were. That the
    password is good enough is checked by the form.
    """
    actor.set_password(password)
    actor.save(update_fields=["password"])
    return password_changed(actor=actor, keys=keys, now=now)


@transaction.atomic
def password_changed(*, actor: User, keys: bool, now: datetime) -> int:
    """Note that ``actor`` has another password, and end what ``set_password`` says."""
    audit.record(actor=actor, action="password:change", target_name=actor.username, now=now)
    return access_keys.end_all(actor=actor, owner=actor, now=now) if keys else 0
