"""Digests of what runs printed, when they are stored, and the groups made of them."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from commands.execution.fake import FakeExecutor
from commands.models import OutputChunk, Run
from commands.rules import limits
from commands.rules.sameness import VERSION
from commands.services import sameness
from commands.services.comparer import Comparer
from commands.services.worker import Worker
from tests.alike import THOUSAND, Part, make_task
from tests.services.carrying import create_task, finished, take, until

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


@pytest.fixture
def make(cast):
    return lambda *parts: make_task(cast.team, cast.region, cast.bob, parts)


def compare_all(task):
    while sameness.compare(task):
        pass
    return list(task.runs.all())


def told(groups):
    return [(each.first.status, each.count) for each in groups]


class TestGroups:
    """groups_of, runs_of_group, summary."""

    def test_problems_come_first_then_the_largest(self, make):
        task = make(*THOUSAND)
        groups = sameness.groups_of(compare_all(task))
        assert told(groups) == [
            ("Failed", 29),
            ("Timeout", 4),
            ("Failed", 2),
            ("Success", 941),
            ("Success", 24),
        ]
        found = sameness.summary(groups)
        assert (found.groups, found.same, found.differ, found.failed) == (5, 941, 24, 35)
        assert found.compared == 1_000

    def test_how_a_run_ended_is_a_part_of_it(self, make):
        task = make(
            Part("a-", 1, output="x\n"),
            Part("b-", 2, "Failed", output="x\n"),
            Part("c-", 1, "Failed", output="x\n", exit_code=2),
            Part("d-", 1, "Aborted", error_code="SignInRefused"),
            Part("e-", 1, "Aborted", error_code="HostKeyChanged"),
            Part("f-", 1, "Cancelled"),
        )
        groups = sameness.groups_of(compare_all(task))
        assert [each.count for each in groups] == [2, 1, 1, 1, 1, 1]
        assert groups[-1].first.status == "Cancelled"
        assert sameness.summary(groups).stopped == 1

    def test_what_still_runs_is_in_no_group(self, make):
        task = make(Part("a-", 2, "Running", output="x\n"), Part("b-", 1, output="x\n"))
        runs = compare_all(task)
        assert told(sameness.groups_of(runs)) == [("Success", 1)]
        assert sameness.uncompared(runs) == 0

    def test_the_looser_key_ignores_numbers(self, make):
        task = make(Part("a-", 1, output="took 3 s\n"), Part("b-", 1, output="took 12 s\n"))
        runs = compare_all(task)
        assert len(sameness.groups_of(runs)) == 2
        assert len(sameness.groups_of(runs, loose=True)) == 1

    def test_the_runs_of_a_group_are_found_by_its_key(self, make):
        task, other = make(*THOUSAND), make(Part("a-", 2))
        groups = sameness.groups_of(compare_all(task))
        for loose in (False, True):
            for group in sameness.groups_of(task.runs.all(), loose=loose):
                found = sameness.runs_of_group(task, group.key, loose=loose)
                assert found == list(group.runs)
        assert sameness.runs_of_group(other, groups[0].key) == []
        assert sameness.runs_of_group(task, "nonsense") == []


class TestComparing:
    """compare, compare_runs, keys_of."""

    def test_it_goes_on_where_it_was_until_nothing_is_left(self, make, monkeypatch):
        monkeypatch.setattr(sameness, "RUNS_AT_ONCE", 4)
        task = make(Part("a-", 9, output="x\n"), Part("quiet-", 3))
        assert sameness.compare(task) == 5
        assert sameness.compare(task) == 1
        assert sameness.compare(task) == 0
        assert sameness.compare(task) == 0
        assert told(sameness.groups_of(task.runs.all())) == [("Success", 9), ("Success", 3)]

    def test_so_much_output_at_once_is_enough(self, make, monkeypatch):
        monkeypatch.setattr(sameness, "BYTES_AT_ONCE", 10)
        task = make(Part("a-", 3, output="123456789\n"))
        assert sameness.compare(task) == 2

    def test_a_worker_goes_on_with_what_is_left(self, make, monkeypatch):
        monkeypatch.setattr(sameness, "RUNS_AT_ONCE", 2)
        task = make(Part("a-", 3, output="x\n"))
        ids = set(task.runs.values_list("pk", flat=True))
        assert sameness.compare_runs(ids) == ({task.pk}, {max(ids)})
        assert sameness.compare_runs({max(ids)}) == ({task.pk}, set())

    def test_a_digest_that_is_there_stays(self, make):
        task = make(Part("a-", 2, output="x\n"))
        task.runs.update(same_exactly=f"{VERSION}mine")
        compare_all(task)
        assert set(task.runs.values_list("same_exactly", flat=True)) == {f"{VERSION}mine"}

    def test_a_digest_that_older_rules_made_is_none(self, make):
        task = make(Part("a-", 1, output="ERROR: disk is gone\rOK\n"), Part("b-", 1, output="OK\n"))
        task.runs.update(same_exactly="0" * 64, same_loosely="0" * 64)
        assert sameness.uncompared(task.runs.all()) == 2
        assert sameness.groups_of(task.runs.all()) == []
        assert told(sameness.groups_of(compare_all(task))) == [("Success", 1), ("Success", 1)]
        assert sameness.uncompared(task.runs.all()) == 0

    def test_nothing_printed_is_told_alike_however_it_is_computed(self, make):
        task = make(Part("a-", 1))
        assert sameness.keys_of(task.runs.get()) == sameness.NOTHING

    def test_what_was_dropped_is_a_part_of_it(self, make):
        task = make(Part("a-", 4, output="head\n"))
        for number, run in enumerate(task.runs.all()):
            if number < 3:
                Run.objects.filter(pk=run.pk).update(
                    head_chunks=1,
                    head_bytes=5,
                    tail_from=1,
                    dropped_bytes=[10, 10, 20][number],
                    tail_lines=[1, 0, 0, 0, 0, 0, 0],
                )
                OutputChunk.objects.create(
                    run=run,
                    sequence=1,
                    stream=1,
                    offset=15,
                    data=b"tail\n",
                    arrived_at=timezone.now(),
                )
        groups = sameness.groups_of(compare_all(task))
        assert sorted(each.count for each in groups) == [1, 1, 2]

    @pytest.mark.parametrize("lost", [7, None])
    def test_what_found_no_room_is_a_part_of_it(self, make, lost):
        task = make(Part("a-", 2, output="x\n"))
        first = task.runs.first()
        Run.objects.filter(pk=first.pk).update(lost_bytes=lost)
        assert len(sameness.groups_of(compare_all(task))) == 2

    def test_a_run_alone_in_its_task_is_not_compared(self, make):
        alone, beside = make(Part("a-", 1, output="x\n")), make(Part("a-", 2, output="x\n"))
        ids = set(Run.objects.values_list("pk", flat=True))
        assert sameness.compare_runs(ids) == ({beside.pk}, set())
        assert sameness.compare_runs(ids) == (set(), set())
        assert sameness.uncompared(alone.runs.all()) == 1
        assert sameness.uncompared(beside.runs.all()) == 0


class TestText:
    """text_of: the beginning of an output, for a comparison line by line."""

    def test_both_streams_without_the_instances_own_name(self, make):
        task = make(Part("a-", 1, output="{name} says  \nx", stderr="oops\n"))
        text = sameness.text_of(task.runs.get())
        assert text.streams == {"stdout": "‹instance› says\nx\n", "stderr": "oops\n"}
        assert not text.cut

    @pytest.mark.parametrize(
        "output",
        [
            "".join(f"{n}\n" for n in range(limits.COMPARED_LINES + 1)),
            "x" * (limits.COMPARED_BYTES + 1),
        ],
    )
    def test_of_much_output_it_is_the_beginning(self, make, output):
        text = sameness.text_of(make(Part("a-", 1, output=output)).runs.get())
        assert text.cut
        shown = text.streams["stdout"].removesuffix("\n")
        assert output.startswith(shown)
        assert shown.count("\n") < limits.COMPARED_LINES
        assert len(shown) <= limits.COMPARED_BYTES


@pytest.mark.django_db(transaction=True)
def test_a_worker_compares_what_it_carried_to_its_end(cast, fleet):
    worker = Worker(FakeExecutor())
    try:
        task = create_task(cast, fleet, "say all is well\nsay on 12")
        assert take(worker, task) == 3
        assert len(finished(task)) == 3
        until(lambda: not task.runs.uncompared().exists())
        assert told(sameness.groups_of(task.runs.all())) == [("Success", 3)]
    finally:
        worker.stop()
        connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError("away"), ValueError("odd")])
def test_the_comparer_outlives_whatever_happens(make, monkeypatch, error):
    task = make(Part("a-", 2, output="x\n"))
    ids = list(task.runs.values_list("pk", flat=True))
    right, failed = sameness.compare_runs, []

    def fail_once(run_ids):
        if not failed:
            failed.append(run_ids)
            raise error
        return right(run_ids)

    monkeypatch.setattr(sameness, "compare_runs", fail_once)
    comparer = Comparer()
    comparer.start()
    try:
        comparer.ask(ids[:1])
        until(lambda: failed)
        assert task.runs.uncompared().count() == 2
        comparer.ask(ids)
        until(lambda: not task.runs.uncompared().exists())
    finally:
        comparer.stop()
        connection.close()
