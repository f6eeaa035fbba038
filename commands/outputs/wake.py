"""Wake-ups: a broadcast "this task has news" over Redis, ids only, never data.

A wake-up that is lost costs a listener one turn of its slow tick; without Redis as broker
there are none and listeners live on the tick alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import redis
from django.conf import settings

CHANNEL = "command-console:news"
"""The channel; a message is the primary key of an invocation."""

log = logging.getLogger(__name__)


def redis_url(broker_url: str) -> str | None:
    """The address for a Redis client, from Celery's; None for another kind of broker."""
    if broker_url.startswith("redis+socket://"):
        return "unix://" + broker_url.removeprefix("redis+socket://")
    return broker_url if broker_url.startswith(("redis://", "rediss://")) else None


class Waker:
    """Tells listeners about news. Errors are logged and swallowed: it is only a hint."""

    def __init__(self) -> None:
        url = redis_url(settings.CELERY_BROKER_URL)
        self._client = (
            redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) if url else None
        )

    def announce(self, invocation_ids: Iterable[int]) -> None:
        """Say that these invocations have news."""
        if self._client is None:
            return
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for invocation_id in invocation_ids:
                    pipeline.publish(CHANNEL, str(invocation_id))
                pipeline.execute()
        except redis.RedisError as error:
            log.debug("No wake-up was sent: %s", error)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
