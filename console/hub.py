"""The hub: one reader for all event streams of a web process.

Viewers of one task share a *topic*; viewers of one instance's output share a *tail*, so that
rows are read and fragments rendered once, however many look on. All reading happens in one
thread with one database connection, given back whenever nothing is left to read; all viewers
live in the event loop. News come as wake-ups over Redis; a slow tick finds what they miss.

A viewer gets bytes of ``text/event-stream``: first a snapshot of all states, then what it
lacks of the watched output, then changes in frames at most ten times a second, at last
``done``. A viewer that is too slow is dropped; its browser comes back with its cursor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import redis.asyncio
from django.conf import settings
from django.db import DatabaseError, connections
from django.utils import timezone

from commands.models import Invocation, Run
from commands.outputs import store, wake
from console import presentation
from console.cursor import Cursor
from console.fragments import Fragments
from console.lines import Assembler

log = logging.getLogger(__name__)

FRAME_S = 0.1
"""Least time between two readings: ten frames a second at most."""
TICK_S = 1.0
"""How often every topic is read where wake-ups arrive, and where they do not."""
TICK_WITHOUT_WAKER_S = 0.25
QUEUED_FRAMES = 64
RECENT_BYTES = 512 * 1024
LAGGING_READ = 256


_Frame = tuple[int | None, bytes]
"""Bytes of an event, and the sequence of the chunk it was made of (None for states)."""


@dataclass(eq=False)
class Viewer:
    """One open stream. ``frames`` ends with None."""

    invocation_id: int
    run_id: int | None
    frames: asyncio.Queue[bytes | None] = field(
        default_factory=lambda: asyncio.Queue(QUEUED_FRAMES)
    )
    initial: list[bytes] = field(default_factory=list)
    position: int = -1
    """Sequence of the last chunk that the client had when it came: it may be ahead of the tail."""
    finished: bool = False

    def offer(self, frame: bytes | None) -> bool:
        """Queue a frame; False if the viewer is too slow for it."""
        try:
            self.frames.put_nowait(frame)
        except asyncio.QueueFull:
            return False
        return True

    def end(self) -> None:
        """Let the stream end, also where its queue is full."""
        while not self.offer(None):
            self.frames.get_nowait()


@dataclass
class _Tail:
    """How far the output of one run was read, and the last frames made of it."""

    run_id: int
    instance_uid: str
    assembler: Assembler = field(default_factory=Assembler)
    sequence: int = -1
    recent: deque[tuple[int, bytes]] = field(default_factory=deque)
    recent_bytes: int = 0

    def cursor(self) -> Cursor:
        return Cursor(self.instance_uid, self.sequence)

    def keep(self, sequence: int, frame: bytes) -> None:
        """Remember the frame that a chunk became, for viewers that lag a little."""
        self.recent.append((sequence, frame))
        self.recent_bytes += len(frame)
        while self.recent_bytes > RECENT_BYTES:
            self.recent_bytes -= len(self.recent.popleft()[1])

    def since(self, sequence: int) -> list[bytes] | None:
        """Frames after ``sequence``, or None if they are not all remembered."""
        if sequence >= self.sequence:
            return []
        if not self.recent or self.recent[0][0] > sequence + 1:
            return None
        return [frame for number, frame in self.recent if number > sequence]


@dataclass
class _Topic:
    """One task that somebody watches."""

    invocation: Invocation
    viewers: set[Viewer] = field(default_factory=set)
    tails: dict[int, _Tail] = field(default_factory=dict)
    states: dict[int, tuple[object, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _News:
    """Frames for viewers, by the run they watch."""

    frames: dict[int | None, list[_Frame]]
    done: bool
    viewers: list[Viewer]


class Hub:
    """Reads for all viewers of this process. Make it inside the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="hub")
        self._topics: dict[int, _Topic] = {}
        self._dirty: set[int] = set()
        self._news = asyncio.Event()
        self._fragments = Fragments()
        self._redis_url = wake.redis_url(settings.CELERY_BROKER_URL)
        self._closed = False
        self._tasks = [self._loop.create_task(self._pump())]
        if self._redis_url:
            self._tasks.append(self._loop.create_task(self._listen(self._redis_url)))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the hub lives in."""
        return self._loop

    async def join(self, invocation_id: int, run_id: int | None, cursor: Cursor | None) -> Viewer:
        """A viewer of a task, and of one run's output from ``cursor`` on."""
        viewer = Viewer(invocation_id, run_id)
        await self._loop.run_in_executor(self._reader, self._admit, viewer, cursor)
        if self._closed or viewer.finished:
            viewer.end()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer whose stream has ended."""
        topic = self._topics.get(viewer.invocation_id)
        if topic is None:
            return
        topic.viewers.discard(viewer)
        if not topic.viewers:
            del self._topics[viewer.invocation_id]
        elif viewer.run_id is not None and all(
            other.run_id != viewer.run_id for other in topic.viewers
        ):
            topic.tails.pop(viewer.run_id, None)

    def close(self) -> None:
        """End all streams: the server is going down. Call it in the hub's loop."""
        self._closed = True
        for topic in list(self._topics.values()):
            for viewer in list(topic.viewers):
                viewer.end()
        for task in self._tasks:
            task.cancel()
        self._reader.shutdown(wait=False, cancel_futures=True)

    # --- in the event loop -------------------------------------------------------------

    async def _listen(self, url: str) -> None:
        """Hear wake-ups, and go on hearing them when the broker comes back."""
        while True:
            client = redis.asyncio.Redis.from_url(url)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(wake.CHANNEL)
                    async for message in pubsub.listen():
                        self._wake(int(message["data"]))
            except (redis.RedisError, OSError) as error:
                log.info("No wake-ups for now: %s", error)
            finally:
                await client.aclose()
            await asyncio.sleep(TICK_S)

    def _wake(self, invocation_id: int) -> None:
        if invocation_id in self._topics:
            self._dirty.add(invocation_id)
            self._news.set()

    async def _pump(self) -> None:
        tick_s = TICK_S if self._redis_url else TICK_WITHOUT_WAKER_S
        next_tick = time.monotonic() + tick_s
        while True:
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, next_tick - time.monotonic()))
            except TimeoutError:
                self._dirty.update(self._topics)
                next_tick = time.monotonic() + tick_s
            self._news.clear()
            dirty, self._dirty = self._dirty, set()
            topics = [self._topics[key] for key in dirty if key in self._topics]
            if topics:
                await self._spread(topics)
                await asyncio.sleep(FRAME_S)

    async def _spread(self, topics: list[_Topic]) -> None:
        for topic in topics:
            try:
                news = await self._loop.run_in_executor(self._reader, self._read, topic)
            except DatabaseError as error:
                log.warning("The database does not answer, streams wait: %s", error)
                self._dirty.add(topic.invocation.pk)
                return
            except Exception:
                # One task that can't be shown must not silence the streams of all others.
                log.exception("Task %s can't be streamed", topic.invocation.uid)
                self._drop(topic)
                continue
            for viewer in news.viewers:
                self._deliver(viewer, news)

    def _drop(self, topic: _Topic) -> None:
        for viewer in list(topic.viewers):
            viewer.end()
        self._topics.pop(topic.invocation.pk, None)

    def _deliver(self, viewer: Viewer, news: _News) -> None:
        frames = [
            frame
            for sequence, frame in news.frames.get(viewer.run_id, [])
            if sequence is None or sequence > viewer.position
        ]
        if frames and not viewer.offer(b"".join(frames)):
            viewer.end()
            self.leave(viewer)
        elif news.done:
            viewer.offer(self._fragments.done())
            viewer.end()

    # --- in the reader's thread --------------------------------------------------------

    def _admit(self, viewer: Viewer, cursor: Cursor | None) -> None:
        try:
            topic = self._topics.get(viewer.invocation_id)
            if topic is None:
                invocation = Invocation.objects.get(pk=viewer.invocation_id)
                topic = self._topics.setdefault(viewer.invocation_id, _Topic(invocation))
            runs = list(topic.invocation.runs.all())
            task = presentation.task_view(topic.invocation, runs, timezone.now())
            # Of a task that has ended a viewer gets all there is, now; else what others have.
            tails = topic.tails if task.active else {}
            tail = self._tail(tails, viewer.run_id, runs)
            after = cursor.sequence if cursor and _is_of(cursor, tail) else -1
            viewer.position = after
            viewer.initial.append(self._retry_and_cursor(tail, after))
            viewer.initial.append(self._state(topic, runs, viewer.run_id, runs, tail))
            if tail is not None:
                viewer.initial.extend(self._catch_up(tail, after))
            for run in runs:
                topic.states.setdefault(run.pk, _state_of(run))
            if task.active:
                topic.viewers.add(viewer)
            else:
                viewer.initial.append(self._fragments.done())
                viewer.finished = True
        finally:
            self._idle()

    def _tail(self, tails: dict[int, _Tail], run_id: int | None, runs: list[Run]) -> _Tail | None:
        """The tail of a run. One that others watch stays where they are: news go to all."""
        run = next((run for run in runs if run.pk == run_id), None)
        if run is None:
            return None
        tail = tails.get(run.pk)
        if tail is None:
            tail = tails[run.pk] = _Tail(run.pk, run.instance_uid)
            self._advance(tail)
        return tail

    def _advance(self, tail: _Tail) -> list[_Frame]:
        """Read what a run has printed since; frames made of it."""
        frames: list[_Frame] = []
        for chunk in store.read(tail.run_id, after=tail.sequence):
            tail.sequence = chunk.sequence
            frame = self._fragments.lines(tail.assembler.feed(chunk), tail.cursor())
            tail.keep(chunk.sequence, frame)
            frames.append((chunk.sequence, frame))
        return frames

    def _catch_up(self, tail: _Tail, after: int) -> Iterable[bytes]:
        recent = tail.since(after)
        if recent is not None:
            return recent
        frames = []
        assembler = Assembler()
        for chunk in store.read(tail.run_id):
            lines = assembler.feed(chunk)
            if after < chunk.sequence <= tail.sequence:
                cursor = Cursor(tail.instance_uid, chunk.sequence)
                frames.append(self._fragments.lines(lines, cursor))
        return frames

    def _retry_and_cursor(self, tail: _Tail | None, after: int) -> bytes:
        cursor = Cursor(tail.instance_uid, after) if tail else None
        return self._fragments.hello(cursor)

    def _read(self, topic: _Topic) -> _News:
        try:
            # States first: once they are final, all output is there to be read after them.
            runs = list(topic.invocation.runs.all())
            changed = [run for run in runs if topic.states.get(run.pk) != _state_of(run)]
            topic.states = {run.pk: _state_of(run) for run in runs}
            viewers = list(topic.viewers)
            frames: dict[int | None, list[_Frame]] = {}
            for run_id in {viewer.run_id for viewer in viewers}:
                tail = topic.tails.get(run_id) if run_id is not None else None
                frames[run_id] = self._advance(tail) if tail else []
                if changed:
                    frames[run_id].append((None, self._state(topic, changed, run_id, runs, tail)))
            task = presentation.task_view(topic.invocation, runs, timezone.now())
            return _News(frames, not task.active, viewers)
        finally:
            self._idle()

    def _state(
        self,
        topic: _Topic,
        changed: list[Run],
        run_id: int | None,
        runs: list[Run],
        tail: _Tail | None,
    ) -> bytes:
        now = timezone.now()
        task = presentation.task_view(topic.invocation, runs, now)
        rows = presentation.run_views(topic.invocation, changed, now, current=run_id)
        shown = presentation.run_views(
            topic.invocation, [run for run in runs if run.pk == run_id], now, current=run_id
        )
        return self._fragments.state(
            task,
            rows,
            shown[0] if shown else None,
            has_output=tail is not None and tail.sequence >= 0,
        )

    def _idle(self) -> None:
        # Between readings no connection is held: a thousand viewers pin none.
        connections.close_all()


def _is_of(cursor: Cursor, tail: _Tail | None) -> bool:
    return tail is not None and cursor.instance_uid == tail.instance_uid


def _state_of(run: Run) -> tuple[object, ...]:
    return (run.status, run.phase, run.exit_code, run.error_code, run.last_line, run.started_at)
