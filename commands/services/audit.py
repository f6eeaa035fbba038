"""The audit trail: recording what is done, sealing it into a chain, and verifying the chain.

``record`` is called by every service that changes something, inside its transaction: what is
rolled back was not done. It gives the event a keyed *mark*. Once that is committed the event is
*sealed*: numbered, and given a keyed digest over its columns and the digest before. Sealing has a
transaction of its own, so that no two requests ever wait for each other because both are audited.

Who changes, removes or inserts rows without the key (``CONSOLE_AUDIT_KEY``) breaks the chain, and
``verify`` says where. The console does not mend it for them: what has no mark is never sealed, a
chain whose end was altered is not extended, and one that begins anew says so in its first event.

Details name what changed. Values that are secret, scripts and output never go in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from commands.models import AuditEvent, AuditHead, Team, User

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser
    from django.db.models import QuerySet

log = logging.getLogger(__name__)

BEGIN = "audit:begin"
"""The first event of every chain, by nobody: since when the trail goes."""
SEALED_AT_ONCE = 1_000
UNSEALED_FOR = timedelta(minutes=5)
"""After that an event that is not sealed is a finding: nobody seals any more."""
COMPLAINED_EVERY_S = 600.0
"""Seconds after which a process writes the same into the log again."""
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
_complained: dict[str, float] = {}
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
        nonce=secrets.token_hex(16),
    )
    event.mark = mark_of(event)
    event.save()
    transaction.on_commit(seal, robust=True)
    return event


def seal() -> int:
    """Number the events that are not yet, in the order in which they came; how many there were.

    It leaves out what the console did not put in, and all if the chain does not end where its head
    says: what somebody has altered must not look whole again.
    """
    if not AuditEvent.objects.filter(number=None).exists():
        return 0
    with transaction.atomic():
        head = _locked_head()
        if head is None:
            return 0
        events = _marked()
        for event in events:
            _append(head, event)
            event.mark = ""
        AuditEvent.objects.bulk_update(events, ["number", "previous", "digest", "mark"])
        head.seal = seal_of(head)
        head.save()
    return len(events)


def _locked_head() -> AuditHead | None:
    """The head of a chain that can be extended, locked. A chain that there is not begins here."""
    head, made = AuditHead.objects.get_or_create(pk=1)
    last = AuditEvent.objects.exclude(number=None).order_by("-number")
    if made and not last.exists():
        begin = AuditEvent(at=timezone.now(), action=BEGIN, nonce=secrets.token_hex(16))
        _append(head, begin)
        begin.save()
        return head
    if made:
        head.delete()
        _complain("The head of the audit trail is gone: no event is sealed.")
        return None
    head = AuditHead.objects.select_for_update().get(pk=1)
    end = last.values_list("number", "digest").first()
    if not _same(head.seal, seal_of(head)) or end != (head.number, head.digest):
        _complain("The end of the audit trail was altered: no event is sealed.")
        return None
    return head


def _marked() -> list[AuditEvent]:
    """The events that are to be sealed next."""
    events: list[AuditEvent] = []
    for event in AuditEvent.objects.filter(number=None).order_by("pk").iterator(SEALED_AT_ONCE):
        if not is_marked(event):
            _complain("Somebody without the key put events into the audit trail.")
        elif len(events) < SEALED_AT_ONCE:
            events.append(event)
        else:
            break
    return events


def _append(head: AuditHead, event: AuditEvent) -> None:
    """Let ``event`` follow the one where the chain ends."""
    event.number, event.previous = head.number + 1, head.digest
    event.digest = digest_of(event)
    head.number, head.digest = event.number, event.digest


def _complain(text: str) -> None:
    """Write ``text`` into the log, now and then: whatever is sealed would say it."""
    now = time.monotonic()
    if now - _complained.get(text, -math.inf) >= COMPLAINED_EVERY_S:
        _complained[text] = now
        log.error("%s `manage.py verify_audit` says more.", text)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``verify`` found. ``findings`` are sentences; none means that nothing was altered.

    ``since`` is when the first event happened: who empties the tables makes that a later day.
    """

    events: int
    head: str
    findings: tuple[str, ...]
    since: datetime | None = None


def verify(*, expected: str = "", now: datetime | None = None) -> Verdict:
    """Recompute the chain from its first event to its last.

    ``expected`` is what an earlier verification gave as ``head``: that event must still be there,
    which also shows a database that was put back to an older state.
    """
    walk = _Walk()
    walk.on(AuditEvent.objects.exclude(number=None))
    head = AuditHead.objects.filter(pk=1).first()
    if head is not None:
        # What was sealed in the meantime. The head goes up with it, and can't be behind it.
        walk.on(AuditEvent.objects.filter(number__gt=walk.number, number__lte=head.number))
    findings = [
        *walk.findings,
        *_check_end(head, walk),
        *_check_once(),
        *_check_expected(expected),
        *_check_unsealed(now or timezone.now()),
        *_check_gone(head),
    ]
    return Verdict(walk.number, f"{walk.number}:{walk.digest}", tuple(findings), walk.since)


