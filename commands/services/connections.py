"""Connections: which instances are due for a light check, and what it found of them.

A check is *claimed* by moving ``checked_at`` to half a period ago: for that long nobody else
takes the instance, a worker that dies costs it no more than that, and what is shown never
looks fresher than it nearly is. A result counts only while the instance is the one that was
asked: enabled, at the same endpoint, and not checked by somebody else since.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.models import F, Q

from commands import queue
from commands.errors import Conflict
from commands.execution.executor import Endpoint
from commands.models import Credential, Instance
from commands.models.instance import InstanceQuerySet
from commands.rules import limits
from commands.rules.connection import Connection
from commands.services import jumps, runs
from commands.words import gettext as _
from commands.words import gettext_noop

log = logging.getLogger(__name__)

UNDECIPHERABLE = gettext_noop(
    "The instance's credential can't be decrypted: the console lacks the encryption key it was "
    "stored with. An admin must add that key."
)
UNUSABLE = gettext_noop(
    "The console can't use what it knows of this instance. The log of its worker says why."
)
_FORGOTTEN = {
    "connection": Connection.UNKNOWN.value,
    "connection_since": None,
    "checked_at": None,
    "connection_info": "",
    "system": "",
}
_FOUND = ["connection", "connection_since", "connection_info", "checked_at", "system"]


@dataclass(frozen=True, slots=True)
class Target:
    """An instance to check. Where it can't even be asked, ``endpoint`` is None.

    ``obstacle`` then says why, and ``state`` is what that makes of it.
    """

    instance_id: int
    endpoint: Endpoint | None
    obstacle: str = ""
    state: Connection = Connection.UNKNOWN


@dataclass(frozen=True, slots=True)
class Finding:
    """What the check of ``target`` found ``at`` that time.

    ``info`` is a sentence on why it is so, or ""; ``system`` the operating system's name, or ""
    where it was not said.
    """

    target: Target
    connection: Connection
    at: datetime
    info: str = ""
    system: str = ""


def due(*, now: datetime, limit: int) -> list[int]:
    """Ids of at most ``limit`` enabled instances to check now: new ones, then the longest ago."""
    oldest = _due(now).order_by(F("checked_at").asc(nulls_first=True), "pk")
    return list(oldest.values_list("pk", flat=True)[:limit])


def claim(*, instance_ids: Iterable[int], now: datetime) -> list[Target]:
    """Take those of ``instance_ids`` that are still due; others leave them alone for a while."""
    with transaction.atomic():
        rows = list(
            _due(now)
            .filter(pk__in=instance_ids)
            # Not joined: on PostgreSQL a row that may be missing can't be locked.
            .prefetch_related("jump_host")
            # No key: tasks on these instances may be created meanwhile.
            .select_for_update(no_key=True, skip_locked=True)
            .order_by("pk")
        )
        Instance.objects.filter(pk__in=[row.pk for row in rows]).update(
            checked_at=now - _every() / 2
        )
    return targets(rows)


def claim_now(*, instance: Instance, now: datetime) -> Target:
    """Take an instance whether it is due or not, for somebody who waits for the answer.

    Raises Conflict if it is switched off, or was removed.
    """
    with transaction.atomic():
        rows = Instance.objects.filter(pk=instance.pk).prefetch_related("jump_host")
        row = rows.select_for_update(no_key=True).first()
        if row is None or not row.enabled:
            sentence = _("%(name)s is switched off in the console. Switch it on first.")
            raise Conflict(sentence % {"name": instance.name})
        claimed = now - _every() / 2
        if row.checked_at is None or row.checked_at < claimed:
            Instance.objects.filter(pk=row.pk).update(checked_at=claimed)
    return targets([row])[0]


def let_go_of_database() -> None:
    """Give this thread's connection back before it waits for the network: there are few.

    Within a transaction nothing happens.
    """
    if not connection.in_atomic_block:
        connection.close()


def record(*, findings: Sequence[Finding]) -> int:
    """Store what checks found, where it still holds; of how many instances that was."""
    found = {finding.target.instance_id: finding for finding in findings}
    with transaction.atomic():
        rows = list(
            Instance.objects.filter(pk__in=found, enabled=True, checked_at__isnull=False)
            .prefetch_related("jump_host")
            .select_for_update(no_key=True)
            .order_by("pk")
        )
        same = {
            target.instance_id
            for target in targets(rows)
            if target == found[target.instance_id].target
        }
        news = [row for row in rows if row.pk in same and _apply(row, found[row.pk])]
        Instance.objects.bulk_update(news, _FOUND)
    return len(news)


def forget(instance: Instance) -> None:
    """Have an instance that is new, or reached in another way now, checked at once.

    The caller saves it; what is reached through it is forgotten, too. A check in progress finds
    that it is not the one that was asked.
    """
    forget_all([instance])


def forget_all(instances: Iterable[Instance]) -> None:
    """The same for many, who are checked on one word."""
    for instance in instances:
        for column, value in _FORGOTTEN.items():
            setattr(instance, column, value)
        if instance.pk is not None:
            instance.behind.update(**_FORGOTTEN)
    queue.enqueue(queue.Job.CHECK_CONNECTIONS)


def _every() -> timedelta:
    return timedelta(seconds=settings.CONSOLE_CHECK_EVERY)


def _due(now: datetime) -> InstanceQuerySet:
    old = Q(checked_at__isnull=True) | Q(checked_at__lte=now - _every())
    return Instance.objects.filter(old, enabled=True)


def targets(rows: Iterable[Instance]) -> list[Target]:
    """Targets with their secrets, each credential read once and alone: one may be unreadable.

    Whatever is wrong with one instance becomes its obstacle; the others don't suffer from it.
    """
    credentials: dict[int, Credential | None] = {}
    found = []
    for row in rows:
        if obstacle := jumps.obstacle(row):
            found.append(Target(row.pk, None, obstacle, Connection.UNREACHABLE))
        elif _readable(row, credentials) and _readable(row.jump_host, credentials):
            endpoint = runs.endpoint_or_none(row)
            obstacle = "" if endpoint else UNUSABLE
            state = Connection.UNKNOWN if endpoint else Connection.UNREACHABLE
            found.append(Target(row.pk, endpoint, obstacle, state))
        else:
            found.append(Target(row.pk, None, UNDECIPHERABLE, Connection.SIGN_IN_REFUSED))
    return found


def _readable(instance: Instance | None, credentials: dict[int, Credential | None]) -> bool:
    """Give the instance its credential, if that can be read. Each is read once."""
    if instance is None:
        return True
    key = instance.credential_id
    if key not in credentials:
        credentials[key] = _credential(key)
    credential = credentials[key]
    if credential is not None:
        instance.credential = credential
    return credential is not None


def _credential(key: int) -> Credential | None:
    try:
        return Credential.objects.get(pk=key)
    except ImproperlyConfigured as error:
        log.warning("Credential %s can't be used: %s", key, error)
        return None


def _apply(row: Instance, finding: Finding) -> bool:
    """Take a finding in; False where a newer one is there already."""
    if row.checked_at is None or row.checked_at > finding.at:
        return False
    if row.connection != finding.connection:
        row.connection, row.connection_since = finding.connection.value, finding.at
    row.connection_info, row.checked_at = finding.info, finding.at
    row.system = finding.system[: limits.SYSTEM_CHARS] or row.system
    return True
