"""The hub: one reader for the event streams of a web process.

Who watches what (``viewers``) changes in the event loop; all reading happens in one thread with
one database connection (``reading``), given back whenever nothing is left to read. A hub speaks
with one voice: for readers of another language or time zone there is another hub.

A viewer first gets a snapshot of all states, then, in batches as fast as it takes them, the
output that it lacks; when it has reached the tail it is *level* and gets changes with the others,
in frames at most ten times a second, at last ``done``. A viewer that is too slow is dropped; its
browser comes back with its cursor. News come as wake-ups over Redis; a slow tick finds what they
miss. Every few seconds it is asked, for all viewers at once, whether they may still look; where
that can't be asked for long, none of them does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import redis.asyncio
from django.conf import settings
from django.db import DatabaseError, connections

from commands.outputs import wake
from console import admission
from console.admission import Ticket
from console.fragments import Fragments
from console.preferences import Voice
from console.reading import Gone, News, Reader
from console.viewers import Topic, Viewer

log = logging.getLogger(__name__)

T = TypeVar("T")

FRAME_S = 0.1
"""Least time between two frames of a topic: ten a second at most."""
TURN_S = 0.02
"""Least time between two turns of reading, each for all topics that have news and are due."""
TICK_S = 1.0
"""How often every topic is read where wake-ups arrive, and where they do not."""
TICK_WITHOUT_WAKER_S = 0.25
ASK_AGAIN_S = 5.0
"""How often it is asked whether viewers may still look."""
UNASKED_S = 10.0
"""How long viewers go on at most while it can't be asked."""
ASKED_AT_ONCE = 100
IDLE_S = 60.0
"""How long a hub stays that nobody watches anything through."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to watch: a task, and of one run the output after ``position``."""

    invocation_id: int
    run_id: int | None
    position: int
    ticket: Ticket


class _Over(Exception):
    """Nothing can be read any more: the hub is closed."""


