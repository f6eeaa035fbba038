"""The web server process: uvicorn, which ends open event streams before it waits for them.

Run as ``python -m console.server --host 127.0.0.1 --port 8000``, or with ``--fd N``, an open and
listening socket, as ``manage.py up`` does.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import warnings
from types import FrameType

import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

try:
    from console import asgi, streams
except ImproperlyConfigured as error:
    sys.exit(str(error))  # a setting is wrong: its sentence, without a traceback

_GRACE = 2  # seconds for requests in progress
_LONGEST_HEAD = 128 * 1024  # bytes of request line and headers


class Server(uvicorn.Server):
    """Exits within a second, however many event streams are open."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal, and end the streams: uvicorn would wait for them for ever."""
        super().handle_exit(sig, frame)
        streams.close_all()


def configuration(host: str, port: int) -> uvicorn.Config:
    """How the console is served. Proxies are believed only if FORWARDED_ALLOW_IPS names them."""
    proxies: list[str] = settings.FORWARDED_ALLOW_IPS
    return uvicorn.Config(
        asgi.application,
        host=host,
        port=port,
        lifespan="off",
        ws="none",
        http="h11",
        access_log=False,
        log_config=None,  # Django's LOGGING rules
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_graceful_shutdown=_GRACE,
    )


def quiet() -> None:
    """Keep out of the log what is no news."""
    # WhiteNoise hands files over as synchronous iterators, which are then read in a thread. They
    # are small, so that is right.
    warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous")
    # Anybody can ask for a wrong host, again and again. One line says it all.
    logging.getLogger("django.security.DisallowedHost").addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m console.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--fd", type=int, help="use this listening socket instead")
    options = parser.parse_args()
    if not 0 <= options.port <= 65_535:
        parser.error(f"--port must be from 0 to 65535, not {options.port}")
    quiet()
    given = None if options.fd is None else [socket.socket(fileno=options.fd)]
    Server(configuration(options.host, options.port)).run(sockets=given)


if __name__ == "__main__":
    main()
