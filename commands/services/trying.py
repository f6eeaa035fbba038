"""Connecting to an instance while somebody waits for the answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from commands import access
from commands.access import Permission
from commands.errors import Conflict, ConnectFailed
from commands.execution.executor import Endpoint, Executor
from commands.execution.ssh import SshExecutor
from commands.models import Credential, Instance, Region, Team, User
from commands.models.instance import ConnectionState
from commands.rules.connection import Connection, of_error
from commands.services import connections, instances, jumps, runs
from commands.services.connections import Finding
from commands.services.instances import NewCredential, Place
from commands.words import gettext as _

AT_ONCE = 8
"""Most people whom one process lets wait for an instance: each takes a thread."""

_turns = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True, slots=True)
class Answer:
    """How an instance answered: in which time, and what its system is called."""

    milliseconds: int
    system: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found. ``answer`` is None where there was none, and ``info`` says why."""

    connection: ConnectionState
    info: str
    answer: Answer | None


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """One of the few places for waiting. Raises Conflict if all are taken."""
    connections.let_go_of_database()
    if not _turns.acquire(timeout=5):
        raise Conflict(_("Too many connections are being tested now. Try again in a moment."))
    try:
        yield
    finally:
        _turns.release()


def test_connection(
    *, actor: User, team: Team, region: Region, place: Place, host_key: str
) -> Answer:
    """Sign in where an instance is said to be, without making it known.

    The credential may be one that is not kept yet. Raises Denied, Invalid, Conflict, ConnectFailed.
    Not within a transaction.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, team)
    with transaction.atomic():
        jumps.check(team=team, region=region, jump_host=place.jump_host)
    instance = Instance(
        team=team,
        region=region,
        host=place.host,
        port=place.port,
        user=place.user,
        credential=_credential(team, region, place.credential),
        os_type=place.os_type,
        jump_host=place.jump_host,
        host_key=instances.checked_host_key(host_key),
    )
    try:
        endpoint = runs.endpoint(instance)
    except ImproperlyConfigured:  # the jump host's credential
        raise Conflict(connections.UNDECIPHERABLE) from None
    return _asked(endpoint)


def _credential(team: Team, region: Region, given: Credential | NewCredential) -> Credential:
    if isinstance(given, Credential):
        instances.check_credential(team=team, region=region, credential=given)
        return given
    return Credential(
        kind=Credential.Kind.PASSWORD if given.password else Credential.Kind.PRIVATE_KEY,
        secret=given.password or given.private_key,
        passphrase=given.passphrase,
    )


def check_now(*, actor: User, instance: Instance) -> Checked:
    """Connect to an instance anew, and keep what is found as any check does.

    Raises Denied, and Conflict if it is switched off. Not within a transaction.
    """
    access.require_try(actor, instance)
    target = connections.claim_now(instance=instance, now=timezone.now())
    if target.endpoint is None:
        checked = Checked(ConnectionState(target.state), target.obstacle, None)
    else:
        checked = _checked(target.endpoint)
    system = checked.answer.system if checked.answer else ""
    finding = Finding(
        target, Connection(checked.connection), timezone.now(), info=checked.info, system=system
    )
    connections.record(findings=[finding])
    return checked


def _checked(endpoint: Endpoint) -> Checked:
    try:
        answer = _asked(endpoint)
    except ConnectFailed as error:
        return Checked(ConnectionState(of_error(error.code)), error.message, None)
    return Checked(ConnectionState.REACHABLE, "", answer)


def _asked(endpoint: Endpoint) -> Answer:
    executor = new_executor()
    with turn():
        began = time.monotonic()
        try:
            system = executor.probe(endpoint)
        finally:
            executor.close()
    return Answer(max(1, round((time.monotonic() - began) * 1000)), system)


def new_executor() -> Executor:
    """An executor that shares no connection with others: what it finds is new."""
    return SshExecutor()
