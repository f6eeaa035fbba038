"""Runs scripts on instances over SSH: the Executor that the console uses.

Each operation sends one program (see ``remote``) over one channel (see ``pool``) and reads
frames. A channel that has started a run is kept for a few seconds, because the same caller
usually follows it at once and acknowledges it soon after; the instance then starts one shell
for a run instead of three. Once the run is acknowledged, the next one on that instance may use
the channel, one at a time: its shell has read the program already. Nothing depends on that: any
other process may go on instead.

Reads block, and never by polling: the transport's thread rings a bell for both streams. The
exit code comes in a frame and not from SSH, so a lost connection never loses it.

Whatever paramiko, the operating system or an instance come up with, only errors of the contract
leave the public methods: see ``_edge``.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import paramiko

from commands.errors import (
    ConnectFailed,
    ConnectionLost,
    ExecutionError,
    RunLost,
    StartRefused,
)
from commands.execution import dialect, remote, sentences, windows
from commands.execution.dialect import Dialect
from commands.execution.dialing import Timing
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
from commands.execution.pool import Call, Connection, Pool, Session
from commands.execution.remote import Frame, Reader
from commands.rules.status import ErrorCode

log = logging.getLogger(__name__)

ANSWER = 60.0
"""Seconds for an answer that needs no waiting on the instance."""
CANCELLING = 300.0
"""Seconds for the answer to a cancel, which waits for processes to end."""
NAMING = 10.0
"""Seconds for the name of the system, which nobody needs."""
KEEP = 10.0
"""Seconds that a channel is kept for the next request about the same run."""
_Place = tuple[str, int, str, str]
T = TypeVar("T")
_CHUNK = 256 * 1024
_SENTENCE = 2000
_NAME = 255
_ID = 64
_NAMES = 200
_SWEEP_EVERY = 24 * 3600.0  # seconds between two looks for what is old on an instance
_REFUSALS = {
    "DirectoryNotExists": (ErrorCode.DIRECTORY_NOT_EXISTS, sentences.NO_DIRECTORY),
    "InterpreterNotFound": (ErrorCode.INTERPRETER_NOT_FOUND, sentences.NO_INTERPRETER),
    "LauncherNotFound": (ErrorCode.LAUNCHER_NOT_FOUND, sentences.NO_LAUNCHER),
    "StateDirectoryUnusable": (ErrorCode.STATE_DIRECTORY_UNUSABLE, sentences.NO_STATE_DIRECTORY),
    "DiskFull": (ErrorCode.DISK_FULL, sentences.DISK_FULL),
    "ProgramNotFound": (ErrorCode.EXECUTION_EXCEPTION, sentences.NO_PROGRAM),
    **windows.REFUSALS,
}

_UNPROVEN: dict[tuple[str, ...], str] = {
    ("Restarted",): sentences.RESTARTED,
    ("Forgotten",): sentences.FORGOTTEN,
}

_CLOSED_DOORS = {
    remote.NO_ACCOUNT: (ErrorCode.ACCOUNT_NOT_EXISTS, sentences.NO_ACCOUNT),
    remote.NOT_LET_THROUGH: (ErrorCode.RUN_AS_REFUSED, sentences.NOT_LET_THROUGH),
    remote.NO_SUDO: (ErrorCode.RUN_AS_REFUSED, sentences.NO_SUDO),
}


class _Bell(threading.Event):
    """Rung by either stream of a channel. A stream that was read empty cannot silence it."""

    def clear(self) -> None:
        """Nothing: the other stream may still hold bytes."""

    def take(self, timeout: float | None) -> bool:
        """Wait until it was rung since the last call; False after ``timeout`` seconds."""
        rung = self.wait(timeout)
        super().clear()
        return rung


class _TooLate(ConnectionLost):
    """What was waited for did not come in time; the other side may still be at it."""


class _ClosedDoor(ConnectFailed):
    """The console is signed in, but did not become the user of the run."""


class _Conversation:
    """One channel with the program on it. Used by one call at a time.

    ``user`` signed in, and the program runs as ``run_as``. ValueError: that is no user's name.
    """

    def __init__(
        self, session: Session, user: str, run_as: str = "", speech: Dialect = remote
    ) -> None:
        self.session = session
        self._command = speech.command_as(user, run_as)
        self._names = {"user": user, "run_as": run_as}
        self._call = Call()
        self.nonce = remote.new_nonce()
        self.since = time.monotonic()
        self._bell = _Bell()
        self._readers: dict[Stream, Reader] = {
            "stdout": Reader(self.nonce),
            "stderr": Reader(self.nonce),
        }
        self._waiting: deque[tuple[Stream, Frame | bytes]] = deque()

    @property
    def open(self) -> bool:
        """Whether the other side takes requests, as far as anybody knows."""
        channel = self.session.channel
        return self.session.connected and not (channel.closed or channel.eof_received)

    def serve(self, call: Call) -> None:
        """Belong to ``call`` from now on. Raises ConnectionLost where it was abandoned."""
        self._call = call
        call.use(self.session)

    def begin(self, program: bytes, patience: float) -> None:
        """Send the program and wait ``patience`` seconds for its first sign.

        Raises ConnectFailed, ConnectionLost.
        """
        sent = False
        try:
            self._execute(patience)
            sent = True
            self.session.channel.sendall(program)
            found = self.frame(patience)
        except _TooLate:
            if windows.DEAF in self.noise():
                raise self._no_shell() from None
            raise
        except TimeoutError:
            raise _TooLate(self._lost("it took no bytes in time").message) from None
        except (ConnectionLost, paramiko.SSHException, EOFError, OSError) as error:
            self._call.check()
            if not isinstance(error, EOFError):
                self._read_rest()
            if isinstance(error, EOFError) or self.session.broken(0.2):
                raise self._lost(str(error)) from None
            if sent and not self.session.connected:
                # We closed it ourselves, too late to know.
                raise self._lost("it was given up") from None
            # The shell ended before its first word, so nothing of the program was done.
            raise self._no_shell() from None
        if found.word != "hello":
            raise self._lost("it answered in an unknown way")

    def _no_shell(self) -> ConnectFailed:
        said = self.noise()
        if self._command == windows.command():
            return windows.no_shell(said)
        if self._command != remote.COMMAND:
            closed = _CLOSED_DOORS.get(self.session.exit_code(1.0) or 0)
            if closed is not None:
                return _ClosedDoor(_with(said, closed[1] % self._names), code=closed[0])
        return ConnectFailed(_with(said, sentences.NO_SHELL), code=ErrorCode.PROTOCOL_ERROR)

    def _read_rest(self) -> None:
        """Read what came before the channel ended: where sending failed, nobody has yet."""
        with contextlib.suppress(Exception):
            for _ in self.items(time.monotonic() + 1):
                pass

    def _execute(self, patience: float) -> None:
        channel = self.session.channel
        channel.settimeout(patience)
        # Paramiko waits for this answer without end; the pool's keeper looks at `due`.
        self._call.due = time.monotonic() + patience
        channel.exec_command(self._command)
        self._call.due = None
        channel.in_buffer.set_event(self._bell)
        channel.in_stderr_buffer.set_event(self._bell)

    def ask(self, request: bytes) -> None:
        """Send one more request. Raises ConnectionLost."""
        try:
            self.session.channel.sendall(request)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._lost(str(error)) from None

    def frame(self, timeout: float) -> Frame:
        """The next frame on stdout. Raises ConnectionLost."""
        until = time.monotonic() + timeout
        for stream, item in self.items(until):
            if stream == "stdout" and isinstance(item, Frame):
                return item
        raise self._lost("it closed the session")

    def items(self, until: float | None = None) -> Iterator[tuple[Stream, Frame | bytes]]:
        """Everything that arrives, in order, until the channel ends.

        Raises ConnectionLost: the call was abandoned, or ``until`` is over (_TooLate).
        """
        while True:
            while self._waiting:
                # The receiver may take its time, or abandon its own call.
                self._call.check()
                yield self._waiting.popleft()
            self._call.check()
            if until is not None and time.monotonic() >= until:
                raise self._too_late()
            if not self._read() and not self._wait(until):
                return

    def _read(self) -> bool:
        """Move what has arrived into ``_waiting``; False if there was nothing."""
        channel, before = self.session.channel, len(self._waiting)
        try:
            got = channel.recv_ready()
            if got:
                self._feed("stdout", channel.recv(_CHUNK))
            if channel.recv_stderr_ready():
                got = True
                self._feed("stderr", channel.recv_stderr(_CHUNK))
        except ValueError:
            raise self._lost("it answered in an unknown way") from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            # Taking bytes may send a message: the window is open again.
            raise self._lost(str(error)) from None
        return got or len(self._waiting) > before

    def _feed(self, stream: Stream, data: bytes) -> None:
        self._waiting.extend((stream, item) for item in self._readers[stream].feed(data))

    def _wait(self, until: float | None) -> bool:
        """Wait for more; False at the end of the channel. Raises ConnectionLost: too late."""
        channel = self.session.channel
        if channel.closed or channel.eof_received:
            # Both are set before the last bell; bytes may have come before them.
            return channel.recv_ready() or channel.recv_stderr_ready()
        left = None if until is None else until - time.monotonic()
        if not self._bell.take(None if left is None else max(0.0, left)):
            raise self._too_late()
        return True

    def noise(self) -> str:
        """What came that was neither frame nor output: often the reason of a failure."""
        noise = bytes(self._readers["stdout"].noise + self._readers["stderr"].noise)
        return remote.clean(noise.decode("utf-8", "replace"), 300)

    def _too_late(self) -> _TooLate:
        return _TooLate(self._lost("it did not answer in time").message)

    def _lost(self, why: str) -> ConnectionLost:
        said = self.noise()
        return ConnectionLost(
            f"The connection to the instance broke ({why or 'it ended'}). What runs there goes on."
            + (f" It said: {said}" if said else "")
        )

    def close(self) -> None:
        """Close the channel; the shell behind it ends."""
        self.session.close()


class SshExecutor:
    """See ``executor.Executor``. One for each process; ``close`` it at the end."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.pool = Pool(timing)
        self.pool.on_tick.append(self._expire)
        self._lock = threading.Lock()
        self._kept: dict[tuple[Endpoint, str, str], _Conversation] = {}
        self._free: dict[tuple[Endpoint, str], _Conversation] = {}
        self._calls: set[Call] = set()
        # Not by endpoint: that would keep keys and passwords for ever.
        self._no_wait: set[_Place] = set()
        self._swept: dict[_Place, float] = {}  # when, monotonic

    def probe(self, endpoint: Endpoint) -> str:
        """See ``Executor.probe``."""
        with _edge(), self._calling() as call:
            connection = self.pool.reach(endpoint, call)
            # Once for each connection: also those who were asked meanwhile get the answer.
            with connection.naming:
                if connection.system is None:
                    connection.system = self._system(endpoint, connection, call)
                return connection.system or ""

    def _system(self, endpoint: Endpoint, connection: Connection, call: Call) -> str | None:
        """What the instance's system is called, "" if it does not tell; None: no place to ask."""
        session = self.pool.open_on(connection)
        if session is None:
            return None
        # An account without a usable shell is reachable all the same.
        with (
            contextlib.closing(session),
            contextlib.suppress(ExecutionError, paramiko.SSHException, EOFError, OSError),
        ):
            speech = dialect.of(endpoint.system)
            talk = _Conversation(session, endpoint.user, speech=speech)
            talk.serve(call)
            talk.begin(speech.system_program(talk.nonce), NAMING)
            return remote.system_name(_granted(talk.frame(NAMING), "system", 0))
        return ""

    def examine(self, endpoint: Endpoint, needs: Needs) -> Examined:
        """See ``Executor.examine``."""
        with _edge(), self._calling() as call:
            # Not on any that is open: one that died unseen would be waited for.
            self.pool.reach(endpoint, call)
            if endpoint.system == "windows":
                return Examined(whole=False)
            talk = self._open(
                endpoint, needs.run_as, lambda nonce: remote.probe_program(nonce, needs), call
            )
            with contextlib.closing(talk):
                return _examined(talk, needs)

    def start(self, endpoint: Endpoint, spec: RunSpec) -> Started:
        """See ``Executor.start``."""
        with _edge(), self._calling(spec.run_id) as call:
            try:
                talk = self._asked_to_start(endpoint, spec, call)
                if talk is None:
                    make = dialect.of(endpoint.system).start_program
                    program = _starter(endpoint, spec, make)
                    talk = self._open(endpoint, spec.run_as, program, call)
            except _ClosedDoor as error:
                raise StartRefused(error.message, code=error.code) from None
            with _closing_on_error(talk):
                frame = talk.frame(ANSWER)
                if frame.word == "refused":
                    raise _refusal(frame, spec)
                started = _started(frame, talk.session.host_key_fingerprint)
            self._keep((endpoint, spec.run_as, spec.run_id), talk)
            return started

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
        until = None if limit is None else time.monotonic() + limit
        receiver = _Receiver(receive)
        with _edge(receiver), self._calling(handle.run_id) as call:
            return self._follow(endpoint, handle, _Flow(offsets, receiver), call, until)

    def _follow(
        self, endpoint: Endpoint, handle: Handle, flow: _Flow, call: Call, until: float | None
    ) -> Finished:
        place = _place(endpoint, handle.run_as)
        poll = place in self._no_wait
        tries = 0
        while tries < 3:
            before = flow.reached
            talk = self._ask(endpoint, handle, remote.follow_request(before, poll=poll), call)
            with _closing_on_error(talk):
                ended = flow.run(talk, until)
            self._keep((endpoint, handle.run_as, handle.run_id), talk)
            if endpoint.system == "windows":
                return windows.finished(ended, flow.reached)
            if ended.word == "again":
                continue
            if ended.word != "broken":
                return flow.finished(ended)
            tries += 1
            if flow.reached == before:
                # Not GNU's tail. One that was killed half-way has usually sent something.
                poll = True
                self._no_wait.add(place)
        raise ConnectionLost("The instance stopped sending the output half-way.")

    def waits_for(self, endpoint: Endpoint, handle: Handle) -> str:
        """See ``Executor.waits_for``."""
        if endpoint.system == "windows":
            return ""
        with _edge(), self._calling() as call:
            session = self.pool.open_on(self.pool.reach(endpoint, call))
            if session is None:
                return ""
            with contextlib.closing(session):
                talk = _Conversation(session, endpoint.user, handle.run_as)
                talk.serve(call)
                talk.begin(remote.stall_program(talk.nonce, handle), ANSWER)
                return remote.stall_of(_granted(talk.frame(ANSWER), "stall", 1))

    def cancel(self, endpoint: Endpoint, handle: Handle) -> Cancelled:
        """See ``Executor.cancel``."""
        with _edge(), self._calling() as call:
            speech = dialect.of(endpoint.system)
            talk = self._open(
                endpoint, handle.run_as, lambda nonce: speech.cancel_program(nonce, handle), call
            )
            with contextlib.closing(talk):
                frame = talk.frame(CANCELLING)
            return Cancelled(remote.count_of(_granted(frame, "cancelled", 1)[0]))

    def acknowledge(self, endpoint: Endpoint, handle: Handle) -> None:
        """See ``Executor.acknowledge``."""
        place = _place(endpoint, handle.run_as)
        last = self._swept.get(place)
        sweep = last is None or time.monotonic() - last > _SWEEP_EVERY
        with _edge(), self._calling() as call:
            talk = self._ask(endpoint, handle, remote.acknowledge_request(sweep=sweep), call)
            with _closing_on_error(talk):
                _granted(talk.frame(ANSWER), "acknowledged", 0)
            if endpoint.system == "linux":
                self._set_free((endpoint, handle.run_as), talk)
            else:
                talk.close()
        if sweep:
            self._swept[place] = time.monotonic()

    def abandon(self, run_id: str) -> None:
        """See ``Executor.abandon``."""
        for call in self._in_progress():
            if call.run_id == run_id:
                call.abandon()

    def close(self) -> None:
        """See ``Executor.close``."""
        self.pool.close()
        with self._lock:
            kept = [*self._kept.values(), *self._free.values()]
            self._kept, self._free = {}, {}
        for talk in kept:
            talk.close()

    @contextlib.contextmanager
    def _calling(self, run_id: str = "") -> Iterator[Call]:
        """A call that can be abandoned (if it has a run id) and cut while it lasts."""
        call = Call(run_id)
        with self._lock:
            self._calls.add(call)
        try:
            yield call
        finally:
            with self._lock:
                self._calls.discard(call)

    def _in_progress(self) -> list[Call]:
        with self._lock:
            return list(self._calls)

    def _open(
        self, endpoint: Endpoint, run_as: str, program: Callable[[str], bytes], call: Call
    ) -> _Conversation:
        if run_as and not ACCOUNT_NAME.fullmatch(run_as):
            text = f"{run_as!r} cannot be the name of a user. Choose another user."
            raise _ClosedDoor(text, code=ErrorCode.ACCOUNT_NOT_EXISTS)
        if endpoint.system == "windows" and run_as not in ("", endpoint.user):
            raise _ClosedDoor(windows.NO_RUN_AS, code=ErrorCode.RUN_AS_REFUSED)
        speech = dialect.of(endpoint.system)
        talk = _Conversation(self.pool.open(endpoint, call), endpoint.user, run_as, speech)
        with _closing_on_error(talk):
            talk.serve(call)
            talk.begin(program(talk.nonce), ANSWER)
        return talk

    def _asked_to_start(
        self, endpoint: Endpoint, spec: RunSpec, call: Call
    ) -> _Conversation | None:
        """A free channel that was asked to start the run; None where there is none."""
        with self._lock:
            talk = self._free.pop((endpoint, spec.run_as), None)
        if talk is None:
            return None
        with _closing_on_error(talk):
            make = dialect.of(endpoint.system).start_request
            request = _starter(endpoint, spec, make)(talk.nonce)
            if request is not None and talk.open:
                talk.serve(call)
                talk.ask(request)
                return talk
        talk.close()
        return None

    def _set_free(self, key: tuple[Endpoint, str], talk: _Conversation) -> None:
        """Keep the channel of a run that is over for the next one. One is enough."""
        talk.since = time.monotonic()
        with self._lock:
            over = self._free.get(key)
            if self.pool.closed:
                over = talk
            else:
                self._free[key] = talk
        if over is not None:
            over.close()

    def _ask(self, endpoint: Endpoint, handle: Handle, request: bytes, call: Call) -> _Conversation:
        """The kept channel of the run, or a new one, with ``request`` sent."""
        with self._lock:
            talk = self._kept.pop((endpoint, handle.run_as, handle.run_id), None)
        if talk is not None:
            with contextlib.suppress(ConnectionLost), _closing_on_error(talk):
                if talk.open:
                    talk.serve(call)
                    talk.ask(request)
                    return talk
            talk.close()
        speech = dialect.of(endpoint.system)
        talk = self._open(
            endpoint, handle.run_as, lambda nonce: speech.converse_program(nonce, handle), call
        )
        with _closing_on_error(talk):
            talk.ask(request)
        return talk

    def _keep(self, key: tuple[Endpoint, str, str], talk: _Conversation) -> None:
        talk.since = time.monotonic()
        with self._lock:
            other = self._kept.pop(key, None)
            self._kept[key] = talk
        if other is not None:
            other.close()

    def _expire(self) -> None:
        """Let go of what is overdue. The pool's keeper calls it, so it must not wait."""
        now = time.monotonic()
        with self._lock:
            talks = [*_overdue(self._kept, now), *_overdue(self._free, now)]
        for talk in talks:
            talk.session.close_soon()
        for call in self._in_progress():
            if call.due is not None and call.due < now:
                call.cut()


