"""A real web server and a reader of event streams, for tests that need more than a test client."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from commands.models import User
from console import broker, streams
from console.asgi import application


@contextmanager
def embedded_broker(data_dir: Path) -> Iterator[None]:
    """The embedded Valkey server of a data directory."""
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen(broker.command(data_dir), stdout=subprocess.DEVNULL)
    try:
        while not broker.answers(data_dir):
            assert server.poll() is None, "the broker did not start"
            time.sleep(0.01)
        yield
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def web_server() -> Iterator[str]:
    """The console on a free loopback port, in a thread; its address."""
    config = uvicorn.Config(application, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "uvicorn did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        streams.close_all()
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "uvicorn did not end"


def session_cookie(user: User) -> str:
    """A cookie header that signs ``user`` in."""
    client = Client()
    client.force_login(user)
    session = client.session
    assert isinstance(session, SessionStore)
    return f"sessionid={session.session_key}"


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    data: str


class Stream:
    """An open event stream: a context manager that yields events."""

    def __init__(self, url: str, cookie: str, *, last_event_id: str = "") -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=90)
        headers = {"Cookie": cookie, "Accept": "text/event-stream", "Accept-Encoding": "gzip"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        self._connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        self.response = self._connection.getresponse()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def __iter__(self) -> Iterator[Event]:
        name, position, data = "message", "", []
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            field, _, value = line.partition(": ")
            if not line:
                if data or name != "message":
                    yield Event(name, position, "\n".join(data))
                name, data = "message", []
            elif field == "event":
                name = value
            elif field == "id":
                position = value
            elif field == "data":
                data.append(value)

    def until(self, name: str) -> list[Event]:
        """Events up to and with the next one called ``name``."""
        events = []
        for event in self:
            events.append(event)
            if event.name == name:
                return events
        return events
