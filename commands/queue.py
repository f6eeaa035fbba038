"""The only door to the broker: names of background jobs, and how to ask for one.

Services ask for jobs by name and never import tasks. A message carries ids and nothing else:
it is a hint that may be lost or doubled, the rows are the truth.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from functools import partial

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


class Job(StrEnum):
    """Background jobs, by the name of their Celery task."""

    START_RUNS = "commands.tasks.start_runs"
    STOP_RUNS = "commands.tasks.stop_runs"
    ADVANCE = "commands.tasks.advance"
    RECONCILE = "commands.tasks.reconcile"
    CHECK_CONNECTIONS = "commands.tasks.check_connections"
    PURGE = "commands.tasks.purge"
    NOTE_USE = "commands.tasks.note_use"
    EXAMINE = "commands.tasks.examine"
    READ_HOST_KEYS = "commands.tasks.read_host_keys"
    SEND_NOTICES = "commands.tasks.send_notices"
    LOOK_FOR_STALLS = "commands.tasks.look_for_stalls"


def enqueue(job: Job, **ids: object) -> None:
    """Ask for ``job`` once the present transaction is committed.

    A broker that does not answer is not an error: the reconciler finds what waits.
    """
    transaction.on_commit(partial(_send, job, ids))


def hint(job: Job, **ids: object) -> None:
    """Ask for ``job`` at once, from a thread without a database connection."""
    _send(job, ids)


def _send(job: Job, ids: dict[str, object]) -> None:
    try:
        current_app.send_task(job.value, kwargs=ids, retry=False)
    except OperationalError as error:
        log.warning("The broker does not answer; %s waits for the reconciler: %s", job, error)
