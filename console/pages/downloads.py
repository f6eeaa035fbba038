"""What a task printed and how it ended, as files: one output, all of them, a table of results.

All are streamed: nothing is held whole, and no database connection while a client takes its
time. They work while the task runs, and hold what is there at that moment.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from commands.models import Invocation, Run
from commands.outputs import store
from commands.services import audit
from console import resolve, results
from console.lines import gap_bytes, lost_bytes

NAME_CHARS = 50
"""Most characters of an instance's or a task's name in the name of a file: it has 255 bytes."""
ZIP64_BYTES = 1024**3
"""From this size on, a file in an archive may turn out too large for the old format."""
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
"""Names that mean devices on Windows, whatever follows the first dot."""


@resolve.signed_in
@require_safe
def log(request: HttpRequest, uid: str, instance_uid: str) -> HttpResponseBase:
    """The exact bytes that a run printed, both streams in order of arrival.

    In place of what was dropped there is one line that says so, and one at the end where the
    instance's disk was full.
    """
    invocation = resolve.task(request, uid)
    run = resolve.run(invocation, instance_uid)
    _record(request, invocation, {"file": "log.txt", "on": run.instance_name})
    return stream(raw(run), "text/plain; charset=utf-8")


@resolve.signed_in
@require_safe
def output_zip(request: HttpRequest, uid: str) -> HttpResponseBase:
    """The outputs of all instances of a task, each as ``log`` gives it, and ``results.csv``."""
    invocation = resolve.task(request, uid)
    _record(request, invocation, {"file": "output.zip"})
    response = stream(_archive(invocation), "application/zip")
    name_file(response, f"{safe(invocation.name)}.{invocation.uid}.zip")
    return response


@resolve.signed_in
@require_safe
def results_csv(request: HttpRequest, uid: str) -> HttpResponseBase:
    """How a task ended on each of its instances, as a table."""
    invocation = resolve.task(request, uid)
    _record(request, invocation, {"file": "results.csv"})
    response = stream(_table(invocation), "text/csv; charset=utf-8")
    name_file(response, f"{safe(invocation.name)}.{invocation.uid}.results.csv")
    return response


def _record(request: HttpRequest, invocation: Invocation, details: dict[str, str]) -> None:
    """Note who took output away, and of what."""
    if request.method == "GET":
        audit.record(
            actor=resolve.person(request),
            action="output:download",
            team=invocation.team,
            target=invocation,
            target_name=invocation.name,
            details=details,
        )


def safe(name: str) -> str:
    """``name`` as a part of a file's name, on any system: no separators, no device."""
    plain = re.sub(r"[^\w.-]+", "_", name)[:NAME_CHARS].strip("._")
    return f"_{plain}" if _RESERVED.match(plain) else plain or "_"


def _file_name(run: Run) -> str:
    return f"{safe(run.instance_name)}.{run.instance_uid}.log"


def stream(content: AsyncIterator[bytes], content_type: str) -> StreamingHttpResponse:
    """An answer that is sent as it is made, and kept nowhere."""
    response = StreamingHttpResponse(content, content_type=content_type)
    response.headers["Cache-Control"] = "no-store"
    # Whatever the bytes are, a browser must take them for nothing that it would execute.
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def name_file(response: StreamingHttpResponse, name: str) -> None:
    """Have the browser save an answer as ``name``."""
    response.headers["Content-Disposition"] = content_disposition_header(True, name) or "attachment"


async def raw(run: Run) -> AsyncIterator[bytes]:
    """The bytes of a run as they are stored, with a line for what is missing."""
    whole = run.stdout_size + run.stderr_size - run.dropped_bytes <= store.WHOLE_BYTES
    after, before, shown = -1, b"", False
    while chunks := await sync_to_async(_read_some)(run.pk, after, None if whole else store.BATCH):
        parts = []
        for chunk in chunks:
            parts += [gap_bytes(chunk.gap, before), chunk.data] if chunk.gap else [chunk.data]
            before = chunk.data
        yield b"".join(parts)
        after, shown = chunks[-1].sequence, shown or any(chunk.gap for chunk in chunks)
        if whole:
            break
    if not shown and (gap := store.Gap.of(run)):  # nothing came behind it
        before = gap_bytes(gap, before)
        yield before
    if run.lost_bytes != 0:
        yield lost_bytes(run.lost_bytes, before)


def _read_some(run_id: int, after: int, limit: int | None) -> list[store.Chunk]:
    try:
        return store.read(run_id, after=after, limit=limit)
    finally:
        connections.close_all()


async def _table(invocation: Invocation) -> AsyncIterator[bytes]:
    yield results.head()
    after = 0
    while part := await sync_to_async(_some_results)(invocation, after):
        after, rows = part
        yield rows


def _some_results(invocation: Invocation, after: int) -> tuple[int, bytes] | None:
    """Rows of the table after the run ``after``, and the last run in them."""
    try:
        found = results.some(invocation, after=after)
        return (found[-1].pk, results.rows(invocation, found)) if found else None
    finally:
        connections.close_all()


async def _archive(invocation: Invocation) -> AsyncIterator[bytes]:
    """A ZIP file, written as it is sent: only what was not sent yet is in memory."""
    archive = _Archive()
    async for part in archive.add("results.csv", _table(invocation)):
        yield part
    for run_id in await sync_to_async(_run_ids)(invocation):
        run = await sync_to_async(_run)(run_id)
        if run is None:
            continue  # deleted meanwhile
        size = run.stdout_size + run.stderr_size - run.dropped_bytes
        async for part in archive.add(_file_name(run), raw(run), size):
            yield part
    yield archive.close()


def _run_ids(invocation: Invocation) -> list[int]:
    try:
        return list(invocation.runs.order_by("pk").values_list("pk", flat=True))
    finally:
        connections.close_all()


def _run(run_id: int) -> Run | None:
    try:
        return Run.objects.filter(pk=run_id).first()
    finally:
        connections.close_all()


class _Archive:
    """Makes a ZIP file of which what was read is forgotten at once."""

    def __init__(self) -> None:
        self._buffer = _Buffer()
        self._zip = zipfile.ZipFile(self._buffer, "w", zipfile.ZIP_DEFLATED)

    async def add(
        self, name: str, content: AsyncIterator[bytes], size: int = 0
    ) -> AsyncIterator[bytes]:
        """Write a file of about ``size`` bytes; what there is to send meanwhile."""
        now = timezone.localtime()
        about = zipfile.ZipInfo(name, now.timetuple()[:6])
        about.compress_type = zipfile.ZIP_DEFLATED
        about.external_attr = 0o600 << 16
        with self._zip.open(about, "w", force_zip64=size > ZIP64_BYTES) as member:
            async for data in content:
                for piece in _pieces(data):
                    # Compressing takes the processor for a while: other requests go on meanwhile.
                    await sync_to_async(member.write, thread_sensitive=False)(piece)
                    if ready := self._buffer.take():
                        yield ready
        yield self._buffer.take()

    def close(self) -> bytes:
        """The end of the archive: its table of contents."""
        self._zip.close()
        return self._buffer.take()


def _pieces(data: bytes, size: int = 256 * 1024) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class _Buffer:
    """A file that can only be written to, and forgets what was taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        """Keep ``data`` until it is taken."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing: all is there to be taken."""

    def close(self) -> None:
        """Nothing, for the same reason."""

    def take(self) -> bytes:
        """What was written since."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
