"""Who watches what, and how far they are.

Viewers of one task share a *topic*, and viewers of one instance's output a *tail*.
``Topic.viewers``, ``next_at`` and what is queued for a viewer change in the event loop only; all
else changes in the reader's thread only, a job at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from commands.models import Invocation, Run
from commands.outputs.store import Chunk, Gap
from commands.rules.status import is_final
from console.admission import Ticket
from console.cursor import Cursor
from console.lines import Assembler

HEARTBEAT_S = 5.0
QUEUED_BYTES = 4 * 1024 * 1024
"""How much may wait for one viewer before it is dropped."""

_UNSEEN = {
    *("digest", "deadline", "lease_owner", "lease_until", "taken_at", "way"),
    *("stop_asked_at", "stop_by", "stop_due", "stop_confirmed_at", "stall_asked_at"),
    *("base", "boot_id", "stdout_masked", "stderr_masked"),
}
"""Columns of a run that no page shows live: a change of theirs is no news."""
_MOVING = {
    *("stdout_size", "stderr_size", "next_sequence", "head_chunks", "head_bytes"),
    *("dropped_bytes", "tail_from", "tail_lines"),
}
"""Columns that move with every output; pages show of them that there is some, and the gap."""
COLUMNS = tuple(each.attname for each in Run._meta.concrete_fields if each.attname not in _UNSEEN)
"""What is read of a run: new columns too, as nobody knows whether they are shown."""
_SHOWN = tuple(column for column in COLUMNS if column not in _MOVING | {"last_line"})

Row = tuple[Any, ...]
"""Values of COLUMNS."""


def state_of(run: Run) -> tuple[object, ...]:
    """All that a page shows of a run besides its output and the last line of it."""
    shown = [getattr(run, column) for column in _SHOWN]
    return (*shown, run.next_sequence > 0, Gap.of(run))


@dataclass
class Tail:
    """How far the output of one run was read."""

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
class Topic:
    """One task that somebody watches, as it was last read.

    ``version`` grows whenever a state or a last line changes, and ``changed_in`` says for each run
    in which version it last did: who was told another version lacks what changed since. If that
    is no older than ``state_in``, it lacks last lines only.
    """

    invocation_id: int
    viewers: set[Viewer] = field(default_factory=set)
    next_at: float = 0.0
    invocation: Invocation | None = None
    runs: dict[int, Run] = field(default_factory=dict)
    tails: dict[int, Tail] = field(default_factory=dict)
    version: int = 0
    state_in: int = 0
    changed_in: dict[int, int] = field(default_factory=dict)
    read_at: float = 0.0
    snapshots: dict[int | None, tuple[float, bytes]] = field(default_factory=dict)
    _rows: dict[int, Row] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether a run had not ended when it was last read."""
        return any(not is_final(run.status) for run in self.runs.values())

    def take(self, rows: Iterable[Row], batch_end: int) -> None:
        """Note the rows of all runs as they are now, and where the present batch ends."""
        version = self.version + 1
        for row in rows:
            run_id = row[0]
            if self._rows.get(run_id) == row:
                continue
            before, run = self.runs.get(run_id), Run.from_db(DEFAULT_DB_ALIAS, COLUMNS, row)
            self._rows[run_id], self.runs[run_id] = row, run
            if before is None or state_of(before) != state_of(run):
                self.changed_in[run_id] = self.version = self.state_in = version
            elif before.last_line != run.last_line:
                self.changed_in[run_id] = self.version = version
        if self.invocation and self.invocation.batch_end != batch_end:
            self.invocation.batch_end = batch_end
            self.version = self.state_in = version

    def changed_since(self, version: int) -> list[Run]:
        """Runs that have changed since ``version``."""
        return [run for key, run in self.runs.items() if self.changed_in[key] > version]


@dataclass(eq=False)
class Viewer:
    """One open stream.

    ``position`` is the last chunk that the client has, ``told`` the version of the states that
    it has. It is ``level`` once the news of the topic's tail are all that it lacks.
    """

    topic: Topic
    run_id: int | None
    position: int
    ticket: Ticket
    told: int = -1
    level: bool = False
    gap: bool = False
    """Whether output between what the client has and ``position`` is passed over."""
    saw_end: bool = False
    """Whether the snapshot of it showed that all runs have ended."""
    own: Tail | None = None
    ended: bool = False
    _frames: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    _waiting: int = 0

    def offer(self, frame: bytes) -> bool:
        """Queue a frame; False if too much waits already."""
        if self._waiting + len(frame) > QUEUED_BYTES:
            return False
        self._waiting += len(frame)
        self._frames.put_nowait(frame)
        return True

    def end(self, last: bytes) -> None:
        """Let the stream end after what is queued and ``last``."""
        self._frames.put_nowait(last)
        self._frames.put_nowait(None)

    def drop(self) -> None:
        """Let the stream end now. What is queued goes unsent, the client asks for it again."""
        self.ended = True
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)

    async def next(self) -> bytes | None:
        """The next frame; None at the end. Raises TimeoutError after a heartbeat's time."""
        if self._frames.empty():
            async with asyncio.timeout(HEARTBEAT_S):
                frame = await self._frames.get()
        else:
            frame = self._frames.get_nowait()
        self._waiting -= len(frame or b"")
        return frame
