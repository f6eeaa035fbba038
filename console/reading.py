"""What the hub reads for its viewers, and the frames that are made of it.

Everything here runs in the reader's thread, a job at a time. States of many tasks are read in
one query; rows and fragments are read and rendered once, however many look on.

Of much output the middle is dropped while it arrives. Who has all before the gap is shown the
gap in its place. Who has read on into what was dropped since, or is not shown all of a flood,
gets the end and is told how many lines come before it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from django.utils import timezone

from commands.models import Invocation, Run
from commands.outputs import store
from commands.outputs.lines import LINE_BYTES
from commands.outputs.store import Chunk
from console import presentation
from console.cursor import Cursor
from console.fragments import Fragments
from console.lines import Line, gap_line
from console.viewers import COLUMNS, Row, Tail, Topic, Viewer

FAR_BEHIND = 5_000
"""Lines (or BYTES_BEHIND) beyond which a viewer gets only the end, as pages show no more."""
BYTES_BEHIND = 2 * 1024 * 1024
CATCH_UP_CHUNKS = 16
FEW_CHUNKS = 4
"""Chunks of a run that are read together with those of other runs."""
BURST = 2_000
"""Lines in one frame beyond which only the last of them are shown; so it is with BURST_BYTES."""
BURST_BYTES = 512 * 1024
SNAPSHOT_S = 1.0
"""How long a snapshot serves others who come: after a restart all come at once."""

Frame = tuple[int, bytes]
"""Bytes of an event, and the sequence of the chunk it was made of."""


class Gone(Exception):
    """The task was deleted."""


@dataclass(frozen=True)
class News:
    """What some level viewers of a topic lack: frames by run, states by run and version told."""

    viewers: dict[Viewer, int]
    """Viewers, and the version of the states that they were told before."""
    done: bool
    output: dict[int | None, list[Frame]]
    states: dict[tuple[int | None, int], bytes]
    _joined: dict[tuple[int | None, int, int], bytes] = field(default_factory=dict)

    def frames_for(self, viewer: Viewer) -> bytes:
        """What ``viewer`` lacks; viewers that lack the same share it."""
        told = self.viewers[viewer]
        frames = self.output.get(viewer.run_id, [])
        lacking = [frame for at, frame in frames if at > viewer.position]
        key = viewer.run_id, told, len(lacking)  # frames are in order: the first ones are left out
        if key not in self._joined:
            state = self.states.get((viewer.run_id, told), b"")
            self._joined[key] = b"".join([*lacking, state])
        return self._joined[key]


class Reader:
    """Reads topics, and makes the frames of their viewers."""

    def __init__(self) -> None:
        self._fragments = Fragments()

    def refresh(self, topics: Collection[Topic]) -> None:
        """Read the states of all runs of ``topics`` as they are now."""
        now = time.monotonic()
        found: dict[int, list[Row]] = {topic.invocation_id: [] for topic in topics}
        ends: dict[int, int] = {}
        place = COLUMNS.index("invocation_id")
        rows = Run.objects.filter(invocation__in=found).order_by("pk")
        for *row, batch_end in rows.values_list(*COLUMNS, "invocation__batch_end"):
            found[row[place]].append(tuple(row))
            ends[row[place]] = batch_end
        new = {topic.invocation_id: topic for topic in topics if topic.invocation is None}
        if new:
            for invocation in Invocation.objects.filter(pk__in=new).defer("values"):
                new[invocation.pk].invocation = invocation
        for topic in topics:
            key = topic.invocation_id
            topic.take(found[key], ends.get(key, 0))
            topic.read_at = now
            if key not in ends:
                topic.runs.clear()  # it is gone, and nothing of it may show

    def snapshot(self, viewer: Viewer) -> bytes:
        """The first events: where the client is, and the states of all runs."""
        topic = viewer.topic
        if topic.read_at <= time.monotonic() - SNAPSHOT_S or not topic.read_at:
            self.refresh([topic])
        _task(topic)
        run = topic.runs.get(viewer.run_id or 0)
        viewer.told, viewer.saw_end = topic.version, not topic.active
        states = self._snapshot_of_states(topic, run)
        if run is None:
            viewer.run_id, viewer.level = None, True
            return self._fragments.hello(None) + states
        position = Cursor(run.instance_uid, viewer.position)  # that of the client, not ours
        viewer.own = Tail(run.pk, run.instance_uid)
        end = store.before_last(run.pk, lines=FAR_BEHIND, size=BYTES_BEHIND, after=viewer.position)
        if end > viewer.position:
            viewer.position, viewer.gap = end, True
        return self._fragments.hello(position) + states

    def _snapshot_of_states(self, topic: Topic, shown: Run | None) -> bytes:
        key, now = (shown.pk if shown else None), time.monotonic()
        made_at, states = topic.snapshots.get(key, (0.0, b""))
        if made_at < topic.read_at or made_at <= now - SNAPSHOT_S:
            states = self._state(topic, list(topic.runs.values()), shown)
            topic.snapshots[key] = now, states
        return states

    def catch_up(self, viewer: Viewer) -> bytes:
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

    def _catch_up_with(self, viewer: Viewer, own: Tail, chunks: list[Chunk]) -> Iterator[bytes]:
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

    def output(self, viewers: Mapping[Topic, Collection[Viewer]]) -> dict[int, list[Chunk]]:
        """What level viewers lack of the output that ``refresh`` has seen, by run.

        It is read after the states: once they are final, all of it is there. Of most runs there
        is little, which one query reads; of others there may be too much to have it all at once.
        """
        lacking = {
            run_id: (tail.sequence, topic.runs[run_id].next_sequence - 1 - tail.sequence)
            for topic, watching in viewers.items()
            for run_id, tail in topic.tails.items()
            if run_id in topic.runs and any(each.run_id == run_id for each in watching)
        }
        few = {run_id: at for run_id, (at, count) in lacking.items() if 0 < count <= FEW_CHUNKS}
        found = store.read_each(few)
        for run_id, (at, count) in lacking.items():
            if count > FEW_CHUNKS:
                found[run_id] = store.read(run_id, after=at)
        return found

    def read(
        self, topic: Topic, viewers: Collection[Viewer], chunks: Mapping[int, list[Chunk]]
    ) -> News:
        """What is new, since ``refresh``, for those of ``viewers`` that are level.

        ``chunks`` is what ``output`` found: everything is read before anything is advanced, so
        that an error on the way loses nothing.
        """
        _task(topic)
        level = [viewer for viewer in viewers if viewer.level]
        watched = {viewer.run_id for viewer in level}
        topic.tails = {key: tail for key, tail in topic.tails.items() if key in watched}
        output: dict[int | None, list[Frame]] = {
            key: self._burst(tail, chunks[key])
            for key, tail in topic.tails.items()
            if chunks.get(key)
        }
        before = {viewer: viewer.told for viewer in level}
        states = {
            (run_id, told): self._news_of_states(topic, told, topic.runs.get(run_id or 0))
            for run_id, told in {(viewer.run_id, viewer.told) for viewer in level}
            if told < topic.version
        }
        for viewer in level:
            viewer.told = topic.version
        return News(before, not topic.active, output, states)

    def _burst(self, tail: Tail, chunks: list[Chunk]) -> list[Frame]:
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
        frames: list[Frame] = []
        if passed or (rest and _is_behind(position, rest[0])):
            note = self._gap(tail, rest, position)
            frames = [(tail.sequence, note)]
        return frames + self._feed(tail, rest, position)

    def _gap(self, tail: Tail, rest: list[Chunk], position: int) -> bytes:
        """Say that lines were passed over; what comes goes on with those still open."""
        if rest and not _shows_gap(position, rest[0]):
            tail.reach(rest[0])
        begun = tail.assembler.open_lines()
        earlier = self._fragments.earlier(tail.assembler.count - len(begun))
        return earlier + self._fragments.lines(begun, tail.cursor())

    def _feed(self, tail: Tail, chunks: list[Chunk], position: int) -> list[Frame]:
        """Advance a tail by ``chunks``; the frames made of them for who has all to ``position``."""
        frames: list[Frame] = []
        for chunk in chunks:
            gap = gap_line(chunk) if _shows_gap(position, chunk) else None
            lines = tail.assembler.feed(chunk)
            tail.sequence = position = chunk.sequence
            frames.append((chunk.sequence, self._lines(tail, lines, gap)))
        return frames

    def _lines(self, tail: Tail, lines: list[Line], gap: Line | None) -> bytes:
        """The lines of one chunk behind a gap; of too many, the last."""
        first = [] if gap is None else [gap]
        if len(lines) <= BURST:
            return self._fragments.lines([*first, *lines], tail.cursor())
        shown = [replace(line, replaces=False) for line in lines[-BURST:]]
        earlier = self._fragments.earlier(shown[0].number - 1)
        return earlier + self._fragments.lines(shown, tail.cursor())

    def _news_of_states(self, topic: Topic, told: int, shown: Run | None) -> bytes:
        """What changed since version ``told`` for those who are shown the output of a run."""
        changed = topic.changed_since(told)
        if told < topic.state_in:
            return self._state(topic, changed, shown)
        listed = presentation.live_runs(changed, len(topic.runs))
        current = shown.pk if shown else None
        rows = presentation.run_views(_task(topic), listed, timezone.now(), current=current)
        return self._fragments.rows(rows)

    def _state(self, topic: Topic, changed: list[Run], shown: Run | None) -> bytes:
        task, now = _task(topic), timezone.now()
        current = shown.pk if shown else None
        runs = list(topic.runs.values())
        listed = presentation.live_runs(changed, len(runs))
        rows = presentation.run_views(task, listed, now, current=current)
        panel = presentation.run_views(task, [shown] if shown else [], now, current=current)
        return self._fragments.state(
            presentation.task_view(task, runs, now),
            rows,
            panel[0] if panel else None,
            runs=runs,
            has_output=shown is not None and shown.next_sequence > 0,
        )


def _task(topic: Topic) -> Invocation:
    """The task of a topic that was read. Raises Gone."""
    if topic.invocation is None or not topic.runs:
        raise Gone
    return topic.invocation


def _shows_gap(position: int, chunk: Chunk) -> bool:
    """Whether who has output up to ``position``, and no more than the head, sees a gap there."""
    return chunk.gap is not None and position <= chunk.gap.after


def _is_behind(position: int, chunk: Chunk) -> bool:
    """Whether who has output up to ``position``, beyond the head, lacks some before ``chunk``."""
    return chunk.gap is not None and chunk.gap.after < position < chunk.sequence - 1
