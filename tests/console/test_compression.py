"""What travels compressed, and what must not wait for that."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.utils import timezone

from commands.models import OutputChunk, Run
from commands.services import invocations
from commands.services.definitions import CommandInput

pytestmark = pytest.mark.django_db

STYLE = "css/run.css"
GZIP = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.fixture
def client(cast, sign_in):
    return sign_in(cast.alice)


@pytest.fixture
def task(cast, fleet):
    return invocations.run_command(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Hello", type="RunShellScript", content="echo hi"),
        instance_uids=[fleet[0].uid],
        now=timezone.now(),
    )


def whole(answer) -> bytes:
    """The body of an answer, as it travelled."""
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


@pytest.fixture
def file() -> bytes:
    return Path(finders.find(STYLE)).read_bytes()


def test_a_page_is_compressed_and_its_length_is_padded(client):
    plain = client.get("/run/")
    assert "Content-Encoding" not in plain.headers
    found = [client.get("/run/", headers=GZIP) for _ in range(20)]
    assert {answer.headers["Content-Encoding"] for answer in found} == {"gzip"}
    assert all("Accept-Encoding" in answer.headers["Vary"] for answer in found)
    assert all(b"Create or run a command" in gzip.decompress(one.content) for one in found)
    # The name of a file in the header: its random length hides what a guess would save.
    assert len({answer.content[10:].index(b"\0") for answer in found}) > 1


def test_a_file_is_compressed_once_and_for_all(client, file):
    found = [client.get(f"/static/{STYLE}", headers=GZIP) for _ in range(2)]
    bodies = {whole(answer) for answer in found}
    assert [gzip.decompress(body) for body in bodies] == [file]
    for answer in found:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Cache-Control"] == "max-age=60, public"
        assert int(answer.headers["Content-Length"]) == len(*bodies) < len(file) / 2
        assert answer.headers["ETag"].startswith('W/"')


@pytest.mark.parametrize("encoding", ["", "identity", "br"])
def test_a_file_comes_as_it_is_to_whoever_reads_nothing_else(client, file, encoding):
    answer = client.get(f"/static/{STYLE}", headers={"Accept-Encoding": encoding})
    assert whole(answer) == file
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["ETag"].startswith('"')


@pytest.mark.parametrize("first", [GZIP, {}])
def test_a_file_that_the_browser_has_is_not_sent_again(client, first):
    had = client.get(f"/static/{STYLE}", headers=first)
    for header, name in [("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")]:
        asked = {**GZIP, header: had.headers[name]}
        answer = client.get(f"/static/{STYLE}", headers=asked)
        assert answer.status_code == 304
        assert whole(answer) == b""
        assert "Content-Encoding" not in answer.headers


def test_a_part_of_a_file_is_a_part_of_the_file(client, file):
    answer = client.get(f"/static/{STYLE}", headers={**GZIP, "Range": "bytes=10-29"})
    assert answer.status_code == 206
    assert whole(answer) == file[10:30]
    assert "Content-Encoding" not in answer.headers


def test_who_asks_for_the_head_of_a_file_gets_no_body(client):
    answer = client.head(f"/static/{STYLE}", headers=GZIP)
    assert whole(answer) == b""
    assert "Content-Encoding" not in answer.headers


def test_the_bytes_of_a_log_are_not_compressed(client, task):
    run = task.runs.get()
    OutputChunk.objects.create(
        run=run, sequence=0, stream=1, offset=0, data=b"a" * 9000, arrived_at=timezone.now()
    )
    Run.objects.update(stdout_size=9000, next_sequence=1)
    answer = client.get(f"/tasks/{task.uid}/i/{run.instance_uid}/log.txt", headers=GZIP)
    assert answer.streaming
    assert "Content-Encoding" not in answer.headers


def test_events_are_neither_compressed_nor_marked_as_if(client, task):
    answer = client.get(f"/tasks/{task.uid}/events", headers=GZIP)
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.streaming
    assert "Content-Encoding" not in answer.headers
    assert "Accept-Encoding" not in answer.headers.get("Vary", "")
