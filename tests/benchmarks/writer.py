"""Plays the worker for benchmarks of streams: tasks whose runs report what it is asked for.

Runs in a process of its own, on the data of a console that has no worker, and writes through the
worker's own recorder. Reads a line of JSON for each thing to do, and answers with one:

    {"do": "create", "runs": 2}              a task: its ids
    {"do": "talk", "rate": 5, "seconds": 10} numbered lines of every run that has not ended
    {"do": "states", "rate": 50, "seconds": 60}   changes of states, as many a second in all
    {"do": "print", "lines": 20000, "of": 80}     so many lines of so many bytes, at once
    {"do": "end"}                            all runs have succeeded
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402 - django.setup() comes before all of these
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.utils import timezone  # noqa: E402

from commands import queue  # noqa: E402
from commands.models import Membership, Region, Role, Run, User  # noqa: E402
from commands.rules.quotas import DEFINITIONS, Quota  # noqa: E402
from commands.services import instances, invocations, quotas, teams  # noqa: E402
from commands.services.definitions import CommandInput  # noqa: E402
from commands.services.events import Changed, Event, Received  # noqa: E402
from commands.services.recorder import Recorder  # noqa: E402
from tests.benchmarks.own_part import HOST_KEY  # noqa: E402

OWNER = "benchmark"


class Stamping(Recorder):
    """Remembers when each numbered line was stored: just after its transaction."""

    def __init__(self) -> None:
        super().__init__(OWNER)
        self.stored: dict[int, list[float]] = {}

    def _write(self, batch: list[Event]) -> set[int]:
        news = super()._write(batch)
        now = time.time()
        for event in batch:
            if isinstance(event, Received):
                self.stored.setdefault(event.run_id, []).append(now)
        return news


class Writer:
    """One worker that runs nothing."""

    def __init__(self, people: int, most: int) -> None:
        queue._send = lambda _job, _ids: None  # type: ignore[assignment]  # nobody is to take them
        admin = User.objects.create_superuser("admin", password="admin")
        team = teams.create_team(name="Team", admin=admin)
        self.where = {"actor": admin, "team": team, "region": Region.objects.get()}
        for quota in (Quota.INSTANCES_PER_TASK, Quota.TASKS_PER_DAY):
            quotas.set_limit(key=quota, limit=DEFINITIONS[quota].most, **self.where)
        key = instances.add_credential(name="key", password="secret", **self.where)
        self.uids = [
            instances.add_instance(
                name=f"host-{number:04}",
                host=f"10.0.{number // 250}.{number % 250}",
                user="root",
                credential=key,
                host_key=HOST_KEY,
                **self.where,
            ).uid
            for number in range(most)
        ]
        users = User.objects.bulk_create(
            User(username=f"viewer-{number}", password="!") for number in range(people)
        )
        Membership.objects.bulk_create(
            Membership(team=team, user=user, role=Role.VIEWER) for user in users
        )
        self.sessions = [_session(user) for user in users]
        self.recorder = Stamping()
        self.recorder.start()
        self.runs: dict[int, Run] = {}
        self.sizes: dict[int, int] = {}

    def create(self, runs: int) -> dict[str, Any]:
        """A task on the first ``runs`` instances."""
        task = invocations.run_command(
            command=CommandInput(name="Task", type="RunShellScript", content="say hello"),
            instance_uids=self.uids[:runs],
            now=timezone.now(),
            **self.where,
        )
        later = timezone.now() + timedelta(hours=1)
        task.runs.update(lease_owner=OWNER, lease_until=later, deadline=later)
        made = list(task.runs.all())
        for run in made:
            self.runs[run.pk], self.sizes[run.pk] = run, 0
            self.recorder.hold(run.pk)
        return {"task": task.uid, "runs": {run.instance_uid: run.pk for run in made}}

    def talk(self, rate: float, seconds: float) -> dict[str, Any]:
        """Every run prints ``rate`` numbered lines a second, each at its own time."""
        for run in self.runs:
            self._change(run, status="Running", phase="following", started_at=timezone.now())
        began = time.monotonic()
        at = [(i / rate, run, i + 1) for run in self.runs for i in range(int(rate * seconds))]
        phase = {run: random.random() / rate for run in self.runs}
        for due, run, number in sorted((due + phase[run], run, n) for due, run, n in at):
            time.sleep(max(0.0, began + due - time.monotonic()))
            self._print(run, b"@%d@ the quick brown fox jumps over the lazy dog\n" % number)
        late = time.monotonic() - began - seconds
        self._settle()
        return {"lines": int(rate * seconds), "stored": self.recorder.stored, "late": late}

    def states(self, rate: float, seconds: float) -> dict[str, Any]:
        """Runs begin, say something and end, so that ``rate`` states a second change."""
        count = int(rate * seconds)
        last = -(-count // len(self.runs)) - 1
        steps = [(run, step) for step in range(last + 1) for run in self.runs]
        began = time.monotonic()
        for number, (run, step) in enumerate(steps[:count]):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            now = timezone.now()
            if step == 0:
                self._change(run, status="Running", phase="following", started_at=now)
            elif step < last or run % 10:
                self._change(run, last_line=f"step {step} of {run}")
            else:
                ended = {"phase": "finished", "exit_code": 1, "finished_at": now}
                self._change(run, status="Failed", **ended)
                self.runs.pop(run)
        self._settle()
        return {"changes": count}

    def print(self, lines: int, of: int) -> dict[str, Any]:
        """The first run prints ``lines`` lines of ``of`` bytes, as fast as they are stored."""
        run = next(iter(self.runs))
        self._change(run, status="Running", phase="following", started_at=timezone.now())
        for first in range(0, lines, 500):
            some = range(first + 1, min(first + 500, lines) + 1)
            self._print(run, b"".join(b"@%d@".ljust(of - 1, b".") % n + b"\n" for n in some))
        self._settle()
        return {"lines": lines}

    def end(self) -> dict[str, Any]:
        """All runs succeed."""
        ended = {"status": "Success", "phase": "finished", "exit_code": 0}
        for run in self.runs:
            self.recorder.put(Changed(run, {**ended, "finished_at": timezone.now()}))
        self.runs.clear()
        return {}

    def _print(self, run: int, data: bytes) -> None:
        self.recorder.put(Received(run, "stdout", self.sizes[run], data, timezone.now()))
        self.sizes[run] += len(data)

    def _change(self, run: int, **values: object) -> None:
        self.recorder.put(Changed(run, values))

    def _settle(self) -> None:
        """Wait until all is stored."""
        if self.runs:
            self.recorder.record(next(iter(self.runs)), {"hostname": str(time.monotonic())})


def _session(user: User) -> str:
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def main(people: int, most: int, asked: Iterable[str]) -> None:
    """Do what is asked, line by line."""
    writer = Writer(people, most)
    print(json.dumps({"sessions": writer.sessions}), flush=True)
    for line in asked:
        wanted = json.loads(line)
        print(json.dumps(getattr(writer, wanted.pop("do"))(**wanted)), flush=True)
    writer.recorder.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.stdin)