def _overdue(kept: dict[T, _Conversation], now: float) -> list[_Conversation]:
    """Those that have been kept for long enough, taken out."""
    old = [key for key, talk in kept.items() if now - talk.since > KEEP]
    return [kept.pop(key) for key in old]


class _Receiver:
    """Calls ``receive`` and remembers what it raised: that alone may pass the edge."""

    def __init__(self, receive: Callable[[Output | Gap], None]) -> None:
        self._receive = receive
        self.raised: BaseException | None = None

    def __call__(self, output: Output | Gap) -> None:
        try:
            self._receive(output)
        except BaseException as error:
            self.raised = error
            raise


class _Flow:
    """Takes the answers to ``follow`` apart, and counts."""

    def __init__(self, offsets: Offsets, receive: Callable[[Output | Gap], None]) -> None:
        self._receive = receive
        self._at: dict[Stream, int] = {"stdout": offsets.stdout, "stderr": offsets.stderr}

    @property
    def reached(self) -> Offsets:
        """The offsets after the last byte that was handed over."""
        return Offsets(self._at["stdout"], self._at["stderr"])

    def run(self, talk: _Conversation, until: float | None) -> Frame:
        """Hand over all output; the frame that says how it ended. Raises ConnectionLost."""
        try:
            return self._run(talk, until)
        except _TooLate:
            text = "The run has not ended in the time that it was followed for. It goes on."
            raise ConnectionLost(text, code=FOLLOW_LIMIT) from None

    def _run(self, talk: _Conversation, until: float | None) -> Frame:
        last: Frame | None = None
        flowing: set[Stream] = {"stdout", "stderr"}
        for stream, item in talk.items(until):
            if isinstance(item, bytes):
                self._hand_over(stream, item)
            elif item.word == "end":
                flowing.discard(stream)
            elif item.word == "gone":
                return item
            elif item.word == "gap":
                self._pass_over(stream, item)
            elif item.word in ("result", "broken", "again"):
                last = item
            if last is not None and not flowing:
                return last
        raise ConnectionLost("The connection to the instance broke. What runs there goes on.")

    def _hand_over(self, stream: Stream, data: bytes) -> None:
        self._receive(Output(stream, self._at[stream], data))
        self._at[stream] += len(data)

    def _pass_over(self, stream: Stream, frame: Frame) -> None:
        first, end = [remote.count_of(word) or 0 for word in (*frame.rest, "", "")[:2]]
        if first != self._at[stream] or end <= first:
            raise _unknown_answer()
        self._receive(Gap(stream, first, end))
        self._at[stream] = end

    def finished(self, frame: Frame) -> Finished:
        """What a ``result`` frame says. Raises RunLost."""
        if frame.word == "gone":
            raise RunLost(sentences.GONE)
        if len(frame.rest) < 4:
            raise _unknown_answer()
        ending, exit_word, left, lost, *names = frame.rest
        if ending not in set(Ending):
            raise RunLost(_why_lost(ending, remote.count_of(left)))
        exit_code = remote.count_of(exit_word) if ending == Ending.EXIT else None
        if ending == Ending.EXIT and (exit_code is None or exit_code > 255):
            raise RunLost(sentences.DAMAGED)
        return Finished(
            Ending(ending),
            exit_code,
            self._at["stdout"],
            self._at["stderr"],
            remote.count_of(left),
            remote.clean(" ".join(names), _NAMES),
            remote.count_of(lost),
        )


