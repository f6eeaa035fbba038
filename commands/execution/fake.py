"""An Executor without instances, for tests and benchmarks.

It keeps every promise of the contract (the same contract tests run against it), but scripts
are a tiny language, a line each::

    say TEXT      write TEXT and a newline to stdout
    err TEXT      the same to stderr
    sleep SECONDS
    exit CODE

Comments, blank lines and ``PRELUDE`` are skipped; with ``PRELUDE`` before it the same text is a
shell script, which the launcher ``sh`` runs too. A script's whole course is computed when it
starts and the clock decides how much of it has happened, so that ten thousand runs need no
thread.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from commands.errors import ConnectFailed, ConnectionLost, RunLost, StartRefused
from commands.execution.executor import (
    ACCOUNT_NAME,
    FOLLOW_LIMIT,
    Cancelled,
    Ending,
    Endpoint,
    Examined,
    Finished,
    Gap,
    Handle,
    Needs,
    Offsets,
    Output,
    RunSpec,
    Started,
    Stream,
)
from commands.execution.remote import needs_of
from commands.rules.status import ErrorCode

PRELUDE = b"""say() { printf '%s\\n' "$*"; }
err() { printf '%s\\n' "$*" >&2; }
"""
BASE = "/fake/.command-console"
SYSTEM = "Fake Linux 1"
FREE = 10**9


class _ClosedDoor(ConnectFailed):
    """The console did not become the user of the run."""


@dataclass(frozen=True, slots=True)
class _Event:
    """Bytes that appear ``at`` seconds after the start."""

    at: float
    stream: Stream
    data: bytes


@dataclass(slots=True)
class _Run:
    """One run: what will happen, and until when it does."""

    began: float
    whole_tree: bool = True
    spool: int = 0
    events: list[_Event] = field(default_factory=list)
    ends: float = 0.0
    ending: Ending = Ending.EXIT
    exit_code: int | None = 0
    lost: bool = False

    def stop(self, at: float, ending: Ending) -> None:
        """Let nothing happen after ``at`` seconds."""
        self.events = [event for event in self.events if event.at <= at]
        self.ends, self.ending, self.exit_code = at, ending, None

    @property
    def left(self) -> int | None:
        """How many processes are left: none, or who ended it did not look."""
        return 0 if self.whole_tree and self.ending is not Ending.EXIT else None

    def bytes_until(self, stream: Stream, at: float) -> bytes:
        """What has been written to ``stream`` after ``at`` seconds."""
        return b"".join(e.data for e in self.events if e.stream == stream and e.at <= at)

    def dropped(self, stream: Stream, at: float) -> tuple[int, int]:
        """From where to where the middle of ``stream`` is gone ``at`` seconds after the start.

        Here it goes for those who begin to read; a real instance drops it from time to time.
        """
        size = len(self.bytes_until(stream, at))
        if not self.spool or size <= self.spool:
            return 0, 0
        return self.spool // 4, size - self.spool // 2

    def next_after(self, at: float) -> float:
        """When the next thing happens: bytes, or the end."""
        return min([e.at for e in self.events if e.at > at] + [self.ends])


def _plan(spec: RunSpec, began: float) -> _Run:
    run, at = _Run(began, spec.whole_tree, spec.spool), 0.0
    for line in spec.script.replace(PRELUDE, b"", 1).splitlines():
        word, _, rest = line.partition(b" ")
        if word == b"say":
            run.events.append(_Event(at, "stdout", rest + b"\n"))
        elif word == b"err":
            run.events.append(_Event(at, "stderr", rest + b"\n"))
        elif word == b"sleep":
            at += float(rest)
        elif word == b"exit":
            run.exit_code = int(rest)
            break
        elif line.strip() and not line.startswith(b"#"):
            run.events.append(_Event(at, "stderr", word + b": not found\n"))
            run.exit_code = 127
            break
    run.ends = at
    if at > spec.timeout:
        run.stop(spec.timeout, Ending.TIMEOUT)
    return run


def _fingerprint(host_key: str) -> str:
    """The fingerprint of the key that is pinned: a fake presents no other."""
    blob = base64.b64decode(host_key.partition(" ")[2].split(" ")[0])
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


class _Call:
    """One ``follow`` in progress: what may end it before the run ends."""

    def __init__(self, breaks: int, limit: float | None) -> None:
        self.breaks = breaks
        self.abandoned = False
        self._until = None if limit is None else time.monotonic() + limit

    def wait_at_most(self, seconds: float) -> float:
        """``seconds``, or less where the limit comes before. Raises ConnectionLost."""
        if self._until is None:
            return max(0.0, seconds)
        left = self._until - time.monotonic()
        if left <= 0:
            raise ConnectionLost("The run has not ended in time.", code=FOLLOW_LIMIT)
        return max(0.0, min(seconds, left))


@dataclass(slots=True)
class _Instance:
    """What one user of one endpoint remembers: runs, and tombstones of acknowledged ones."""

    runs: dict[str, _Run] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


class FakeExecutor:
    """See ``executor.Executor``.

    ``missing`` are execution paths, interpreters, launchers' programs and users that do not
    exist; ``forbidden`` are users that the console may not become. ``started`` lists the run
    ids that were really executed, in order, and ``specs`` what each was; tests read them.
    ``waiting`` are processes that wait for input, by run id; tests write it.
    """

    def __init__(
        self,
        missing: Collection[str] = (
            "/no/such/directory",
            "/no/such/interpreter",
            "no-such-program",
            "no-such-user",
        ),
        unreachable: Mapping[Endpoint, ErrorCode] | None = None,
        forbidden: Collection[str] = (),
    ) -> None:
        self.started: list[str] = []
        self.specs: dict[str, RunSpec] = {}
        self.unreachable = dict(unreachable or {})
        self.waiting: dict[str, str] = {}
        self._missing = missing
        self._forbidden = forbidden
        self._changed = threading.Condition()
        self._instances: dict[tuple[Endpoint, str], _Instance] = {}
        self._breaks = 0
        self._calls: dict[str, list[_Call]] = {}
        self._closed = False

    def probe(self, endpoint: Endpoint) -> str:
        """See ``Executor.probe``."""
        with self._changed:
            self._reach(endpoint)
        return SYSTEM

    def examine(self, endpoint: Endpoint, needs: Needs) -> Examined:
        """See ``Executor.examine``."""
        with self._changed:
            self._reach(endpoint, needs.run_as)
            if endpoint.system == "windows":
                return Examined(whole=False)
            return Examined(tuple(self._refusals(needs)), BASE, FREE)

    def start(self, endpoint: Endpoint, spec: RunSpec) -> Started:
        """See ``Executor.start``."""
        with self._changed:
            try:
                instance = self._reach(endpoint, spec.run_as)
            except _ClosedDoor as error:
                raise StartRefused(error.message, code=error.code) from None
            fresh = spec.run_id not in instance.done and spec.run_id not in instance.runs
            if fresh:
                self._check(spec)
                instance.runs[spec.run_id] = _plan(spec, time.monotonic())
                self.started.append(spec.run_id)
                self.specs[spec.run_id] = spec
            presented = _fingerprint(endpoint.host_key)
            return Started(BASE, fresh, "fake-boot", "fake-machine", endpoint.host, presented)

    def follow(
        self,
        endpoint: Endpoint,
        handle: Handle,
        offsets: Offsets,
        receive: Callable[[Output | Gap], None],
        *,
        limit: float | None = None,
    ) -> Finished:
        """See ``Executor.follow``."""
        call = _Call(self._breaks, limit)
        with self._changed:
            self._calls.setdefault(handle.run_id, []).append(call)
        try:
            return self._follow(endpoint, handle, offsets, receive, call)
        finally:
            with self._changed:
                self._calls[handle.run_id].remove(call)
                if not self._calls[handle.run_id]:
                    del self._calls[handle.run_id]

    def _follow(
        self,
        endpoint: Endpoint,
        handle: Handle,
        offsets: Offsets,
        receive: Callable[[Output | Gap], None],
        call: _Call,
    ) -> Finished:
        at: dict[Stream, int] = {"stdout": offsets.stdout, "stderr": offsets.stderr}
        for piece in self._beginning(endpoint, handle, at, call):
            receive(piece)
        while True:
            with self._changed:
                run = self._find(endpoint, handle, call)
                now = time.monotonic() - run.began
                news = [
                    Output(stream, reached, data[reached:])
                    for stream, reached in at.items()
                    if len(data := run.bytes_until(stream, now)) > reached
                ]
                if not news and now >= run.ends:
                    return Finished(
                        run.ending,
                        run.exit_code,
                        at["stdout"],
                        at["stderr"],
                        run.left,
                    )
                pause = call.wait_at_most(run.next_after(now) - now)
                if not news:
                    self._changed.wait(pause)
            for output in news:
                receive(output)
                at[output.stream] += len(output.data)

    def _beginning(
        self, endpoint: Endpoint, handle: Handle, at: dict[Stream, int], call: _Call
    ) -> list[Output | Gap]:
        """What comes first where bytes after ``at`` were dropped; moves ``at`` behind it."""
        pieces: list[Output | Gap] = []
        with self._changed:
            run = self._find(endpoint, handle, call)
            now = time.monotonic() - run.began
            for stream, reached in at.items():
                head, end = run.dropped(stream, now)
                if reached >= end:
                    continue
                if reached < head:
                    data = run.bytes_until(stream, now)[reached:head]
                    pieces.append(Output(stream, reached, data))
                pieces.append(Gap(stream, max(reached, head), end))
                at[stream] = end
        return pieces

    def waits_for(self, endpoint: Endpoint, handle: Handle) -> str:
        """See ``Executor.waits_for``: what ``waiting`` says of the run."""
        with self._changed:
            self._reach(endpoint, handle.run_as)
            return self.waiting.get(handle.run_id, "")

    def cancel(self, endpoint: Endpoint, handle: Handle) -> Cancelled:
        """See ``Executor.cancel``."""
        with self._changed:
            instance = self._reach(endpoint, handle.run_as)
            if handle.run_id in instance.done:
                return Cancelled(0)
            run = instance.runs.get(handle.run_id)
            if run is None:
                run = instance.runs[handle.run_id] = _Run(time.monotonic())
                run.stop(0.0, Ending.CANCEL)
            elif time.monotonic() - run.began < run.ends:
                run.stop(time.monotonic() - run.began, Ending.CANCEL)
            self._changed.notify_all()
            return Cancelled(run.left)

    def acknowledge(self, endpoint: Endpoint, handle: Handle) -> None:
        """See ``Executor.acknowledge``."""
        with self._changed:
            instance = self._reach(endpoint, handle.run_as)
            instance.done.add(handle.run_id)
            instance.runs.pop(handle.run_id, None)
            self._changed.notify_all()

    def abandon(self, run_id: str) -> None:
        """See ``Executor.abandon``."""
        with self._changed:
            for call in self._calls.get(run_id, []):
                call.abandoned = True
            self._changed.notify_all()

    def close(self) -> None:
        """See ``Executor.close``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def break_connections(self) -> None:
        """Let every call in progress end with ConnectionLost. Runs go on."""
        with self._changed:
            self._breaks += 1
            self._changed.notify_all()

    def elapse(self, seconds: float) -> None:
        """Let this much time pass at once for every run: who waited for it goes on."""
        with self._changed:
            for instance in self._instances.values():
                for run in instance.runs.values():
                    run.began -= seconds
            self._changed.notify_all()

    def lose(self, endpoint: Endpoint, run_id: str) -> None:
        """Let the instance lose the run: following it raises RunLost."""
        with self._changed:
            account = self.specs[run_id].run_as or endpoint.user
            self._instances[endpoint, account].runs[run_id].lost = True
            self._changed.notify_all()

    def _reach(self, endpoint: Endpoint, run_as: str = "") -> _Instance:
        if self._closed:
            raise ConnectionLost("The console is shutting down.")
        if endpoint in self.unreachable:
            code = self.unreachable[endpoint]
            raise ConnectFailed(f"{endpoint.host} cannot be reached.", code=code)
        account = run_as or endpoint.user
        if account != endpoint.user:
            self._become(endpoint.user, account)
        return self._instances.setdefault((endpoint, account), _Instance())

    def _become(self, user: str, account: str) -> None:
        if account in self._missing or not ACCOUNT_NAME.fullmatch(account):
            text = f"There is no user {account!r} on the instance."
            raise _ClosedDoor(text, code=ErrorCode.ACCOUNT_NOT_EXISTS)
        if account in self._forbidden:
            text = f"{user} may not run commands as {account} there."
            raise _ClosedDoor(text, code=ErrorCode.RUN_AS_REFUSED)

    def _check(self, spec: RunSpec) -> None:
        try:
            needs = needs_of(spec.script, spec.launcher, workdir=spec.workdir)
        except ValueError as error:
            raise StartRefused(f"The run cannot be started: {error}.") from None
        for refusal in self._refusals(needs):
            raise refusal

    def _refusals(self, needs: Needs) -> Iterator[StartRefused]:
        if needs.workdir in self._missing:
            text = f"The execution path {needs.workdir} does not exist there."
            yield StartRefused(text, code=ErrorCode.DIRECTORY_NOT_EXISTS)
        if needs.launcher in self._missing:
            text = f"The launcher starts {needs.launcher}, which is not installed there."
            yield StartRefused(text, code=ErrorCode.LAUNCHER_NOT_FOUND)
        if not needs.launcher and needs.interpreter in self._missing:
            text = f"The script asks for {needs.interpreter}, which is not installed there."
            yield StartRefused(text, code=ErrorCode.INTERPRETER_NOT_FOUND)

    def _find(self, endpoint: Endpoint, handle: Handle, call: _Call) -> _Run:
        instance = self._reach(endpoint, handle.run_as)
        if call.abandoned or call.breaks != self._breaks:
            raise ConnectionLost("The connection to the instance broke.")
        run = instance.runs.get(handle.run_id)
        if run is None or run.lost:
            raise RunLost("The directory of the run is gone from the instance.")
        return run
