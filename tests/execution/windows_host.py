"""A server that behaves as a Windows instance does, as far as the console can see it.

It reads a command line as cmd.exe does or PowerShell, does what ``bootstrap.ps1`` does with
standard input, and then what ``windows.ps1`` does, with a ``FakeExecutor`` in place of Windows.
So it proves what the console sends and how it takes the answers; it proves nothing about
PowerShell, which does not run here.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import paramiko
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from commands.errors import ConnectionLost, RunLost, StartRefused
from commands.execution.executor import Endpoint, Gap, Handle, Offsets, Output, RunSpec
from commands.execution.fake import FakeExecutor
from commands.rules.status import ErrorCode

BASE = r"C:\ProgramData\CommandConsole.S-1-5-21-1-2-3-1001"
USER = "Administrator"
_INSIDE = Endpoint("windows", 22, USER, "")
_HEADER = re.compile(rb"CC1 ([0-9a-f]{32}) ([0-9]{8})\n")
_VALUE = re.compile(r"^\$global:cc(\w+)=(?:CcDecode '([A-Za-z0-9+/=]*)'|(\S+))$", re.MULTILINE)
_REFUSED = {
    ErrorCode.DIRECTORY_NOT_EXISTS: "DirectoryNotExists",
    ErrorCode.INTERPRETER_NOT_FOUND: "NoInterpreter",
}


def argv(command: str) -> list[str]:
    """The words of a command line that holds nothing special to cmd.exe or PowerShell."""
    special = set(command) & set("\"'`^%!&|<>()[]{};,$@#*?~\n\r\t")
    assert not special, f"a shell would read these: {special}"
    assert len(command) < 8191
    return command.split(" ")


def encoded_command(command: str) -> str:
    """The PowerShell source that a command line holds."""
    words = argv(command)
    assert words[0] == "powershell.exe"
    at = words.index("-EncodedCommand")
    assert at == len(words) - 2
    return base64.b64decode(words[-1], validate=True).decode("utf-16-le")


def parameters(program: bytes) -> dict[str, str]:
    """What the last function of a program sets."""
    text = program.decode("ascii")
    inside = text[text.rindex("function CcParameters {") :]
    return {
        key: word or base64.b64decode(encoded).decode()
        for key, encoded, word in _VALUE.findall(inside)
    }


def _key() -> tuple[paramiko.PKey, str]:
    private = ed25519.Ed25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text)), text


@dataclass
class WindowsHost:
    """Listens on loopback until ``close``. The other fields may be changed at any time.

    ``cut`` ends the connection once that many bytes of standard input were read. ``refuse`` is
    said in place of starting anything. ``mangle`` changes output on its way. ``says`` is what
    the shell says in place of starting PowerShell; with ``hangs`` it then stays.
    """

    fake: FakeExecutor = field(default_factory=FakeExecutor)
    cut: int | None = None
    refuse: str = ""
    says: str = ""
    hangs: bool = False
    mangle: Callable[[bytes], bytes] = bytes
    commands: list[str] = field(default_factory=list)
    programs: list[bytes] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host_key, _ = _key()
        self.client_key, self._private_key = _key()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        self._channels: list[paramiko.Channel] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> Endpoint:
        """How to reach it."""
        return Endpoint(
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            user=USER,
            host_key=f"{self.host_key.get_name()} {self.host_key.get_base64()}",
            private_key=self._private_key,
            system="windows",
        )

    def drop(self) -> None:
        """Break all connections; runs go on."""
        for transport in self._transports:
            transport.close()
        self.fake.break_connections()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        self.fake.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                transport = paramiko.Transport(connection)
                transport.add_server_key(self.host_key)
                self._transports.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                    transport.start_server(threading.Event(), _Rules(self))

    def serve(self, channel: paramiko.Channel, command: str) -> None:
        """Everything that happens on one channel."""
        self.commands.append(command)
        self._channels.append(channel)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException, _Cut, ConnectionLost):
            code = self._shell(channel, command)
            channel.send_exit_status(code)
        with contextlib.suppress(Exception):
            # Its connection may be gone.
            channel.close()

    def _shell(self, channel: paramiko.Channel, command: str) -> int:
        if self.says:
            channel.sendall_stderr(self.says.encode() + b"\r\n")
            while self.hangs and channel.recv(65536):
                pass
            return 1
        encoded_command(command)
        return self._bootstrap(channel)

    def _bootstrap(self, channel: paramiko.Channel) -> int:
        stdin = _Input(self, channel)
        header = _HEADER.fullmatch(stdin.take(46))
        if header is None:
            channel.sendall_stderr(b"command-console: no program on standard input\r\n")
            return 113
        program = stdin.take(int(header[2]))
        if len(program) != int(header[2]):
            return 114
        self.programs.append(program)
        _Runner(self, channel, stdin, header[1].decode(), parameters(program)).run()
        return 0


class _Cut(Exception):
    """The connection ended here."""


class _Input:
    """Standard input."""

    def __init__(self, host: WindowsHost, channel: paramiko.Channel) -> None:
        self._host = host
        self._channel = channel
        self._read = 0

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes, or what there was before the end."""
        data = b""
        while len(data) < count:
            most = count - len(data)
            if self._host.cut is not None:
                most = min(most, self._host.cut - self._read)
                if most <= 0:
                    self._host.drop()
                    raise _Cut
            more = self._channel.recv(most)
            if not more:
                break
            self._read += len(more)
            data += more
        return data

    def line(self) -> str | None:
        """The next line without its end; None at the end."""
        text = b""
        while (byte := self.take(1)) != b"\n":
            if not byte:
                return None
            text += byte
        return text.decode()


