"""The hub: one reader for all event streams of a web process.

Viewers of one task share a *topic*; viewers of one instance's output share a *tail*, so that
rows are read and fragments rendered once, however many look on. All reading happens in one
thread with one database connection, given back whenever nothing is left to read.

Who watches what changes in the event loop only; how far things were read changes in the
reader's thread only, a job at a time. A viewer first gets a snapshot of all states, then, in
batches as fast as it takes them, the output that it lacks; when it has reached the tail it is
*level* and gets changes with the others, in frames at most ten times a second, at last
``done``. A viewer that is too slow is dropped; its browser comes back with its cursor.
News come as wake-ups over Redis; a slow tick finds what they miss.

Of much output the middle is dropped while it arrives. Who has all before the gap is shown the
gap in its place. Who has read on into what was dropped since, or is not shown all of a flood,
gets the end and is told how many lines come before it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import redis.asyncio
from django.conf import settings
from django.db import DatabaseError, connections
from django.utils import timezone

from commands.models import Invocation, Run
from commands.outputs import store, wake
from commands.outputs.lines import LINE_BYTES
from commands.outputs.store import Chunk
from console import presentation
from console.cursor import Cursor
from console.fragments import Fragments
from console.lines import Assembler, Line, gap_line

log = logging.getLogger(__name__)

T = TypeVar("T")

FRAME_S = 0.1
"""Least time between two readings: ten frames a second at most."""
TICK_S = 1.0
"""How often every topic is read where wake-ups arrive, and where they do not."""
TICK_WITHOUT_WAKER_S = 0.25
ASK_AGAIN_S = 5.0
"""How often it is asked whether a viewer may still look."""
HEARTBEAT_S = 5.0
FAR_BEHIND = 5_000
"""Lines (or BYTES_BEHIND) beyond which a viewer gets only the end, as pages show no more."""
BYTES_BEHIND = 2 * 1024 * 1024
QUEUED_BYTES = 4 * 1024 * 1024
"""How much may wait for one viewer before it is dropped."""
CATCH_UP_CHUNKS = 16
BURST = 2_000
"""Lines in one frame beyond which only the last of them are shown; so it is with BURST_BYTES."""
BURST_BYTES = 512 * 1024

_Frame = tuple[int | None, bytes]
"""Bytes of an event, and the sequence of the chunk it was made of (None for states)."""


@dataclass
class _Tail:
    """How far the output of one run was read. Touched by the reader's thread only."""

    run_id: int
    instance_uid: str
    assembler: Assembler = field(default_factory=Assembler)
    sequence: int = -1

    def cursor(self) -> Cursor:
        """The position after what was read."""
        return Cursor(self.instance_uid, self.sequence)

    def skip(self, chunk: Chunk) -> None:
        """Read ``chunk`` without showing it."""
        self.assembler.skip(chunk)
        self.sequence = chunk.sequence

    def reach(self, chunk: Chunk) -> None:
        """Read up to ``chunk``, past what was dropped before it."""
        self.assembler.reach(chunk)
        self.sequence = chunk.sequence - 1


@dataclass(eq=False)
class Viewer:
    """One open stream. ``position`` is the last chunk that the client has."""

    topic: _Topic
    run_id: int | None
    position: int
    level: bool = False
    gap: bool = False
    """Whether output between what the client has and ``position`` is passed over."""
    own: _Tail | None = None
    _frames: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    _waiting: int = 0

    def offer(self, frame: bytes) -> bool:
        """Queue a frame; False if too much waits already."""
        if self._waiting + len(frame) > QUEUED_BYTES:
            return False
        self._waiting += len(frame)
        self._frames.put_nowait(frame)
        return True

    def end(self, last: bytes | None = None) -> None:
        """Let the stream end after what is queued and ``last``."""
        if last is not None:
            self._frames.put_nowait(last)
        self._frames.put_nowait(None)

    def drop(self) -> None:
        """Let the stream end now. What is queued goes unsent, the client asks for it again."""
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)

    async def next(self) -> bytes | None:
        """The next frame; None at the end. Raises TimeoutError after a heartbeat's time."""
        async with asyncio.timeout(HEARTBEAT_S):
            frame = await self._frames.get()
        self._waiting -= len(frame or b"")
        return frame


