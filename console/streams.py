"""``/tasks/<id>/events``: live states and output of a task as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse

from commands import access
from commands.models import Invocation, User
from console import resolve
from console.cursor import Cursor
from console.hub import Hub

_Opened = tuple[int, int | None, Cursor | None, Callable[[], bool]]

_hub: Hub | None = None


def hub() -> Hub:
    """The hub of this process, made in the running event loop at the first stream."""
    global _hub
    if _hub is None or _hub.loop is not asyncio.get_running_loop():
        _hub = Hub()
    return _hub


def close_all() -> None:
    """End all streams, so that the server can exit. Safe in signal handlers and any thread."""
    if _hub is not None and not _hub.loop.is_closed():
        _hub.loop.call_soon_threadsafe(_hub.close)


async def events(request: HttpRequest, uid: str) -> HttpResponse | StreamingHttpResponse:
    """Stream a task from a cursor on; ``?watch=`` names the instance whose output comes too."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    opened = await sync_to_async(_open)(request, uid)
    if opened is None:
        return HttpResponse(status=401)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream", headers=headers)
    return StreamingHttpResponse(
        hub().watch(*opened), content_type="text/event-stream", headers=headers
    )


def _open(request: HttpRequest, uid: str) -> _Opened | None:
    """What to stream, or None for nobody. Gives the connection back: a stream holds none."""
    if not request.user.is_authenticated:
        return None
    invocation = resolve.task(request, uid)
    cursor = Cursor.parse(request.headers.get("Last-Event-ID") or request.GET.get("after", ""))
    watch = request.GET.get("watch") or (cursor.instance_uid if cursor else "")
    run_id = resolve.run(invocation, watch).pk if watch else None
    allowed = partial(_allowed, request, invocation)
    connections.close_all()
    return invocation.pk, run_id, cursor, allowed


def _allowed(request: HttpRequest, invocation: Invocation) -> bool:
    """Whether the person is still signed in, active, and a member who may look."""
    key = request.session.session_key
    if not key or not request.session.exists(key):
        return False
    user = User.objects.filter(pk=resolve.person(request).pk).first()
    return access.allows(user, access.Permission.INVOCATION_READ, invocation.team)
