"""Of a run's output its head and its tail are stored, with one gap that is exactly known."""

from __future__ import annotations

import random
import time

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from commands.execution.executor import Ending, Finished, Gap, Offsets, Output, Started
from commands.models import OutputChunk
from commands.outputs import store
from commands.services import invocations, keeping, pages, runs
from commands.services.definitions import CommandInput
from commands.services.events import Dropped
from commands.services.pages import write
from commands.services.recorder import LeaseLost
from commands.services.worker import Worker
from console.lines import Assembler
from tests.services.test_masking import Carrier

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

KEPT = 40
SLACK = 8
CHUNK = 6


@pytest.fixture
def small(settings, monkeypatch):
    """Everything on a small scale."""
    settings.CONSOLE_OUTPUT_KEPT = KEPT
    monkeypatch.setattr(keeping, "SLACK_BYTES", SLACK)
    monkeypatch.setattr(pages, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def create(cast, fleet):
    def make(content="say a", **columns):
        return invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="n", type="RunShellScript", content=content, **columns),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )

    return make


@pytest.fixture
def carry(create):
    made = []

    def begin(secrets=(), run=None, **more):
        made.append(Carrier(run or create().runs.get(), secrets, **more))
        return made[-1]

    yield begin
    for carrier in made:
        carrier.recorder.stop()
    connection.close()


def stored(run):
    return b"".join(chunk.data for chunk in store.read(run.pk))


def gaps(run):
    return [chunk.gap for chunk in store.read(run.pk) if chunk.gap]


def drop(carrier, stream, size):
    """The instance has dropped the next ``size`` bytes of ``stream``."""
    start = carrier.sizes[stream]
    carrier.recorder.put(Dropped(carrier.run.pk, stream, start, start + size, timezone.now()))
    carrier.sizes[stream] += size


def test_little_output_is_kept_whole(carry, small):
    me = carry()
    me.say(b"x" * KEPT)
    me.end()
    assert stored(me.run) == b"x" * KEPT
    assert (me.run.dropped_bytes, gaps(me.run)) == (0, [])


