"""Demo instances: three real SSH servers on loopback, so that a new console has servers to use.

They run what they are asked as the user who started the console, each with a host key and a
home directory of its own. One key pair, kept in the data directory, may sign in; they listen
on 127.0.0.1 only. ``python -m console.demo --data DIR`` serves all three from one process and
writes ``demo.json`` (addresses and host keys) once they listen.

What counts for a console, they do as OpenSSH's server does: standard input, output and error
are exact bytes and kept apart; the exit status is sent when the command ends, and the channel
closes when its output does; a client that leaves ends its command (SIGHUP to the command's
process group) but nothing that has a session of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import pwd
import random
import select
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import IO, Any

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
)

from console.datadir import DataDir
from console.guardian import COOKIE

NAMES = ("demo-1", "demo-2", "demo-3")
"""The demo instances."""

HOST = "127.0.0.1"
"""Where they listen. Never elsewhere: they hand out the rights of whoever runs the console."""

_PORTS = range(22_000, 30_000)  # below the ports that systems give to outgoing connections
_CHUNK = 32_768  # bytes, what fits into one SSH packet
_NOTICE = 1000  # milliseconds until it is noticed that a client left a silent command
_UMASK = 0o022  # a command's, as after a sign-in; the console's own is stricter
_PASSED_ON = ("PATH", "TZ", COOKIE)


def main() -> None:
    """Serve the demo instances of one data directory until killed."""
    parser = argparse.ArgumentParser(prog="python -m console.demo", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    data = DataDir(parser.parse_args().data)
    # paramiko logs each handshake that fails, a port scan among them.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    _take_signals_as_usual()
    serve(data)
    signal.pause()


def _take_signals_as_usual() -> None:
    """Undo what was inherited, for commands inherit it in turn: nohup ignores HUP.

    It is done here, once: ``subprocess`` has no means for it that is safe among threads. What
    Python itself ignores (PIPE, XFSZ) ``subprocess`` gives back to commands.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) in (signal.SIG_IGN, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL)


def serve(data: DataDir) -> None:
    """Listen for all demo instances, in threads of this process, and write ``demo.json``."""
    data.create()
    client_key = _key(data.demo / "id_ed25519")
    ports = _ports_before(data)
    instances = [Instance(name, data.demo / name, client_key) for name in NAMES]
    for instance in instances:
        instance.listen(ports.get(instance.name, 0))
    _write(data.demo / "demo.json", json.dumps(_description(instances), indent=2))


class Instance:
    """One SSH server with its own host key and home directory under ``folder``."""

    def __init__(self, name: str, folder: Path, client_key: paramiko.PKey) -> None:
        self.name = name
        self.home = folder / "home"
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.host_key = _key(folder / "host_key")
        self.client_key = client_key
        self.port = 0

    def listen(self, port: int) -> None:
        """Begin to serve on ``port``, or on a free port where it is 0 or taken."""
        listener = _listener(port)
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def environment(self, client: tuple[str, int]) -> dict[str, str]:
        """What a command finds in its environment: nothing of the console's."""
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {
            **kept,
            "HOME": str(self.home),
            "USER": _user(),
            "LOGNAME": _user(),
            "SHELL": "/bin/sh",
            "SSH_CONNECTION": f"{client[0]} {client[1]} {HOST} {self.port}",
        }

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, client = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = _Transport(connection)
            transport.add_server_key(self.host_key)
            rules = _Rules(self, transport, self.environment(client))
            try:
                # With an event it does not wait here, so one slow client delays nobody.
                transport.start_server(threading.Event(), rules)
            except (OSError, paramiko.SSHException):
                transport.close()


class _Transport(paramiko.Transport):
    """Starts commands only after their request was answered.

    paramiko asks for a decision first and answers then. A command begun at the decision could
    end, and close the channel, before the answer is sent: clients take that for a failure.
    """

    _channel_handler_table: dict[int, Any]

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.decided: list[_Session] = []
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_REQUEST: self._answer_then_start,
        }

    def _answer_then_start(self, channel: Any, message: paramiko.Message) -> None:
        channel._handle_request(message)
        while self.decided:
            self.decided.pop().start()


class _Rules(paramiko.ServerInterface):
    """Who may sign in, and what they may ask for: the one key, and commands."""

    def __init__(
        self, instance: Instance, transport: _Transport, environment: dict[str, str]
    ) -> None:
        self._instance = instance
        self._transport = transport
        self._environment = environment

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        right = username == _user() and key == self._instance.client_key
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind == "session":
            return OPEN_SUCCEEDED
        return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # paramiko itself holds channels weakly, except in its queue for accept(), which is not
        # used here; from now on the session's threads hold this one.
        with self._transport.lock:
            if channel not in self._transport.server_accepts:
                return False  # a channel runs one command
            self._transport.server_accepts.remove(channel)
        self._transport.decided.append(
            _Session(channel, command, self._environment, self._instance.home)
        )
        return True


