"""``/tasks/``: the list of tasks, one task, its raw output and its states as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.paginator import Paginator
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from commands import access
from commands.models import Invocation, Run
from commands.outputs import store
from commands.rules.status import roll_up
from console import presentation, resolve
from console.cursor import Cursor
from console.lines import gap_bytes, last_lines, lost_bytes
from console.task_command import command_view

PAGE_SIZE = 50
SHOWN_LINES = 2_000


@resolve.signed_in
@require_safe
@cache_control(private=True)
def tasks(request: HttpRequest) -> HttpResponse:
    """Tasks of the chosen team and region, newest first."""
    scope = resolve.scope(request)
    if scope is None:
        found = Invocation.objects.none()
    else:
        found = Invocation.objects.visible_to(request.user).filter(
            team=scope.team, region=scope.region
        )
    paginator: Paginator[Any] = Paginator(found.prefetch_related("runs"), PAGE_SIZE)
    page = paginator.get_page(request.GET.get("page"))
    now = timezone.now()
    page.object_list = [
        presentation.task_view(invocation, list(invocation.runs.all()), now)
        for invocation in page.object_list
    ]
    return render(request, "tasks/list.html", {"page": page})


@resolve.signed_in
@require_safe
@cache_control(private=True)
def task(request: HttpRequest, uid: str) -> HttpResponse:
    """One task, with the output of one of its instances."""
    invocation = resolve.task(request, uid)
    now = timezone.now()
    runs = list(invocation.runs.all())
    shown = _shown(request, invocation, runs)
    tail = last_lines(store.stream(shown.pk) if shown else [], SHOWN_LINES)
    view = presentation.task_view(invocation, runs, now)
    views = presentation.run_views(invocation, runs, now, current=shown.pk if shown else None)
    context = {
        "task": view,
        "progress": view.progress,
        "runs": views,
        "shown": next((run for run in views if run.current), None),
        "may_control": access.may_control(request.user, invocation),
        "command": command_view(invocation, shown or runs[0]),
        "lines": tail.lines,
        "earlier": tail.earlier,
        "has_output": bool(tail.lines),
        "log_url": _log_url(invocation, shown) if shown else "",
        "events_url": _events_url(invocation, shown, tail.sequence),
    }
    return render(request, "tasks/detail.html", context)


@resolve.signed_in
@require_safe
def status(request: HttpRequest, uid: str) -> JsonResponse:
    """States of a task and its runs in Cloud Assistant's words."""
    invocation = resolve.task(request, uid)
    runs = list(invocation.runs.all())
    return JsonResponse(
        {
            "id": invocation.uid,
            "status": roll_up(run.status for run in runs).value,
            "counts": Counter(run.status for run in runs),
            "runs": [
                {
                    "instance_id": run.instance_uid,
                    "status": run.status,
                    "exit_code": run.exit_code,
                    "error_code": run.error_code,
                    "processes_left": run.processes_left,
                    "dropped_bytes": run.dropped_bytes,
                    "lost_bytes": run.lost_bytes,
                }
                for run in runs
            ],
        },
        headers={"Cache-Control": "no-store"},
    )


@resolve.signed_in
@require_safe
def log(request: HttpRequest, uid: str, instance_uid: str) -> StreamingHttpResponse:
    """The exact bytes that a run printed, both streams in order of arrival.

    In place of what was dropped there is one line that says so, and one at the end where the
    instance's disk was full.
    """
    run = resolve.run(resolve.task(request, uid), instance_uid)
    response = StreamingHttpResponse(
        _raw(run), content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"}
    )
    # Whatever the bytes are, a browser must take them for text and nothing else.
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


async def _raw(run: Run) -> AsyncIterator[bytes]:
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
    if run.lost_bytes:
        yield lost_bytes(run.lost_bytes, before)


def _read_some(run_id: int, after: int, limit: int | None) -> list[store.Chunk]:
    try:
        return store.read(run_id, after=after, limit=limit)
    finally:
        connections.close_all()


def _shown(request: HttpRequest, invocation: Invocation, runs: list[Run]) -> Run | None:
    if wanted := request.GET.get("instance"):
        return resolve.run(invocation, wanted)
    views = presentation.run_views(invocation, runs, timezone.now())
    telling = presentation.most_telling(views)
    return next((run for run in runs if telling and run.pk == telling.pk), None)


def _log_url(invocation: Invocation, run: Run) -> str:
    return reverse("log", args=[invocation.uid, run.instance_uid])


def _events_url(invocation: Invocation, run: Run | None, sequence: int) -> str:
    url = reverse("events", args=[invocation.uid])
    if run is None:
        return url
    cursor = Cursor(run.instance_uid, sequence)
    return f"{url}?{urlencode({'after': str(cursor), 'watch': run.instance_uid})}"
