"""The executor contract: what the console asks of an instance, whatever carries it there.

An *executor* starts a script on an instance, lets anyone follow its output by byte offset,
ends it, and clears up behind it. The instance is the truth about execution: a script runs
detached there, writes into spool files in a directory of its run, and goes on whoever
listens. Every operation is idempotent by ``run_id``, may be called by any worker process at
any time, and blocks the calling thread; none touches the database.

    probe ──> str                the instance answers and lets the console sign in
    examine > Examined           what a run would need is there; nothing is started
    start ──> Started            the script runs (or has run) on the instance, once
    follow ─> Finished           output from the given offsets on, then how it ended
    waits_for ─> str             a process of the run that waits for input from a terminal
    cancel ─> Cancelled          the process tree is ended; how many are left
    acknowledge                  the result is stored: the instance may forget the run

Errors are ``commands.errors.ExecutionError``: ``ConnectFailed`` and ``StartRefused`` mean that
nothing was started, ``ConnectionLost`` that the caller should attach again, ``RunLost`` that
nobody can say how the run ended. Their codes are ``rules.status.ErrorCode`` values, and
``FOLLOW_LIMIT``; their sentences hold no control characters. Nothing else is ever raised,
except what ``receive`` raises.

A run may belong to another user of the instance than the one that the console signs in as
(``run_as``). Then everything about it happens as that user: the script, its HOME, the directory
of the run, following, ending, forgetting. Signed in as root, the console becomes that user with
``runuser`` or ``su``; signed in as somebody else, with ``sudo``, which has to allow it without a
password. The codes ACCOUNT_NOT_EXISTS and RUN_AS_REFUSED say that this did not work: as
StartRefused from ``start``, where they tell nothing about an earlier ``start`` of the same run,
and as ConnectFailed from the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from commands.errors import StartRefused
from commands.rules.launcher import Launcher

Stream = Literal["stdout", "stderr"]
"""Which of a script's two output streams some bytes came from."""

System = Literal["linux", "windows"]
"""What kind of operating system an instance runs."""

Language = Literal["shell", "bat", "powershell"]
"""What a script is written in; "shell" is whatever its interpreter line says."""

FOLLOW_LIMIT = "FollowLimit"
"""Code of the ``ConnectionLost`` by which ``follow`` says that its ``limit`` is over."""

ACCOUNT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", re.ASCII)
"""What the name of a user in ``run_as`` must match as a whole: never an option, never an id."""


