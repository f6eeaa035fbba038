# ruff: noqa: F401, F811 - the fixtures of the other tests of streams
"""The hub where it is hard: races, sessions that end, slow clients, and what goes away."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands import access
from commands.models import Invocation, OutputChunk, Run
from commands.outputs import store, wake
from commands.services.teams import add_member
from console import admission, broker, hub, presentation, reading, streams, viewers
from console.admission import Ticket
from console.fragments import Fragments
from console.preferences import Voice
from console.reading import Reader
from console.viewers import Topic, Viewer
from tests.console.test_streams import (
    TICKET,
    numbers,
    open_stream,
    script,
    server,
    task,
    wake_ups,
)
from tests.live import Stream, session_cookie, web_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


def until(condition, within=60):
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def states(events):
    return "".join(event.data for event in events if event.name == "state")


# --- no state is lost ----------------------------------------------------------------------


def test_a_change_while_somebody_catches_up_reaches_them(server, task, script, cast, monkeypatch):
    script.begin()
    script.say(b"one\n")
    watch = script.run.instance_uid
    catch_up, held = Reader.catch_up, threading.Event()

    def slowly(reader, viewer):
        return catch_up(reader, viewer) if held.wait(0.01) else b""

    with open_stream(server, task, cast.vera, watch=script.others[0].instance_uid) as level:
        level.until("state")
        until(lambda: all(viewer.level for viewer in the_hub()._topics[task.pk].viewers))
        monkeypatch.setattr(Reader, "catch_up", slowly)
        with open_stream(server, task, cast.bob, watch=watch) as late:
            seen = late.until("state")
            script.change(script.others[1], error_info="meanwhile")
            while "meanwhile" not in states(told := level.until("state")):
                assert told
            held.set()  # from now on nothing changes any more
            seen += late.until("beat")
            if "meanwhile" not in states(seen):  # a beat overtook it, on a machine that is busy
                seen += late.until("beat")
    assert "meanwhile" in states(seen)
    assert numbers(seen) == [1]


def the_hub():
    """The only one: all who watch here read the same language in the same zone."""
    [hub] = [hub for hub in streams._hubs.values() if not hub._closed]
    return hub


@pytest.fixture
def watched(task):
    """A reader, a topic, and one level viewer that was told all."""
    reader, topic = Reader(), Topic(task.pk)
    viewer = Viewer(topic, task.runs.first().pk, -1, TICKET)
    reader.snapshot(viewer)
    while not viewer.level:
        reader.catch_up(viewer)

    def news():
        reader.refresh([topic])
        chunks = reader.output({topic: [viewer]})
        return reader.read(topic, [viewer], chunks).frames_for(viewer)

    assert news() == b""
    return topic, news


SHOWN = {
    "phase": "held",
    "error_code": "ExecutionTimeout",
    "error_info": "no answer",
    "last_line": "the last",
    "processes_left": 2,
    "survivors": "sleep, cat",
    "lost_bytes": 5,
    "next_sequence": 1,
    "dropped_bytes": 100,
}


@pytest.mark.parametrize("column", SHOWN)
def test_whatever_a_page_shows_of_a_run_is_news(task, watched, column):
    _, news = watched
    more = {"head_chunks": 1} if column == "dropped_bytes" else {}
    task.runs.filter(pk=task.runs.last().pk).update(**{column: SHOWN[column]}, **more)
    assert f"row-{task.runs.last().instance_uid}" in news().decode()
    assert news() == b""


def test_where_a_batch_ends_is_news(task, watched):
    topic, news = watched
    Invocation.objects.filter(pk=task.pk).update(batch_end=2)
    assert b"progress" in news()
    assert topic.invocation.batch_end == 2
    assert news() == b""


def test_what_nobody_sees_is_no_news(task, watched):
    _, news = watched
    task.runs.update(lease_until=timezone.now(), boot_id="boot", base="/root")
    assert news() == b""


def test_of_a_last_line_that_changed_only_the_row_is_sent(task, watched):
    _, news = watched
    task.runs.update(last_line="the last")
    said = news().decode()
    assert re.findall(r'id="([\w-]+)"', said) == [
        f"row-{run.instance_uid}" for run in task.runs.order_by("pk")
    ]
    assert news() == b""


def test_a_last_line_does_not_hide_a_state_that_changed(task, watched):
    _, news = watched
    task.runs.filter(pk=task.runs.last().pk).update(last_line="the last")
    task.runs.filter(pk=task.runs.first().pk).update(error_info="no answer")
    assert b'id="progress"' in news()


def test_where_it_ran_is_news(task, watched):
    _, news = watched
    task.runs.update(hostname="web-1.local", machine_id="abc")
    assert b"web-1.local" in news()


def test_all_that_is_shown_of_a_task_was_read(task, watched):
    topic, _ = watched
    task.runs.update(exit_code=3)
    Reader().refresh([topic])  # what was shown before may have been read for that
    with CaptureQueriesContext(connection) as asked:
        runs, now = list(topic.runs.values()), timezone.now()
        presentation.task_view(topic.invocation, runs, now)
        presentation.run_views(topic.invocation, runs, now)
        Fragments().state(
            presentation.task_view(topic.invocation, runs, now),
            presentation.run_views(topic.invocation, runs, now),
            presentation.run_views(topic.invocation, runs[:1], now)[0],
            runs=runs,
            has_output=True,
        )
    assert len(asked) == 0


def test_states_of_many_tasks_are_read_in_one_query(task, watched, django_assert_num_queries):
    topic, _ = watched
    others = [Topic(task.pk) for _ in range(20)]
    Reader().refresh([topic, *others[:1]])
    with django_assert_num_queries(1):
        Reader().refresh([topic])


def test_output_of_many_runs_is_read_in_one_query(task, script, django_assert_num_queries):
    script.begin()
    reader, told = Reader(), {}
    topics = {Topic(task.pk): run for run in task.runs.all()}
    for topic, run in topics.items():
        viewer = Viewer(topic, run.pk, -1, TICKET)
        reader.snapshot(viewer)
        while not viewer.level:
            reader.catch_up(viewer)
        told[topic] = [viewer]
    for run in topics.values():
        for sequence in range(2):
            one = {"run": run, "sequence": sequence, "offset": 4 * sequence, "stream": 1}
            OutputChunk.objects.create(**one, data=b"one\n", arrived_at=timezone.now())
    task.runs.update(next_sequence=2, stdout_size=8)
    reader.refresh(told)
    with django_assert_num_queries(1):
        chunks = reader.output(told)
    assert {run: [each.sequence for each in found] for run, found in chunks.items()} == {
        run.pk: [0, 1] for run in topics.values()
    }
    assert all(chunks[run.pk] == store.read(run.pk) for run in topics.values())
    for topic, [viewer] in told.items():
        frames = reader.read(topic, [viewer], chunks).frames_for(viewer).decode()
        assert re.findall(r'id="L(\d+)"', frames) == ["1", "2"]


def test_those_who_come_together_share_a_snapshot(task, monkeypatch):
    monkeypatch.setattr(reading, "SNAPSHOT_S", 600)  # all of them come within that time
    reader, topic, made = Reader(), Topic(task.pk), []
    state = Reader._state
    monkeypatch.setattr(Reader, "_state", lambda *args: made.append(1) or state(*args))
    run_id = task.runs.first().pk
    for _ in range(5):
        reader.snapshot(Viewer(topic, run_id, -1, TICKET))
    assert len(made) == 1
    reader.snapshot(Viewer(topic, task.runs.last().pk, -1, TICKET))
    assert len(made) == 2
    reader.refresh([topic])
    reader.snapshot(Viewer(topic, run_id, -1, TICKET))
    assert len(made) == 3


def test_a_deleted_task_is_not_called_finished(server, task, script, cast):
    script.begin()
    with open_stream(server, task, cast.bob, watch=script.run.instance_uid) as stream:
        stream.until("state")
        Invocation.objects.get(pk=task.pk).delete()
        assert "done" not in [event.name for event in stream]
    with open_stream(server, task, cast.bob) as stream:
        assert stream.response.status == 404


# --- who may look --------------------------------------------------------------------------


def test_it_is_asked_often_enough():
    assert hub.ASK_AGAIN_S <= 5
    assert viewers.HEARTBEAT_S <= 15


def tickets_of(cast):
    found = {}
    for user in (cast.alice, cast.bob, cast.vera):
        key = session_cookie(user).partition("=")[2]
        found[user.username] = Ticket(key, user.pk, cast.team.pk)
    return found


def test_asking_costs_the_same_for_many(cast, django_assert_num_queries):
    tickets = tickets_of(cast)
    with django_assert_num_queries(4):
        assert admission.still_valid({tickets["bob"]}) == {tickets["bob"]}
    with django_assert_num_queries(4):
        assert admission.still_valid(set(tickets.values())) == set(tickets.values())


def test_whose_ticket_is_no_longer_valid(cast):
    tickets = tickets_of(cast)
    other_team = Ticket(tickets["bob"].session_key, cast.bob.pk, cast.other_team.pk)
    other_person = Ticket(tickets["bob"].session_key, cast.alice.pk, cast.team.pk)
    all_of_them = {*tickets.values(), other_team, other_person}
    assert admission.still_valid(all_of_them) == set(tickets.values())
    cast.bob.set_password("another")
    cast.bob.save()
    past = timezone.now() - timedelta(seconds=1)
    Session.objects.filter(pk=tickets["vera"].session_key).update(expire_date=past)
    assert admission.still_valid(all_of_them) == {tickets["alice"]}
    Session.objects.filter(pk=tickets["alice"].session_key).update(session_data="garbage")
    assert admission.still_valid(all_of_them) == set()


def test_those_allowed_are_those_whom_each_question_allows(cast):
    cast.vera.is_active = False
    cast.vera.save()
    people = [cast.alice, cast.bob, cast.vera, cast.charlie]
    pairs = {(user.pk, team.pk) for user in people for team in (cast.team, cast.other_team)}
    for permission in access.Permission:
        expected = {
            (user.pk, team.pk)
            for user in people
            for team in (cast.team, cast.other_team)
            if access.allows(user, permission, team)
        }
        assert access.allowed(permission, pairs) == expected
    one = {(cast.alice.pk, cast.team.pk), (cast.charlie.pk, cast.other_team.pk)}
    assert access.allowed(access.Permission.INVOCATION_READ, one) == one


def test_others_go_on_when_somebody_is_sent_away(server, task, script, cast, monkeypatch):
    monkeypatch.setattr(hub, "ASK_AGAIN_S", 0.2)
    script.begin()
    watch = script.run.instance_uid
    with (
        open_stream(server, task, cast.bob, watch=watch) as leaves,
        open_stream(server, task, cast.vera, watch=watch) as stays,
    ):
        leaves.until("state")
        stays.until("state")
        cast.team.memberships.filter(user=cast.bob).delete()
        assert "done" not in [event.name for event in leaves]
        script.say(b"for members\n")
        script.end()
        assert numbers(list(stays)) == [1]


# --- once ----------------------------------------------------------------------------------


def test_all_up_to_now_as_an_answer_that_ends(server, task, script, cast):
    script.begin()
    script.say(b"one\ntwo\n")
    script.change(script.run, hostname="h")
    watch = script.run.instance_uid
    url = f"{server}/tasks/{task.uid}/events?once=1&watch={watch}"
    with Stream(url, session_cookie(cast.vera)) as answer:
        assert answer.response.headers["Content-Type"].startswith("text/plain")
        seen = list(answer)
    assert [event.name for event in seen] == ["hello", "state", "out"]
    assert numbers(seen) == [1, 2]
    script.say(b"three\n")
    script.end()
    time.sleep(reading.SNAPSHOT_S)
    with Stream(f"{url}&after={seen[-1].id}", session_cookie(cast.vera)) as answer:
        seen = list(answer)
    assert numbers(seen) == [3]
    assert seen[-1].name == "done"


def test_an_answer_that_shows_a_run_as_running_is_not_called_the_last(
    server, task, script, cast, monkeypatch
):
    script.begin()
    script.say(b"one\n")
    catch_up, ended = Reader.catch_up, []

    def late(reader, viewer):
        if not ended:
            ended.append(script.end())
            reader.refresh([viewer.topic])  # for another viewer
        return catch_up(reader, viewer)

    monkeypatch.setattr(Reader, "catch_up", late)
    url = f"{server}/tasks/{task.uid}/events?once=1&watch={script.run.instance_uid}"
    with Stream(url, session_cookie(cast.vera)) as answer:
        seen = list(answer)
    assert [event.name for event in seen] == ["hello", "state", "out"]
    with Stream(f"{url}&after={seen[-1].id}", session_cookie(cast.vera)) as answer:
        seen = list(answer)
    assert seen[-1].name == "done"


def test_an_answer_that_shows_the_end_has_all_output_before_it(
    server, task, script, cast, monkeypatch
):
    script.begin()
    script.say(b"one\n")
    watch = script.run.instance_uid
    snapshot = Reader.snapshot

    def at_the_end(reader, viewer):
        script.say(b"two\n")
        script.end()
        viewer.topic.read_at = 0.0  # the others get it after this only
        return snapshot(reader, viewer) + reader.catch_up(viewer)

    with open_stream(server, task, cast.bob, watch=watch) as other:
        other.until("out")
        until(lambda: all(viewer.level for viewer in the_hub()._topics[task.pk].viewers))
        monkeypatch.setattr(Reader, "snapshot", at_the_end)
        url = f"{server}/tasks/{task.uid}/events?once=1&watch={watch}"
        with Stream(url, session_cookie(cast.vera)) as answer:
            seen = list(answer)
    assert numbers(seen) == [1, 2]
    assert seen[-1].name == "done"


# --- what goes away ------------------------------------------------------------------------


def watching(task):
    topic = the_hub()._topics.get(task.pk)
    return len(topic.viewers) if topic else 0


def test_clients_that_vanish_are_forgotten(server, task, script, cast):
    script.begin()
    with open_stream(server, task, cast.bob, watch=script.run.instance_uid) as stream:
        stream.until("state")
        open_ones = [open_stream(server, task, cast.bob) for _ in range(5)]
        for each in open_ones:
            each.until("state")
        until(lambda: watching(task) == 6)
        for each in open_ones:
            each.__exit__()
        until(lambda: watching(task) == 1)
    until(lambda: watching(task) == 0)
    until(lambda: task.pk not in the_hub()._topics)


def test_a_client_that_does_not_read_holds_up_nobody(server, task, script, cast, monkeypatch):
    monkeypatch.setattr(viewers, "QUEUED_BYTES", 700_000)
    script.begin()
    watch = script.run.instance_uid
    parts = urlsplit(server)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((parts.hostname, parts.port))
    cookie = session_cookie(cast.vera)
    head = f"GET /tasks/{task.uid}/events?watch={watch} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    slow.sendall(f"{head}Cookie: {cookie}\r\n\r\n".encode())
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        stream.until("state")
        until(lambda: watching(task) == 2)
        # Who still catches up is not let go, but waited for.
        until(lambda: all(each.level for each in list(the_hub()._topics[task.pk].viewers)))
        seen, lines = [], 0
        while watching(task) == 2:
            assert lines < 10_000, "it is never let go"
            script.say((b"z" * 7_999 + b"\n") * 60)
            lines += 60
            while not seen or seen[-1] < lines:
                seen += numbers(stream.until("out"))
        script.end()
        seen += numbers(list(stream))
    slow.close()
    assert sorted(set(seen)) == list(range(1, lines + 1))


def test_a_database_that_is_away_when_somebody_comes(server, task, script, cast, monkeypatch):
    script.begin()
    script.say(b"one\n")
    watch = script.run.instance_uid

    def away(*_args):
        raise OperationalError("away")

    # Until it is back, as others may read too: those who hear of news, and the tick.
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "refresh", away)
        for _ in range(2):
            with open_stream(server, task, cast.bob, watch=watch) as stream:
                assert list(stream) == []  # it ends, and is asked for again
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        script.end()
        assert numbers(list(stream)) == [1]


def test_a_database_that_is_away_sends_nobody_away(server, task, script, cast, monkeypatch):
    monkeypatch.setattr(hub, "ASK_AGAIN_S", 0.05)
    monkeypatch.setattr(hub, "UNASKED_S", 600)  # nor has it been away for too long
    asked = []

    def away(tickets):
        asked.append(tickets)
        raise OperationalError("away")

    monkeypatch.setattr(admission, "still_valid", away)
    script.begin()
    with open_stream(server, task, cast.bob, watch=script.run.instance_uid) as stream:
        stream.until("state")
        until(lambda: len(asked) > 2)
        script.say(b"on\n")
        script.end()
        assert numbers(list(stream)) == [1]


class TestAsking:
    """Whether viewers may still look, where that can't be asked."""

    @pytest.fixture
    def failures(self, monkeypatch):
        monkeypatch.setattr(hub, "ASK_AGAIN_S", 0.05)
        asked, still_valid = [], admission.still_valid

        def fail(tickets):
            asked.append(tickets)
            if len(asked) <= 2:
                raise ValueError("odd")
            return still_valid(tickets)

        monkeypatch.setattr(admission, "still_valid", fail)
        return asked

    def test_it_is_asked_again_whatever_happened(self, server, task, script, cast, failures):
        script.begin()
        with open_stream(server, task, cast.bob, watch=script.run.instance_uid) as stream:
            stream.until("state")
            until(lambda: len(failures) > 2)
            cast.team.memberships.filter(user=cast.bob).delete()
            assert "done" not in [event.name for event in stream]

    @pytest.mark.parametrize("error", [ValueError("odd"), OperationalError("away")])
    def test_nobody_goes_on_unasked_for_long(self, server, task, script, cast, monkeypatch, error):
        monkeypatch.setattr(hub, "ASK_AGAIN_S", 0.05)
        monkeypatch.setattr(hub, "UNASKED_S", 0.3)

        def fail(_tickets):
            raise error

        monkeypatch.setattr(admission, "still_valid", fail)
        script.begin()
        with open_stream(server, task, cast.bob, watch=script.run.instance_uid) as stream:
            assert "done" not in [event.name for event in stream]  # it ends

    def test_no_turn_comes_too_late(self):
        assert 2 * hub.ASK_AGAIN_S <= hub.UNASKED_S <= 10


