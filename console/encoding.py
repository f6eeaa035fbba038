"""Requests whose body can't be read: a page that says what to do, before anything acts on it.

Without it an unknown character becomes a replacement mark in somebody's script, and Django's own
page for a body in another encoding reads that body again, and fails.
"""

from __future__ import annotations

import codecs
from urllib.parse import unquote_to_bytes

from django.core.exceptions import (
    BadRequest,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

_TOO_MUCH = (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)
# ValueError: text that is not UTF-8, or a length that is no number.
_DAMAGED = (
    BadRequest,
    MultiPartParserError,
    SuspiciousOperation,
    UnreadablePostError,
    ValueError,
)


FILES = "/instances/import/"
"""The page that takes files. It says itself what is wrong with one that is no text."""


class ReadableBodyMiddleware(MiddlewareMixin):
    """Answers 415 for another encoding than UTF-8, 413 for too much, 400 for what is damaged.

    It stands before the CSRF check, which is the first to read a form.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        """The page for a body that can't be read, else nothing."""
        known = _is_utf8(request)
        # Also under its other names, of which Django knows one only, and for the page that refuses.
        request.encoding = "utf-8"
        if not known:
            return _refuse(request, 415)
        try:
            _read(request)
        except _TOO_MUCH:
            return _refuse(request, 413)
        except _DAMAGED:
            return _refuse(request, 400)
        return None


def _is_utf8(request: HttpRequest) -> bool:
    params = request.content_params or {}
    try:
        return codecs.lookup(params.get("charset", "utf-8")).name == "utf-8"
    except (LookupError, ValueError):
        return False


def _read(request: HttpRequest) -> None:
    """Read a form as far as it will be read later, and strictly; files elsewhere than in FILES."""
    if request.method != "POST":
        return
    if request.content_type == "application/x-www-form-urlencoded":
        unquote_to_bytes(request.body).decode()
    elif request.content_type == "multipart/form-data" and request.path_info != FILES:
        request.body.decode()
    request.POST  # noqa: B018  # parses, and raises


def _refuse(request: HttpRequest, status: int) -> HttpResponse:
    return render(request, "unreadable.html", {"status": status}, status=status)