def _why_lost(ending: str, left: int | None) -> str:
    if ending == "rebooted":
        return sentences.REBOOTED
    rest = f"{left} of its processes could not be ended"
    if not left:
        rest = "its processes were ended" if left == 0 else "its own process was ended"
    return f"The supervisor of the run was killed on the instance; {rest}; exit code unknown."


def _starter(
    endpoint: Endpoint, spec: RunSpec, make: Callable[[str, RunSpec], T]
) -> Callable[[str], T]:
    """``make`` for this run, given a nonce. Raises StartRefused: nothing there could run it."""

    def build(nonce: str) -> T:
        if endpoint.system == "linux" and spec.language != "shell":
            raise StartRefused("Bat and PowerShell do not run on Linux.")
        try:
            return make(nonce, spec)
        except ValueError as error:
            raise StartRefused(f"The run cannot be started: {error}.") from None

    return build


def _started(frame: Frame, host_key_fingerprint: str = "") -> Started:
    """What a ``started`` frame says. Raises ConnectionLost: no instance of ours says that."""
    if frame.word != "started" or len(frame.rest) < 5:
        raise _unknown_answer()
    fresh, boot, machine, host, *words = frame.rest
    base = " ".join(words)
    # The program uses no other directory, see `cc_plain` there: this is for who fakes it.
    if not (base.startswith("/") or windows.is_base(base)) or not remote.is_clean(base, _NAME):
        raise _unknown_answer()
    told = _told(boot, _ID), _told(machine, _ID), _told(host, _NAME)
    return Started(base, fresh == "1", *told, host_key_fingerprint)


