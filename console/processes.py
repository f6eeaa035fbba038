"""A small supervisor: starts processes in order, starts them again, ends them all.

Each child leads a session of its own, so that a terminal's Ctrl-C reaches the supervisor
alone. What a child prints goes to its file in the log folder. Of the environment, which may
hold secrets, it inherits little unless it needs more; and always the cookie by which
``console.guardian`` finds everything again. The guardian itself is the first child.

    with Supervisor(logs=…, notes=…, say=print) as supervisor:
        supervisor.start(Child("web", …))
        supervisor.wait_ready("web")
        supervisor.run()            returns at SIGINT, SIGTERM or SIGHUP
    # here nothing is left
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from console import guardian

GUARDIAN = "guardian"
"""Name of the child that ends everything should the supervisor be killed."""

FIRST_DELAY = 0.5
"""Seconds before a stopped child is started again for the first time; each time doubles."""

LONGEST_DELAY = 10.0
"""Seconds; the delay does not grow beyond."""

HEALTHY = 30.0
"""Seconds after which a child counts as healthy and the delay begins anew."""

_PASSED_ON = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TMPDIR"}
_PASSED_ON |= {"TZ", "USER", "VIRTUAL_ENV"}
_PASSED_ON_TOO = ("LC_", "PYTHON")  # beginnings of names
_PATIENCE = 1.5  # seconds from the first TERM to KILL: Ctrl-C must feel prompt
_ORDERLY = 1.0  # seconds of these before those are ended that serve the others
_LOOK_AGAIN = 0.02  # seconds between two ready checks
_LONGEST_LOG = 5_000_000  # bytes; a longer log is put aside at the next start
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StartFailed(Exception):
    """A child did not get ready. The message is for a person and quotes the child's log."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep running.

    ``env`` is added to what the child inherits: where programs and languages are found, or the
    supervisor's whole environment, secrets and all, if it is ``trusted``. ``ready(pid)`` says,
    without waiting, whether the child does its work. ``serves_others`` children are ended after
    the rest, which may need them to end in order. ``fds`` stay open in the child, ``stdin`` too.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False
    ready: Callable[[int], bool] = lambda pid: True
    serves_others: bool = False
    fds: Sequence[int] = ()
    stdin: int = subprocess.DEVNULL


