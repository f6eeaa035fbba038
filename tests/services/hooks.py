"""A webhook on the loopback interface that behaves as a test wants it to."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Got:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Hook:
    """The webhook. ``answer`` is called with the handler and writes what is answered."""

    scheme: str = "http"
    port: int = 0
    got: list[Got] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: status(handler, 204)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hooks/abc?x=1"


def status(handler: BaseHTTPRequestHandler, code: int, **headers: str) -> None:
    """Answer with a status, some headers and no body."""
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextlib.contextmanager
def listening(tls: ssl.SSLContext | None = None) -> Iterator[Hook]:
    """A webhook that listens until the end of the block, with ``tls`` over TLS."""
    hook = Hook(scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.got.append(Got(self.path, dict(self.headers), body))
            with contextlib.suppress(OSError):
                hook.answer(self)

        def handle(self) -> None:
            with contextlib.suppress(ssl.SSLError):  # the client did not want it
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        # The handshake is each connection's own matter: who fails it must not end the server.
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
