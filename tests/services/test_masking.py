"""Secret values never reach stored output, however it is cut, repeated, or handed over."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.request import Request, urlopen

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from commands.execution.fake import FakeExecutor
from commands.models import OutputChunk, Run
from commands.outputs import store
from commands.rules.redaction import HIDDEN, Masker, Secrets, forms
from commands.services import invocations, runs
from commands.services.definitions import CommandInput
from commands.services.events import Changed, Received
from commands.services.pages import CHUNK_BYTES, Memory, Page, write
from commands.services.recorder import Recorder
from commands.services.worker import Worker
from tests.live import Stream, embedded_broker, session_cookie, web_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = b"hunter2"


class TestPages:
    """The page of one run, without a database."""

    PIECES = st.sampled_from([b"a", b"b", b"ab", b"aba", b"x", b"*"])
    SECRETS = st.lists(st.lists(st.sampled_from([b"a", b"b"]), min_size=3, max_size=7), max_size=3)

    @given(
        SECRETS.map(lambda found: [b"".join(parts) for parts in found]),
        st.lists(PIECES, max_size=40).map(b"".join),
        st.data(),
    )
    def test_stored_bytes_do_not_depend_on_cuts_failures_and_takeovers(self, secrets, raw, data):
        """Transactions commit, fail, or commit without that being known; workers change."""
        prepared = Secrets(secrets)
        masker = Masker(prepared)
        expected = masker.feed(raw) + masker.finish()
        memory, stored, sent = Memory(prepared), Run(pk=1, status="Running"), 0
        out, ended = b"", False
        while not ended:
            fate = data.draw(st.sampled_from(["commit", "fail", "unknown", "takeover"]))
            size = data.draw(st.integers(0, 9))
            back = data.draw(st.integers(0, sent)) if fate == "commit" else sent
            page = Page(copied(stored), memory)
            page.apply(Received(1, "stdout", back, raw[back : sent + size], NOW))
            if ended := fate == "commit" and sent + size >= len(raw):
                page.apply(Changed(1, {"status": "Success", "finished_at": NOW}))
            if fate == "fail":
                continue
            for chunk in page.chunks:
                assert chunk.offset == len(out)
                out += chunk.data
            stored = page.run
            assert stored.stdout_size == len(out)
            if fate == "commit":
                memory, sent = page.memory, min(sent + size, len(raw))
            if fate == "takeover":
                memory, sent = Memory(prepared), stored.stdout_size
        assert out == expected
        assert not any(secret in out for secret in secrets)

    def test_chunks_are_never_larger_than_they_may_be(self):
        page = Page(Run(pk=1), Memory(Secrets([b"k" * 5_000])))
        page.apply(Received(1, "stdout", 0, b"k" * 4_999, NOW))
        page.apply(Received(1, "stdout", 4_999, b"!" * CHUNK_BYTES, NOW))
        assert [len(chunk.data) for chunk in page.chunks] == [CHUNK_BYTES, 4_999]
        assert page.chunks[1].offset == CHUNK_BYTES

    def test_text_for_people_is_masked_and_what_the_console_goes_by_is_not(self):
        page = Page(Run(pk=1), Memory(Secrets(forms("hunter2"))))
        text = "No hunt\x00er2 in /srv/hunter2"
        page.apply(Changed(1, {"error_info": text, "base": "/srv/hunter2"}))
        assert page.run.error_info == f"No {HIDDEN} in /srv/{HIDDEN}"
        assert page.run.base == "/srv/hunter2"


def copied(run):
    return Run(
        **{field.attname: getattr(run, field.attname) for field in Run._meta.concrete_fields}
    )


@pytest.fixture
def create(cast, fleet):
    def make(content):
        return invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="n", type="RunShellScript", content=content),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )

    return make


def output(run, stream):
    return b"".join(chunk.data for chunk in store.read(run.pk) if chunk.stream == stream)


class Carrier:
    """A recorder that has one run, and what its follower would report. Each call is stored."""

    def __init__(self, run, secrets, name="me"):
        Run.objects.filter(pk=run.pk).update(
            lease_owner=name, lease_until=timezone.now() + timedelta(minutes=1)
        )
        run.refresh_from_db()
        self.run = run
        self.sizes = {"stdout": run.stdout_size, "stderr": run.stderr_size}
        self.recorder = Recorder(name)
        self.recorder.hold(run.pk, secrets)
        self.recorder.start()
        if run.status == "Pending":
            self.change(status="Running", started_at=timezone.now())

    def put(self, data, stream="stdout"):
        event = Received(self.run.pk, stream, self.sizes[stream], data, timezone.now())
        self.recorder.put(event)
        self.sizes[stream] += len(data)

    def say(self, data, stream="stdout"):
        self.put(data, stream)
        self.change()

    def end(self):
        self.change(status="Success", phase="finished", exit_code=0, finished_at=timezone.now())

    def change(self, **values):
        self.recorder.record(self.run.pk, values)
        self.run.refresh_from_db()


@pytest.mark.django_db(transaction=True)
@pytest.mark.data_layer
class TestRecorder:
    """What is stored of what a run with secrets prints."""

    @pytest.fixture
    def carry(self, create):
        made = []

        def begin(secrets=(SECRET,), run=None, **more):
            made.append(Carrier(run or create("say a").runs.get(), secrets, **more))
            return made[-1]

        yield begin
        for carrier in made:
            carrier.recorder.stop()
        connection.close()

    def test_a_secret_printed_byte_by_byte(self, carry):
        me = carry()
        for byte in b"x hunter2 hunter2hunter2\n":
            me.say(bytes([byte]))
            assert me.run.stdout_size == len(output(me.run, "stdout"))
        me.end()
        assert output(me.run, "stdout") == b"x ******* **************\n"
        assert me.run.last_line == "x ******* **************"

    def test_only_what_could_begin_a_secret_waits(self, carry):
        me = carry([b"pass"])
        me.say(b"password: p")
        assert output(me.run, "stdout") == b"****word: "
        assert me.run.last_line == "****word:"
        me.say(b"lease\n")
        assert output(me.run, "stdout") == b"****word: please\n"

    def test_what_waits_comes_with_the_end(self, carry):
        me = carry()
        me.say(b"so: hunter")
        me.say(b"hunter2", "stderr")
        assert (me.run.stdout_size, me.run.stderr_size) == (4, 7)
        me.put(b"2 hunt")
        me.end()
        assert output(me.run, "stdout") == b"so: ******* hunt"
        assert output(me.run, "stderr") == b"*******"
        assert (me.run.stdout_size, me.run.stderr_size) == (16, 7)
        assert me.run.status == "Success"

    def test_a_secret_spread_over_both_streams_is_whole_in_no_text(self, carry):
        me = carry()
        me.say(b"hun")
        me.say(b"ter2\n", "stderr")
        me.say(b"\n")
        me.say(b"hu\x1b[0mnter2\n")  # a line without its colours would show it
        me.end()
        assert output(me.run, "stdout") == b"hun\nhu\x1b[0mnter2\n"
        assert output(me.run, "stderr") == b"ter2\n"
        assert SECRET not in b"".join(chunk.data for chunk in store.read(me.run.pk))
        assert me.run.last_line == HIDDEN

    def test_much_output_and_many_secrets(self, carry):
        dice = random.Random(1)
        secrets = [dice.randbytes(dice.randint(3, 60)) for _ in range(48)] + [b"aaa", b"aaaaa\n"]
        parts = [*secrets, *(secret[:-1] for secret in secrets), b"a", b"some text\n" * 30]
        raw = b"".join(dice.choices(parts, k=40_000))[: 1024 * 1024]
        assert len(raw) == 1024 * 1024
        me = carry(secrets)
        while (at := me.sizes["stdout"]) < len(raw):
            me.put(raw[at : at + dice.randint(1, 40_000)])
        me.end()
        masker = Masker(Secrets(secrets))
        stored = output(me.run, "stdout")
        assert stored == masker.feed(raw) + masker.finish()
        assert me.run.stdout_size == len(raw)
        assert not any(secret in stored for secret in secrets)

    def test_a_transaction_that_is_tried_again_masks_the_same(self, carry, monkeypatch):
        monkeypatch.setattr("commands.services.recorder.RETRY_S", (0.01,))
        me = carry([b"abab"])
        me.say(b"xaba")
        failures = [OperationalError("away")] * 2

        def flaky(pages):
            write(pages)
            if failures:
                raise failures.pop()

        monkeypatch.setattr("commands.services.recorder.write", flaky)
        me.say(b"bab")
        assert not failures
        me.end()
        assert output(me.run, "stdout") == b"x******"

    def test_another_worker_goes_on_behind_what_is_stored(self, carry):
        first = carry([b"abab"])
        first.say(b"xabab")
        first.say(b"ab", "stderr")
        first.recorder.stop()
        run = first.run
        assert (run.stdout_size, run.stdout_masked, run.stderr_size) == (3, 2, 0)
        second = carry([b"abab"], run=run, name="other")
        second.say(b"ab")  # again, as it was not stored
        second.say(b"abab", "stderr")
        second.end()
        assert output(run, "stdout") == b"x****"
        assert output(run, "stderr") == b"****"

    def test_a_worker_that_gets_its_run_back_knows_where_it_stands(self, carry):
        me = carry([b"aab"])
        me.say(b"aa")
        OutputChunk.objects.create(
            run=me.run, sequence=0, stream=1, offset=0, data=b"a", arrived_at=timezone.now()
        )
        Run.objects.update(stdout_size=1, next_sequence=1)  # another worker had it meanwhile
        me.say(b"ab!")
        assert output(me.run, "stdout") == b"a***!"

    def test_of_a_run_that_is_not_held_nothing_is_stored(self, carry):
        me = carry()
        me.recorder.drop(me.run.pk)
        late = Received(me.run.pk, "stdout", 0, b"hunter2", timezone.now())
        changed = Changed(me.run.pk, {"hostname": "late"})
        assert me.recorder._write([late, changed]) == set()
        me.run.refresh_from_db()
        assert (me.run.stdout_size, me.run.hostname) == (0, "")

    def test_live_output_and_log_are_masked(self, carry, cast):
        with embedded_broker(settings.DATA_DIR), web_server() as server:
            me = carry()
            task, cookie = f"{server}/tasks/{me.run.invocation.uid}", session_cookie(cast.vera)
            with Stream(f"{task}/events?watch={me.run.instance_uid}", cookie) as stream:
                me.say(b"password: h")
                [*_, event] = stream.until("out")
                assert "password: <" in event.data
                for byte in b"unter2\n":
                    me.say(bytes([byte]))
                me.end()
                shown = "".join(event.data for event in stream)
            log = Request(f"{task}/i/{me.run.instance_uid}/log.txt", headers={"Cookie": cookie})
            with urlopen(log) as answer:
                assert answer.read() == b"password: *******\n"
        assert "password: *******<" in shown
        assert "hunter2" not in shown


@pytest.mark.django_db(transaction=True)
@pytest.mark.data_layer
def test_workers_that_take_over_mask_as_one(create):
    executor = FakeExecutor()
    lines = "".join(f"say {n} aba\nsay b{n}\nsleep 4\n" for n in range(12))
    task = create(lines)
    run = task.runs.get()
    secrets = frozenset({b"aba\nb", b"1\n2", b"b3\n3"})
    for _ in range(4):
        worker = Worker(executor)
        [claimed] = runs.claim(run_ids=[run.pk], owner=worker.owner, now=timezone.now())
        assert worker.follower.adopt(replace(claimed, secrets=secrets))
        executor.elapse(4)  # so it still runs when the last worker takes over
        before = run.stdout_size
        while run.stdout_size == before:
            time.sleep(0.01)
            run.refresh_from_db()
        worker.follower._stopping.set()  # as stop() does; its executor is ours, and stays open
        worker.recorder.stop(30)
    worker = Worker(executor)
    try:
        [claimed] = runs.claim(run_ids=[run.pk], owner=worker.owner, now=timezone.now())
        worker.follower.adopt(replace(claimed, secrets=secrets))
        executor.elapse(48)
        while task.runs.unfinished().exists():
            time.sleep(0.01)
    finally:
        worker.stop()
        connection.close()
    raw = b"".join(b"%d aba\nb%d\n" % (n, n) for n in range(12))
    masker = Masker(Secrets(secrets))
    assert output(run, "stdout") == masker.feed(raw) + masker.finish()
    assert b"aba\nb" not in output(run, "stdout")