class Ending(StrEnum):
    """What ended a script."""

    EXIT = "exit"
    """It ended by itself; ``exit_code`` holds 0..255 (128 + n where a signal n ended it).

    On Windows it is an unsigned number of 32 bits.
    """
    TIMEOUT = "timeout"
    """Its time was up and its processes were ended."""
    CANCEL = "cancel"
    """Somebody cancelled it and its processes were ended (or it was never started)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an instance is and how to sign in. Equal endpoints share one connection.

    ``host_key`` is the pinned public key, ``"ssh-ed25519 AAAA…"``; no other key is accepted.
    Exactly one of ``private_key`` (OpenSSH or PEM text) and ``password`` is set. ``system``
    says which programs can be sent there. ``jump`` is the host through which it is reached,
    with its own pinned key; that one has no ``jump`` itself. ``allowed`` are networks that it may
    be in though ``rules.reachable`` refuses them.
    """

    host: str
    port: int
    user: str
    host_key: str
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    system: System = "linux"
    jump: Endpoint | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to run. ``run_id`` matches ``[A-Za-z0-9._-]{1,80}`` and is unique for ever.

    ``script`` is the exact bytes to execute; an interpreter line (``#!``) is honoured, else
    ``/bin/sh``. ``workdir`` empty means the home directory of the user. ``timeout`` and
    ``grace`` (between TERM and KILL) are seconds, counted on the instance.

    ``launcher`` is the program that runs the script instead, and an interpreter line is not
    looked at. Its words reach the program exactly as they are: no shell reads them. The first
    one is a path, or is looked for in PATH there, and is not the script itself; the script's
    file has the launcher's ``extension``.

    ``run_as`` is the user that the script runs as and matches ``ACCOUNT_NAME``; "" is the user
    that the console signs in as. A name of another form is refused as ACCOUNT_NOT_EXISTS.

    ``whole_tree`` False: timeout and cancel end the script's own process only, and whatever it
    started lives on if it likes. Nothing is then said about how many of those are left.

    ``spool`` bounds what the instance keeps of each stream, in bytes: past it the middle goes,
    and at least the first and the last quarter of ``spool`` stay. 0 keeps everything.

    ``asked_s`` says how many seconds ago the run may have been started already by somebody who
    got no answer; 0 if nobody was. An instance that knows nothing of it starts nothing where that
    proves nothing: RunLost. It was restarted since (what it did last may not have reached its
    disk), or the place where it keeps runs is not known to be older than that. Linux only.

    ``language`` is "shell" where ``system`` is "linux", and one of the others on "windows". There,
    ``script`` is UTF-8 and reaches its interpreter in the encoding that this one reads;
    ``launcher`` and another ``run_as`` are refused, ``grace`` is not used, since nothing there
    can be asked to end, and ``spool`` keeps everything.
    """

    run_id: str
    script: bytes = field(repr=False)
    workdir: str = ""
    timeout: int = 60
    grace: int = 3
    launcher: Launcher | None = None
    run_as: str = ""
    whole_tree: bool = True
    spool: int = 0
    language: Language = "shell"
    asked_s: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run would need on an instance. See ``RunSpec``.

    ``interpreter`` is the path that the script's ``#!`` line names ("": nobody looks for it), and
    ``program`` what ``env`` will look for where that is the path of ``env``. Where ``launcher`` is
    set, it is the program that the launcher begins with, and those two are not looked at.
    """

    workdir: str = ""
    run_as: str = ""
    interpreter: str = "/bin/sh"
    program: str = ""
    launcher: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """Answer of ``examine``: what ``start`` would refuse, the first reason first.

    ``base`` is where the directory of the run would be made, "" where none can be, and ``free``
    how many bytes can still be written there, None where that was not told. ``whole`` is False
    where only the connection could be looked at.
    """

    problems: tuple[StartRefused, ...] = ()
    base: str = ""
    free: int | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Handle:
    """How to find a started run again: its id and its directory's parent on the instance.

    ``run_as`` is that of its ``RunSpec``.
    """

    run_id: str
    base: str
    run_as: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """Answer of ``start``. ``fresh`` is False where the run had been started before.

    ``base`` must be stored and given back in a ``Handle``, exactly: it is text of at most 255
    characters. ``boot_id``, ``machine_id`` (at most 64) and ``hostname`` (255) say where the
    script really runs ("" where the instance does not tell). ``host_key_fingerprint`` is that of
    the host key which the connection really presented, as OpenSSH prints it (``SHA256:…``). None
    holds control characters.
    """

    base: str
    fresh: bool
    boot_id: str = ""
    machine_id: str = ""
    hostname: str = ""
    host_key_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Offsets:
    """How many bytes of each stream the caller already has."""

    stdout: int = 0
    stderr: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """Some consecutive bytes of one stream, beginning at ``offset`` in that stream."""

    stream: Stream
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes ``start`` to ``end`` of a stream that the instance has dropped: nobody gets them.

    The next ``Output`` of that stream begins at ``end``.
    """

    stream: Stream
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finished:
    """How a script ended, and how many bytes each stream has in all.

    ``exit_code`` is None unless ``ending`` is EXIT. ``left`` is the number of processes of
    the run still alive after the last KILL, or None where it was not verified; ``survivors``
    names some of them ("4711 (sleep)"). Without ``whole_tree`` it is 1 where even the script's
    own process was, and None otherwise.

    ``lost`` is how many bytes at the end of the output found no room on the instance's disk,
    None where it was not verified: maybe some. The sizes do not count them.
    """

    ending: Ending
    exit_code: int | None
    stdout_size: int
    stderr_size: int
    left: int | None = None
    survivors: str = ""
    lost: int | None = 0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Answer of ``cancel``. ``left`` as in ``Finished``."""

    left: int | None


class Executor(Protocol):
    """Starts, follows, ends and forgets runs on instances. Safe for use by many threads."""

    def probe(self, endpoint: Endpoint) -> str:
        """Make sure that the instance answers and lets the console sign in; its system's name.

        The name is what its makers call it ("Debian GNU/Linux 12 (bookworm)"), at most 80
        characters without controls, or "" where it cannot be told. A connection that is open
        and answers is proof enough, also where it has no session free. Otherwise one is made,
        and kept as any other; being asked does not make it younger. Runs are not disturbed.
        Returns or raises within the time that connecting may take, plus some seconds for an
        open connection that turns out dead, or for the name.

        Raises ConnectFailed; ConnectionLost once closed.
        """
        ...

    def examine(self, endpoint: Endpoint, needs: Needs) -> Examined:
        """Look whether a run could start there now, with commands on the instance itself.

        Effect: none that lasts. The connection is one that answers just now, as for ``probe``,
        and kept as any other. On Windows nothing but the connection is looked at (``whole``).
        Raises ConnectFailed where the console can't get so far as to look, also as the user of
        ``needs.run_as``; ConnectionLost (ask again, unless it is closed).
        """
        ...

    def start(self, endpoint: Endpoint, spec: RunSpec) -> Started:
        """Start the script, unless ``spec.run_id`` was ever started there before.

        Precondition: none. Effect: exactly one detached execution per ``run_id``, however
        often and from wherever this is called; also after ``acknowledge`` it never runs
        again. Raises ConnectFailed, StartRefused (nothing was started), ConnectionLost
        (unknown whether it was started: call again), RunLost (see ``RunSpec.asked_s``).
        """
        ...

    def follow(
        self,
        endpoint: Endpoint,
        handle: Handle,
        offsets: Offsets,
        receive: Callable[[Output | Gap], None],
        *,
        limit: float | None = None,
    ) -> Finished:
        """Hand every byte from ``offsets`` on to ``receive``, live, until the run has ended.

        Each stream arrives in order and without gap; the two are interleaved as they arrive.
        Only where ``RunSpec.spool`` made the instance drop bytes that nobody had taken in time,
        a ``Gap`` stands for them.
        Raises ConnectFailed or ConnectionLost (follow again from the offsets reached),
        RunLost (the directory, or the end of the run, is gone for good). An exception that
        ``receive`` raises ends the following and is passed on.

        ``limit``: once that many seconds have passed since the call, ConnectionLost with the
        code ``FOLLOW_LIMIT`` is raised, also in the midst of output. The run goes on: who waits
        no longer cancels it and follows again from the offsets reached. Where no connection
        can be had, the error may be the one of connecting, and come some seconds later.
        """
        ...

    def waits_for(self, endpoint: Endpoint, handle: Handle) -> str:
        """The process of the run that waits for input from a terminal, as ``read (4711)``.

        "" if none does, or the instance can't tell (Windows can't). It only looks, and takes
        a session of a connection that is open or made for it, none if none is free: then "".
        Raises ConnectFailed, ConnectionLost.
        """
        ...

    def cancel(self, endpoint: Endpoint, handle: Handle) -> Cancelled:
        """End the run's processes: TERM, grace, KILL. A run not yet started never starts.

        A run that has ended keeps its result. Raises ConnectFailed, ConnectionLost.
        """
        ...

    def acknowledge(self, endpoint: Endpoint, handle: Handle) -> None:
        """Let the instance forget the run: its directory goes, a small tombstone stays.

        Precondition: the result is stored. Runs that nobody acknowledged go by and by, long after
        they are over. Raises ConnectFailed, ConnectionLost.
        """
        ...

    def abandon(self, run_id: str) -> None:
        """Let every ``start`` and ``follow`` of ``run_id`` in this process end soon.

        They raise ConnectionLost, also while they connect; the script goes on. Nothing happens
        where there is none, and calls made later are not affected. Returns at once and raises
        nothing; may be called from any thread, also from ``receive``.
        """
        ...

    def close(self) -> None:
        """Close all connections; calls in progress end with ConnectionLost. Scripts go on.

        Returns within a second or so, whatever the calls in progress wait for.
        """
        ...
