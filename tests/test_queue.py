"""The door to the broker: a broker that is away or frozen must not hold up a page."""

from __future__ import annotations

import socket

import pytest
from celery import Celery
from django.conf import settings

from commands import queue

pytestmark = pytest.mark.broker


@pytest.fixture
def frozen():
    """The address of a broker that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:  # the backlog accepts
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.parametrize("kind", ["frozen", "refusing"])
def test_a_message_that_can_not_be_sent_is_given_up(request, monkeypatch, kind, caplog):
    url = request.getfixturevalue("frozen") if kind == "frozen" else "redis://127.0.0.1:1/0"
    app = Celery("test", broker=url, set_as_current=False)
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "socket_timeout": 0.3}
    app.conf.broker_transport_options = options
    monkeypatch.setattr(queue, "current_app", app)
    queue._send(queue.Job.START_RUNS, {"run_ids": [1]})
    assert "waits for the reconciler" in caplog.text
    app.close()


def test_a_time_limit_for_the_broker_is_set():
    assert settings.CELERY_BROKER_TRANSPORT_OPTIONS["socket_timeout"] <= 10
