"""The output panel as the server renders it: blocks of lines, notes, and what is linked."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone

from commands.models import OutputChunk, Run
from commands.services import invocations
from commands.services.definitions import CommandInput

pytestmark = pytest.mark.django_db

LINES = 300


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("console.pages.invocations.SHOWN_LINES", 20)


@pytest.fixture
def task(cast, fleet):
    return invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Panel", type="RunShellScript", content="seq 300", timeout=60),
        instance_uids=[fleet[0].uid],
        now=timezone.now(),
    )


@pytest.fixture
def run(task):
    """A run that has printed 300 lines, ten in each chunk."""
    run = task.runs.get()
    offset = 0
    for sequence in range(LINES // 10):
        data = b"".join(b"line %d\n" % (10 * sequence + n) for n in range(1, 11))
        OutputChunk.objects.create(
            run=run,
            sequence=sequence,
            stream=1,
            offset=offset,
            data=data,
            arrived_at=timezone.now(),
        )
        offset += len(data)
    now = timezone.now()
    change(run, status="Running", started_at=now, stdout_size=offset, next_sequence=LINES // 10)
    return run


def change(run, **values):
    Run.objects.filter(pk=run.pk).update(**values)


def end(run, **values):
    values = {"status": "Success", "exit_code": 0, **values}
    change(run, phase="finished", finished_at=timezone.now(), **values)


def numbers(text):
    return [int(n) for n in re.findall(r'id="L(\d+)"', text)]


@pytest.fixture
def page(cast, task, sign_in):
    """The page's text for a query: ``page("?before=9")``."""

    def get(query="", user=cast.vera, **headers):
        response = sign_in(user).get(f"/tasks/{task.uid}/{query}", headers=headers)
        assert response.status_code == 200
        assert "HX-Target" in response.headers["Vary"]
        return response.content.decode()

    return get


def after(text):
    """The cursor from which the page's stream goes on."""
    return re.search(r"events\?after=[^%]+%3A(-?\d+)&amp;watch", text)[1]


def test_the_end_shows_first_and_the_stream_goes_on_behind_it(page, run):
    text = page()
    assert numbers(text) == [*range(281, 301)]
    assert f'href="/tasks/{run.invocation.uid}/?instance={run.instance_uid}&amp;before=281"' in text
    assert 'id="later" hidden' in text
    assert after(text) == "29"
    assert "300 lines" in text


def test_a_block_in_the_midst_links_to_both_sides_and_streams_no_old_output(page, run):
    text = page("?before=101")
    assert numbers(text) == [*range(81, 101)]
    assert "&amp;before=81" in text
    assert "&amp;after=100" in text
    assert 'id="later" hidden' not in text
    assert re.search('id="log"[^>]* data-later', text)
    assert re.search('id="follow" aria-pressed="false"', text)
    assert after(text) == "29"
    assert "300 lines" not in text


def test_a_block_behind_a_line(page, run):
    assert numbers(page("?after=40")) == [*range(41, 61)]
    text = page("?after=290")
    assert numbers(text) == [*range(291, 301)]
    assert 'id="later" hidden' in text
    assert numbers(page("?after=300")) == []


@pytest.mark.parametrize("query", ["?before=", "?before=x", "?after=-1", "?before=" + "9" * 40])
def test_what_is_no_number_shows_the_end(page, run, query):
    assert numbers(page(query))[-1] == LINES


def test_before_the_first_line_there_is_none(page, run):
    for query in ("?before=1", "?before=0"):
        assert numbers(page(query)) == []


def test_a_script_gets_a_block_alone(page, run):
    text = page("?before=101", **{"HX-Request": "true", "HX-Target": "log"})
    assert text.strip().startswith('<div id="block" data-earlier="80"')
    assert f'data-cursor="{run.instance_uid}:29" data-later>' in text
    assert numbers(text) == [*range(81, 101)]
    assert "<html" not in text
    text = page("", **{"HX-Request": "true", "HX-Target": "log"})
    assert "data-later" not in text
    assert numbers(text)[-1] == LINES


def test_a_block_is_for_members_only(cast, task, run, sign_in, client):
    headers = {"HX-Request": "true", "HX-Target": "log"}
    address = f"/tasks/{task.uid}/?before=9"
    assert sign_in(cast.charlie).get(address, headers=headers).status_code == 404
    assert client.get(address, headers=headers).status_code == 401


def test_colours_are_classes_and_all_else_is_text(page, task):
    run = task.runs.get()
    data = b"\x1b[1;31m<b>&\x1b[0m plain\n\xe2\x80\xae<script>\n"
    OutputChunk.objects.create(
        run=run, sequence=0, stream=2, offset=0, data=data, arrived_at=timezone.now()
    )
    change(run, status="Running", started_at=timezone.now(), next_sequence=1, stderr_size=len(data))
    text = page()
    assert (
        '<span class="is">stderr </span>'
        '<span><span class="a-b f1">&lt;b&gt;&amp;</span> plain</span></span></div>'
    ) in text
    assert '<span class="is">stderr </span>\\u202e&lt;script&gt;</span></div>' in text


def test_a_timeout_offers_a_longer_one_to_who_may_run(page, cast, task, run):
    end(run, status="Timeout", exit_code=None, error_code="ExecutionTimeout", processes_left=0)
    link = f'<a class="again" href="/run/?from={task.uid}">Run again with a longer timeout</a>'
    text = page(user=cast.bob)
    assert "Stopped after 60 s, the timeout. Output above is kept. 0 processes left." in text
    assert link in text
    assert 'class="term"' in text
    assert 'class="term looks"' in page(user=cast.vera)  # in which the style sheet hides it


def test_why_there_is_no_output(page, task):
    run = task.runs.get()
    assert "Connecting" in page()
    assert "data-waits" not in page()
    change(run, phase="connecting")
    told = f"{run.instance_name} hasn't answered for {{n}} s. Trying again."
    assert f'data-waits="{told}"' in page()
    change(run, status="Running", started_at=timezone.now(), phase="following")
    assert re.search(r"Running for .*00:0\d.*\. Nothing printed yet\.", page())
    end(run)
    assert "Finished with exit code 0 and printed nothing." in page()
