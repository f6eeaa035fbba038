"""Where a request comes from, for the audit trail."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from commands.services import audit


class OriginMiddleware:
    """Lets everything that a request does be recorded with its address.

    The server has put the client's address in place where a proxy that is believed told it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, with the address as origin."""
        with audit.origin(request.META.get("REMOTE_ADDR") or ""):
            return self._get_response(request)
