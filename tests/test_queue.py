"""The door to the broker: a broker that is away or frozen must not hold up a page."""

from __future__ import annotations

import socket

import pytest
import redis
from celery import Celery
from django.conf import settings

from commands import queue
from commands.outputs.wake import redis_url
from console import broker
from console.management.commands import up
from tests.live import embedded_broker

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


def test_a_flood_of_starts_leaves_the_queue_of_stops_empty(monkeypatch, tmp_path):
    with embedded_broker(tmp_path):
        url = broker.url(tmp_path)
        app = Celery("test", broker=url, set_as_current=False)
        app.conf.task_routes = settings.CELERY_TASK_ROUTES
        app.conf.task_default_queue = settings.CELERY_TASK_DEFAULT_QUEUE
        monkeypatch.setattr(queue, "current_app", app)
        for number in range(200):
            queue._send(queue.Job.START_RUNS, {"run_ids": [number]})
        queue._send(queue.Job.STOP_RUNS, {})
        with redis.Redis.from_url(redis_url(url)) as client:
            assert client.llen("run") == 200
            assert client.llen("control") == 1
        app.close()


def test_each_queue_has_a_worker_that_consumes_nothing_else():
    queues = [child.argv[child.argv.index("-Q") + 1] for child in up._workers()]
    assert sorted(queues) == ["control", "run"]
