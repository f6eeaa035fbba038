"""A network that cuts connections again and again: pages show every line, once, in order."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_journey import create, lines, log_text

LINES = 10_000
CUTS = 20
ENDED = re.compile("^(Succeeded|Failed|Timed out):")
SHOWN = 5_000
"""Lines that a page keeps at most."""
TALK = (
    "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i {filling};"
    " [ $((i % {at_once})) -eq 0 ] && sleep {pause}; done; echo end >&2"
)
# Once somebody looks: a page shows the last lines of those that it finds. Then so many lines at
# least, a hundred at a time, until there is the gate; slowly, for of more than 2,000 at once only
# the last are sent, and a busy machine may hold them up for some seconds.
TALK_ON = (
    "until [ -e {looked} ]; do sleep 0.1; done;"
    " i=0; while [ $i -lt {lines} ] || [ ! -e {gate} ]; do i=$((i+1)); echo line $i;"
    " [ $((i % 100)) -eq 0 ] && sleep 0.5; done; echo end >&2"
)
# Notes which lines come into the page; `doubled` are those that stand there twice.
WATCH = """
window.came = { numbers: [], doubled: [] };
addEventListener("DOMContentLoaded", () => {
  const log = document.getElementById("log");
  if (!log) return;
  const { numbers, doubled } = window.came;
  const places = new Map();
  const note = (node) => {
    if (!/^L[0-9]+$/.test(node.id || "")) return;
    const number = Number(node.id.slice(1));
    const before = places.get(number);
    places.set(number, node);
    if (before?.isConnected && before !== node) doubled.push(number);
    if (!before) numbers.push(number);
  };
  [...log.children].forEach(note);
  new MutationObserver((changes) => changes.forEach((change) => change.addedNodes.forEach(note)))
    .observe(log, { childList: true });
});
"""


class Wire:
    """Forwards connections to the console, and cuts all of them when told."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break everything that is open, in the midst of whatever it says."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()
        self._open.discard(source)


@pytest.fixture
def wire(console) -> Iterator[Wire]:
    found = Wire(int(console.url.rpartition(":")[2]))
    yield found
    found.close()


def text_of(page: Page) -> list[str]:
    """Lines of the log as the page shows them, the gap's too."""
    return page.locator("#log > *").evaluate_all(
        "all => all.map(line => line.matches('.gap') ? line.textContent + ' (' + line.title + ')'"
        " : line.querySelector('.tx').lastChild.textContent)"
    )


def plain(page: Page) -> list[str]:
    """The plain text, its gap written as on the page."""
    return [
        re.sub(r"^\[(.* was dropped\. .*)\]$", r"\1", line) for line in log_text(page).splitlines()
    ]


@pytest.fixture
def behind(browser: Browser, wire: Wire) -> Iterator[Callable[[Page], Page]]:
    """A page behind the wire, of somebody who is signed in already.

    What the browser says of connections that are cut is no error here.
    """
    contexts = []

    def open_page(other: Page) -> Page:
        base = f"http://127.0.0.1:{wire.port}"
        context = browser.new_context(base_url=base)
        contexts.append(context)
        key = next(one["value"] for one in other.context.cookies() if one["name"] == "sessionid")
        context.add_cookies([{"name": "sessionid", "value": key, "url": base}])
        context.add_init_script(WATCH)
        context.set_default_timeout(PATIENCE_MS)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


def test_twenty_cuts_during_ten_thousand_lines(visit, behind, wire, tmp_path: Path):
    creating = visit(at=None)
    looked, gate = tmp_path / "looked", tmp_path / "gate"
    script = TALK_ON.format(lines=LINES, looked=looked, gate=gate)
    url = create(creating, script, instances=["demo-1"], name="Cuts", timeout=600)
    creating.goto("/tasks/")
    page = behind(creating)
    page.goto("/" + url.split("/", 3)[3])
    looked.touch()
    expect(page.locator("#log .ln").first).to_be_attached()
    for _ in range(CUTS):
        came = page.evaluate("came.numbers.length")
        wire.cut()
        while page.evaluate("came.numbers.length") == came:
            page.wait_for_timeout(100)
    gate.touch()
    expect(page).to_have_title(ENDED, timeout=300_000)
    assert page.title().startswith("Succeeded:")
    came = page.evaluate("came")
    assert came["doubled"] == []
    printed = len(plain(page))
    assert printed > LINES
    assert came["numbers"] == list(range(1, printed + 1))
    shown = text_of(page)
    assert len(shown) <= SHOWN
    assert shown == plain(page)[-len(shown) :]


def watch_together(visit, seconds: int) -> None:
    """A hundred lines a second: who watches, who comes late and who reloads see the same."""
    watching, late, reloading = visit(), visit(), visit()
    count = seconds * 100
    filling = "x" * 1_200  # so that the middle of it is dropped
    script = TALK.format(lines=count, filling=filling, at_once=10, pause="0.1")
    url = create(watching, script, instances=["demo-1"], name="Together", timeout=600)
    expect(watching.locator("#log .ln").first).to_be_attached()
    reloading.goto(url)
    expect(reloading.locator("#log .ln").nth(200)).to_be_attached()
    reloading.reload()
    watching.wait_for_timeout(seconds * 500)
    late.goto(url)
    for page in (watching, late, reloading):
        expect(page).to_have_title(ENDED, timeout=seconds * 1_000 + 300_000)
        assert page.title().startswith("Succeeded:")
    whole = [f"line {n} {filling}" for n in range(1, count + 1)] + ["end"]
    seen = lines(watching)
    assert seen == whole[-len(seen) :]
    reloading.reload()
    kept = plain(reloading)
    gap = [line for line in kept if "was dropped" in line]
    assert len(gap) == (1 if count * len(filling) > 2 * 1024 * 1024 else 0)
    assert text_of(reloading) == kept[-len(text_of(reloading)) :]
    assert len(text_of(reloading)) == len(kept) or count > 2_000
    seen = lines(late)
    assert seen[-500:] == whole[-500:]
    assert [line for line in text_of(late) if "was dropped" in line] in ([], gap)


def test_who_watches_who_comes_late_and_who_reloads_see_the_same(visit):
    watch_together(visit, 20)


@pytest.mark.soak
def test_it_is_so_for_three_minutes_too(visit):
    watch_together(visit, 180)
