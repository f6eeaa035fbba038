"""Ends everything that one ``manage.py up`` started, also when its supervisor was killed.

All processes under one ``up`` inherit a random cookie in their environment, so even a script
that a demo instance started detached, with a session and a parent of its own, is found again.
``sweep`` is what the supervisor calls at an ordinary end. This module is also a process, the
guardian: it holds the read end of a pipe whose write end only the supervisor has, and sweeps
at end of file, that is, whenever and however the supervisor is gone.

It imports next to nothing, so that it is small, quick to start and has little to fail with.

What counts as ours, and nothing else is ever signalled: a process of our own user that
carries the cookie, a child that the supervisor noted, a member of a session whose leader is
one of these, a descendant of any of them. Each is named by its id *and* its start time, so a
recycled id is never hit. Where there is no ``/proc``, only the process groups that the
supervisor noted are known: there, detached scripts of the demo instances stay behind.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

COOKIE = "COMMAND_CONSOLE_UP"
"""The environment variable by which everything under one ``up`` is recognised."""

GUARDED = "COMMAND_CONSOLE_GUARDED"
"""Tells the guardian the cookie to sweep; another name, as the guardian is not swept."""

PATIENCE = 2.0
"""Seconds between TERM and KILL."""

_PAUSE = 0.03  # seconds between two looks
# Looks while killing what forks while it is being killed, two seconds at least. Not a time: after
# a machine stood still that would be over before anything was killed, or had the time to end.
_KILLING = 67


class Process(NamedTuple):
    """One process as /proc shows it. ``started`` is in clock ticks since boot."""

    pid: int
    parent: int
    session: int
    started: int


def sweep(
    cookie: str,
    *,
    patience: float = PATIENCE,
    spare: Collection[int] = (),
    notes: str = "",
) -> int:
    """End everything that carries ``cookie``: TERM, ``patience`` seconds, KILL.

    Never signals this process or the ids in ``spare``. ``notes`` is the file in which the
    supervisor notes its children (see ``note``). Returns how many processes are left: 0,
    unless the kernel itself cannot end one.
    """
    if not os.path.exists("/proc/self/environ"):
        return _sweep_groups(notes, patience)
    asked: set[Process] = set()
    killing_at, looks = time.monotonic() + patience, _KILLING
    while True:
        found = find(cookie, spare=spare, notes=notes)
        killing = time.monotonic() >= killing_at
        if not found or not looks:
            return len(found)
        looks -= killing
        for process in found:
            if killing:
                _send(process, signal.SIGKILL)
            elif process not in asked:
                _send(process, signal.SIGTERM)
        asked.update(found)
        time.sleep(_PAUSE)


def find(cookie: str, *, spare: Collection[int] = (), notes: str = "") -> list[Process]:
    """Living processes that are provably of the ``up`` with this cookie. Needs /proc."""
    table = {process.pid: process for process in _processes()}
    ours = {pid for pid in table if _carries(pid, cookie)}
    # A program that gives itself a title may write it over its environment, cookie and all.
    for pid, started in _noted(notes):
        if pid in table and table[pid].started == started:
            ours.add(pid)
    ours |= {process.pid for process in table.values() if process.session in ours}
    ours = _with_descendants(ours, table.values()) - {os.getpid(), *spare}
    return [table[pid] for pid in sorted(ours)]


def note(pid: int) -> str:
    """The line that stands for a child in the notes: its id, and when it started."""
    process = _look(pid)
    return f"{pid} {process.started if process else 0}"


def _noted(notes: str) -> list[tuple[int, int]]:
    try:
        with open(notes, encoding="utf-8") as file:
            return [(int(pid), int(started)) for pid, started, _ in map(str.split, file)]
    except (OSError, ValueError):
        return []


def _with_descendants(ours: set[int], everything: Iterable[Process]) -> set[int]:
    children: dict[int, list[int]] = {}
    for process in everything:
        children.setdefault(process.parent, []).append(process.pid)
    found, waiting = set(ours), list(ours)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def _processes() -> Iterable[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _look(int(name))
            if process:
                yield process


def _look(pid: int) -> Process | None:
    """The living process ``pid``; None where there is none, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in brackets may hold anything, so count from the last bracket.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if not fields or fields[0] in b"ZX":
        return None
    return Process(pid, parent=int(fields[1]), session=int(fields[3]), started=int(fields[19]))


def _carries(pid: int, cookie: str) -> bool:
    """Whether the process is our user's and has the cookie in its first environment."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.getuid():
            return False
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{COOKIE}={cookie}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _send(process: Process, number: signal.Signals) -> None:
    """Signal exactly this process, never another one that got its id meanwhile."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # Gone, or a kernel without pidfd: there the start time alone must do.
        if _is_still(process):
            _ignoring_errors(os.kill, process.pid, number)
        return
    try:
        if _is_still(process):
            _ignoring_errors(signal.pidfd_send_signal, descriptor, number)
    finally:
        os.close(descriptor)


def _is_still(process: Process) -> bool:
    now = _look(process.pid)
    return now is not None and now.started == process.started


def _ignoring_errors(
    act: Callable[[int, signal.Signals], object], target: int, number: signal.Signals
) -> None:
    try:
        act(target, number)
    except OSError:
        pass  # it has just ended, or became a user we may not signal: nothing to be done


def _sweep_groups(notes: str, patience: float) -> int:
    """What ``sweep`` does where there is no /proc: the noted process groups only."""
    asked: set[int] = set()
    killing_at, looks = time.monotonic() + patience, _KILLING
    while True:
        groups = [pid for pid, _ in _noted(notes) if _leads_session(pid)]
        killing = time.monotonic() >= killing_at
        if not groups or not looks:
            return len(groups)
        looks -= killing
        for group in groups:
            if killing:
                _ignoring_errors(os.killpg, group, signal.SIGKILL)
            elif group not in asked:
                _ignoring_errors(os.killpg, group, signal.SIGTERM)
        asked.update(groups)
        time.sleep(_PAUSE)


def _leads_session(pid: int) -> bool:
    # Every child leads a session of its own. A stranger that got the id most likely does not.
    try:
        return pid > 1 and os.getsid(pid) == pid == os.getpgid(pid)
    except OSError:
        return False


def main() -> None:
    """Wait for the end of standard input, then sweep. The argument names the notes."""
    # Only the end of the supervisor ends the guardian; a signal meant for all must not.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cookie, notes = os.environ[GUARDED], sys.argv[1]
    while os.read(0, 4096):
        pass
    left = sweep(cookie, notes=notes)
    sys.exit(f"{left} processes cannot be ended." if left else 0)


if __name__ == "__main__":
    main()
