# ruff: noqa: F401, F811 - the fixtures of the other tests of streams
"""Output of which the middle was dropped: page, stream, plain text and JSON tell the same."""

from __future__ import annotations

import re
from urllib.request import Request, urlopen

import pytest
from django.utils import timezone

from commands.outputs import store
from commands.services import keeping, pages
from commands.services.events import Dropped
from console import reading
from tests.console.test_streams import (
    numbers,
    open_stream,
    script,
    server,
    task,
    wake_ups,
)
from tests.live import session_cookie

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

LINES = 60
"""Lines that are printed, of six bytes, each in a chunk of its own; the first 5 and last 5 stay."""
SENTENCE = "The first and last 30 bytes are kept. 300 bytes between them was dropped."
GAP = re.compile('class="gap" id="G([0-9]+)" title="([^"]+)">([^<]+)<')


@pytest.fixture(autouse=True)
def small(settings, monkeypatch):
    settings.CONSOLE_OUTPUT_KEPT = 60
    monkeypatch.setattr(keeping, "SLACK_BYTES", 0)
    monkeypatch.setattr(pages, "CHUNK_BYTES", 6)


def line(number):
    return b"no %02d\n" % number


def say(script, first, last):
    """Print lines and wait until they are stored."""
    for number in range(first, last + 1):
        script.say(line(number))
    script.change(script.run, hostname=f"h{last}")
    script.run.refresh_from_db()


@pytest.fixture
def watch(script):
    script.begin()
    return script.run.instance_uid


@pytest.fixture
def ended(script, watch):
    say(script, 1, LINES)
    script.end()
    return script.run


def answer(server, task, user, path=""):
    url = f"{server}/tasks/{task.uid}/{path}"
    with urlopen(Request(url, headers={"Cookie": session_cookie(user)})) as got:
        return got.read().decode()


def gaps(events):
    return [found for event in events if event.name == "out" for found in GAP.findall(event.data)]


def told(events):
    return [int(event.data) for event in events if event.name == "earlier"]


def test_the_plain_text_has_a_line_in_its_place(server, task, cast, ended, watch):
    expected = "".join(line(n).decode() for n in range(1, 6))
    expected += f"[{SENTENCE} (300 bytes)]\n"
    expected += "".join(line(n).decode() for n in range(56, 61))
    assert answer(server, task, cast.vera, f"i/{watch}/log.txt") == expected
    states = answer(server, task, cast.vera, "status.json")
    assert '"dropped_bytes": 300' in states


def test_the_plain_text_ends_with_what_never_came(server, task, cast, script, watch):
    say(script, 1, 1)
    script.recorder.put(Dropped(script.run.pk, "stdout", 6, 1_006, timezone.now()))
    script.end()
    expected = "no 01\n[The first 6 bytes and the last 0 bytes are kept."
    text = answer(server, task, cast.vera, f"i/{watch}/log.txt")
    assert text == expected + " 1,000 bytes between them was dropped. (1,000 bytes)]\n"


def test_the_page_has_it_in_its_place(server, task, cast, ended, watch):
    page = answer(server, task, cast.vera, f"?instance={watch}")
    assert GAP.findall(page) == [("55", "300 bytes", SENTENCE)]
    assert [int(n) for n in re.findall('id="L([0-9]+)"', page)] == [*range(1, 6), *range(56, 61)]
    assert page.index('id="L5"') < page.index('id="G55"') < page.index('id="L56"')


def test_the_page_tells_of_a_gap_before_the_lines_that_it_shows(
    server, task, cast, ended, watch, monkeypatch
):
    monkeypatch.setattr("console.pages.invocations.SHOWN_LINES", 3)
    page = answer(server, task, cast.vera, f"?instance={watch}")
    assert not GAP.findall(page)
    assert f'id="gap-note" title="300 bytes">{SENTENCE}</p>' in page
    assert re.findall('id="L([0-9]+)"', page) == ["58", "59", "60"]
    assert 'lines not shown: <b class="num">57<' in page


def test_a_page_of_whole_output_tells_of_no_gap(server, task, cast, script, watch):
    say(script, 1, 10)
    page = answer(server, task, cast.vera, f"?instance={watch}")
    assert 'id="gap-note" hidden title=""></p>' in page
    assert not GAP.findall(page)


def test_who_comes_late_gets_head_gap_and_tail(server, task, cast, ended, watch):
    with open_stream(server, task, cast.vera, watch=watch) as stream:
        events = list(stream)
    assert numbers(events) == [*range(1, 6), *range(56, 61)]
    assert gaps(events) == [("55", "300 bytes", SENTENCE)]
    assert told(events) == []
    [out] = [event for event in events if "G55" in event.data]
    assert out.id == f"{watch}:55"  # whoever has read the gap has read what follows


@pytest.mark.parametrize(
    ("after", "shown", "gap", "passed"),
    [
        (2, [4, 5, *range(56, 61)], 1, []),
        (4, [*range(56, 61)], 1, []),
        (5, [*range(56, 61)], 0, [55]),
        (40, [*range(56, 61)], 0, [55]),
        (54, [*range(56, 61)], 0, []),
        (57, [59, 60], 0, []),
        (59, [], 0, []),
    ],
)
def test_who_comes_back_gets_what_it_lacks(
    server, task, cast, ended, watch, after, shown, gap, passed
):
    with open_stream(server, task, cast.vera, after=f"{watch}:{after}", watch=watch) as stream:
        events = list(stream)
    assert numbers(events) == shown
    assert (len(gaps(events)), told(events)) == (gap, passed)
    for event in events:
        if event.name == "out":
            assert int(event.id.rpartition(":")[2]) >= after


