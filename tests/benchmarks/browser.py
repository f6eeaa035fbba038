#!/usr/bin/env python3
"""How a task's page bears much news in a real Chromium.

    .venv/bin/python tests/benchmarks/browser.py            1,000 runs, a minute of changes, floods
    .venv/bin/python tests/benchmarks/browser.py --quick    100 runs, ten seconds

Starts a web server, a process that writes as a worker does, and Chromium. Says for how long the
page's main thread was busy at a stretch, how its memory grew, and how soon much output shows.
docs/benchmarks.md says what each row means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import Browser, Page, sync_playwright

from tests.benchmarks.stage import Stage, stage

MB = 2**20
CHROMIUM = ["chromium-headless-shell", "chromium"]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 300_000

Figure = tuple[str, float, float | None, str]
"""What was measured, its value, a goal (an upper bound), and the unit."""


class Watched:
    """A page of a task, and what the browser says of it."""

    def __init__(self, browser: Browser, page: Page) -> None:
        self._browser = browser
        self.page = page
        self._devtools = page.context.new_cdp_session(page)
        self._devtools.send("Performance.enable")

    def heap(self) -> float:
        """Megabytes of JavaScript's heap that are in use, garbage left out."""
        self._devtools.send("HeapProfiler.collectGarbage")
        metrics = self._devtools.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize") / MB

    def trace(self) -> None:
        """Note from now on how long the main thread is busy at a stretch."""
        self._browser.start_tracing(page=self.page, categories=["toplevel"])

    def traced(self, name: str) -> Iterator[Figure]:
        """The longest that it was, in CPU and by the clock, since ``trace``."""
        events = json.loads(self._browser.stop_tracing())["traceEvents"]
        main = {
            (each["pid"], each["tid"])
            for each in events
            if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
        }
        tasks = [
            (each.get("tdur", 0) / 1000, each["dur"] / 1000)
            for each in events
            if each["ph"] == "X"
            and each["name"].endswith("RunTask")
            and (each["pid"], each["tid"]) in main
        ]
        yield f"{name}: longest task of the main thread, CPU", max(tasks)[0], 100, " ms"
        yield f"{name}: longest task by the clock", max(wall for _, wall in tasks), None, " ms"
        yield (
            f"{name}: CPU of the main thread in all",
            sum(cpu for cpu, _ in tasks) / 1000,
            None,
            " s",
        )


@contextmanager
def opened(browser: Browser, on: Stage) -> Iterator[Watched]:
    """A new page of somebody who is signed in."""
    context = browser.new_context(base_url=on.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    context.add_cookies([{"name": "sessionid", "value": on.sessions[0], "url": on.url}])
    page = context.new_page()
    yield Watched(browser, page)
    context.close()


def states(browser: Browser, on: Stage, runs: int, seconds: float) -> Iterator[Figure]:
    """Many runs change their states all the time."""
    task = on.have("create", runs=runs)
    name = f"{runs:,} runs"
    with opened(browser, on) as watched:
        watched.trace()
        began = time.perf_counter()
        watched.page.goto(f"/tasks/{task['task']}/")
        yield f"{name}: page loaded after", time.perf_counter() - began, None, " s"
        watched.page.wait_for_timeout(3_000)
        yield from watched.traced(f"{name}, loading")
        before = watched.heap()
        watched.trace()
        on.tell("states", rate=50, seconds=seconds)
        changes = told_meanwhile(on, watched.page)["changes"]
        watched.page.wait_for_timeout(2_000)
        what = f"{name}, {changes:,} changes"
        yield from watched.traced(what)
        yield f"{what}: growth of the heap", watched.heap() - before, 30, " MB"
    on.have("end")


def many_lines(browser: Browser, on: Stage, lines: int) -> Iterator[Figure]:
    """A task that has printed much is opened; and one prints it while somebody watches."""
    for when in ("before", "while"):
        task = on.have("create", runs=1)
        with opened(browser, on) as watched:
            page = watched.page
            last = page.locator("#log .ln").last.get_by_text(f"@{lines}@")
            if when == "before":
                on.have("print", lines=lines, of=80)
            else:
                page.goto(f"/tasks/{task['task']}/")
                page.wait_for_timeout(2_000)
            watched.trace()
            began = time.perf_counter()
            if when == "before":
                page.goto(f"/tasks/{task['task']}/", wait_until="commit")
            else:
                on.tell("print", lines=lines, of=80)
            last.wait_for()
            took = time.perf_counter() - began
            if when == "before":
                yield f"{lines:,} lines: opened until the last shows", took, 1, " s"
            else:
                told_meanwhile(on, page)
                yield f"{lines:,} lines at once: printed until the last shows", took, None, " s"
            page.wait_for_timeout(1_000)
            yield from watched.traced(f"{lines:,} lines, printed {when}")
            shown = page.locator("#log .ln").count()
            yield f"{lines:,} lines, printed {when}: lines in the page", shown, 5_000, ""
        on.have("end")


def flood(browser: Browser, on: Stage, megabytes: int) -> Iterator[Figure]:
    """So much output while somebody watches."""
    task, lines = on.have("create", runs=1), megabytes * MB // 80
    with opened(browser, on) as watched:
        page = watched.page
        page.goto(f"/tasks/{task['task']}/")
        page.wait_for_timeout(2_000)
        before, memory = watched.heap(), on.web.memory_info().rss / MB
        watched.trace()
        began = time.perf_counter()
        on.tell("print", lines=lines, of=80)
        told_meanwhile(on, page)
        page.locator("#log .ln").last.get_by_text(f"@{lines}@").wait_for()
        name = f"{megabytes} MB of output"
        yield f"{name}: printed until the last line shows", time.perf_counter() - began, None, " s"
        page.wait_for_timeout(1_000)
        yield from watched.traced(name)
        yield f"{name}: growth of the heap", watched.heap() - before, 30, " MB"
        grown = peak(on.web.pid) - memory
        yield f"{name}: growth of the web server at most", grown, 200, " MB"
    on.have("end")


def told_meanwhile(on: Stage, page: Page) -> dict[str, Any]:
    """What the writer answers, while the browser's events are attended to."""
    while not on.has_told():
        page.wait_for_timeout(200)
    return on.told()


def peak(pid: int) -> float:
    """The most megabytes that a process ever had in memory."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) / 1024


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | value | goal |", "|---|---|---|"]
    for what, value, goal, unit in figures:
        verdict = "met" if goal is None or value <= goal else "missed"
        said = "" if goal is None else f"<= {goal:,}{unit}: {verdict}"
        text = f"{value:,.1f}" if unit else f"{value:,.0f}"
        lines.append(f"| {what} | {text}{unit} | {said} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 runs for 10 s, 2 MB")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    runs, seconds, megabytes = (100, 10, 2) if options.quick else (1_000, 60, 20)
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    found: list[Figure] = []
    with (
        stage(people=1, instances=runs, postgres=False) as on,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        for part in (
            states(browser, on, runs, seconds),
            many_lines(browser, on, 20_000),
            flood(browser, on, megabytes),
        ):
            for figure in part:
                print(f"{figure[0]}: {figure[1]:.1f}{figure[3]}", file=sys.stderr, flush=True)
                found.append(figure)
        browser.close()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}\n\n{table(found)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