def test_a_hub_that_nobody_needs_goes_away(task, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(settings, "CELERY_BROKER_URL", "memory://")  # none that wakes up
    monkeypatch.setattr(hub, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(hub, "TICK_S", 0.01)
    monkeypatch.setattr(hub, "TICK_WITHOUT_WAKER_S", 0.01)
    busy, idle = Voice("en", "Asia/Tokyo"), Voice("zh-hans", "Asia/Tokyo")

    async def gone(voice):
        while voice in streams._hubs:
            await asyncio.sleep(0.01)

    async def go():
        watched, unused = streams.hub(busy), streams.hub(idle)
        viewer = watched._join(hub.Wanted(task.pk, None, -1, TICKET))
        now[0] += hub.IDLE_S
        await gone(idle)
        assert busy in streams._hubs
        await asyncio.wait(unused._tasks)
        assert streams.hub(idle) is not unused
        watched._leave(viewer)
        now[0] += hub.IDLE_S
        await gone(busy)
        await gone(idle)
        await asyncio.wait(watched._tasks)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_hub_that_closes_while_it_connects_hears_no_more(tmp_path, monkeypatch):
    """Wherever in that it is: redis-py swallows some cancellations."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(settings, "CELERY_BROKER_URL", broker.url(tmp_path))
    monkeypatch.setattr(hub, "TICK_S", 0.05)

    async def go():
        for steps in range(20):
            one = hub.Hub(Voice("en", "Asia/Tokyo"))
            for _ in range(steps):
                await asyncio.sleep(0)
            one.close()
            assert not (await asyncio.wait(one._tasks, timeout=60))[1]

    running = subprocess.Popen(broker.command(tmp_path), stdout=subprocess.DEVNULL)
    try:
        until(lambda: broker.answers(tmp_path))
        asyncio.run(go())
    finally:
        running.kill()
        running.wait()


def subscribers():
    client = wake.redis.Redis.from_url(wake.redis_url(settings.CELERY_BROKER_URL))
    with client:
        return client.pubsub_numsub(wake.CHANNEL)[0][1]


def test_a_broker_that_is_away_and_comes_back(task, script, cast, tmp_path, monkeypatch):
    # One of its own: the other tests need theirs.
    (tmp_path / "run").mkdir()

    def start():
        begun = subprocess.Popen(broker.command(tmp_path), stdout=subprocess.DEVNULL)
        until(lambda: broker.answers(tmp_path))
        return begun

    monkeypatch.setattr(settings, "CELERY_BROKER_URL", broker.url(tmp_path))
    running = start()
    script.begin()
    watch = script.run.instance_uid
    try:
        with web_server() as url, open_stream(url, task, cast.bob, watch=watch) as stream:
            seen = stream.until("state")
            until(lambda: subscribers() == 1)
            running.kill()
            running.wait()
            script.say(b"without it\n")
            seen += stream.until("out")
            running = start()
            until(lambda: subscribers() == 1)
            script.say(b"with it\n")
            seen += stream.until("out")
            script.end()
            seen += list(stream)
    finally:
        running.kill()
        running.wait()
    assert numbers(seen) == [1, 2]
    assert re.search("with it", seen[-1].data + states(seen))