def test_who_watches_all_the_time_misses_nothing(server, task, cast, script, watch):
    with open_stream(server, task, cast.vera, watch=watch) as stream:
        seen = stream.until("state")
        for number in range(1, LINES + 1):
            say(script, number, number)
            while number not in numbers(seen):
                seen += stream.until("out")
        script.end()
        seen += list(stream)
    assert numbers(seen) == [*range(1, LINES + 1)]
    assert (gaps(seen), told(seen)) == ([], [])
    states = [event.data for event in seen if event.name == "state"]
    assert f'title="300 bytes">{SENTENCE}</p>' in states[-1]
    assert 'id="gap-note" hx-swap-oob="true" hidden' in states[0]


def test_who_comes_back_late_is_told_and_goes_on(server, task, cast, script, watch):
    say(script, 1, 7)
    with open_stream(server, task, cast.vera, watch=watch) as stream:
        seen = []
        while 7 not in numbers(seen):
            seen += stream.until("out")
    say(script, 8, LINES)
    position = seen[-1].id
    with open_stream(server, task, cast.vera, watch=watch, last_event_id=position) as stream:
        back = stream.until("out")
        say(script, LINES + 1, LINES + 3)
        script.end()
        back += list(stream)
    assert told(back) == [55]
    assert numbers(back) == [*range(56, LINES + 4)]


def test_shared_reading_that_falls_behind_passes_over(
    server, task, cast, script, watch, monkeypatch
):
    read, away = reading.Reader.output, []

    def held(reader, viewers):
        return {} if away else read(reader, viewers)

    monkeypatch.setattr(reading.Reader, "output", held)
    with open_stream(server, task, cast.vera, watch=watch) as stream:
        seen = stream.until("state")
        say(script, 1, 20)
        while 20 not in numbers(seen):
            seen += stream.until("out")
        away.append(True)
        say(script, 21, LINES + 1)
        away.clear()
        script.end()
        seen += list(stream)
    expected = [n for n in numbers(seen) if n > 20]
    assert expected == [*range(57, LINES + 2)]
    assert told(seen)[-1:] == [56]
    again = store.read(script.run.pk)
    assert [chunk.gap is not None for chunk in again].count(True) == 1


@pytest.mark.parametrize("joins", [0, 3, 20])
def test_reconnects_while_output_is_dropped_double_nothing(
    server, task, cast, script, watch, joins, monkeypatch
):
    monkeypatch.setattr(reading, "CATCH_UP_CHUNKS", 3)
    say(script, 1, joins)
    seen, position, at = [], "", joins
    while at < LINES:
        with open_stream(server, task, cast.vera, watch=watch, last_event_id=position) as stream:
            say(script, at + 1, at + 4)
            at += 4
            for event in stream:
                seen.append(event)
                position = event.id or position
                if at in numbers(seen):
                    break
    shown = []
    for event in seen:
        if event.name == "earlier":
            assert not shown or int(event.data) >= shown[-1]
        fresh = re.findall(r'id="L(\d+)">', event.data) if event.name == "out" else []
        shown += [int(n) for n in fresh]
    assert shown == sorted(set(shown))
    assert shown[-1] == at
    assert len(gaps(seen)) <= 1


def test_a_chunk_of_more_lines_than_anybody_reads_shows_its_end(
    server, task, cast, script, watch, monkeypatch, settings
):
    settings.CONSOLE_OUTPUT_KEPT = 200_000
    monkeypatch.setattr(pages, "CHUNK_BYTES", 65_536)
    monkeypatch.setattr(reading, "BURST", 50)
    script.say(b"\n" * 60_000)
    script.change(script.run, hostname="h")
    with open_stream(server, task, cast.vera, watch=watch) as stream:
        seen = stream.until("out")
        script.say(b"\n" * 30_000)
        script.end()
        seen += list(stream)
    assert numbers(seen)[:50] == [*range(59_951, 60_001)]
    assert numbers(seen)[-50:] == [*range(89_951, 90_001)]
    assert told(seen) == [59_950, 89_950]


def test_what_found_no_room_on_the_instance_is_said_everywhere(server, task, cast, script, watch):
    say(script, 1, 2)
    script.end(lost_bytes=1_475_713)
    told = "The instance's disk was full: the last 1.4 MB of output found no room."
    text = answer(server, task, cast.vera, f"i/{watch}/log.txt")
    assert text == f"no 01\nno 02\n[{told} (1,475,713 bytes)]\n"
    page = answer(server, task, cast.vera, f"?instance={watch}")
    assert told.replace("'", "&#x27;") in page
    assert '"lost_bytes": 1475713' in answer(server, task, cast.vera, "status.json")


def test_what_may_have_found_no_room_is_said_everywhere(server, task, cast, script, watch):
    say(script, 1, 1)
    script.end(lost_bytes=None)
    told = "Maybe some output found no room on the instance: how much is not known."
    assert answer(server, task, cast.vera, f"i/{watch}/log.txt") == f"no 01\n[{told}]\n"
    assert told in answer(server, task, cast.vera, f"?instance={watch}")
    assert '"lost_bytes": null' in answer(server, task, cast.vera, "status.json")
