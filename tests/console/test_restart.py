# ruff: noqa: F401, F811 - the fixtures of the other tests of streams
"""A web server that ends while people watch: their next connection goes on where they were."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from tests.console.test_streams import numbers, open_stream, script, task, wake_ups

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving(listening):
    """The web server's own process, on the tests' rows."""
    database = f"sqlite:///{connection.settings_dict['NAME']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "console.server", "--fd", str(listening.fileno())],
        cwd=ROOT,
        env={
            **os.environ,
            "CONSOLE_DATA_DIR": str(settings.DATA_DIR),
            "DATABASE_URL": database,
            "DJANGO_SETTINGS_MODULE": "console.settings",
        },
        pass_fds=[listening.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_on(stream, seen, most):
    """Read until so many lines are there, or the stream ends."""
    try:
        for event in stream:
            seen.append(event)
            if len(numbers(seen)) >= most:
                return
    except (http.client.HTTPException, OSError):
        return  # it was cut in the midst of an event


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the process has a database of its own")
def test_viewers_go_on_at_the_next_server(task, script, cast):
    script.begin()
    watch, halt = script.run.instance_uid, threading.Event()

    def talk():
        number = 0
        while not halt.wait(0.01):
            number += 1
            script.say(b"%d\n" % number)

    talker = threading.Thread(target=talk)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        talker.start()
        try:
            seen, position = [], ""
            for _ in range(3):
                with serving(listening) as process:
                    stream = open_stream(url, task, cast.bob, watch=watch, last_event_id=position)
                    with stream:
                        read_on(stream, seen, len(numbers(seen)) + 50)
                        process.send_signal(signal.SIGTERM)
                        read_on(stream, seen, 1_000_000)
                    _, errors = process.communicate(timeout=60)
                    assert "Traceback" not in errors, errors
                    assert process.returncode in (0, -signal.SIGTERM)
                assert "done" not in [event.name for event in seen]
                position = next(event.id for event in reversed(seen) if event.id)
        finally:
            halt.set()
            talker.join()
        script.end()
        with (
            serving(listening),
            open_stream(url, task, cast.bob, watch=watch, last_event_id=position) as stream,
        ):
            seen += list(stream)
    assert seen[-1].name == "done"
    assert numbers(seen) == list(range(1, len(numbers(seen)) + 1))
    assert len(numbers(seen)) > 150