@dataclass(slots=True)
class _Kept:
    """A child and where it stands: running, or due to be started again."""

    child: Child
    log: Path
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    delay: float = FIRST_DELAY
    due: float = 0.0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Keeps children running while its ``with`` block lasts. One per process, main thread.

    ``logs`` is the folder of the log files, ``notes`` the file where the children's process
    ids stand, one ``<pid> <start time> <name>`` a line. ``say`` gets one sentence for each
    thing a person should know. ``held`` are descriptors that stay open until the guardian has
    ended everything as well: a lock among them is free only when nothing is left.
    """

    def __init__(
        self,
        *,
        logs: Path,
        notes: Path,
        say: Callable[[str], None],
        held: Sequence[int] = (),
    ) -> None:
        self.cookie = secrets.token_hex(16)
        self._logs, self._notes, self._say, self._held = logs, notes, say, held
        self._kept: dict[str, _Kept] = {}
        self._stopping = False
        self._interruptible = True
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Supervisor:
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        self._wake_end = wake_end
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (*_ENDING, signal.SIGCHLD):
            self._listen(number)
        self._life_read, self._life = os.pipe()
        self.start(self._guardian())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._interruptible = False
        try:
            self._stop()
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            for descriptor in (self._wake, self._wake_end, self._life_read):
                os.close(descriptor)

    def start(self, child: Child) -> None:
        """Start a child and keep it running from now on. Does not wait until it is ready."""
        log = self._logs / f"{child.name}.log"
        if log.exists() and log.stat().st_size > _LONGEST_LOG:
            log.replace(log.with_suffix(".log.old"))
        kept = self._kept[child.name] = _Kept(child, log)
        self._launch(kept)

    def wait_ready(self, name: str, *, within: float = 60.0) -> None:
        """Wait until the child is ready. Raises StartFailed if it ends, or takes too long."""
        kept = self._kept[name]
        deadline = time.monotonic() + within
        while not self._stopping:
            process = kept.process
            if process is None or process.poll() is not None:
                code = process.returncode if process else "?"
                raise StartFailed(f"{name} did not start (exit {code}). {_last_words(kept.log)}")
            if kept.child.ready(process.pid):
                return
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{name} was not ready within {within:g} s. {_last_words(kept.log)}"
                )
            self._sleep(_LOOK_AGAIN)

    def run(self) -> None:
        """Look after the children until a signal asks for the end."""
        self._interruptible = False
        while not self._stopping:
            now = time.monotonic()
            for kept in self._kept.values():
                self._look_after(kept, now)
            self._sleep(self._until_due())

    def _guardian(self) -> Child:
        return Child(
            GUARDIAN,
            # Without site: half the memory, and no package can keep it from starting.
            [sys.executable, "-S", "-m", "console.guardian", str(self._notes)],
            {guardian.GUARDED: self.cookie},
            fds=self._held,
            stdin=self._life_read,
        )

    def _listen(self, number: signal.Signals) -> None:
        handler = signal.getsignal(number)
        if number is signal.SIGHUP and handler is signal.SIG_IGN:
            return  # nohup: the console is meant to outlive its terminal
        self._handlers[number] = handler
        signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number in _ENDING:
            self._stopping = True
            if self._interruptible:
                # Something long, such as a migration, runs in this thread: leave it.
                self._interruptible = False
                raise KeyboardInterrupt

    def _sleep(self, seconds: float | None) -> None:
        """Sleep until a signal arrives, the end of a child among them, or time is up."""
        select.select([self._wake], [], [], seconds)
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            pass

    def _launch(self, kept: _Kept) -> None:
        child = kept.child
        inherited = os.environ if child.trusted else _harmless(os.environ)
        env = {**inherited, guardian.COOKIE: self.cookie, **child.env}
        if child.name == GUARDIAN:
            del env[guardian.COOKIE]  # it must live until everything else has ended
        with kept.log.open("ab") as log:
            os.fchmod(log.fileno(), 0o600)
            kept.process = self._popen(child, env, log)
        kept.began = time.monotonic()
        self._note()

    def _popen(
        self, child: Child, env: Mapping[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            child.argv,
            env=env,
            cwd=Path(__file__).resolve().parent.parent,
            stdin=child.stdin,
            stdout=log,
            stderr=log,
            pass_fds=tuple(child.fds),
            start_new_session=True,
        )

    def _note(self) -> None:
        lines = [
            f"{guardian.note(kept.process.pid)} {kept.child.name}\n"
            for kept in self._children()
            if kept.process and kept.running
        ]
        draft = self._notes.with_suffix(".new")
        draft.write_text("".join(lines))
        draft.replace(self._notes)

    def _look_after(self, kept: _Kept, now: float) -> None:
        if kept.process is None:
            if now >= kept.due:
                self._launch(kept)
        elif kept.process.poll() is not None:
            self._schedule(kept, kept.process.returncode, now)

    def _schedule(self, kept: _Kept, code: int, now: float) -> None:
        if now - kept.began >= HEALTHY:
            kept.delay = FIRST_DELAY
        sentence = f"{kept.child.name} stopped (exit {code}), starting it again in {kept.delay:g} s"
        # A signal from outside (a negative code) has no reason in the log.
        self._say(sentence if code < 0 else f"{sentence}. {_last_words(kept.log)}")
        kept.process, kept.due = None, now + kept.delay
        kept.delay = min(kept.delay * 2, LONGEST_DELAY)
        self._note()

    def _until_due(self) -> float | None:
        due = [kept.due for kept in self._kept.values() if kept.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _stop(self) -> None:
        """End all children, then whatever carries the cookie, then the guardian."""
        began = time.monotonic()
        watched, kept = self._kept.get(GUARDIAN), self._children()
        first = [each for each in kept if not each.child.serves_others]
        _terminate(first)
        while any(each.running for each in first) and time.monotonic() - began < _ORDERLY:
            self._sleep(0.05)
        left = self._sweep(watched, _PATIENCE - (time.monotonic() - began))
        for each in kept:
            if each.process is not None:
                each.process.kill()  # does nothing to a process that has ended
                each.process.wait()
        if left:
            self._say(f"{left} processes cannot be ended; see: ps -ef")
        os.close(self._life)
        if watched and watched.process:
            watched.process.wait()

    def _sweep(self, watched: _Kept | None, patience: float) -> int:
        spare = [watched.process.pid] if watched and watched.process else []
        return guardian.sweep(
            self.cookie, patience=max(patience, 0.0), spare=spare, notes=str(self._notes)
        )

    def _children(self) -> list[_Kept]:
        return [kept for kept in self._kept.values() if kept.child.name != GUARDIAN]


def _harmless(environment: Mapping[str, str]) -> dict[str, str]:
    """What any program may know. A list of secrets to leave out would never be complete."""
    return {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_TOO)
    }


def _terminate(kept: Sequence[_Kept]) -> None:
    for each in kept:
        if each.process is not None:
            each.process.terminate()  # does nothing to a process that has ended


def _last_words(log: Path) -> str:
    """Where the log is, and its last line: mostly the error."""
    lines = log.read_bytes()[-4096:].decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it is empty")
    return f"Its log is {log}: {last[:300]}"
