"""The task page's stream where networks and sessions fail, and its copy button."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Request, Route, expect

from tests.browser.conftest import PATIENCE_MS, ROOT
from tests.browser.test_journey import create, lines

EVENTS = re.compile("/events\\?")
MOST_JS_BYTES = 12 * 1024
LINE = (
    '<div class="ln" id="L{0}"><span class="n">{0}</span><time></time>'
    '<span class="tx">{1}</span></div>'
)

COUNT_BEATS = """
window.EventSource = class extends EventSource {
  constructor(url) {
    super(url);
    let beats = 0;
    this.addEventListener("beat", () => document.documentElement.dataset.beats = ++beats);
  }
};
"""

# A beat may come at any moment, also between a jump of the clock and the page's look at it.
WITHOUT_BEATS = """
window.EventSource = class extends EventSource {
  addEventListener(type, ...rest) {
    if (type !== "beat") super.addEventListener(type, ...rest);
  }
};
"""


def task_of(page: Page, seconds: int = 900) -> str:
    script = f"echo a; sleep {seconds}; echo z"
    url = create(page, script, instances=["demo-1"], name="Stream", timeout=900)
    page.wait_for_selector("#log .ln")
    return url


def event(name: str, data: str, cursor: str = "") -> str:
    return (f"id: {cursor}\n" if cursor else "") + f"event: {name}\ndata: {data}\n\n"


def answer(route: Route, *events: str) -> None:
    """Answer with a stream of ``events`` that is cut after them."""
    route.fulfill(content_type="text/event-stream", body="".join(events))


def watch_requests(page: Page) -> list[Request]:
    seen: list[Request] = []
    page.on("request", lambda request: EVENTS.search(request.url) and seen.append(request))
    return seen


def until(page: Page, ready: Callable[[], object]) -> None:
    """Let the page go on until ``ready`` is true, which its requests bring about."""
    for _ in range(PATIENCE_MS // 50):
        if ready():
            return
        page.wait_for_timeout(50)
    raise AssertionError("nothing was asked")


def expect_live(page: Page) -> None:
    """The stream has said something: before that the page says "Live" too."""
    state = page.locator("#link-state")
    expect(state).to_have_class("on")
    expect(state).to_have_text("Live")


def silent(page: Page) -> None:
    """Let so much time pass that a live page notices that nothing came.

    Or the stream ends before that, as the server has noticed why it must.
    """
    state = page.locator("#link-state")
    while state.get_attribute("class") == "on":  # the first state may come just after "Live"
        page.clock.fast_forward(36_000)


def test_a_connection_that_says_nothing_is_given_up_for_another(visit, tmp_path):
    page = visit()
    page.add_init_script(WITHOUT_BEATS)
    page.clock.install()
    asked = watch_requests(page)
    go_on = tmp_path / "go-on"
    script = f"echo a; until [ -e {go_on} ]; do sleep 0.1; done; echo b; sleep 900"
    create(page, script, instances=["demo-1"], name="Half-open", timeout=900)
    page.wait_for_selector("#log .ln")
    state = page.locator("#link-state")
    expect_live(page)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(EVENTS, hold)
    page.clock.fast_forward(20_000)
    page.wait_for_timeout(200)
    assert len(asked) == 1
    silent(page)
    expect(state).to_contain_text("Connection lost")
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    go_on.touch()
    page.clock.run_for(3_000)
    until(page, lambda: held)
    held[0].continue_()
    expect(state).to_have_text("Live")
    assert len(asked) == 2
    assert "after=" in asked[1].url
    expect(page.locator("#log .ln")).to_have_count(2)
    assert lines(page) == ["a", "b"]


def test_a_connection_that_never_opens_is_given_up_too(visit):
    page = visit(at=None)
    url = task_of(page)
    page.clock.install()
    page.route(EVENTS, lambda _: None)  # never answered
    page.goto(url)
    page.wait_for_timeout(300)
    page.clock.fast_forward(36_000)
    expect(page.locator("#link-state")).to_contain_text("Connection lost")
    page.unroute(EVENTS)
    page.clock.run_for(3_000)
    expect(page.locator("#link-state")).to_have_text("Live")


def test_a_beat_counts_as_a_sign_of_life(visit):
    page = visit()
    page.clock.install()
    page.add_init_script(COUNT_BEATS)
    asked = watch_requests(page)
    task_of(page)
    beats = "Number(document.documentElement.dataset.beats ?? 0)"
    for _ in range(3):
        page.clock.fast_forward(18_000)
        heard = page.evaluate(beats)
        page.wait_for_function(f"heard => {beats} > heard", arg=heard)  # since that jump
    page.clock.run_for(1_000)
    expect(page.locator("#link-state")).to_have_text("Live")
    assert len(asked) == 1


def test_somebody_signed_out_is_told_and_nothing_is_tried_again(visit):
    page = visit(at=None)
    url = task_of(page)
    page.add_init_script(WITHOUT_BEATS)
    page.clock.install()
    page.goto(url)
    state = page.locator("#link-state")
    expect_live(page)
    page.context.clear_cookies(name="sessionid")
    silent(page)
    page.clock.run_for(3_000)
    told = page.get_by_text("You've been signed out.")
    expect(page.locator("#gone-401")).to_have_text(
        "You've been signed out. Sign in in a new tab, then reload this page."
    )
    expect(told.first).to_be_visible()
    expect(page.locator("#say")).to_contain_text("You've been signed out.")
    expect(state).not_to_be_visible()
    expect(page.get_by_role("button", name="Try now")).not_to_be_visible()
    asked = watch_requests(page)
    page.clock.run_for(60_000)
    page.wait_for_timeout(300)
    assert asked == []
    assert lines(page) == ["a"]
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in in a new tab").click()
    path = url.removeprefix(page.evaluate("location.origin"))
    expect(opened.value).to_have_url(re.compile(re.escape("?next=" + path.replace("/", "%2F"))))
    page.set_viewport_size({"width": 320, "height": 844})
    page.wait_for_function("() => innerWidth === 320")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_somebody_who_left_the_team_is_told(visit, member, console):
    name = member("viewer")
    url = task_of(visit())
    page = visit(username=name)
    page.add_init_script(WITHOUT_BEATS)
    page.clock.install()
    page.goto(url)
    expect_live(page)
    leave = "from commands.models import Membership as M; "
    console.manage("shell", "-c", f"{leave}M.objects.filter(user__username={name!r}).delete()")
    silent(page)
    page.clock.run_for(3_000)
    expect(page.get_by_text("This task is no longer available.").first).to_be_visible()
    asked = watch_requests(page)
    page.clock.run_for(60_000)
    page.wait_for_timeout(300)
    assert asked == []


def test_somebody_who_needs_a_second_factor_now_is_told(visit, member, console):
    name = member("viewer")
    url = task_of(visit())
    page = visit(username=name)
    page.add_init_script(WITHOUT_BEATS)
    page.clock.install()
    page.goto(url)
    state = page.locator("#link-state")
    expect_live(page)
    require = "from commands.models import Team; Team.objects.update(second_factor_required={})"
    console.manage("shell", "-c", require.format(True))
    try:
        silent(page)
        page.clock.run_for(3_000)
        expect(page.locator("#gone-403")).to_have_text(
            "Your team requires a second factor now. Set it up in a new tab, then reload this page."
        )
        expect(page.locator("#say")).to_contain_text("Your team requires a second factor now.")
        expect(state).not_to_be_visible()
        asked = watch_requests(page)
        page.clock.run_for(60_000)
        with page.expect_popup() as opened:
            page.get_by_role("link", name="Set it up in a new tab").click()
        expect(opened.value).to_have_url(re.compile("/account/security/second-factor/$"))
        assert asked == []
    finally:
        console.manage("shell", "-c", require.format(False))


def test_a_server_that_is_down_is_tried_again(visit):
    page = visit(at=None)
    url = task_of(page)
    methods: list[str] = []
    held: list[Route] = []

    def down(route: Route) -> None:
        methods.append(route.request.method)
        if len(methods) > 4:
            held.append(route)
        else:
            route.fulfill(status=404 if route.request.method == "GET" else 502)

    page.route(EVENTS, down)
    page.goto(url)
    expect(page.locator("#link-state")).to_contain_text("Connection lost")
    until(page, lambda: held)
    held[0].continue_()
    expect(page.locator("#link-state")).to_have_text("Live")
    assert methods == ["GET", "HEAD", "GET", "HEAD", "GET"]
    expect(page.locator("#gone-404")).not_to_be_visible()


def test_lines_that_are_passed_over_leave_a_note(visit):
    page = visit(at=None)
    url = task_of(page)
    log = page.get_by_role("link", name="Plain text").get_attribute("href")
    uid = re.search("/i/([^/]+)", log or "")
    assert uid
    asked: list[str] = []

    def far_behind(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            return  # never answered
        rows = "".join(LINE.format(n, f"line {n}") for n in range(12346, 12400))
        answer(
            route,
            event("hello", "", f"{uid[1]}:0"),
            event("earlier", "12345", f"{uid[1]}:700"),
            event("out", rows, f"{uid[1]}:701"),
        )

    page.route(EVENTS, far_behind)
    page.goto(url)
    earlier = page.locator("#earlier")
    expect(earlier).to_be_visible()
    expect(earlier).to_contain_text("Earlier lines not shown: 12,345.")
    expect(page.locator("#line-count")).to_have_text("12,399 lines")
    assert lines(page) == [f"line {n}" for n in range(12346, 12400)]
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
    at_end = "s => s.scrollHeight - s.scrollTop - s.clientHeight < 4"
    assert page.locator("#scroll").evaluate(at_end)
    until(page, lambda: len(asked) > 1)
    assert f"after={uid[1]}%3A701" in asked[1]


def test_a_gap_is_told_once_and_grows_in_its_place(visit):
    page = visit(at=None)
    url = task_of(page)
    asked: list[str] = []
    rows = LINE.format(5, "head") + '<div class="gap" id="G80" title="9 bytes">9 bytes</div>'
    note = '<p class="gap" id="gap-note" hx-swap-oob="true" title="{0} bytes">{0} bytes</p>'

    def dropping(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            return  # never answered
        answer(
            route,
            event("hello", ""),
            event("state", note.format(12)),
            event("out", rows + LINE.format(81, "tail")),
            event("state", note.format(34)),
        )

    page.route(EVENTS, dropping)
    page.goto(url)
    gap = page.locator("#log .gap")
    expect(gap).to_have_text("34 bytes")
    expect(gap).to_have_attribute("title", "34 bytes")
    expect(page.locator("#gap-note")).to_have_text("34 bytes")
    expect(page.locator("#gap-note")).to_be_hidden()
    expect(page.locator("#line-count")).to_have_text("81 lines")
    page.evaluate("document.querySelector('#log .gap').remove()")
    expect(page.locator("#gap-note")).to_be_visible()


def test_copying_the_id(visit):
    page = visit(permissions=["clipboard-read", "clipboard-write"], at=None)
    url = task_of(page)
    page.get_by_role("button", name="Copy task ID").click()
    expect(page.locator("#say")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == url.split("/")[-2]


def test_without_a_clipboard_there_is_no_button_to_copy(visit):
    page = visit()
    page.add_init_script("delete Navigator.prototype.clipboard")  # as on plain HTTP
    task_of(page, 1)
    assert page.evaluate("navigator.clipboard === undefined")
    expect(page.get_by_role("button", name="Copy task ID")).to_have_count(0)
    expect(page.locator("[data-copy]")).to_be_hidden()
    expect(page).to_have_title(re.compile("^Succeeded:"))


def test_scripts_are_small():
    sizes = {path.name: path.stat().st_size for path in Path(ROOT, "static", "js").rglob("*.js")}
    assert max(sizes.values()) <= MOST_JS_BYTES, sizes
