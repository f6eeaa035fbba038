"""Sending to webhooks: to an address that may be connected to, and to no other.

The name is resolved once, each address it has is looked at, and one of those is connected to; so
a name that leads elsewhere a moment later changes nothing. Redirects are not followed, proxies of
the environment are not used, and of the answer its status alone counts.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping

from django.conf import settings

from commands.errors import Invalid
from commands.rules import webhook
from commands.rules.webhook import Address
from commands.services import refusals
from commands.services.messages import Post

CONNECT_S = 5.0
"""Most seconds to connect, the handshake of TLS included."""
TOTAL_S = 10.0
"""Most seconds in all, once the name is resolved."""
READ_BYTES = 1024
"""Bytes of an answer that are read at most; they are not looked at."""


class NotTaken(Exception):
    """The webhook did not take it; the message is a sentence for those who manage it."""


def send(post: Post) -> None:
    """Send it. Raises NotTaken."""
    try:
        address = webhook.read(
            post.url,
            allow_http=settings.CONSOLE_WEBHOOK_HTTP,
            allowed=settings.CONSOLE_ALLOWED_NETWORKS,
        )
        status = _exchange(address, _addresses_of(address), post)
    except Invalid as error:
        raise NotTaken(error.message) from None
    except ssl.SSLCertVerificationError as error:
        raise NotTaken(refusals.CERTIFICATE % {"why": error.verify_message}) from None
    except TimeoutError:
        raise NotTaken(refusals.LATE) from None
    except (OSError, http.client.HTTPException) as error:
        raise NotTaken(refusals.UNREACHED % {"why": _said(error)}) from None
    if 300 <= status < 400:
        raise NotTaken(refusals.REDIRECT % {"status": status})
    if not 200 <= status < 300:
        raise NotTaken(refusals.ANSWERED % {"status": status})


def _addresses_of(address: Address) -> list[str]:
    """What the host's name stands for. Raises NotTaken if one of it must not be connected to."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotTaken(refusals.NAMELESS % {"name": address.host}) from None
    ways = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    for way in ways:
        if why := webhook.refusal(way, settings.CONSOLE_ALLOWED_NETWORKS):
            raise NotTaken(why)
    return ways


def _exchange(address: Address, ways: list[str], post: Post) -> int:
    """Send to the first of ``ways`` that takes a connection; the status of the answer."""
    until = time.monotonic() + TOTAL_S
    with contextlib.closing(_connected(address, ways)) as sock, _cut_at(sock, until) as cut:
        try:
            connection = http.client.HTTPConnection(address.host, address.port)
            connection.sock = sock
            connection.request("POST", address.path, post.body, _headers(address, post))
            answer = connection.getresponse()
            status = answer.status
            if cut.is_set():
                raise TimeoutError  # headers that are cut short pass for whole ones
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer.read(READ_BYTES)
        except (OSError, http.client.HTTPException):
            if cut.is_set():
                raise TimeoutError from None
            raise
        return status


def _connected(address: Address, ways: list[str]) -> socket.socket:
    until = time.monotonic() + CONNECT_S
    failed: OSError = OSError("no address")
    for way in ways:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            sock = socket.create_connection((way, address.port), timeout=left)
        except OSError as error:
            failed = error
            continue
        with _closing_on_error(sock):
            _refuse_own(sock)
            if address.secure:
                sock = _tls().wrap_socket(sock, server_hostname=address.host)
            sock.settimeout(TOTAL_S)
            return sock
    raise failed


def _refuse_own(sock: socket.socket) -> None:
    """Nothing is sent where both ends are one address: that is this machine. Raises NotTaken."""
    own, peer = str(sock.getsockname()[0]), str(sock.getpeername()[0])
    if own == peer and (why := webhook.own_refusal(peer, settings.CONSOLE_ALLOWED_NETWORKS)):
        raise NotTaken(why)


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _headers(address: Address, post: Post) -> Mapping[str, str]:
    return {
        "Host": address.authority,
        "Content-Type": "application/json",
        "User-Agent": "command-console",
        "Connection": "close",
        "X-Console-Event": post.event,
        "X-Console-Id": post.uid,
        "X-Console-Signature": webhook.signature(post.secret, int(time.time()), post.body),
    }


@contextlib.contextmanager
def _cut_at(sock: socket.socket, until: float) -> Iterator[threading.Event]:
    """End the connection when time is over, however slowly bytes drip in; whether it was."""
    cut = threading.Event()

    def end() -> None:
        cut.set()
        with contextlib.suppress(OSError):
            # Not SSLSocket's own, which forgets its state while another thread reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield cut
    finally:
        timer.cancel()


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _said(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200].rstrip(".")
