"""Tables to download. ``results.csv``: how a task ended on each of its instances, one row each.

UTF-8 with a byte order mark, without which spreadsheet programs take it for another encoding.
Names and the last line of output come from elsewhere: what such a program would compute gets an
apostrophe before it, which makes it text. That is a cell that begins like a formula, and one whose
part would begin like one where the program splits at another separator than the comma.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from django.core.exceptions import ImproperlyConfigured

from commands.models import Invocation, Run
from commands.services import scripts
from commands.services.scripts import Script

COLUMNS = (
    "instance_id",
    "name",
    "address",
    "status",
    "exit_code",
    "error_code",
    "started",
    "finished",
    "duration_s",
    "stdout_bytes",
    "stderr_bytes",
    "dropped_bytes",
    "lost_bytes",
    "hostname",
    "host_key_fingerprint",
    "machine_id",
    "script_sha256",
    "digest",
    "last_line",
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ROWS = 500
"""Rows that are read at once."""
_COMPUTED = re.compile(r'^(?=[\t\r\n])|(?:^|(?<=[;|\t\r\n]))(?=[\s"]*[=+@＝＋－＠-])')
"""Where something begins that is computed; Asian programs take full-width signs for the others."""


def head() -> bytes:
    """The names of the columns."""
    return BYTE_ORDER_MARK + table([COLUMNS])


def some(invocation: Invocation, *, after: int) -> list[Run]:
    """Some of a task's runs, those behind the run ``after``, in their order."""
    return list(invocation.runs.filter(pk__gt=after).order_by("pk")[:ROWS])


def rows(invocation: Invocation, runs: Sequence[Run]) -> bytes:
    """The rows of ``runs``, which are of ``invocation``."""
    script = Script.of(invocation) if _is_readable(invocation) else None
    return table([_row(run, script) for run in runs])


def _is_readable(invocation: Invocation) -> bool:
    try:
        invocation.values  # noqa: B018 - read, to see whether it can be decrypted
    except ImproperlyConfigured:
        return False
    return True


def _row(run: Run, script: Script | None) -> list[object]:
    shown = script.shown(scripts.place_of(run)) if script else None
    return [
        run.instance_uid,
        run.instance_name,
        run.address,
        run.status,
        run.exit_code,
        run.error_code,
        _moment(run.started_at),
        _moment(run.finished_at),
        _duration(run),
        run.stdout_size,
        run.stderr_size,
        run.dropped_bytes,
        run.lost_bytes,
        run.hostname,
        run.host_key_fingerprint,
        run.machine_id,
        scripts.shown_digest(shown) if shown is not None else "",
        run.digest,
        run.last_line,
    ]


def _moment(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment else ""


def _duration(run: Run) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return f"{max(0.0, (run.finished_at - run.started_at).total_seconds()):.3f}"


def table(rows: Sequence[Sequence[object]]) -> bytes:
    """Some rows of a table."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    """``value``, so that no spreadsheet program computes it."""
    return _COMPUTED.sub("'", value) if isinstance(value, str) else value