class _Session:
    """One command on one channel, with a thread for each direction and one for its end."""

    def __init__(
        self, channel: paramiko.Channel, command: bytes, environment: dict[str, str], home: Path
    ) -> None:
        self._channel = channel
        self._command = command
        self._environment = environment
        self._home = home
        self._reaping = threading.Lock()

    def start(self) -> None:
        """Start the command, or report 127 where that is impossible."""
        try:
            self._process = subprocess.Popen(
                [b"/bin/sh", b"-c", self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=self._home,
                env=self._environment,
                umask=_UMASK,
                start_new_session=True,
            )
        except (OSError, ValueError):
            self._channel.send_exit_status(127)
            self._channel.close()
            return
        self._ended = threading.Thread(target=self._report_end, daemon=True)
        self._ended.start()  # first: the output's thread waits for it
        threading.Thread(target=self._pass_output, daemon=True).start()
        threading.Thread(target=self._pass_input, daemon=True).start()

    def _pass_output(self) -> None:
        """Send both outputs as they come. They share the channel's window, so one thread does."""
        stdout, stderr = _pipe(self._process.stdout), _pipe(self._process.stderr)
        senders = {
            stdout.fileno(): self._channel.sendall,
            stderr.fileno(): self._channel.sendall_stderr,
        }
        poll = select.poll()
        for descriptor in senders:
            poll.register(descriptor, select.POLLIN)
        with stdout, stderr:
            while senders and not self._channel.closed:
                for descriptor, _ in poll.poll(_NOTICE):
                    if not self._forward(descriptor, senders[descriptor]):
                        poll.unregister(descriptor)
                        del senders[descriptor]
        # Of a client that left, whoever still writes gets SIGPIPE, as with any server.
        if not self._channel.closed:
            self._ended.join()
        self._channel.close()

    def _forward(self, descriptor: int, send: Any) -> bool:
        data = os.read(descriptor, _CHUNK)
        try:
            if data:
                send(data)
        except OSError:  # the client has closed the channel
            return False
        return bool(data)

    def _pass_input(self) -> None:
        """Write what the client sends; at the channel's end, hang up on the command."""
        with _pipe(self._process.stdin) as stdin:
            while data := self._channel.recv(_CHUNK):
                try:
                    _write_all(stdin.fileno(), data)
                except OSError:
                    break  # the command does not read any more
        self._discard_input()
        self._channel.status_event.wait()  # set when the channel closes, for whatever reason
        with self._reaping:
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGHUP)

    def _discard_input(self) -> None:
        while self._channel.recv(_CHUNK):
            pass

    def _report_end(self) -> None:
        # Waits without reaping first: until reaped, the id is surely this command's.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:
            code = self._process.wait()
        try:
            self._channel.send_exit_status(code if code >= 0 else 128 - code)
        except OSError:
            pass  # the client is not there any more


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # some containers run as a user that has no name
        return str(os.getuid())


def _listener(port: int) -> socket.socket:
    # The system's own choice for "any free port" would be one that outgoing connections take
    # as well, and be lost at a later start.
    for choice in ([port] if port else []) + random.sample(_PORTS, 100):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, choice))
            listener.listen(128)
        except OSError:
            listener.close()
        else:
            return listener
    raise SystemExit("There is no free port for the demo instances; use --no-demo.")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("Popen was asked for this pipe.")
    return stream


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _ports_before(data: DataDir) -> dict[str, int]:
    try:
        before = json.loads((data.demo / "demo.json").read_text())
        return {each["name"]: int(each["port"]) for each in before["instances"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # the first start, or a damaged file: both begin anew


def _description(instances: list[Instance]) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "user": _user(),
        "instances": [
            {
                "name": instance.name,
                "host": HOST,
                "port": instance.port,
                "host_key": f"{instance.host_key.get_name()} {instance.host_key.get_base64()}",
            }
            for instance in instances
        ],
    }


def _key(path: Path) -> paramiko.Ed25519Key:
    """The private key kept in ``path``, made at first need."""
    if not path.exists():
        fresh = Ed25519PrivateKey.generate()
        text = fresh.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        _write(path, text.decode())
    return paramiko.Ed25519Key.from_private_key(io.StringIO(path.read_text()))


def _write(path: Path, text: str) -> None:
    """Write a private file as a whole, so that no reader finds half of it."""
    draft = path.with_name(f"{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


if __name__ == "__main__":
    main()