class Hub:
    """Reads for all viewers who share a voice. Make it inside the running event loop.

    It closes when nobody has watched for a while; ``at_end`` is called with it however it closes.
    """

    def __init__(self, voice: Voice, at_end: Callable[[Hub], None] = lambda _hub: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hub", initializer=voice.speak)
        self._reader = Reader()
        self._fragments = Fragments()
        self._topics: dict[int, Topic] = {}
        self._dirty: set[Topic] = set()
        self._news = asyncio.Event()
        self._redis_url = wake.redis_url(settings.CELERY_BROKER_URL)
        self._closed = False
        self._at_end = at_end
        self._used_at = self._asked_at = time.monotonic()
        work = [self._pump(), self._ask()]
        if self._redis_url:
            work.append(self._listen(self._redis_url))
        self._tasks = [self._loop.create_task(each) for each in work]

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the hub lives in."""
        return self._loop

    def keep(self) -> None:
        """Stay for a while: somebody is about to watch."""
        self._used_at = time.monotonic()

    async def watch(self, wanted: Wanted, *, once: bool = False) -> AsyncIterator[bytes]:
        """All events for one viewer, until the task has ended; with ``once`` those of now."""
        viewer = self._join(wanted)
        try:
            yield await self._read_for(lambda: self._reader.snapshot(viewer))
            while not viewer.level and not viewer.ended:
                if frames := await self._read_for(lambda: self._reader.catch_up(viewer)):
                    yield frames
            if once and not viewer.saw_end:
                return  # not what others were told since: the client would never know
            # The task may have ended meanwhile, or before. Level is who has what the others have,
            # which may be behind an end that was shown: the rest of the output comes first.
            self._wake(viewer.topic)
            while (frame := await self._next(viewer)) is not None:
                yield frame
        except DatabaseError as error:
            log.warning("The database does not answer, a stream ends: %s", error)
        except (_Over, Gone):
            return  # the browser asks again, and is told why
        except asyncio.CancelledError:
            if not self._closed:
                raise  # else it was the job that was cancelled
        finally:
            self._leave(viewer)

    def close(self) -> None:
        """End all streams: the server is going down, or there are none. Call it in its loop."""
        self._closed = True
        self._at_end(self)
        for topic in list(self._topics.values()):
            self._drop(topic.viewers)
        self._ending = self._loop.create_task(self._cancel())
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _cancel(self) -> None:
        """End all tasks. redis-py swallows a cancellation that comes while it connects."""
        pending = set(self._tasks)
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=TICK_S)

    # --- viewers -----------------------------------------------------------------------

    def _join(self, wanted: Wanted) -> Viewer:
        topic = self._topics.setdefault(wanted.invocation_id, Topic(wanted.invocation_id))
        viewer = Viewer(topic, wanted.run_id, wanted.position, wanted.ticket)
        topic.viewers.add(viewer)
        return viewer

    def _leave(self, viewer: Viewer) -> None:
        topic = viewer.topic
        topic.viewers.discard(viewer)
        if not topic.viewers and self._topics.get(topic.invocation_id) is topic:
            del self._topics[topic.invocation_id]
            self._dirty.discard(topic)
            self.keep()

    def _drop(self, viewers: Iterable[Viewer]) -> None:
        for viewer in list(viewers):
            viewer.drop()
            self._leave(viewer)

    async def _next(self, viewer: Viewer) -> bytes | None:
        try:
            return await viewer.next()
        except TimeoutError:
            return self._fragments.beat()

    # --- news --------------------------------------------------------------------------

    async def _listen(self, url: str) -> None:
        """Hear wake-ups, and go on hearing them when the broker comes back."""
        while True:
            client = redis.asyncio.Redis.from_url(url)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(wake.CHANNEL)
                    async for message in pubsub.listen():
                        self._wake(self._topics.get(int(message["data"])))
            except (redis.RedisError, OSError, ValueError) as error:
                log.info("No wake-ups for now: %s", error)
            finally:
                await client.aclose()
            await asyncio.sleep(TICK_S)

    def _wake(self, topic: Topic | None) -> None:
        if topic is not None:
            self._dirty.add(topic)
            self._news.set()

    async def _pump(self) -> None:
        """Turn after turn, read the topics that have news and are due."""
        tick_s = TICK_S if self._redis_url else TICK_WITHOUT_WAKER_S
        tick_at = time.monotonic() + tick_s
        while True:
            await self._news_until(min([tick_at, *(topic.next_at for topic in self._dirty)]))
            now = time.monotonic()
            if not self._topics and now - self._used_at >= IDLE_S:
                self.close()
                return
            if now >= tick_at:
                self._dirty.update(self._topics.values())
                tick_at = now + tick_s
            due = [topic for topic in self._dirty if topic.next_at <= now]
            if due:
                await self._turn(due, now)
                took = time.monotonic() - now
                await asyncio.sleep(min(max(TURN_S, took), FRAME_S))

    async def _news_until(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), max(0.0, until - time.monotonic()))
        self._news.clear()

    async def _turn(self, topics: list[Topic], now: float) -> None:
        for topic in topics:
            topic.next_at = now + FRAME_S
            self._dirty.discard(topic)
        viewers = {topic: list(topic.viewers) for topic in topics}
        try:
            await self._read_for(lambda: self._spread(viewers))
        except DatabaseError as error:
            log.warning("The database does not answer, streams wait: %s", error)
        except Exception:
            log.exception("Tasks can't be streamed")
            for each in viewers.values():
                self._drop(each)

    def _tell(self, topic: Topic, news: News) -> None:
        """Hand out what was read."""
        for viewer in news.viewers:
            frames = news.frames_for(viewer)
            if viewer.ended:
                continue
            if frames and not viewer.offer(frames):
                self._drop([viewer])
            elif news.done:
                viewer.end(self._fragments.done())
                self._leave(viewer)

    # --- who may look ------------------------------------------------------------------

    async def _ask(self) -> None:
        """Again and again, end the streams of those who may no longer look."""
        while True:
            await asyncio.sleep(ASK_AGAIN_S)
            viewers = [each for topic in self._topics.values() for each in topic.viewers]
            try:
                for first in range(0, len(viewers), ASKED_AT_ONCE):
                    await self._ask_for(viewers[first : first + ASKED_AT_ONCE])
                self._asked_at = time.monotonic()
            except _Over:
                return
            except DatabaseError as error:
                log.warning("The database does not answer, nobody was asked for: %s", error)
            except Exception:
                log.exception("Whether viewers may still look can't be asked")
            # The next turn would be too late for those who may not look any more.
            if time.monotonic() + ASK_AGAIN_S - self._asked_at > UNASKED_S:
                self._drop(viewers)

    async def _ask_for(self, viewers: list[Viewer]) -> None:
        tickets = {viewer.ticket for viewer in viewers}
        valid = await self._read_for(lambda: admission.still_valid(tickets))
        self._drop(viewer for viewer in viewers if viewer.ticket not in valid)

    # --- in the reader's thread --------------------------------------------------------

    async def _read_for(self, job: Callable[[], T]) -> T:
        if self._closed:
            raise _Over
        return await self._loop.run_in_executor(self._thread, _with_connection, job)

    def _spread(self, viewers: dict[Topic, list[Viewer]]) -> None:
        """Read topics and have their viewers told, each topic as soon as it was read.

        One that fails must not silence the others.
        """
        self._reader.refresh(viewers)
        chunks = self._reader.output(viewers)
        for topic, watching in viewers.items():
            try:
                news = self._reader.read(topic, watching, chunks)
            except DatabaseError:
                raise
            except Exception as error:
                if not isinstance(error, Gone):
                    log.exception("Task %s can't be streamed", topic.invocation_id)
                self._loop.call_soon_threadsafe(self._drop, watching)
            else:
                self._loop.call_soon_threadsafe(self._tell, topic, news)


def _with_connection(job: Callable[[], T]) -> T:
    try:
        return job()
    finally:
        connections.close_all()  # between readings none is held, whoever looks on