@pytest.mark.parametrize(
    ("more", "size"), [(1, 7), (3, 1_000), (SLACK, 64), (SLACK + 1, 1), (500, 19), (500, 1_000)]
)
def test_the_first_and_the_last_half_are_kept(carry, small, more, size):
    raw = bytes(range(32, 127)) * 10
    raw = raw[: KEPT + more]
    me = carry()
    for at in range(0, len(raw), size):
        me.say(raw[at : at + size])
        assert len(stored(me.run)) <= KEPT + SLACK + CHUNK
        assert me.run.dropped_bytes == me.run.stdout_size - len(stored(me.run))
    me.end()
    assert stored(me.run) == raw[: KEPT // 2] + raw[-KEPT // 2 :]
    assert (me.run.stdout_size, me.run.dropped_bytes) == (KEPT + more, more)
    [gap] = gaps(me.run)
    assert (gap.head, gap.dropped, gap.tail) == (KEPT // 2, more, KEPT // 2)
    offsets = [chunk.offset for chunk in store.read(me.run.pk) if chunk.sequence > gap.after]
    assert offsets[0] == KEPT // 2 + more


def test_streams_are_kept_together_in_order_of_arrival(carry, small):
    dice = random.Random(4)
    me, arrived = carry(), b""
    for _ in range(120):
        data = bytes(dice.choices(b"abc\n", k=dice.randint(1, 9)))
        me.put(data, dice.choice(["stdout", "stderr"]))
        arrived += data
        if dice.random() < 0.3:
            me.change()
    me.end()
    assert stored(me.run) == arrived[: KEPT // 2] + arrived[-KEPT // 2 :]
    assert me.run.dropped_bytes == len(arrived) - KEPT
    assert me.run.stdout_size + me.run.stderr_size == len(arrived)


def test_what_is_read_late_has_the_same_numbers_as_what_was_watched(carry, small):
    dice = random.Random(7)
    me, watching, last = carry(), Assembler(), -1
    for _ in range(80):
        for _ in range(dice.randint(1, 3)):
            stream = dice.choice(["stdout", "stderr"])
            if dice.random() < 0.05 and me.run.head_chunks:
                drop(me, stream, dice.randint(1, 20))
            me.put(dice.choice([b"a\n", b"bc", b"\n\nd", b"e" * 9_000]), stream)
        me.change()
        for chunk in store.read(me.run.pk, after=last):
            watching.feed(chunk)
            last = chunk.sequence
        late = Assembler()
        for chunk in store.read(me.run.pk):
            late.feed(chunk)
        assert late.count == watching.count
        assert [line.number for line in late.open_lines()] == [
            line.number
            for line in watching.open_lines()
            if line.number in {other.number for other in late.open_lines()}
        ]


def test_what_a_transaction_drops_that_fails_is_there_for_the_next(carry, small, monkeypatch):
    monkeypatch.setattr("commands.services.recorder.RETRY_S", (0.01,))
    me = carry()
    me.say(b"a" * 45)
    failures = [OperationalError("away")] * 2

    def flaky(pages):
        write(pages)
        if failures:
            raise failures.pop()

    monkeypatch.setattr("commands.services.recorder.write", flaky)
    me.say(b"b" * 25)
    assert not failures
    me.end()
    assert stored(me.run) == b"a" * 20 + b"b" * 20
    assert me.run.dropped_bytes == 30


def test_another_worker_goes_on_with_the_tail(carry, small):
    first = carry()
    first.say(b"a" * 15 + b"\n" * 60)
    first.recorder.stop()
    second = carry(run=first.run, name="other")
    second.say(b"b\n" * 30)
    second.end()
    assert stored(first.run) == b"a" * 15 + b"\n" * 5 + b"b\n" * 10
    [gap] = gaps(second.run)
    assert (gap.dropped, gap.lines[0]) == (95, 80)


def test_the_setting_may_change_while_a_run_goes_on(carry, small, settings):
    me = carry()
    me.say(b"a" * 30)
    settings.CONSOLE_OUTPUT_KEPT = 20
    me.say(b"b" * 60)
    assert len(stored(me.run)) <= 30 + SLACK + CHUNK
    settings.CONSOLE_OUTPUT_KEPT = 60
    me.say(b"c" * 40)
    me.end()
    assert stored(me.run) == b"a" * 20 + b"c" * 30
    assert me.run.dropped_bytes == 130 - 50


def test_a_run_from_before_there_was_a_bound_keeps_what_it_has(carry, small, settings):
    settings.CONSOLE_OUTPUT_KEPT = 10_000
    me = carry()
    me.say(b"a" * 100)
    settings.CONSOLE_OUTPUT_KEPT = KEPT
    me.say(b"b" * 100)
    me.end()
    assert stored(me.run) == b"a" * 100 + b"b" * 20


def test_the_last_line_is_known_though_its_bytes_are_dropped_at_once(carry, small):
    me = carry()
    me.say(b"the end\n" + b"\n" * 200)
    assert me.run.last_line == "the end"


class TestWhatTheInstanceDropped:
    """Bytes that were never sent, as the instance's own bound left them out."""

    def test_it_counts_as_dropped_and_there_is_one_gap(self, carry, small):
        me = carry()
        me.say(b"a" * 50)
        me.say(b"e" * 3, "stderr")
        drop(me, "stdout", 1_000)
        me.say(b"z" * 7)
        assert stored(me.run) == b"a" * 20 + b"z" * 7
        me.say(b"f" * 5, "stderr")
        me.end()
        assert stored(me.run) == b"a" * 20 + b"z" * 7 + b"f" * 5
        assert (me.run.stdout_size, me.run.stderr_size) == (1_057, 8)
        assert me.run.dropped_bytes == 1_065 - 32
        assert len(gaps(me.run)) == 1

    def test_it_closes_a_head_that_is_not_full(self, carry, small):
        me = carry()
        me.say(b"abc")
        drop(me, "stdout", 5)
        me.say(b"d" * 30)
        me.end()
        assert stored(me.run) == b"abc" + b"d" * 20
        [gap] = gaps(me.run)
        assert (gap.head, gap.dropped, gap.tail) == (3, 15, 20)

    def test_it_may_come_first_in_the_midst_and_last_and_be_told_again(self, carry, small):
        me = carry()
        drop(me, "stdout", 9)
        me.put(b"ab")
        drop(me, "stdout", 4)
        me.put(b"cd")
        me.recorder.put(Dropped(me.run.pk, "stdout", 0, 9, timezone.now()))
        me.change()
        assert stored(me.run) == b"cd"
        drop(me, "stdout", 1)
        me.end()
        assert (stored(me.run), me.run.stdout_size, me.run.dropped_bytes) == (b"", 18, 18)

    def test_bytes_before_it_must_be_there(self, carry, small):
        me = carry()
        me.sizes["stdout"] = 3
        drop(me, "stdout", 9)
        with pytest.raises(LeaseLost):
            me.change()
        while me.run.status == "Running":
            time.sleep(0.01)
            me.run.refresh_from_db()
        assert (me.run.error_code, me.run.dropped_bytes) == ("OutcomeUnknown", 0)

    def test_secrets_may_be_cut_by_it(self, carry, small):
        me = carry([b"hunter2"])
        me.say(b"a hunt")
        drop(me, "stdout", 1)
        me.say(b"r2 and more\n")
        me.end()
        assert stored(me.run) == b"a ****" + b"****** more\n"

    def test_another_worker_masks_on_behind_it(self, carry, small):
        first = carry([b"hunter2"])
        first.say(b"a hunt")
        drop(first, "stdout", 1)
        first.say(b"er")
        first.recorder.stop()
        second = carry([b"hunter2"], run=first.run, name="other")
        second.say(b"2 hunter2 and hunter2\n")
        second.end()
        assert stored(second.run) == b"a ****" + b"*** ******* and *******\n"[-20:]


class Instance:
    """An executor whose one run prints ``events`` and ends."""

    def __init__(self, *events):
        self.events = events
        self.specs = []

    def start(self, endpoint, spec):
        self.specs.append(spec)
        return Started("/base", fresh=True)

    def follow(self, endpoint, handle, offsets, receive, *, limit=None):
        assert offsets == Offsets()
        for event in self.events:
            receive(event)
        return Finished(Ending.EXIT, 0, 0, 0)

    def acknowledge(self, endpoint, handle):
        pass

    def close(self):
        pass


def test_a_gap_from_the_instance_reaches_the_recorder(create, small):
    executor = Instance(
        Output("stdout", 0, b"a" * 30),
        Gap("stdout", 30, 90),
        Output("stdout", 90, b"b" * 10),
        Output("stderr", 0, b"c"),
    )
    worker = Worker(executor)
    try:
        run = create().runs.get()
        worker.take([run.pk], now=timezone.now())
        while run.status in ("Pending", "Running"):
            time.sleep(0.01)
            run.refresh_from_db()
    finally:
        worker.stop()
        connection.close()
    assert (run.status, run.stdout_size, run.dropped_bytes) == ("Success", 100, 70)
    assert stored(run) == b"a" * 20 + b"b" * 10 + b"c"
    assert executor.specs[0].spool == runs.SPOOL_TIMES * KEPT


def test_rows_are_few_whatever_is_printed(carry):
    me = carry()
    half = 1024 * 1024
    for _ in range(80):
        me.put(b"0123456789abcde\n" * 16_384)
        with_slack = half + keeping.SLACK_BYTES
        assert sum(map(len, OutputChunk.objects.values_list("data", flat=True))) <= (
            half + with_slack + pages.CHUNK_BYTES
        )
    me.end()
    assert me.run.stdout_size == 20 * half
    assert me.run.dropped_bytes == 18 * half
    assert len(stored(me.run)) == 2 * half
    assert OutputChunk.objects.count() <= 40
    assert gaps(me.run)[0].lines == (19 * half // 16, 19 * half, 0, 0, 0, 0, 0)
