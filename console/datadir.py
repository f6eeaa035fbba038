"""The data directory: everything a console keeps on disk, readable by its owner only.

db.sqlite3      the database, unless another one is configured
keys/           secrets of the console
demo/           keys, homes and addresses of the demo instances
logs/           one file for each process that ``manage.py up`` starts
run/            sockets and notes that mean something only while the console runs
lock            held by the ``manage.py up`` that uses the directory
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

VARIABLE = "CONSOLE_DATA_DIR"
"""The environment variable that names the data directory."""

DEFAULT = Path(__file__).resolve().parent.parent / "var"
"""The data directory where the variable is not set."""

_PRIVATE = 0o700
_FOLDERS = ("keys", "demo", "logs", "run", "static")


class DataDirError(Exception):
    """The directory cannot be used. The message is a sentence that says what to do."""


class InUse(DataDirError):
    """Another console holds the directory's lock."""


class DataDir:
    """Paths inside one data directory. Nothing is created before ``create``."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.database = self.root / "db.sqlite3"
        self.keys = self.root / "keys"
        self.demo = self.root / "demo"
        self.logs = self.root / "logs"
        self.run = self.root / "run"

    @classmethod
    def from_environment(cls) -> DataDir:
        """The directory that ``CONSOLE_DATA_DIR`` names, else ``var/`` beside ``manage.py``."""
        return cls(Path(os.environ.get(VARIABLE) or DEFAULT))

    def create(self) -> None:
        """Make the directory and its folders, all 0700. Raises DataDirError."""
        try:
            self.root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            self._make_private()
            for folder in _FOLDERS:
                (self.root / folder).mkdir(mode=_PRIVATE, exist_ok=True)
        except OSError as error:
            raise DataDirError(
                f"The data directory {self.root} cannot be made ({error.strerror}). "
                "Name another one with --data."
            ) from error

    def lock(self) -> int:
        """Take the directory for this process: an open descriptor that holds the lock.

        The lock ends when every process that has the descriptor has closed it, however it
        ended. Raises InUse, with the process id of the holder in its sentence.
        """
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise InUse(
                f"A console already runs on the data directory {self.root} (process {holder}). "
                "Use that one, end it first (Ctrl-C where it runs), or name another directory "
                "with --data."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def _make_private(self) -> None:
        """Close the directory to others, but never one that holds somebody else's things.

        ``--data /srv`` by mistake must not lock everybody out of /srv.
        """
        if self.root.stat().st_mode & 0o077 == 0:
            return
        entries = {entry.name for entry in self.root.iterdir()}
        if entries and not entries & {*_FOLDERS, self.database.name}:
            raise DataDirError(
                f"The directory {self.root} is open to other users and holds other things. "
                f"Name a new one with --data, or close it: chmod 700 {self.root}"
            )
        self.root.chmod(_PRIVATE)
