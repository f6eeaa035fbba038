"""Event streams over a real server: snapshots, cursors, late joiners, and who may look."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.utils import timezone

from commands.models import Run, User
from commands.outputs import store
from commands.services import invocations
from commands.services.definitions import CommandInput
from commands.services.recorder import Received, Recorder
from console import hub, reading, viewers
from console.admission import Ticket
from tests.live import Stream, embedded_broker, session_cookie, web_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

TICKET = Ticket("session", 1, 1)
LINE = re.compile(r'id="L(\d+)"')


@pytest.fixture
def task(cast, fleet):
    return invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Hello", type="RunShellScript", content="echo hi"),
        instance_uids=[instance.uid for instance in fleet],
        now=timezone.now(),
    )


@pytest.fixture(scope="module", autouse=True)
def wake_ups():
    with embedded_broker(settings.DATA_DIR):
        yield


@pytest.fixture
def server(transactional_db):
    with web_server() as url:
        yield url


class Script:
    """Plays what a worker would report about the first run of a task."""

    def __init__(self, task):
        self.run = task.runs.first()
        self.others = list(task.runs.exclude(pk=self.run.pk))
        self.sizes = {"stdout": 0, "stderr": 0}
        self.recorder = Recorder("test")
        runs = [self.run, *self.others]
        Run.objects.filter(pk__in=[run.pk for run in runs]).update(
            lease_owner="test", lease_until=timezone.now() + timedelta(minutes=1)
        )
        for run in runs:
            self.recorder.hold(run.pk)
        self.recorder.start()

    def begin(self):
        self.change(self.run, status="Running", phase="following", started_at=timezone.now())

    def say(self, data, stream="stdout"):
        self.recorder.put(Received(self.run.pk, stream, self.sizes[stream], data, timezone.now()))
        self.sizes[stream] += len(data)

    def end(self, **values):
        for run in [self.run, *self.others]:
            if run is not self.run:
                self.change(run, status="Running", started_at=timezone.now())
            ended = {"phase": "finished", "exit_code": 0, "finished_at": timezone.now()}
            self.change(run, status="Success", **ended, **values)

    def change(self, run, **values):
        self.recorder.record(run.pk, values)


@pytest.fixture
def script(task):
    played = Script(task)
    yield played
    played.recorder.stop()
    connection.close()


def open_stream(server, task, user, after="", watch="", **more):
    query = f"after={after}&watch={watch}"
    return Stream(f"{server}/tasks/{task.uid}/events?{query}", session_cookie(user), **more)


def numbers(events):
    return [int(n) for e in events if e.name == "out" for n in LINE.findall(e.data)]


def test_states_first_then_lines_then_done(server, task, script, cast):
    script.begin()
    script.say(b"one\n")
    with open_stream(server, task, cast.vera, watch=script.run.instance_uid) as stream:
        assert stream.response.status == 200
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        before = stream.until("out")
        assert [event.name for event in before] == ["hello", "state", "out"]
        assert all(f"row-{run.instance_uid}" in before[1].data for run in task.runs.all())
        script.say(b"two\n", "stderr")
        script.end()
        after = list(stream)
    assert numbers(before + after) == [1, 2]
    assert "stderr" in next(event for event in after if event.name == "out").data
    assert after[-1].name == "done"
    assert any("Succeeded" in event.data for event in after if event.name == "state")


def test_a_late_joiner_sees_everything_and_a_cursor_repeats_nothing(server, task, script, cast):
    script.begin()
    watch = script.run.instance_uid
    for number in range(20):
        script.say(b"line %d\n" % number)
    script.change(script.run, hostname="h")
    seen = []
    position = ""
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        while len(numbers(seen)) < 20:
            seen += stream.until("out")
        position = seen[-1].id
    for number in range(20, 30):
        script.say(b"line %d\n" % number)
        script.change(script.run, hostname=f"h{number}")
    script.end()
    with open_stream(server, task, cast.bob, watch=watch, last_event_id=position) as stream:
        seen += list(stream)
    assert numbers(seen) == list(range(1, 31))
    with open_stream(server, task, cast.bob, after=position, watch=watch) as stream:
        assert numbers(list(stream)) == list(range(21, 31))
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        assert numbers(list(stream)) == list(range(1, 31))


def test_reconnects_in_the_midst_lose_and_double_nothing(server, task, script, cast):
    script.begin()
    watch = script.run.instance_uid

    def talk():
        for number in range(400):
            script.say(b"%d\n" % number, "stderr" if number % 3 else "stdout")
            if number % 20 == 0:
                script.change(script.run, hostname=str(number))
        script.end()

    talker = threading.Thread(target=talk)
    talker.start()
    seen, position, breaks = [], "", 0
    while not seen or seen[-1].name != "done":
        with open_stream(server, task, cast.bob, watch=watch, last_event_id=position) as stream:
            for event in stream:
                seen.append(event)
                position = event.id or position
                if event.name == "out" and breaks < 20:
                    breaks += 1
                    break
    talker.join()
    assert breaks == 20
    assert numbers(seen) == list(range(1, 401))


def test_many_viewers_hold_no_connection_and_all_get_everything(server, task, script, cast):
    script.begin()
    watch = script.run.instance_uid
    streams = [open_stream(server, task, cast.bob, watch=watch) for _ in range(100)]
    first = [stream.until("state") for stream in streams]
    assert all(events[-1].name == "state" for events in first)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname=current_database()")
            # All of them open at once: what is left is the pool that requests share.
            assert cursor.fetchone()[0] <= connection.settings_dict["OPTIONS"]["pool"]["max_size"]
    script.say(b"to all\n")
    script.end()
    for stream in streams:
        with stream:
            assert numbers(list(stream)) == [1]


def test_a_slow_viewer_is_let_go_and_loses_nothing(monkeypatch):
    monkeypatch.setattr(viewers, "QUEUED_BYTES", 2)

    async def read_all():
        viewer = viewers.Viewer(viewers.Topic(1), None, -1, TICKET)
        assert viewer.offer(b"a")
        assert viewer.offer(b"b")
        assert not viewer.offer(b"c")
        viewer.drop()
        return await viewer.next()

    # Nothing of what waited is sent: the client comes back with the cursor that it has.
    assert asyncio.run(read_all()) is None


def test_viewers_that_lack_the_same_share_it():
    topic = viewers.Topic(1)
    level, behind, ahead, told = (
        viewers.Viewer(topic, 7, position, TICKET) for position in (3, 3, 4, 3)
    )
    news = reading.News(
        {level: 1, behind: 1, ahead: 1, told: 2},
        False,
        {7: [(4, b"four"), (5, b"five")]},
        {(7, 1): b"state"},
    )
    assert news.frames_for(level) == b"fourfivestate"
    assert news.frames_for(behind) is news.frames_for(level)
    assert news.frames_for(ahead) == b"fivestate"
    assert news.frames_for(told) == b"fourfive"


def test_a_viewer_far_behind_catches_up_in_batches(server, task, script, cast, monkeypatch):
    monkeypatch.setattr(reading, "CATCH_UP_CHUNKS", 3)
    script.begin()
    watch = script.run.instance_uid
    with open_stream(server, task, cast.bob, watch=watch) as first:
        first.until("state")
        for number in range(30):
            script.say(b"%d\n" % number)
            script.change(script.run, hostname=str(number))
        with open_stream(server, task, cast.bob, after=f"{watch}:9", watch=watch) as second:
            script.end()
            assert numbers(list(second)) == list(range(11, 31))
        assert numbers(list(first)) == list(range(1, 31))


def test_who_may_not_look(server, task, cast):
    with open_stream(server, task, cast.charlie) as stream:
        assert stream.response.status == 404
    with Stream(f"{server}/tasks/{task.uid}/events", "") as stream:
        assert stream.response.status == 401
    with open_stream(server, task, cast.bob, watch="i-elsewhere") as stream:
        assert stream.response.status == 404


def test_reloads_in_quick_succession_never_leave_a_stream_silent(server, task, script, cast):
    script.begin()
    watch = script.run.instance_uid
    script.say(b"one\n")
    for _ in range(60):
        with open_stream(server, task, cast.bob, watch=watch) as stream:
            stream.until("hello")
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        seen = stream.until("out")
        script.say(b"two\n")
        seen += stream.until("out")
        script.end()
        seen += list(stream)
    assert numbers(seen) == [1, 2]


def test_the_database_away_loses_no_line(server, task, script, cast, monkeypatch):
    script.begin()
    watch = script.run.instance_uid
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        stream.until("state")
        script.say(b"before\n")
        stream.until("out")
        read, failures = store.read_each, [OperationalError("away")] * 2

        def flaky(*args, **options):
            if failures:
                raise failures.pop()
            return read(*args, **options)

        monkeypatch.setattr(store, "read_each", flaky)
        script.say(b"during\n")
        script.end()
        assert numbers(list(stream)) == [2]
    assert not failures


def test_an_error_of_our_own_ends_the_streams_and_spares_other_tasks(
    server, task, script, cast, monkeypatch
):
    script.begin()
    watch = script.run.instance_uid
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        stream.until("state")
        monkeypatch.setattr(reading.Reader, "_state", lambda *_: 1 / 0)
        script.change(script.run, error_info="news")
        list(stream)
    monkeypatch.undo()
    script.end()
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        assert list(stream)[-1].name == "done"


def test_cursors_that_were_made_up(server, task, script, cast):
    script.begin()
    script.say(b"one\n")
    watch = script.run.instance_uid
    script.end()
    for after, expected in (
        (f"{watch}:99999", []),
        (f"{watch}:{'9' * 5000}", [1]),
        ("x", [1]),
        ("i-other:0", [1]),
    ):
        with open_stream(server, task, cast.bob, after=after, watch=watch) as stream:
            assert numbers(list(stream)) == expected, after[:20]
    with open_stream(server, task, cast.bob) as stream:
        assert numbers(list(stream)) == []


def test_a_viewer_very_far_behind_gets_the_end_and_is_told(server, task, script, cast, monkeypatch):
    monkeypatch.setattr(reading, "FAR_BEHIND", 5)
    monkeypatch.setattr(reading, "CATCH_UP_CHUNKS", 3)
    script.begin()
    watch = script.run.instance_uid
    for number in range(30):
        script.say(b"%d\nhalf" % number)
        script.change(script.run, hostname=str(number))
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        seen = stream.until("out")
        script.say(b" of it\n", "stderr")
        script.end()
        seen += list(stream)
    [earlier] = [event for event in seen if event.name == "earlier"]
    told, shown = int(earlier.data), numbers(seen)
    assert shown[0] == told + 1
    assert sorted(set(shown)) == list(range(told + 1, 33))
    assert "half29" not in seen[-1].data
    fresh = [n for e in seen if e.name == "out" for n in re.findall(r'id="L(\d+)">', e.data)]
    assert len(fresh) == len(set(fresh)) == 32 - told  # every line begins once


@pytest.mark.parametrize("leave", ["sign out", "lose the membership", "be deactivated"])
def test_who_may_no_longer_look_stops_receiving(server, task, script, cast, monkeypatch, leave):
    monkeypatch.setattr(hub, "ASK_AGAIN_S", 0.2)
    monkeypatch.setattr(viewers, "HEARTBEAT_S", 0.2)
    script.begin()
    cookie = session_cookie(cast.bob)
    url = f"{server}/tasks/{task.uid}/events?watch={script.run.instance_uid}"
    with Stream(url, cookie) as stream:
        stream.until("beat")
        if leave == "sign out":
            Session.objects.all().delete()
        elif leave == "be deactivated":
            User.objects.filter(pk=cast.bob.pk).update(is_active=False)
        else:
            cast.team.memberships.filter(user=cast.bob).delete()
        assert "done" not in [event.name for event in stream]


def test_a_flood_shows_its_end_and_counts_the_rest(server, task, script, cast, monkeypatch):
    monkeypatch.setattr(reading, "BURST", 5)
    script.begin()
    watch = script.run.instance_uid
    with open_stream(server, task, cast.bob, watch=watch) as stream:
        seen = stream.until("state")
        for number in range(40):
            script.say(b"%d\n" % number, "stderr" if number % 2 else "stdout")
        script.end()
        seen += list(stream)
    shown = numbers(seen)
    told = [int(event.data) for event in seen if event.name == "earlier"]
    assert shown[-1] == 40
    assert sorted(set(shown))[-4:] == [37, 38, 39, 40]
    assert not told or shown[-4] > told[-1]
