#!/usr/bin/env python3
"""How live a task is for many viewers at once, all of them on one web process.

    .venv/bin/python tests/benchmarks/viewers.py            500 of one task; 200 of 50 tasks
    .venv/bin/python tests/benchmarks/viewers.py --quick    a tenth of them, half a minute

Starts a web server on a PostgreSQL of its own, real HTTP streams with a session each, and a
process that writes as a worker does. Checks that everybody got every line once and in order, and
says how long a line took from its transaction's end until a viewer had it.
docs/benchmarks.md says what each row means.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks.report import percentile
from tests.benchmarks.stage import Stage, stage

LINE = re.compile(rb'class="tx">@(\d+)@')
DONE = b"event: done\n"
KEPT = 64
"""Bytes that what is looked for may be cut into."""
PATIENCE_S = 120.0


class Wrong(Exception):
    """A viewer did not get what it should."""


class Viewer(asyncio.Protocol):
    """One stream: which lines came, and when."""

    def __init__(self, host: str, path: str, session: str, run: int) -> None:
        self._head = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: sessionid={session}\r\n"
            "Accept: text/event-stream\r\n\r\n"
        ).encode()
        self.run = run
        self.numbers: list[int] = []
        self.times: list[float] = []
        self.size = 0
        self.began = asyncio.Event()
        self.done = asyncio.Event()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self.size += len(data)
        data = self._rest + data
        end = 0
        for found in LINE.finditer(data):
            self.numbers.append(int(found[1]))
            self.times.append(now)
            end = found.end()
        if not self.began.is_set() and b"event: state" in data:
            self.began.set()
        if DONE in data:
            self.done.set()
        self._rest = data[max(end, len(data) - KEPT) :]

    def connection_lost(self, exc: Exception | None) -> None:
        self.began.set()
        self.done.set()


@dataclass
class Case:
    """So many viewers of so many tasks, each of which prints ``rate`` lines a second."""

    name: str
    viewers: int
    tasks: int
    rate: float
    seconds: float
    figures: dict[str, tuple[float, float | None, str]] = field(default_factory=dict)
    """Value, goal (an upper bound) and unit, by what was measured."""

    def say(self, what: str, value: float, unit: str = "", goal: float | None = None) -> None:
        """Report something."""
        self.figures[what] = value, goal, unit


async def measure(case: Case, on: Stage) -> None:
    """Open all streams, have all runs print, and see what came when."""
    web = on.web
    case.say("memory before", web.memory_info().rss / 2**20, " MB")
    tasks = [on.have("create", runs=1) for _ in range(case.tasks)]
    began = time.perf_counter()
    viewers = await open_all(case, on, tasks)
    case.say("all streams open after", time.perf_counter() - began, " s")
    case.say("memory with all of them", web.memory_info().rss / 2**20, " MB")
    cpu, waited, began = sum(web.cpu_times()[:2]), waiting(web.pid), time.perf_counter()
    talking = asyncio.to_thread(on.have, "talk", rate=case.rate, seconds=case.seconds)
    most = asyncio.create_task(most_connections(on))
    told = await talking
    took = time.perf_counter() - began
    spent, waited = sum(web.cpu_times()[:2]) - cpu, waiting(web.pid) - waited
    await asyncio.to_thread(on.have, "end")
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(viewer.done.wait() for viewer in viewers))
    most.cancel()
    check(viewers, told["lines"])
    stored = {int(key): stamps for key, stamps in told["stored"].items()}
    late = [
        (at - stored[viewer.run][number - 1]) * 1000
        for viewer in viewers
        for number, at in zip(viewer.numbers, viewer.times, strict=True)
    ]
    case.say("lines delivered", len(late))
    case.say("stored to received, p50", percentile(late, 0.5), " ms")
    case.say("stored to received, p95", percentile(late, 0.95), " ms", goal=150)
    case.say("stored to received, max", max(late), " ms")
    case.say("PostgreSQL connections of the web process, most", most_seen[0], goal=10)
    case.say("memory at most", peak(web.pid), " MB")
    case.say("CPU of the web process", spent / took * 100, " %")
    case.say("it waited for a CPU", waited / took * 100, " %")
    case.say("lines stored a second", len(tasks) * told["lines"] / took)
    case.say("bytes to each viewer a second", viewers[0].size / took / 1024, " kB")


async def open_all(case: Case, on: Stage, tasks: Sequence[dict]) -> list[Viewer]:
    loop, parts = asyncio.get_running_loop(), urlsplit(on.url)
    made = []
    for number in range(case.viewers):
        task = tasks[number % len(tasks)]
        [(uid, run)] = task["runs"].items()
        path = f"/tasks/{task['task']}/events?watch={uid}"
        viewer = Viewer(parts.netloc, path, on.sessions[number], run)
        await loop.create_connection(lambda viewer=viewer: viewer, parts.hostname, parts.port)
        made.append(viewer)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(viewer.began.wait() for viewer in made))
    return made


most_seen = [0]


async def most_connections(on: Stage) -> None:
    most_seen[0] = 0
    while True:
        most_seen[0] = max(most_seen[0], await asyncio.to_thread(on.connections))
        await asyncio.sleep(0.25)


def check(viewers: Sequence[Viewer], lines: int) -> None:
    """Everybody got every line, once, in order."""
    for number, viewer in enumerate(viewers):
        if viewer.numbers != list(range(1, lines + 1)):
            raise Wrong(f"viewer {number} got {len(viewer.numbers)} of {lines} lines")


def peak(pid: int) -> float:
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) / 1024


def waiting(pid: int) -> float:
    """Seconds that the threads of a process could have worked, had a CPU been free."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[1]) for each in tasks) / 1e9


def table(cases: Sequence[Case]) -> str:
    """All figures as a Markdown table."""
    lines = ["| what | " + " | ".join(case.name for case in cases) + " | goal |"]
    lines.append("|---" * (len(cases) + 2) + "|")
    for what, (_, goal, unit) in cases[0].figures.items():
        values = [case.figures[what][0] for case in cases]
        said = ""
        if goal is not None:
            kept = "met" if all(value <= goal for value in values) else "missed"
            said = f"<= {goal:g}{unit}: {kept}"
        cells = " | ".join(f"{value:,.1f}{unit}".replace(".0 ", " ") for value in values)
        lines.append(f"| {what} | {cells} | {said} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the viewers, 5 seconds")
    parser.add_argument("--seconds", type=float, help="how long lines are printed")
    parser.add_argument("--rate", type=float, default=5.0, help="lines a second of each run")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    seconds = options.seconds or (5.0 if options.quick else 20.0)
    sizes = [(500 // share, 1), (200 // share, 50 // share)]
    cases = [
        Case(f"{viewers} viewers, {tasks} task{'s' * (tasks > 1)}", viewers, tasks, options.rate,
             seconds)
        for viewers, tasks in sizes
    ]  # fmt: skip
    for case in cases:
        with stage(people=case.viewers, instances=1, postgres=True) as on:
            print(f"{case.name} ...", file=sys.stderr, flush=True)
            asyncio.run(measure(case, on))
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; {options.rate:g} lines"
          f" a second of each run, {seconds:g} s. Everybody got every line once.\n")  # fmt: skip
    print(table(cases))
    if options.json:
        options.json.write_text(json.dumps([asdict(case) for case in cases], indent=1))


if __name__ == "__main__":
    main()