def _examined(talk: _Conversation, needs: Needs) -> Examined:
    """What the frames of an examination say. Raises ConnectionLost."""
    problems = []
    while (frame := talk.frame(ANSWER)).word == "problem":
        if not frame.rest or frame.rest[0] not in _REFUSALS:
            raise _unknown_answer()
        problems.append(_refused(frame, needs))
    if frame.word != "examined" or len(frame.rest) < 2:
        raise _unknown_answer()
    free = remote.count_of(frame.rest[0])
    base = _told(" ".join(frame.rest[1:]), _NAME)
    return Examined(tuple(problems), base, None if free is None else free * 1024)


def _granted(frame: Frame, word: str, count: int) -> tuple[str, ...]:
    """The words after ``word``. Raises ConnectFailed: refused; ConnectionLost: neither."""
    if frame.word == "refused":
        known = frame.rest[:1] == ("DiskFull",) or (
            frame.rest and frame.rest[0] in windows.REFUSALS
        )
        code, text = _REFUSALS[frame.rest[0] if known else "StateDirectoryUnusable"]
        raise ConnectFailed(text, code=code)
    if frame.word != word or len(frame.rest) < count:
        raise _unknown_answer()
    return frame.rest


def _unknown_answer() -> ConnectionLost:
    return ConnectionLost("The instance answered in an unknown way.")


