"""Bodies that are too large: refused before they are kept anywhere, whoever sends them."""

from __future__ import annotations

import http.client
import socket
import tempfile
from urllib.parse import urlsplit

import pytest

from console import bodies
from tests.live import web_server

pytestmark = pytest.mark.django_db(transaction=True)
PIECE = b"x" * (256 * 1024)


@pytest.fixture(scope="module")
def address():
    with web_server() as url:
        yield urlsplit(url).hostname, urlsplit(url).port


@pytest.mark.parametrize("path", ["/", "/sign-in/", "/instances/import/", "/nowhere/"])
def test_what_says_that_it_is_too_large_is_not_read(address, path):
    with socket.create_connection(address, timeout=60) as sock:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {bodies.MOST + 1}\r\n\r\n"
        )
        sock.sendall(head.encode())  # and nothing of it
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        assert answer.status == 413
        assert b"too large" in answer.read()


def test_what_goes_on_and_on_is_not_kept(address, monkeypatch):
    kept = []

    class Watched(tempfile.SpooledTemporaryFile):
        def write(self, data):
            kept.append(len(data))
            return super().write(data)

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Watched)
    pieces = 2 * bodies.MOST // len(PIECE)
    with socket.create_connection(address, timeout=60) as sock:
        sock.sendall(
            b"POST /sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        try:
            for _ in range(pieces):
                sock.sendall(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))
        except OSError:
            pass  # it was cut off, which is right
    assert 0 < sum(kept) <= bodies.MOST


def test_what_the_console_takes_goes_through(address):
    connection = http.client.HTTPConnection(*address)
    connection.request("POST", "/sign-in/", b"a" * (bodies.MOST - 1))
    assert connection.getresponse().status in (400, 403, 413)
    connection.close()
