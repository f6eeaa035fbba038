"""What the console itself costs for each run, instances and SSH left out.

Runs in a process of its own, with a new database: creates tasks, claims their runs, carries them
with the executor that has no instances, and stores what it reports. Says for every size and round
how many seconds of CPU and of wall time that took for each run.

    python -m tests.benchmarks.own_part --dir DIR --sizes 50 1000 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from pathlib import Path
from typing import Any

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEeXkLhFIdeCw7DIM1HYpGxcO2J4zVSGjVLEZG8fGvp1"
_LONGEST_S = 300


class OwnPart:
    """One worker and its tasks."""

    def __init__(self, most: int) -> None:
        # Only now is there a place for the settings to read.
        from commands import queue
        from commands.execution.fake import FakeExecutor
        from commands.models import Region, User
        from commands.rules.quotas import DEFINITIONS, Quota
        from commands.services import instances, quotas, teams
        from commands.services.worker import Worker

        self.messages: list[list[int]] = []
        queue._send = self._send  # type: ignore[assignment]  # a stand-in
        self.admin = User.objects.create_superuser("admin", password="admin")
        self.team = teams.create_team(name="Team", admin=self.admin)
        self.region = Region.objects.get()
        where = {"actor": self.admin, "team": self.team, "region": self.region}
        for key in (Quota.INSTANCES_PER_TASK, Quota.TASKS_PER_DAY):
            quotas.set_limit(key=key, limit=DEFINITIONS[key].most, **where)
        key = instances.add_credential(name="key", password="secret", **where)
        self.uids = [
            instances.add_instance(
                name=f"host-{number}",
                host=f"10.0.{number // 250}.{number % 250}",
                user="root",
                credential=key,
                host_key=HOST_KEY,
                **where,
            ).uid
            for number in range(most)
        ]
        self.worker = Worker(FakeExecutor())

    def _send(self, job: str, ids: dict[str, Any]) -> None:
        """Keep what a broker would deliver."""
        self.messages += [ids["run_ids"]] if "run_ids" in ids else []

    def measure(self, size: int) -> dict[str, Any]:
        """A task on ``size`` instances, from its creation until all runs are final."""
        from django.utils import timezone

        from commands.models import Run
        from commands.services import invocations
        from commands.services.definitions import CommandInput

        wall, cpu = time.perf_counter(), time.process_time()
        task = invocations.run_command(
            actor=self.admin,
            team=self.team,
            region=self.region,
            command=CommandInput(name="Task", type="RunShellScript", content="say hello"),
            instance_uids=self.uids[:size],
            now=timezone.now(),
        )
        while self.messages:
            self.worker.take(self.messages.pop(0), now=timezone.now())
        until = time.monotonic() + _LONGEST_S
        while Run.objects.filter(invocation=task).unfinished().exists():
            if time.monotonic() > until:
                raise SystemExit("the runs have not ended")
            time.sleep(0.005)
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        while self.worker.follower.carrying():
            time.sleep(0.005)
        return {"size": size, **{name: each / size for name, each in took.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["CONSOLE_DATA_DIR"] = str(options.dir)
    os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
    os.environ["BROKER_URL"] = "amqp://nobody.invalid"  # nothing is sent there
    os.environ.pop("DATABASE_URL", None)

    import django
    from django.core.management import call_command

    django.setup()
    from console.datadir import DataDir

    DataDir(options.dir).create()
    call_command("migrate", verbosity=0, interactive=False)
    part = OwnPart(max(options.sizes))
    part.measure(min(options.sizes))
    found = [
        part.measure(size)
        for _ in range(options.rounds)
        for size in random.sample(options.sizes, len(options.sizes))
    ]
    part.worker.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
