"""Workers, stops and releases at the same rows at the same time."""

from __future__ import annotations

import random
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from commands.models import Run
from commands.rules.rate import RateInput
from commands.services import endings, pacing, runs, stopping
from tests.services.carrying import create_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

ENDS = [
    {"status": "Success", "exit_code": 0},
    {"status": "Failed", "exit_code": 1, "error_code": "ExitCodeNonzero"},
]


class Hand:
    """A worker that takes what it can, and often lets its lease run out."""

    def __init__(self, task, name, seed):
        self.task, self.name, self.random = task, name, random.Random(seed)
        self.ids = list(task.runs.values_list("pk", flat=True))
        self.random.shuffle(self.ids)
        self.fresh, self.begun = [], set()

    def turn(self):
        for one in runs.claim(run_ids=self.ids, owner=self.name, now=timezone.now()):
            if not one.may_have_begun:
                self.fresh.append(one.run_id)
            if not one.stop_asked:
                self.begun.add(one.run_id)
            time.sleep(self.random.uniform(0, 0.04))
            runs.renew(run_ids=self.ids, owner=self.name, now=timezone.now())
            if self.random.random() < 0.6:
                self.end(one.run_id)

    def end(self, run_id):
        now = timezone.now()
        with transaction.atomic():
            mine = Run.objects.filter(pk=run_id, lease_owner=self.name)
            if mine.locked():
                mine.filter(status="Pending").update(status="Running", started_at=now)
                endings.end(mine.get(), self.random.choice(ENDS), now)
        pacing.advance(invocation_id=self.task.pk, now=now)


@pytest.mark.parametrize("seed", range(4))
def test_each_begins_once_or_never_and_nobody_is_in_the_way(cast, make_instance, monkeypatch, seed):
    monkeypatch.setattr(runs, "LEASE", timedelta(seconds=0.05))
    machines = [make_instance(f"m{number}", port=number + 1) for number in range(6)]
    task = create_task(cast, machines, "say a", rate=RateInput(concurrency="2"))
    hands = [Hand(task, f"w{number}", seed * 10 + number) for number in range(4)]
    over, failures, most = threading.Event(), [], []

    def until_over(act):
        try:
            while not over.is_set():
                act()
        except Exception as error:
            failures.append(repr(error))
        finally:
            connection.close()

    def look():
        most.append(task.runs.unfinished().released().count())
        time.sleep(0.002)

    acts = [*(hand.turn for hand in hands), look, lambda: pacing.advance_all(now=timezone.now())]
    threads = [threading.Thread(target=until_over, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    time.sleep(0.1 + 0.1 * seed)
    stopping.stop(invocation=task, instance_uids=None, by="x", now=timezone.now())
    until = time.monotonic() + 90
    while task.runs.unfinished().exists() and time.monotonic() < until and not failures:
        time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not task.runs.unfinished().exists()
    fresh = [run_id for hand in hands for run_id in hand.fresh]
    assert len(fresh) == len(set(fresh))
    assert max(most) <= 2
    begun = set().union(*(hand.begun for hand in hands))
    cancelled = set(task.runs.filter(status="Cancelled").values_list("pk", flat=True))
    assert not begun & cancelled