def _refusal(frame: Frame, spec: RunSpec) -> ExecutionError:
    if frame.rest[:1] in _UNPROVEN:
        return RunLost(_UNPROVEN[frame.rest[:1]])
    if not frame.rest or frame.rest[0] not in _REFUSALS:
        return _unknown_answer()
    return _refused(frame, remote.needs_of(spec.script, spec.launcher, workdir=spec.workdir))


def _refused(frame: Frame, needs: Needs) -> StartRefused:
    """What a known code and the words behind it mean for who needs ``needs``."""
    code, text = _REFUSALS[frame.rest[0]]
    text = sentences.filled(
        text,
        workdir=needs.workdir,
        interpreter=needs.program or needs.interpreter,
        launcher=needs.launcher,
        program=remote.clean(" ".join(frame.rest[1:]), _NAMES),
    )
    return StartRefused(remote.clean(text, _SENTENCE), code=code)


def _with(said: str, text: str) -> str:
    """``text``, and what the instance said of it."""
    return sentences.SAID % {"what": text, "said": said} if said else text


def _told(word: str, limit: int) -> str:
    return "" if word == "-" else remote.clean(word, limit)


def _place(endpoint: Endpoint, run_as: str) -> _Place:
    host, jump = endpoint.host, endpoint.jump
    # One private address may be another machine behind each jump host.
    way = f"{jump.host}:{jump.port}>{host}" if jump is not None else host
    return way, endpoint.port, endpoint.user, run_as


@contextlib.contextmanager
def _edge(receiver: _Receiver | None = None) -> Iterator[None]:
    """Let nothing out but ExecutionError, with a clean sentence, and what ``receive`` raised."""
    try:
        yield
    except Exception as error:
        if receiver is not None and error is receiver.raised:
            raise
        if isinstance(error, ExecutionError):
            error.message = remote.clean(error.message, _SENTENCE)
            error.args = (error.message,)
            raise
        if not isinstance(error, paramiko.SSHException | EOFError | OSError):
            log.exception("An operation on an instance failed in an unknown way")
        why = remote.clean(str(error), 300) or type(error).__name__
        raise ConnectionLost(sentences.BROKE % {"why": why}) from error


@contextlib.contextmanager
def _closing_on_error(talk: _Conversation) -> Iterator[None]:
    try:
        yield
    except BaseException:
        talk.close()
        raise
