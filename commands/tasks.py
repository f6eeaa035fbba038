"""Celery tasks. Each takes ids, calls one service, and ends within moments."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.exceptions import Reject
from celery.signals import worker_shutting_down
from django.utils import timezone

from commands.queue import Job
from commands.services import pacing, runs, stopping, worker


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
    pacing.advance_all(now=now)
    runs.expire(now=now)


@shared_task(name=Job.CHECK_CONNECTIONS.value)
def check_connections() -> None:
    """Have instances checked that are due. It only rings: nothing is waited for here."""
    try:
        worker.current().checker.ask()
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