@dataclass
class _Runner:
    """What ``windows.ps1`` does, in the same words."""

    host: WindowsHost
    channel: paramiko.Channel
    stdin: _Input
    nonce: str
    given: dict[str, str]

    def run(self) -> None:
        self.frame("hello")
        getattr(self, self.given["Operation"])()

    def frame(self, words: str, *, stderr: bool = False) -> None:
        send = self.channel.sendall_stderr if stderr else self.channel.sendall
        send(f"\x1e{self.nonce} {words}\n".encode())

    @property
    def handle(self) -> Handle:
        return Handle(self.given["Name"], self.given["Base"] or BASE)

    def start(self) -> None:
        if self.host.refuse:
            self.frame(f"refused {self.host.refuse}")
            return
        spec = RunSpec(
            self.given["Name"],
            self.given["Script"].encode(),
            workdir=self.given["Workdir"],
            timeout=int(self.given["Timeout"]),
            whole_tree=self.given["Single"] == "$false",
        )
        try:
            started = self.host.fake.start(_INSIDE, spec)
        except StartRefused as error:
            self.frame(f"refused {_REFUSED[ErrorCode(error.code)]}")
            return
        self.frame(f"started {int(started.fresh)} 133700000000000000 guid WIN-1 {BASE}")
        self.converse()

    def converse(self) -> None:
        while (line := self.stdin.line()) is not None:
            self.host.requests.append(line)
            word, *rest = line.split(" ")
            if word == "follow":
                self.follow(Offsets(int(rest[0]), int(rest[1])))
            elif word == "acknowledge":
                self.host.fake.acknowledge(_INSIDE, self.handle)
                self.frame("acknowledged")
            else:
                return

    def follow(self, offsets: Offsets) -> None:
        flowing = False

        def flow() -> None:
            nonlocal flowing
            if not flowing:
                self.frame("flow")
                self.frame("flow", stderr=True)
            flowing = True

        def receive(output: Output | Gap) -> None:
            assert isinstance(output, Output)
            flow()
            data = self.host.mangle(output.data)
            if output.stream == "stdout":
                self.channel.sendall(data)
            else:
                self.channel.sendall_stderr(data)

        try:
            done = self.host.fake.follow(_INSIDE, self.handle, offsets, receive)
        except RunLost:
            self.frame("gone")
            return
        flow()
        self.frame("end")
        self.frame("end", stderr=True)
        code = "-" if done.exit_code is None else done.exit_code
        left = "-" if done.left is None else done.left
        self.frame(f"result {done.ending} {code} {left} {done.stdout_size} {done.stderr_size}")

    def cancel(self) -> None:
        if self.host.refuse:
            self.frame(f"refused {self.host.refuse}")
            return
        left = self.host.fake.cancel(_INSIDE, self.handle).left
        self.frame(f"cancelled {'-' if left is None else left}")

    def system(self) -> None:
        self.frame("system Windows Server 2022 Datacenter")


class _Rules(paramiko.ServerInterface):
    """Lets the one key in and takes commands."""

    def __init__(self, host: WindowsHost) -> None:
        self._host = host

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        right = username == USER and key == self._host.client_key
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        timer = threading.Timer(0.02, self._host.serve, (channel, command.decode()))
        timer.daemon = True
        timer.start()
        return True


@contextlib.contextmanager
def windows_host() -> Iterator[WindowsHost]:
    """A host that lives as long as the block."""
    host = WindowsHost()
    try:
        yield host
    finally:
        host.close()
