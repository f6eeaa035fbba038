"""Runs scripts on instances over SSH: the Executor that the console uses.

Each operation sends one program (see ``remote``) over one channel (see ``pool``) and reads
frames. A channel that has started a run is kept for a few seconds, because the same caller
usually follows it at once and acknowledges it soon after; the instance then starts one shell
for a run instead of three. Nothing depends on that: any other process may go on instead.

Reads block, and never by polling: the transport's thread rings a bell for both streams. The
exit code comes in a frame and not from SSH, so a lost connection never loses it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import paramiko

from commands.errors import (
    CommandConsoleError,
    ConnectFailed,
    ConnectionLost,
    RunLost,
    StartRefused,
)
from commands.execution import remote
from commands.execution.executor import (
    Cancelled,
    Ending,
    Endpoint,
    Finished,
    Handle,
    Offsets,
    Output,
    RunSpec,
    Started,
    Stream,
)
from commands.execution.pool import Pool, Session, Timing
from commands.execution.remote import Frame, Reader
from commands.rules.status import ErrorCode

ANSWER = 60.0
"""Seconds for an answer that needs no waiting on the instance."""
CANCELLING = 300.0
"""Seconds for the answer to a cancel, which waits for processes to end."""
KEEP = 10.0
"""Seconds that a channel is kept for the next request about the same run."""
_CHUNK = 256 * 1024
_REFUSALS = {
    "DirectoryNotExists": (
        ErrorCode.DIRECTORY_NOT_EXISTS,
        "The execution path {workdir} does not exist there, or may not be entered.",
    ),
    "InterpreterNotFound": (
        ErrorCode.INTERPRETER_NOT_FOUND,
        "The script asks for {interpreter}, which is not installed there.",
    ),
    "StateDirectoryUnusable": (
        ErrorCode.STATE_DIRECTORY_UNUSABLE,
        (
            "Neither ~/.command-console nor /var/tmp/.command-console-<uid> can be written "
            "there. Check owner, permissions and free space."
        ),
    ),
    "NoSetsid": (
        ErrorCode.EXECUTION_EXCEPTION,
        "The program setsid (util-linux or busybox) is not installed there.",
    ),
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


class _Conversation:
    """One channel with the program on it. Used by one thread at a time."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.nonce = remote.new_nonce()
        self.since = time.monotonic()
        self._bell = _Bell()
        self._readers: dict[Stream, Reader] = {
            "stdout": Reader(self.nonce),
            "stderr": Reader(self.nonce),
        }
        self._waiting: deque[tuple[Stream, Frame | bytes]] = deque()

    def begin(self, program: bytes) -> None:
        """Send the program and wait for its first sign. Raises ConnectFailed, ConnectionLost."""
        channel = self.session.channel
        try:
            channel.settimeout(ANSWER)
            channel.exec_command(remote.COMMAND)
            channel.in_buffer.set_event(self._bell)
            channel.in_stderr_buffer.set_event(self._bell)
            channel.sendall(program)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._lost(str(error)) from None
        if self.frame(ANSWER).word != "hello":
            raise self._lost("it answered in an unknown way")

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
        """Everything that arrives, in order, until the channel ends."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
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
        if (left is not None and left <= 0) or not self._bell.take(left):
            raise self._lost("it did not answer in time")
        return True

    def noise(self) -> str:
        """What came that was neither frame nor output: often the reason of a failure."""
        noise = bytes(self._readers["stdout"].noise + self._readers["stderr"].noise)
        return noise.decode("utf-8", "replace").strip()[:300]

    def _lost(self, why: str) -> ConnectionLost:
        said = self.noise()
        return ConnectionLost(
            f"The connection to the instance broke ({why}). What runs there goes on."
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
        self._kept: dict[tuple[Endpoint, str], _Conversation] = {}
        self._no_wait: set[Endpoint] = set()
        self._swept: set[Endpoint] = set()

    def start(self, endpoint: Endpoint, spec: RunSpec) -> Started:
        """See ``Executor.start``."""
        talk = self._open(endpoint, lambda nonce: _checked(nonce, spec))
        with _closing_on_error(talk):
            frame = talk.frame(ANSWER)
            if frame.word == "refused":
                raise _refusal(frame, spec)
            if frame.word != "started":
                raise ConnectionLost("The instance answered in an unknown way.")
            fresh, boot, machine, host, *base = frame.rest
        self._keep(endpoint, spec.run_id, talk)
        return Started(" ".join(base), fresh == "1", _told(boot), _told(machine), _told(host))

    def follow(
        self,
        endpoint: Endpoint,
        handle: Handle,
        offsets: Offsets,
        receive: Callable[[Output], None],
    ) -> Finished:
        """See ``Executor.follow``."""
        poll = endpoint in self._no_wait
        for _ in range(3):
            request = remote.follow_request(offsets, poll=poll)
            talk = self._ask(endpoint, handle, request)
            with _closing_on_error(talk):
                flow = _Flow(offsets, receive)
                ended = flow.run(talk)
            self._keep(endpoint, handle.run_id, talk)
            offsets = flow.reached
            if ended.word != "broken":
                return flow.finished(ended)
            if not flow.moved:
                # Not GNU's tail. One that was killed half-way has usually sent something.
                poll = True
                self._no_wait.add(endpoint)
        raise ConnectionLost("The instance stopped sending the output half-way.")

    def cancel(self, endpoint: Endpoint, handle: Handle) -> Cancelled:
        """See ``Executor.cancel``."""
        talk = self._open(endpoint, lambda nonce: remote.cancel_program(nonce, handle))
        with contextlib.closing(talk):
            frame = talk.frame(CANCELLING)
        if frame.word != "cancelled":
            raise ConnectFailed(
                _REFUSALS["StateDirectoryUnusable"][1], code=ErrorCode.STATE_DIRECTORY_UNUSABLE
            )
        return Cancelled(remote.count_of(frame.rest[0]))

    def acknowledge(self, endpoint: Endpoint, handle: Handle) -> None:
        """See ``Executor.acknowledge``."""
        with self._lock:
            sweep = endpoint not in self._swept
            self._swept.add(endpoint)
        talk = self._ask(endpoint, handle, remote.acknowledge_request(sweep=sweep))
        with contextlib.closing(talk):
            frame = talk.frame(ANSWER)
        if frame.word != "acknowledged":
            raise ConnectFailed(
                _REFUSALS["StateDirectoryUnusable"][1], code=ErrorCode.STATE_DIRECTORY_UNUSABLE
            )

    def close(self) -> None:
        """See ``Executor.close``."""
        self.pool.close()
        with self._lock:
            kept, self._kept = list(self._kept.values()), {}
        for talk in kept:
            talk.close()

    def _open(self, endpoint: Endpoint, program: Callable[[str], bytes]) -> _Conversation:
        talk = _Conversation(self.pool.open(endpoint))
        with _closing_on_error(talk):
            try:
                talk.begin(program(talk.nonce))
            except ConnectionLost as error:
                if not talk.session.connected:
                    raise
                # The shell ended before its first word, so nothing of the program was done.
                said = talk.noise()
                text = "The instance gave no usable shell." + (f" It said: {said}" if said else "")
                raise ConnectFailed(text, code=ErrorCode.PROTOCOL_ERROR) from error
        return talk

    def _ask(self, endpoint: Endpoint, handle: Handle, request: bytes) -> _Conversation:
        """The kept channel of the run, or a new one, with ``request`` sent."""
        with self._lock:
            talk = self._kept.pop((endpoint, handle.run_id), None)
        if talk is not None:
            with contextlib.suppress(ConnectionLost), _closing_on_error(talk):
                if talk.session.connected and not talk.session.channel.closed:
                    talk.ask(request)
                    return talk
            talk.close()
        talk = self._open(endpoint, lambda nonce: remote.converse_program(nonce, handle))
        with _closing_on_error(talk):
            talk.ask(request)
        return talk

    def _keep(self, endpoint: Endpoint, run_id: str, talk: _Conversation) -> None:
        talk.since = time.monotonic()
        with self._lock:
            other = self._kept.pop((endpoint, run_id), None)
            self._kept[endpoint, run_id] = talk
        if other is not None:
            other.close()

    def _expire(self) -> None:
        now = time.monotonic()
        with self._lock:
            old = [key for key, talk in self._kept.items() if now - talk.since > KEEP]
            talks = [self._kept.pop(key) for key in old]
        for talk in talks:
            talk.close()


class _Flow:
    """Takes one answer to ``follow`` apart, and counts."""

    def __init__(self, offsets: Offsets, receive: Callable[[Output], None]) -> None:
        self._receive = receive
        self._at: dict[Stream, int] = {"stdout": offsets.stdout, "stderr": offsets.stderr}
        self._open: set[Stream] = {"stdout", "stderr"}
        self.moved = False

    @property
    def reached(self) -> Offsets:
        """The offsets after the last byte that was handed over."""
        return Offsets(self._at["stdout"], self._at["stderr"])

    def run(self, talk: _Conversation) -> Frame:
        """Hand over all output; the frame that says how it ended. Raises ConnectionLost."""
        last: Frame | None = None
        for stream, item in talk.items():
            if isinstance(item, bytes):
                self._hand_over(stream, item)
            elif item.word == "end":
                self._open.discard(stream)
            elif item.word == "gone":
                return item
            elif item.word in ("result", "broken"):
                last = item
            if last is not None and not self._open:
                return last
        raise ConnectionLost("The connection to the instance broke. What runs there goes on.")

    def _hand_over(self, stream: Stream, data: bytes) -> None:
        self._receive(Output(stream, self._at[stream], data))
        self._at[stream] += len(data)
        self.moved = True

    def finished(self, frame: Frame) -> Finished:
        """What a ``result`` frame says. Raises RunLost."""
        if frame.word == "gone":
            raise RunLost(
                "The directory of the run is gone from the instance, and with it how "
                "the run ended. Look there for its effects before running it again."
            )
        ending, exit_code, left = frame.rest
        if ending not in set(Ending):
            raise RunLost(_why_lost(ending, remote.count_of(left)))
        return Finished(
            Ending(ending),
            remote.count_of(exit_code),
            self._at["stdout"],
            self._at["stderr"],
            remote.count_of(left),
        )


def _why_lost(ending: str, left: int | None) -> str:
    if ending == "rebooted":
        return "The instance was restarted during the run; how far the script came is unknown."
    rest = "its processes were ended" if not left else f"{left} of its processes could not be ended"
    return f"The supervisor of the run was killed on the instance; {rest}; exit code unknown."


def _checked(nonce: str, spec: RunSpec) -> bytes:
    try:
        return remote.start_program(nonce, spec)
    except ValueError as error:
        raise StartRefused(f"The run cannot be started: {error}.") from None


def _refusal(frame: Frame, spec: RunSpec) -> CommandConsoleError:
    code, text = _REFUSALS[frame.rest[0]]
    found = remote.interpreter_of(spec.script)
    text = text.format(workdir=spec.workdir, interpreter=found.program or found.path)
    return StartRefused(text, code=code)


def _told(word: str) -> str:
    return "" if word == "-" else word


@contextlib.contextmanager
def _closing_on_error(talk: _Conversation) -> Iterator[None]:
    try:
        yield
    except BaseException:
        talk.close()
        raise
