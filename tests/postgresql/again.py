"""The tests marked ``data_layer`` once more, on a real PostgreSQL server that a wheel brings along.

Their files are dealt out to the test files here, which run beside each other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.postgres import postgres

ROOT = Path(__file__).resolve().parent.parent.parent
SHARES = 3


def assert_passes(share: int) -> None:
    """All tests of a share pass, on a server of its own."""
    environment = dict(os.environ)
    environment.pop("CONSOLE_TEST_DATA", None)
    environment.pop("PYTEST_ADDOPTS", None)
    pytest = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    with postgres() as server:
        done = subprocess.run(
            [*pytest, "-m", "data_layer", *files()[share::SHARES]],
            cwd=ROOT,
            # Tests are web server, several workers and onlooker in one process, whose pool of
            # connections is small.
            env={**environment, "DATABASE_URL": server.url, "CONSOLE_DB_POOL": "12"},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def files() -> list[str]:
    """The test files in which a test is marked. Every mark is set in the file of its test.

    ``cut_connections.py`` is one that runs on no other database, so pytest does not collect it.
    """
    found = [*(ROOT / "tests").rglob("test_*.py"), Path(__file__).with_name("cut_connections.py")]
    return sorted(str(file) for file in found if "mark.data_layer" in file.read_text())
