"""``/tasks/<id>/events``: live states and output of a task as server-sent events.

With ``?once=1`` the same events up to now, as an answer that ends: what a page asks for again and
again where streams do not get through, and while nobody looks at it.
"""

from __future__ import annotations

import asyncio

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, StreamingHttpResponse

from console import resolve
from console.admission import Ticket
from console.cursor import Cursor
from console.hub import Hub, Wanted
from console.preferences import Voice

_hubs: dict[Voice, Hub] = {}


def hub(voice: Voice) -> Hub:
    """The hub that speaks with ``voice``, made in the running event loop at its first stream."""
    found = _hubs.get(voice)
    if found is None or found.loop is not asyncio.get_running_loop():
        found = _hubs[voice] = Hub(voice, at_end=_forget)
    found.keep()
    return found


def _forget(ended: Hub) -> None:
    for voice, one in list(_hubs.items()):
        if one is ended:
            del _hubs[voice]


def close_all() -> None:
    """End all streams, so that the server can exit. Safe in signal handlers and any thread."""
    for one in list(_hubs.values()):
        if not one.loop.is_closed():
            one.loop.call_soon_threadsafe(one.close)


async def events(request: HttpRequest, uid: str) -> HttpResponse | StreamingHttpResponse:
    """Stream a task from a cursor on; ``?watch=`` names the instance whose output comes too."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    wanted = await sync_to_async(_wanted)(request, uid)
    if wanted is None:
        return HttpResponse(status=401)
    once = request.GET.get("once") == "1"
    # Whatever keeps streams back must not take that answer for one.
    kind = "text/plain; charset=utf-8" if once else "text/event-stream"
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return HttpResponse(content_type=kind, headers=headers)
    events = hub(Voice.of_request()).watch(wanted, once=once)
    return StreamingHttpResponse(events, content_type=kind, headers=headers)


def _wanted(request: HttpRequest, uid: str) -> Wanted | None:
    """What to stream, or None for nobody. Gives the connection back: a stream holds none."""
    key = request.session.session_key
    if not request.user.is_authenticated or key is None:
        return None
    invocation = resolve.task(request, uid)
    ticket = Ticket(key, resolve.person(request).pk, invocation.team_id)
    cursor = Cursor.parse(request.headers.get("Last-Event-ID") or request.GET.get("after", ""))
    watch = request.GET.get("watch") or (cursor.instance_uid if cursor else "")
    run_id, position = None, -1
    if watch:
        run = resolve.run(invocation, watch)
        run_id = run.pk
        if cursor and cursor.instance_uid == watch:
            position = min(cursor.sequence, run.next_sequence - 1)  # not beyond what there is
    connections.close_all()
    return Wanted(invocation.pk, run_id, position, ticket)
