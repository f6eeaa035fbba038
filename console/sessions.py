"""How long a session lasts: so long without a request, so long in all, or until all are ended.

The times are settings. A stream asks again while it lives (``admission``), so that a page that is
left open neither keeps a session alive nor outlives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.base import SessionBase
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase

BEGAN, SEEN = "session.began", "session.seen"
"""When it began, and when it was used last (to the minute), as Unix times."""
POLLED = frozenset({"live", "fresh", "presence", "verdict", "reading", "listed", "preflight"})
"""Targets of what pages ask for again and again; that does not keep a session alive."""
RECENT_S = 600
"""Seconds for which somebody who has signed in need not prove again who they are."""
SEEN_EVERY_S = 60
"""Seconds between two writes of ``SEEN``: not every request shall write."""


class SessionLimitsMiddleware:
    """Signs people out whose session has lasted too long."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Sign out if the time is over, else note that the session was used."""
        if request.user.is_authenticated:
            now = time.time()
            if is_over(request.session, now):
                logout(request)
            elif now - request.session.get(SEEN, 0) >= SEEN_EVERY_S and not _by_itself(request):
                request.session[SEEN] = now
        return self._get_response(request)


def _by_itself(request: HttpRequest) -> bool:
    """Whether a page asked without anybody having done anything: it polls, or streams."""
    streams = request.path.endswith("/events")
    return request.method == "GET" and (request.headers.get("HX-Target") in POLLED or streams)


@receiver(user_logged_in)
def begin(request: HttpRequest, **_signal: Any) -> None:
    """Note when a session began."""
    request.session[BEGAN] = request.session[SEEN] = time.time()


def is_recent(session: Mapping[str, Any] | SessionBase, now: float) -> bool:
    """Whether somebody signed in a moment ago, so that it is still them at the keyboard."""
    began: float = session.get(BEGAN, 0.0)
    return 0 <= now - began < RECENT_S


def is_over(session: Mapping[str, Any] | SessionBase, now: float) -> bool:
    """Whether a session has lasted too long, unused or in all."""
    idle: float = now - session.get(SEEN, now)
    age: float = now - session.get(BEGAN, now)
    return idle > settings.CONSOLE_SESSION_IDLE or age > settings.CONSOLE_SESSION_LIFE
