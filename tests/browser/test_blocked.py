"""The task page where streams do not get through, and while nobody looks at it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Request, Route, expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.test_journey import create, lines, log_text
from tests.browser.test_stream import EVENTS, expect_live, task_of

BLOCKED = "Live updates are blocked here. Refreshing every 5 s."
COUNTING = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.3; done"
LOOK = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def counting(page: Page, name: str) -> str:
    """A task that prints numbers until it is stopped; its address."""
    return create(page, COUNTING, instances=["demo-1"], name=name, timeout=900)


def is_stream(request: Request) -> bool:
    return "once=1" not in request.url and request.method == "GET"


def block(route: Route) -> None:
    if is_stream(route.request):
        route.fulfill(status=502)
    else:
        route.continue_()


def run_until(page: Page, done: Callable[[], bool]) -> None:
    """Let the page's clock run, ten times as fast as ours, until something is so."""
    until = time.monotonic() + PATIENCE_MS / 1_000
    while not done():
        assert time.monotonic() < until, "it never came"
        page.clock.run_for(1_000)
        page.wait_for_timeout(100)


def wait_for_more(page: Page) -> None:
    """Wait until more lines show than now."""
    expect(page.locator("#log .ln").nth(page.locator("#log .ln").count() + 2)).to_be_attached()


def pass_s(page: Page, seconds: int) -> None:
    """Let so many seconds pass there, in steps in which the stream gives signs of life here."""
    for _ in range(seconds // 9):
        wait_for_more(page)
        page.clock.run_for(9_000)


def said(page: Page) -> str:
    return page.locator("#link-state").inner_text()


def test_without_streams_a_page_refreshes_itself_and_goes_live_when_it_can(visit):
    page = visit(at=None)
    counting(page, "Blocked")
    page.clock.install()
    page.route(EVENTS, block)
    page.reload()
    run_until(page, lambda: said(page) == BLOCKED)
    expect(page.locator("#say")).to_have_text(BLOCKED)
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    so_far = len(lines(page))
    run_until(page, lambda: len(lines(page)) > so_far + 2)
    assert said(page) == BLOCKED
    page.unroute(EVENTS)
    run_until(page, lambda: said(page) == "Live")
    wait_for_more(page)
    seen = lines(page)
    assert seen == [str(n + 1) for n in range(len(seen))]
    page.set_viewport_size({"width": 320, "height": 844})
    page.wait_for_function("() => innerWidth === 320")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_end_of_a_task_ends_the_refreshing(visit, tmp_path: Path):
    page = visit()
    gate = tmp_path / "gate"
    script = f"seq 10; while [ ! -e {gate} ]; do sleep 0.1; done; seq 11 20"
    create(page, script, instances=["demo-1"], name="Ends", timeout=900)
    page.clock.install()
    page.route(EVENTS, block)
    page.reload()
    run_until(page, lambda: said(page) == BLOCKED)
    gate.touch()
    run_until(page, lambda: said(page) == "Finished")
    expect(page).to_have_title(re.compile("^Succeeded:"))
    assert lines(page) == [str(n) for n in range(1, 21)]
    expect(page.get_by_role("button", name="Try now")).not_to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(120_000)
    page.wait_for_timeout(300)
    assert not [url for url in asked if EVENTS.search(url)]


def test_a_server_that_answers_nothing_is_not_called_blocked(visit):
    page = visit(at=None)
    url = task_of(page)
    page.clock.install()
    asked: list[str] = []

    def away(route: Route) -> None:
        asked.append("stream" if is_stream(route.request) else route.request.method)
        route.fulfill(status=502)

    page.route(EVENTS, away)
    page.goto(url)
    run_until(page, lambda: asked.count("GET") >= 3)
    expect(page.locator("#link-state")).to_contain_text("Connection lost. Trying again in")
    assert [each for each in asked if each != "HEAD"][:6] == ["stream"] * 5 + ["GET"]
    page.unroute(EVENTS)
    run_until(page, lambda: said(page) == "Live")


def test_somebody_signed_out_meanwhile_is_told(visit):
    page = visit(at=None)
    url = task_of(page)
    page.clock.install()
    page.route(EVENTS, block)
    page.goto(url)
    run_until(page, lambda: said(page) == BLOCKED)
    page.context.clear_cookies(name="sessionid")
    page.clock.run_for(6_000)
    expect(page.locator("#gone-401")).to_be_visible()
    expect(page.locator("#link-state")).not_to_be_visible()


def test_a_hidden_page_keeps_its_title_without_a_stream(visit, tmp_path: Path):
    page = visit()
    gate = tmp_path / "gate"
    script = COUNTING.replace("while :", f"while [ ! -e {gate} ]")
    url = create(page, script, instances=["demo-1"], name="Hidden", timeout=900)
    page.clock.install()
    asked: list[Request] = []
    page.on("request", lambda request: EVENTS.search(request.url) and asked.append(request))
    ended: list[Request] = []
    page.on("requestfailed", lambda request: request in asked and ended.append(request))
    page.goto(url)
    expect_live(page)
    assert len(asked) == 1
    page.evaluate(LOOK, True)
    pass_s(page, 9)
    assert not ended
    pass_s(page, 18)
    run_until(page, lambda: bool(ended))
    assert ended == asked[:1]
    gate.touch()
    run_until(page, lambda: page.title().startswith("Succeeded:"))
    assert not any(is_stream(request) for request in asked[1:])
    seen = lines(page)
    assert seen == [str(n + 1) for n in range(len(seen))]
    assert seen == log_text(page).split()


def test_whoever_comes_back_to_a_hidden_page_sees_all(visit):
    page = visit(at=None)
    url = counting(page, "Back again")
    page.clock.install()
    page.goto(url)
    expect_live(page)
    page.wait_for_selector("#log .ln")
    asked: list[Request] = []
    page.on("request", lambda request: EVENTS.search(request.url) and asked.append(request))
    ended: list[Request] = []
    page.on("requestfailed", lambda request: EVENTS.search(request.url) and ended.append(request))
    page.evaluate(LOOK, True)
    pass_s(page, 9)
    page.evaluate(LOOK, False)
    pass_s(page, 36)
    assert not asked  # a short look elsewhere changes nothing
    page.evaluate(LOOK, True)
    pass_s(page, 27)
    run_until(page, lambda: bool(ended))
    page.evaluate(LOOK, False)
    wait_for_more(page)
    expect(page.locator("#link-state")).to_have_text("Live")
    seen = lines(page)
    assert seen == [str(n + 1) for n in range(len(seen))]
    assert [is_stream(request) for request in asked if is_stream(request)] == [True]
    assert "after=" in asked[-1].url