@dataclass(eq=False)
class _Topic:
    """One task that somebody watches. ``viewers`` belong to the loop, the rest to the reader."""

    invocation_id: int
    viewers: set[Viewer] = field(default_factory=set)
    invocation: Invocation | None = None
    tails: dict[int, _Tail] = field(default_factory=dict)
    states: dict[int, tuple[object, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _News:
    """Frames for viewers that are level, by the run they watch."""

    frames: dict[int | None, list[_Frame]]
    done: bool
    viewers: list[Viewer]
    _joined: dict[tuple[int | None, int], bytes] = field(default_factory=dict)

    def frames_for(self, viewer: Viewer) -> bytes:
        """What ``viewer`` lacks; viewers that lack the same share it."""
        frames = self.frames[viewer.run_id]
        lacking = [frame for at, frame in frames if at is None or at > viewer.position]
        key = viewer.run_id, len(lacking)  # frames are in order: what is left out comes first
        return self._joined.setdefault(key, b"".join(lacking))


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

    async def watch(
        self,
        invocation_id: int,
        run_id: int | None,
        cursor: Cursor | None,
        allowed: Callable[[], bool],
    ) -> AsyncIterator[bytes]:
        """All events for one viewer of a task, and of one run's output from ``cursor`` on.

        ``allowed`` is asked every few seconds (in the reader's thread): when it says False, the
        stream ends.
        """
        viewer = self._join(invocation_id, run_id, cursor)
        asked = time.monotonic()
        try:
            yield await self._read_for(lambda: self._snapshot(viewer, cursor))
            while not viewer.level and not self._closed:
                if frames := await self._read_for(lambda: self._catch_up(viewer)):
                    yield frames
            self._wake(invocation_id)  # the task may have ended meanwhile, or before
            while not self._closed:
                if time.monotonic() - asked >= ASK_AGAIN_S:
                    if not await self._read_for(allowed):
                        return
                    asked = time.monotonic()
                try:
                    frame = await viewer.next()
                except TimeoutError:
                    yield self._fragments.beat()
                    continue
                if frame is None:
                    return
                yield frame
        finally:
            self._leave(viewer)

    def close(self) -> None:
        """End all streams: the server is going down. Call it in the hub's loop."""
        self._closed = True
        for topic in list(self._topics.values()):
            for viewer in list(topic.viewers):
                viewer.drop()
        for task in self._tasks:
            task.cancel()
        self._reader.shutdown(wait=False, cancel_futures=True)

    # --- in the event loop -------------------------------------------------------------

    def _join(self, invocation_id: int, run_id: int | None, cursor: Cursor | None) -> Viewer:
        topic = self._topics.setdefault(invocation_id, _Topic(invocation_id))
        viewer = Viewer(topic, run_id, cursor.sequence if cursor else -1)
        topic.viewers.add(viewer)
        return viewer

    def _leave(self, viewer: Viewer) -> None:
        topic = viewer.topic
        topic.viewers.discard(viewer)
        if not topic.viewers and self._topics.get(topic.invocation_id) is topic:
            del self._topics[topic.invocation_id]

    async def _read_for(self, job: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._reader, self._with_connection, job)

    async def _listen(self, url: str) -> None:
        """Hear wake-ups, and go on hearing them when the broker comes back."""
        while True:
            client = redis.asyncio.Redis.from_url(url)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(wake.CHANNEL)
                    async for message in pubsub.listen():
                        self._wake(int(message["data"]))
            except (redis.RedisError, OSError, ValueError) as error:
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
            for topic in topics:
                await self._spread(topic)
            if topics:
                await asyncio.sleep(FRAME_S)

    async def _spread(self, topic: _Topic) -> None:
        """Read a topic and tell its viewers. One that fails must not silence the others."""
        viewers = list(topic.viewers)
        try:
            news = await self._read_for(lambda: self._read(topic, viewers))
            for viewer in news.viewers:
                self._deliver(viewer, news)
        except DatabaseError as error:
            log.warning("The database does not answer, streams wait: %s", error)
        except Exception:
            log.exception("Task %s can't be streamed", topic.invocation_id)
            for viewer in viewers:
                viewer.drop()

    def _deliver(self, viewer: Viewer, news: _News) -> None:
        frames = news.frames_for(viewer)
        if frames and not viewer.offer(frames):
            viewer.drop()
            self._leave(viewer)
        elif news.done:
            viewer.end(self._fragments.done())
            self._leave(viewer)

    # --- in the reader's thread --------------------------------------------------------

    def _with_connection(self, job: Callable[[], T]) -> T:
        try:
            return job()
        finally:
            connections.close_all()  # between readings none is held, whoever looks on

    def _runs(self, topic: _Topic) -> tuple[Invocation, list[Run]]:
        if topic.invocation is None:
            topic.invocation = Invocation.objects.get(pk=topic.invocation_id)
        return topic.invocation, list(topic.invocation.runs.all())

    def _snapshot(self, viewer: Viewer, cursor: Cursor | None) -> bytes:
        """The first events: where the client is, and the states of all runs."""
        topic = viewer.topic
        invocation, runs = self._runs(topic)
        run = next((run for run in runs if run.pk == viewer.run_id), None)
        if run is None:
            viewer.run_id, viewer.level = None, True
            position = None
        else:
            if cursor is None or cursor.instance_uid != run.instance_uid:
                viewer.position = -1
            viewer.position = min(viewer.position, run.next_sequence - 1)
            position = Cursor(run.instance_uid, viewer.position)
            viewer.own = _Tail(run.pk, run.instance_uid)
            end = store.before_last(run.pk, lines=FAR_BEHIND, size=BYTES_BEHIND)
            if end > viewer.position:
                viewer.position, viewer.gap = end, True
        for each in runs:
            topic.states.setdefault(each.pk, _state_of(each))
        return self._fragments.hello(position) + self._state(invocation, runs, runs, run)

    def _catch_up(self, viewer: Viewer) -> bytes:
        """Some of the output that a viewer lacks; makes it level when nothing is left."""
        own = viewer.own
        if own is None:
            return b""
        shared = viewer.topic.tails.get(own.run_id)
        if shared is not None and viewer.position >= shared.sequence:
            viewer.level, viewer.own = True, None  # the others' news are all it lacks
            return b""
        most = CATCH_UP_CHUNKS
        if shared is not None:
            most = min(most, shared.sequence - own.sequence)
        chunks = store.read(own.run_id, after=own.sequence, limit=most) if most > 0 else []
        frames = b"".join(self._catch_up_with(viewer, own, chunks))
        if shared is not None and own.sequence >= shared.sequence:
            viewer.level, viewer.own = True, None
        elif shared is None and len(chunks) < CATCH_UP_CHUNKS:
            viewer.topic.tails[own.run_id] = own
            viewer.level, viewer.own = True, None
        viewer.position = max(viewer.position, own.sequence)
        return frames

    def _catch_up_with(self, viewer: Viewer, own: _Tail, chunks: list[Chunk]) -> Iterator[bytes]:
        """Count the lines of chunks that the client has (or passes over), show the others."""
        known = [chunk for chunk in chunks if chunk.sequence <= viewer.position]
        rest = chunks[len(known) :]
        for chunk in known:
            own.skip(chunk)
        passed = viewer.gap and (bool(rest) or own.sequence >= viewer.position)
        if passed or (rest and _is_behind(viewer.position, rest[0])):
            viewer.gap = False
            yield self._gap(own, rest, viewer.position)
        for _, frame in self._feed(own, rest, viewer.position):
            yield frame

    def _burst(self, tail: _Tail, chunks: list[Chunk]) -> list[_Frame]:
        """As ``_feed``, but of more lines than anybody can watch only the last are shown."""
        kept = lines = size = 0
        for chunk in reversed(chunks):
            if lines > BURST or size > BURST_BYTES:
                break
            lines += chunk.data.count(b"\n") + len(chunk.data) // LINE_BYTES
            size += len(chunk.data)
            kept += 1
        position, rest = tail.sequence, chunks[len(chunks) - kept :]
        for chunk in chunks[: len(chunks) - kept]:
            tail.skip(chunk)
        passed = tail.sequence > position
        position = max(position, tail.sequence)
        frames: list[_Frame] = []
        if passed or (rest and _is_behind(position, rest[0])):
            note = self._gap(tail, rest, position)
            frames = [(tail.sequence, note)]
        return frames + self._feed(tail, rest, position)

    def _gap(self, tail: _Tail, rest: list[Chunk], position: int) -> bytes:
        """Say that lines were passed over; what comes goes on with those still open."""
        if rest and not _shows_gap(position, rest[0]):
            tail.reach(rest[0])
        begun = tail.assembler.open_lines()
        earlier = self._fragments.earlier(tail.assembler.count - len(begun))
        return earlier + self._fragments.lines(begun, tail.cursor())

    def _feed(self, tail: _Tail, chunks: list[Chunk], position: int) -> list[_Frame]:
        """Advance a tail by ``chunks``; the frames made of them for who has all to ``position``."""
        frames: list[_Frame] = []
        for chunk in chunks:
            gap = gap_line(chunk) if _shows_gap(position, chunk) else None
            lines = tail.assembler.feed(chunk)
            tail.sequence = position = chunk.sequence
            frames.append((chunk.sequence, self._lines(tail, lines, gap)))
        return frames

    def _lines(self, tail: _Tail, lines: list[Line], gap: Line | None) -> bytes:
        """The lines of one chunk behind a gap; of too many, the last."""
        first = [] if gap is None else [gap]
        if len(lines) <= BURST:
            return self._fragments.lines([*first, *lines], tail.cursor())
        shown = [replace(line, replaces=False) for line in lines[-BURST:]]
        earlier = self._fragments.earlier(shown[0].number - 1)
        return earlier + self._fragments.lines(shown, tail.cursor())

    def _read(self, topic: _Topic, viewers: list[Viewer]) -> _News:
        """What is new for those of ``viewers`` that are level.

        Everything is read before anything is advanced: an error on the way loses nothing.
        States come first: once they are final, all output is there to be read after them.
        """
        level = [viewer for viewer in viewers if viewer.level]
        watched = {viewer.run_id for viewer in level}
        invocation, runs = self._runs(topic)
        tails = {key: tail for key, tail in topic.tails.items() if key in watched}
        chunks = {key: store.read(key, after=tail.sequence) for key, tail in tails.items()}
        topic.tails = tails
        changed = [run for run in runs if topic.states.get(run.pk) != _state_of(run)]
        topic.states = {run.pk: _state_of(run) for run in runs}
        frames: dict[int | None, list[_Frame]] = {}
        for run_id in watched:
            frames[run_id] = self._burst(tails[run_id], chunks[run_id]) if run_id in tails else []
            if changed:
                shown = next((run for run in runs if run.pk == run_id), None)
                frames[run_id].append((None, self._state(invocation, changed, runs, shown)))
        active = presentation.task_view(invocation, runs, timezone.now()).active
        return _News(frames, not active, level)

    def _state(
        self, invocation: Invocation, changed: list[Run], runs: list[Run], shown: Run | None
    ) -> bytes:
        now = timezone.now()
        current = shown.pk if shown else None
        rows = presentation.run_views(invocation, changed, now, current=current)
        panel = presentation.run_views(invocation, [shown] if shown else [], now, current=current)
        return self._fragments.state(
            presentation.task_view(invocation, runs, now),
            rows,
            panel[0] if panel else None,
            has_output=shown is not None and shown.next_sequence > 0,
        )


def _shows_gap(position: int, chunk: Chunk) -> bool:
    """Whether who has output up to ``position``, and no more than the head, sees a gap there."""
    return chunk.gap is not None and position <= chunk.gap.after


def _is_behind(position: int, chunk: Chunk) -> bool:
    """Whether who has output up to ``position``, beyond the head, lacks some before ``chunk``."""
    return chunk.gap is not None and chunk.gap.after < position < chunk.sequence - 1


def _state_of(run: Run) -> tuple[object, ...]:
    return (
        run.status,
        run.phase,
        run.exit_code,
        run.error_code,
        run.last_line,
        run.started_at,
        run.dropped_bytes,
    )