class _Walk:
    """Along the chain, from its first event on."""

    def __init__(self) -> None:
        self.number, self.digest = 0, ""
        self.since: datetime | None = None
        self.findings: list[str] = []

    def on(self, events: QuerySet[AuditEvent]) -> None:
        """Go on with ``events``, which are sealed."""
        for event in events.order_by("number").iterator(2_000):
            self.findings += _check(event, self.number, self.digest)
            self.findings += _check_begin(event, first=self.since is None)
            self.number, self.digest = event.number or 0, event.digest
            self.since = self.since or event.at


def altered(events: Sequence[AuditEvent]) -> set[int]:
    """Which of ``events``, by key, do not fit the chain: altered, or what they follow is gone.

    It looks at these alone; ``verify`` looks at all. What is not sealed yet fits if the console put
    it in.
    """
    sealed = [(event, event.number - 1) for event in events if event.number is not None]
    numbers = [before for _, before in sealed]
    found = AuditEvent.objects.filter(number__in=numbers).values_list("number", "digest")
    digests = {0: "", **dict(found)}
    foreign = {event.pk for event in events if event.number is None and not is_marked(event)}
    return foreign | {
        event.pk
        for event, before in sealed
        if any(_check(event, before, digests.get(before, "missing")))
    }


def mark_of(event: AuditEvent) -> str:
    """The keyed digest that says that the console put an event in."""
    return _keyed(f"mark {_text(_columns_of(event))}")


def is_marked(event: AuditEvent) -> bool:
    """Whether the console put in an event that is not sealed yet, just as it is."""
    return bool(event.nonce) and _same(event.mark, mark_of(event))


def digest_of(event: AuditEvent) -> str:
    """The keyed digest of a stored event, its number and the digest before it."""
    text = _text({**_columns_of(event), "number": event.number})
    return _keyed(f"event {event.previous} {text}")


def seal_of(head: AuditHead) -> str:
    """The keyed digest that says where the chain ends."""
    return _keyed(f"head {head.number} {head.digest}")


def _check(event: AuditEvent, number: int, digest: str) -> Iterator[str]:
    if event.number != number + 1:
        yield f"Events {number + 1} to {(event.number or 0) - 1} are missing."
    elif event.previous != digest:
        yield f"Event {event.number} does not follow the one before it."
    if not _same(event.digest, digest_of(event)):
        yield f"Event {event.number} was altered ({event})."


def _check_begin(event: AuditEvent, *, first: bool) -> Iterator[str]:
    if event.action == BEGIN and event.number != 1:
        yield f"Event {event.number} says that the trail begins there."
    # Without a nonce it was sealed by a version that had no such event: its digest says so.
    elif first and event.action != BEGIN and event.nonce:
        yield f"The trail does not begin with {BEGIN}: what came first was removed."


def _check_end(head: AuditHead | None, walk: _Walk) -> Iterator[str]:
    if head is None:
        if walk.number:
            yield "The head of the chain is gone."
    elif (head.number, head.digest) != (walk.number, walk.digest):
        yield (
            f"The chain ends at event {walk.number}, and its head says {head.number}: events were "
            "removed or added at the end."
        )
    elif not _same(head.seal, seal_of(head)):
        yield "The head of the chain was altered."


def _check_once() -> Iterator[str]:
    events = AuditEvent.objects.exclude(nonce="").order_by()
    copied = events.values("nonce").annotate(times=Count("pk")).filter(times__gt=1).count()
    if copied:
        yield f"{copied:,} events are there more than once."


def _check_gone(head: AuditHead | None) -> Iterator[str]:
    if head is None and not AuditEvent.objects.exists() and User.objects.exists():
        yield "There are people, and no event: the trail is gone or never began."


def _check_expected(expected: str) -> Iterator[str]:
    if not expected:
        return
    number, _, digest = expected.partition(":")
    known = number.isdecimal() and AuditEvent.objects.filter(number=number, digest=digest).exists()
    if not known and expected != "0:":
        yield f"Event {number} is not the one that was expected: older events were put in place."


def _check_unsealed(now: datetime) -> Iterator[str]:
    waiting = foreign = 0
    for event in AuditEvent.objects.filter(number=None).order_by("pk").iterator(2_000):
        if not is_marked(event):
            foreign += 1
        elif event.at < now - UNSEALED_FOR:
            waiting += 1
    if foreign:
        yield f"{foreign:,} events were put in or altered by somebody without the key."
    if waiting:
        yield f"{waiting:,} events were never sealed."


def _columns_of(event: AuditEvent) -> dict[str, Any]:
    columns = {name: getattr(event, name) for name in _COLUMNS}
    columns["at"] = event.at.astimezone(UTC).isoformat()
    return {**columns, "nonce": event.nonce} if event.nonce else columns


def _text(columns: Mapping[str, Any]) -> str:
    return json.dumps(columns, sort_keys=True, separators=(",", ":"))


def _same(stored: str, computed: str) -> bool:
    """Whether a stored digest is the one that was computed. What is stored can be any text."""
    return hmac.compare_digest(stored.encode(errors="replace"), computed.encode())


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
