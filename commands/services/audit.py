"""The audit trail: recording what is done, sealing it into a chain, and verifying the chain.

``record`` is called by every service that changes something, inside its transaction: what is
rolled back was not done. Once that is committed the event is *sealed*: numbered, and given a keyed
digest over its columns and the digest before. Sealing has a transaction of its own, so that no two
requests ever wait for each other because both are audited. Who changes, removes or inserts rows
without the key (``CONSOLE_AUDIT_KEY``) breaks the chain, and ``verify`` says where.

Details name what changed. Values that are secret, scripts and output never go in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from commands.models import AuditEvent, AuditHead, Team, User

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

SEALED_AT_ONCE = 1_000
UNSEALED_FOR = timedelta(minutes=5)
"""After that an event that is not sealed is a finding: nobody seals any more."""
_COLUMNS = (
    "actor_id",
    "actor_name",
    "origin",
    "action",
    "outcome",
    "team_uid",
    "team_name",
    "target_uid",
    "target_name",
    "details",
)
_origin: ContextVar[str] = ContextVar("audit_origin", default="")
_through: ContextVar[str] = ContextVar("audit_through", default="")


class Target(Protocol):
    """What something is done to: it has a public id, and is called something."""

    uid: str


@contextmanager
def origin(where: str) -> Iterator[None]:
    """Say where what is done in this context comes from: an address, or a command line."""
    token = _origin.set(where[:64])
    try:
        yield
    finally:
        _origin.reset(token)


@contextmanager
def through(key: str) -> Iterator[None]:
    """Say which access key, by its id, does what is done in this context."""
    token = _through.set(key)
    try:
        yield
    finally:
        _through.reset(token)


def record(
    *,
    actor: User | AnonymousUser | None,
    action: str,
    team: Team | None = None,
    target: Target | None = None,
    target_name: str = "",
    outcome: str = AuditEvent.Outcome.DONE,
    details: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> AuditEvent:
    """Note that ``actor`` did ``action`` (``resource:action``), or was refused it.

    ``details`` are short strings, numbers and lists of them, and no secrets.
    """
    key = _through.get()
    event = AuditEvent(
        at=now or timezone.now(),
        actor_id=actor.pk if actor else None,
        actor_name=_clean(actor.get_username() if actor else "", 150),
        origin=_origin.get(),
        action=action,
        outcome=outcome,
        team_uid=team.uid if team else "",
        team_name=team.name if team else "",
        target_uid=_clean(target.uid if target else "", 64),
        target_name=_clean(target_name or (str(target) if target else ""), 150),
        details=_plain({**(details or {}), **({"through": key} if key else {})}),
    )
    event.save()
    transaction.on_commit(seal, robust=True)
    return event


def seal() -> int:
    """Number the events that are not yet, in the order in which they came; how many there were."""
    if not AuditEvent.objects.filter(number=None).exists():
        return 0
    with transaction.atomic():
        AuditHead.objects.get_or_create(pk=1)
        head = AuditHead.objects.select_for_update().get(pk=1)
        events = list(AuditEvent.objects.filter(number=None).order_by("pk")[:SEALED_AT_ONCE])
        for event in events:
            event.number, event.previous = head.number + 1, head.digest
            event.digest = digest_of(event)
            head.number, head.digest = event.number, event.digest
        if events:
            AuditEvent.objects.bulk_update(events, ["number", "previous", "digest"])
            head.seal = seal_of(head)
            head.save()
    return len(events)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``verify`` found. ``findings`` are sentences; none means that nothing was altered."""

    events: int
    head: str
    findings: tuple[str, ...]


def verify(*, expected: str = "", now: datetime | None = None) -> Verdict:
    """Recompute the chain from its first event to its last.

    ``expected`` is what an earlier verification gave as ``head``: that event must still be there,
    which also shows a database that was put back to an older state.
    """
    findings: list[str] = []
    number, digest = 0, ""
    for event in AuditEvent.objects.exclude(number=None).order_by("number").iterator(2_000):
        findings += _check(event, number, digest)
        number, digest = event.number or 0, event.digest
    head = AuditHead.objects.filter(pk=1).first() or AuditHead(pk=1)
    if (head.number, head.digest) != (number, digest):
        findings.append(
            f"The chain ends at event {number}, and its head says {head.number}: events were "
            "removed or added at the end."
        )
    elif head.number and not hmac.compare_digest(head.seal, seal_of(head)):
        findings.append("The head of the chain was altered.")
    findings += _check_expected(expected)
    findings += _check_unsealed(now or timezone.now())
    return Verdict(number, f"{number}:{digest}", tuple(findings))


def altered(events: Sequence[AuditEvent]) -> set[int]:
    """Which of ``events``, by key, do not fit the chain: altered, or what they follow is gone.

    It looks at these alone; ``verify`` looks at all. What is not sealed yet fits.
    """
    sealed = [(event, event.number - 1) for event in events if event.number is not None]
    numbers = [before for _, before in sealed]
    found = AuditEvent.objects.filter(number__in=numbers).values_list("number", "digest")
    digests = {0: "", **dict(found)}
    return {
        event.pk
        for event, before in sealed
        if any(_check(event, before, digests.get(before, "missing")))
    }


def digest_of(event: AuditEvent) -> str:
    """The keyed digest of a stored event, its number and the digest before it."""
    columns = {name: getattr(event, name) for name in _COLUMNS}
    columns |= {"at": event.at.astimezone(UTC).isoformat(), "number": event.number}
    text = json.dumps(columns, sort_keys=True, separators=(",", ":"))
    return _keyed(f"event {event.previous} {text}")


def seal_of(head: AuditHead) -> str:
    """The keyed digest that says where the chain ends."""
    return _keyed(f"head {head.number} {head.digest}")


def _check(event: AuditEvent, number: int, digest: str) -> Iterator[str]:
    if event.number != number + 1:
        yield f"Events {number + 1} to {(event.number or 0) - 1} are missing."
    elif event.previous != digest:
        yield f"Event {event.number} does not follow the one before it."
    if not hmac.compare_digest(event.digest, digest_of(event)):
        yield f"Event {event.number} was altered ({event})."


def _check_expected(expected: str) -> Iterator[str]:
    if not expected:
        return
    number, _, digest = expected.partition(":")
    known = number.isdecimal() and AuditEvent.objects.filter(number=number, digest=digest).exists()
    if not known and expected != "0:":
        yield f"Event {number} is not the one that was expected: older events were put in place."


def _check_unsealed(now: datetime) -> Iterator[str]:
    waiting = AuditEvent.objects.filter(number=None, at__lt=now - UNSEALED_FOR).count()
    if waiting:
        yield f"{waiting:,} events were never sealed: they may have been altered."


def _keyed(text: str) -> str:
    key = settings.CONSOLE_AUDIT_KEY.encode()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _clean(text: str, most: int) -> str:
    """``text`` as every database takes it, no longer than its column."""
    return text.replace("\0", "").encode(errors="replace").decode()[:most]


def _plain(value: Any) -> Any:
    """``value`` as JSON takes it: anything else than numbers, lists and mappings is text."""
    if isinstance(value, Mapping):
        return {_clean(str(key), 64): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int):
        return value
    return _clean(str(value), 500)
