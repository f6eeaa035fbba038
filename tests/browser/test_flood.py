"""20 MB of output, in lines or in one: page, web server and worker bear it and tell the truth."""

from __future__ import annotations

import re

import psutil
import pytest
from playwright.sync_api import Page, expect

from commands.rules import limits
from tests.browser.conftest import Console
from tests.browser.test_journey import create

MB = 1024 * 1024
SIZE = 20 * MB
HALF = limits.OUTPUT_KEPT // 2
SENTENCE = "The first and last 1 MB are kept. 18 MB between them was dropped."
SCRIPTS = {
    "lines": "seq -f '%079.0f' 262144",
    "one endless line": "head -c 20971520 /dev/zero | tr '\\0' x",
    "empty lines": "head -c 20971520 /dev/zero | tr '\\0' '\\n'",
}
MOST_GROWTH = 200 * MB
"""Memory of one process that a flood may take; far less than the output shown whole would."""


def parts_of(console: Console) -> dict[str, psutil.Process]:
    """Web server and worker of a console."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if process.environ().get("CONSOLE_DATA_DIR") != str(console.data):
                continue
        except psutil.Error:
            continue
        if "console.server" in command:
            found["web"] = process
        elif "celery" in command and " worker" in command:
            found["worker"] = process
    return found


def most_memory(process: psutil.Process) -> int:
    """The most bytes that ``process`` ever had in memory."""
    with open(f"/proc/{process.pid}/status") as status:
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status.read())
    return int(peak) * 1024


def shown_gap(page: Page):
    return page.locator(".gap:visible", has_text="between them")


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_flood(visit, console, kind):
    page = visit()
    watched = visit()
    processes = parts_of(console)
    assert set(processes) == {"web", "worker"}
    before = {name: process.memory_info().rss for name, process in processes.items()}
    script = f"echo begin; sleep 2\n{SCRIPTS[kind]}"
    url = create(page, script, instances=["demo-1"], name=kind, timeout=600)
    watched.goto(url)
    for each in (page, watched):
        expect(each).to_have_title(re.compile("^Succeeded:"), timeout=300_000)
        expect(shown_gap(each)).to_have_count(1)
    size = SIZE + len("begin\n")
    dropped = f"{size - limits.OUTPUT_KEPT:,} bytes"
    for name, process in processes.items():
        most = most_memory(process)
        print(f"{kind}: {name} had {before[name] / MB:.0f} MB, at most {most / MB:.0f} MB")
        assert most - before[name] < MOST_GROWTH
    heap = page.evaluate("performance.memory?.usedJSHeapSize ?? 0")
    text = page.evaluate("document.getElementById('log').textContent.length")
    print(f"{kind}: {heap / MB:.0f} MB JavaScript heap, {text / MB:.1f} MB text in the page")
    assert page.locator("#log .ln").count() <= 5_000
    last = page.locator("#log .ln").last.get_attribute("id")
    for again in (page, watched):
        again.reload()
        expect(shown_gap(again)).to_have_text(SENTENCE)
        expect(shown_gap(again)).to_have_attribute("title", dropped)
        assert again.locator("#log .ln").last.get_attribute("id") == last
    raw = page.request.get(page.locator(".tf a").get_attribute("href")).body()
    marker = f"\n[{SENTENCE} ({dropped})]\n".encode()
    assert raw.count(b"are kept. 18 MB between") == 1
    head, _, tail = raw.partition(marker)
    assert (len(head), len(tail)) in {(HALF, HALF), (HALF - 1, HALF)}
    states = page.request.get(url.split("?")[0] + "status.json").json()
    assert states["runs"][0]["dropped_bytes"] == size - limits.OUTPUT_KEPT
