"""Requests with a body that is larger than any the console takes.

Django keeps a whole body in a file before it looks at the rest of the request, whoever sent it and
wherever to. So anybody could fill the disk without an account; here that ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

MOST: Final = 8 * 1024 * 1024
"""Bytes of a body. Forms may have less (``DATA_UPLOAD_MAX_MEMORY_SIZE``), files a megabyte."""

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_SAID = b"The request is too large.\n"


class _TooLarge(Exception):
    """More has come than may."""


class BodyLimit:
    """Passes requests on to ``application``, and answers 413 where a body has too many bytes."""

    def __init__(self, application: Application, most: int = MOST) -> None:
        self._application = application
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if _announced(scope) > self._most:
            await _refuse(send)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise _TooLarge
            return message

        try:
            await self._application(scope, counted, send)
        except _TooLarge:  # while the body is read: nothing was answered yet
            await _refuse(send)


def _announced(scope: Scope) -> int:
    """How many bytes the request says that it has; 0 where it says nothing."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_SAID)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": _SAID})
