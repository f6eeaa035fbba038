"""Celery tasks. Each takes ids, calls one service, and ends within moments."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.exceptions import Reject
from celery.signals import worker_shutting_down
from django.utils import timezone

from commands.queue import Job
from commands.services import (
    access_keys,
    approvals,
    audit,
    importing,
    notices,
    pacing,
    preflight,
    quotas,
    retention,
    runs,
    sessions,
    stopping,
    worker,
)


@shared_task(name=Job.START_RUNS.value)
def start_runs(run_ids: list[int]) -> None:
    """Start new runs, unless another worker has them already."""
    _take(run_ids)


@shared_task(name=Job.STOP_RUNS.value)
def stop_runs() -> None:
    """Ask instances to end runs that are to be stopped. It only rings: nothing is waited for."""
    try:
        worker.current().stopper.ask()
    except worker.Ending:
        pass  # the reconciler rings in another worker


@shared_task(name=Job.ADVANCE.value)
def advance(invocation_id: int) -> None:
    """Let the next runs of a task begin, or none any more, now that one has ended."""
    pacing.advance(invocation_id=invocation_id, now=timezone.now())


@shared_task(name=Job.RECONCILE.value)
def reconcile() -> None:
    """Do what was lost with a message or a worker, and end what is far past its deadline."""
    now = timezone.now()
    if overdue := runs.overdue(now=now):
        _take(overdue)
    if stopping.is_due(now=now):
        stop_runs()
    if preflight.is_due(now=now):
        examine()
    if importing.is_due(now=now):
        read_host_keys()
    pacing.advance_all(now=now)
    audit.seal()
    runs.expire(now=now)
    approvals.expire(now=now)
    preflight.expire(now=now)
    importing.expire(now=now)


@shared_task(name=Job.CHECK_CONNECTIONS.value)
def check_connections() -> None:
    """Have instances checked that are due. It only rings: nothing is waited for here."""
    try:
        worker.current().checker.ask()
    except worker.Ending:
        pass  # the next message reaches another worker


@shared_task(name=Job.PURGE.value)
def purge() -> None:
    """Delete some of what is kept no longer; what is left goes the next time."""
    retention.purge(now=timezone.now())
    notices.forget_tests(now=timezone.now())
    access_keys.forget_nonces(now=timezone.now())
    access_keys.forget_ended(now=timezone.now())
    sessions.forget_expired()


@shared_task(name=Job.NOTE_USE.value)
def note_use() -> None:
    """Remember what teams use today, for the charts of past days."""
    quotas.note_use(now=timezone.now())


@shared_task(name=Job.EXAMINE.value)
def examine() -> None:
    """Have instances looked at that somebody wants to know of. It only rings."""
    try:
        worker.current().examiner.ask()
    except worker.Ending:
        pass  # the reconciler rings in another worker


@shared_task(name=Job.READ_HOST_KEYS.value)
def read_host_keys() -> None:
    """Have hosts asked for their keys that somebody is about to import. It only rings."""
    try:
        worker.current().key_reader.ask()
    except worker.Ending:
        pass  # the reconciler rings in another worker


@shared_task(name=Job.SEND_NOTICES.value)
def send_notices() -> None:
    """Have it told what tasks have ended. It only rings: nothing is waited for here."""
    try:
        worker.current().messenger.ask()
    except worker.Ending:
        pass  # the next message reaches another worker


@shared_task(name=Job.LOOK_FOR_STALLS.value)
def look_for_stalls() -> None:
    """Have it looked at runs that print nothing, whether they wait for input. It only rings."""
    try:
        worker.current().lookout.ask()
    except worker.Ending:
        pass  # the next message reaches another worker


@worker_shutting_down.connect
def let_go(**_signal: Any) -> None:
    """Give runs back as soon as the worker is told to end, so that nobody waits for leases."""
    worker.end()


def _take(run_ids: list[int]) -> None:
    try:
        worker.current().take(run_ids, now=timezone.now())
    except worker.Ending:
        raise Reject(requeue=True) from None  # the broker gives it to another worker
