"""The output panel: every control, by mouse and by keyboard, while lines come and afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import STOP_ALL, Console
from tests.browser.held import HeldAnswers, stop_clock
from tests.browser.looks import assert_accessible, assert_fits_phones, assert_looks_good
from tests.browser.test_journey import create, lines

CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}
LONG = 12_000
MOST = 5_000
# What comes on stderr waits for GATE, a file: both streams in one go have no order.
SCRIPTS = {
    "long": f"seq -f 'line %.0f' {LONG}",
    "short": (
        "printf 'one\\n\\033[1;31mtwo\\033[0m and two\\nthree two\\n'; "
        "until [ -e GATE ]; do sleep 0.1; done; echo 'warning two' >&2"
    ),
    "hostile": (
        "printf '<script>alert(1)</script>\\n<img src=x onerror=alert(1)>\\n'\n"
        "printf 'javascript:alert(1)\\n\\000\\n\\342\\200\\256evil\\342\\201\\246\\n'\n"
        "printf 'a\\033]0;title\\007b\\033[2Jc\\033]8;;javascript:x\\033\\\\d\\033]never ends\\n'\n"
        "printf '\\033[31mred\\n&amp; \"quoted\"\\033[0m\\n'"
    ),
    "one line": "head -c 5242880 /dev/zero | tr '\\0' x",
    "colours": (
        "i=0; while [ $i -lt 256 ]; do printf '\\033[38;5;%dm%d\\033[0m\\033[48;5;%dm %d "
        "\\033[7m%d\\033[0m' $i $i $i $i $i; i=$((i+1)); [ $((i % 16)) -eq 0 ] && echo; done; "
        "printf '\\033[1;4mbold\\033[0m\\n'; echo stderr >&2"
    ),
}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Addresses of ended tasks that the tests of this module share."""
    return {}


@pytest.fixture(autouse=True)
def nothing_goes_on(console: Console) -> Iterator[None]:
    """Ends the tasks of ``running``."""
    yield
    console.manage("shell", "-c", STOP_ALL)


@pytest.fixture
def ended(visit, made, tmp_path: Path) -> Callable[..., Page]:
    """Open the page of a task that has ended: ``ended(script, hash, **options of visit)``."""

    def open_task(name: str, place: str = "", **options: object) -> Page:
        page = visit(at=None, **options)
        if name not in made:
            gate = tmp_path / "shown"
            script = SCRIPTS[name].replace("GATE", str(gate))
            create(page, script, instances=["demo-1"], name=f"Output {name}")
            page.wait_for_selector("#log .ln")
            gate.touch()
            expect(page).to_have_title(re.compile("^Succeeded:"))
            made[name] = page.locator("#panel").get_attribute("data-url")
        page.goto(made[name] + place)
        return page

    return open_task


def running(page: Page, script: str) -> None:
    """Create a task that goes on until the test ends, and wait for its first line."""
    script = f"{script}\nsleep 900"
    create(page, script, instances=["demo-1"], name="Output running", timeout=900)
    page.wait_for_selector("#log .ln")


def numbers(page: Page) -> list[int]:
    return page.locator("#log .ln").evaluate_all("all => all.map(l => Number(l.id.slice(1)))")


def top_of(line: Locator) -> float:
    return line.evaluate(
        "l => l.getBoundingClientRect().top - "
        "document.getElementById('scroll').getBoundingClientRect().top"
    )


def in_sight(page: Page, line: str) -> None:
    page.wait_for_function(
        """id => {
          const line = document.getElementById(id)?.getBoundingClientRect();
          const frame = document.getElementById('scroll').getBoundingClientRect();
          return line && line.top >= frame.top - 1 && line.bottom <= frame.bottom + 1;
        }""",
        arg=line,
    )


def expect_end(page: Page) -> None:
    """The end is in sight, at the latest when the next frame is painted."""
    page.wait_for_function(
        """() => {
          const { scrollHeight, scrollTop, clientHeight } = document.getElementById('scroll');
          return scrollHeight - scrollTop - clientHeight < 4;
        }"""
    )


def clipboard(page: Page) -> str:
    return page.evaluate("navigator.clipboard.readText()")


# --- colours and hostile output ---------------------------------------------------------


def test_colours_are_classes_and_go_on_over_line_ends(ended):
    page = ended("hostile")
    red = page.locator("#log .f1")
    expect(red).to_have_count(2)
    assert red.all_inner_texts() == ["red", '&amp; "quoted"']
    assert red.first.evaluate("e => getComputedStyle(e).color") == "rgb(255, 139, 131)"


def test_hostile_output_is_text_and_nothing_else(ended):
    page = ended("hostile")
    assert lines(page) == [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "javascript:alert(1)",
        "␀",
        "\\u202eevil\\u2066",
        "abcd",
        "red",
        '&amp; "quoted"',
    ]
    assert page.locator("#log").locator("script, img, a, b").count() == 0
    assert page.locator("#log .tx [style], #log .tx [onerror]").count() == 0
    raw = page.request.get(page.get_by_role("link", name="Plain text").get_attribute("href"))
    assert b"\x1b]0;title\x07" in raw.body()


def test_one_line_of_five_megabytes_neither_hangs_nor_widens_the_page(ended):
    page = ended("one line")
    expect(page.locator("#log .ln").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#wrap").click()
    expect(page.locator("#wrap")).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#scroll").evaluate("s => s.scrollWidth > s.clientWidth")
    page.fill("#seek", "xxxx")
    expect(page.locator("#found")).to_contain_text("of 10,000 or more")


# --- blocks -----------------------------------------------------------------------------


def test_earlier_lines_are_loaded_in_place_and_so_many_at_most_stay(ended):
    page = ended("long")
    assert numbers(page) == [*range(LONG - 1_999, LONG + 1)]
    expect_end(page)
    show = page.get_by_role("link", name="Show earlier lines")
    for n in (2, 3):
        first = page.locator("#log .ln").first
        number = first.get_attribute("id")
        page.locator("#scroll").evaluate("s => s.scrollTop = 0")
        before = top_of(first)
        show.click()
        expect(page.locator("#log .ln").first).not_to_have_id(number)
        assert abs(top_of(page.locator(f"#{number}")) - before) < 4
        assert len(numbers(page)) == min(2_000 * n, MOST)
    shown = numbers(page)
    assert shown == [*range(LONG - 5_999, LONG - 999)]
    expect(page.locator("#earlier")).to_contain_text("6,000")
    expect(page.locator("#log-note")).to_be_hidden()
    page.get_by_role("link", name="Show later lines").click()
    expect(page.locator("#later")).to_be_hidden()
    assert numbers(page) == [*range(LONG - 4_999, LONG + 1)]
    expect(page.locator("#log-note")).to_be_visible()
    page.locator("#scroll").evaluate("s => s.scrollTop = 0")
    show.click()
    page.get_by_role("link", name="Go to the end").click()
    expect(page.locator("#later")).to_be_hidden()
    assert numbers(page) == [*range(LONG - 1_999, LONG + 1)]
    expect_end(page)


def test_without_javascript_earlier_and_later_lines_are_pages(ended):
    ended("long")
    page = ended("long", java_script_enabled=False)
    page.get_by_role("link", name="Show earlier lines").click()
    expect(page.locator("#L10000")).to_be_attached()
    assert "before=10001" in page.url
    assert lines(page)[0] == "line 8001"
    assert lines(page)[-1] == "line 10000"
    page.get_by_role("link", name="Show later lines").click()
    expect(page.locator("#L12000")).to_be_attached()
    assert lines(page)[-1] == "line 12000"
    expect(page.locator("#later")).to_be_hidden()
    page.goto(page.url.replace("after", "before"))
    page.get_by_role("link", name="Go to the end").click()
    page.wait_for_url(lambda url: "before" not in url)
    assert page.get_by_role("button", name="Copy output").count() == 0
    assert page.locator("#seek").is_hidden()


def test_what_comes_while_earlier_lines_show_is_there_again_at_the_end(visit, tmp_path: Path):
    page = visit(at=None)
    gate = tmp_path / "gate"
    running(
        page,
        f"seq 7000; printf open; i=0; while [ $i -lt 100 ]; do [ -e {gate} ] || sleep 0.8; "
        "echo more$i; i=$((i+1)); done",
    )
    page.wait_for_selector("#L7001")
    page.reload()
    show = page.get_by_role("link", name="Show earlier lines")
    for first in (3001, 1001):
        page.locator("#scroll").evaluate("s => s.scrollTop = 0")
        show.click()
        expect(page.locator("#log .ln").first).to_have_id(re.compile(f"L{first // 1000}..."))
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#later")).to_be_visible()
    shown = numbers(page)
    fresh = page.locator("#new-lines")
    expect(fresh).to_be_visible()
    assert numbers(page) == shown
    fresh.click()
    expect(follow).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#later")).to_be_hidden()
    gate.touch()
    expect(page.locator("#log .ln", has_text="more99")).to_be_visible()
    seen = numbers(page)
    assert seen == [*range(seen[0], 7_101)]
    assert lines(page)[-100:] == ["openmore0", *(f"more{n}" for n in range(1, 100))]
    expect_end(page)


def earlier_lines(page: Page, gate: Path) -> None:
    """Look at the first of 7,000 lines; 60 more come once ``gate`` is there."""
    running(
        page,
        f"seq 7000; while ! [ -e {gate} ]; do sleep 0.2; done; "
        "i=0; while [ $i -lt 60 ]; do echo more$i; i=$((i+1)); done",
    )
    page.wait_for_selector("#L7000")
    page.reload()
    show = page.get_by_role("link", name="Show earlier lines")
    for first in (3001, 1001):
        page.locator("#scroll").evaluate("s => s.scrollTop = 0")
        show.click()
        expect(page.locator("#log .ln").first).to_have_id(re.compile(f"L{first // 1000}..."))
    expect(page.locator("#later")).to_be_visible()


def test_however_often_the_end_is_asked_for_no_line_is_lost(visit, tmp_path: Path):
    page = visit(at=None)
    gate = tmp_path / "gate"
    earlier_lines(page, gate)
    answers = HeldAnswers(page)
    page.locator("#log").focus()
    page.keyboard.press("End")
    page.keyboard.press("End")
    answers.let_go()
    expect(page.locator("#later")).to_be_hidden()
    gate.touch()
    expect(page.locator("#log .ln", has_text="more59")).to_be_visible()
    assert answers.count == 0
    seen = numbers(page)
    assert seen == [*range(seen[0], 7_061)]
    expect_end(page)


def test_what_follows_is_asked_for_when_earlier_lines_have_come(visit, tmp_path: Path):
    page = visit(at=None)
    gate = tmp_path / "gate"
    earlier_lines(page, gate)
    answers = HeldAnswers(page)
    page.get_by_role("link", name="Show earlier lines").click()
    answers.wait()
    page.locator("#log").focus()
    page.keyboard.press("f")
    page.evaluate("fetch(location.href)")  # whatever was asked for before is on its way now
    assert answers.count == 1
    answers.let_go()
    expect(page.locator("#L1")).to_be_attached()
    answers.let_go()
    expect(page.locator("#later")).to_be_hidden()
    gate.touch()
    expect(page.locator("#log .ln", has_text="more59")).to_be_visible()
    seen = numbers(page)
    assert seen == [*range(seen[0], 7_061)]


def test_a_second_press_takes_the_first_back(visit, tmp_path: Path):
    page = visit(at=None)
    earlier_lines(page, tmp_path / "gate")
    answers = HeldAnswers(page)
    page.locator("#log").focus()
    page.keyboard.press("f")
    answers.wait()
    page.keyboard.press("f")
    page.get_by_role("link", name="Show later lines").click()
    answers.let_go()
    answers.let_go()
    expect(page.locator("#later")).to_be_hidden()
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    assert numbers(page) == [*range(2_001, 7_001)]


# --- links to lines ---------------------------------------------------------------------


def test_a_link_to_lines_that_are_not_loaded_shows_them(ended):
    page = ended("long", "#L18-L24")
    in_sight(page, "L18")
    aimed = page.locator("#log .aim")
    expect(aimed).to_have_count(7)
    assert aimed.first.inner_text().endswith("line 18")
    assert numbers(page)[0] == 1
    expect(page.locator("#later")).to_be_visible()
    page.goto("about:blank")
    page = ended("long", f"#L{LONG - 5}")
    in_sight(page, f"L{LONG - 5}")
    expect(page.locator("#log .aim")).to_have_count(1)
    expect(page.locator("#later")).to_be_hidden()


def test_a_click_on_a_number_copies_a_link(ended):
    page = ended("long", **CLIPBOARD)
    base = page.url
    stop_clock(page)  # each is said for two seconds only
    line = page.locator(f"#L{LONG - 3}")
    line.locator(".n").click()
    expect(page.locator("#told")).to_have_text("Link copied")
    assert clipboard(page) == page.url == f"{base}#L{LONG - 3}"
    page.clock.run_for(2_000)
    expect(page.locator("#told")).to_have_text("")
    page.locator(f"#L{LONG - 1} .n").click(modifiers=["Shift"])
    expect(page.locator("#log .aim")).to_have_count(3)
    expect(page).to_have_url(re.compile(f"#L{LONG - 3}-L{LONG - 1}$"))
    expect(page.locator("#told")).to_have_text("Link copied")
    page.clock.run_for(2_000)
    expect(page.locator("#told")).to_have_text("")
    page.get_by_role("button", name="Link to line").click()
    expect(page.locator("#told")).to_have_text("Link copied")
    assert clipboard(page) == f"{base}#L{LONG - 3}-L{LONG - 1}"
    page.reload()
    in_sight(page, f"L{LONG - 3}")
    expect(page.locator("#log .aim")).to_have_count(3)


def test_without_a_clipboard_the_link_is_in_the_address_bar(ended):
    ended("short")
    page = ended("short")
    page.add_init_script("delete Navigator.prototype.clipboard")  # as on plain HTTP
    page.reload()
    expect(page.locator("#copy")).to_be_hidden()
    stop_clock(page)
    page.locator("#L2 .n").click()
    expect(page.locator("#told")).to_have_text("The link is in the address bar")
    assert page.url.endswith("#L2")


# --- search -----------------------------------------------------------------------------


HIGHLIGHTS = "name => [...(CSS.highlights.get(name) || [])].map(range => range.toString())"
WITHOUT = "delete CSS.highlights; Object.defineProperty(CSS, 'highlights', { value: undefined });"


@pytest.mark.parametrize("way", ["highlights", "marks"])
def test_searching(ended, way):
    page = ended("short")
    if way == "marks":
        page.add_init_script(WITHOUT)
        page.reload()

    def painted() -> list[list[str]]:
        if way == "highlights":
            return [page.evaluate(HIGHLIGHTS, name) for name in ("found", "found-now")]
        return [page.locator(f"#log {kind}").all_inner_texts() for kind in ("mark", "mark.now")]

    told = page.locator("#found")
    field = page.get_by_role("searchbox", name="Search this output")
    field.fill("TWO")
    expect(told).to_have_text("1 of 4")
    assert painted() == [["two"] * 4, ["two"]]
    field.press("Enter")
    expect(told).to_have_text("2 of 4")
    field.press("Shift+Enter")
    field.press("Shift+Enter")
    expect(told).to_have_text("4 of 4")
    page.get_by_role("button", name="Next match").click()
    expect(told).to_have_text("1 of 4")
    page.get_by_role("button", name="Previous match").click()
    expect(told).to_have_text("4 of 4")
    field.fill("two and")  # over the border of two colours
    expect(told).to_have_text("1 of 1")
    assert "".join(painted()[0]) == "two and"
    field.fill("nowhere")
    expect(told).to_have_text("No matches")
    assert painted() == [[], []]
    field.fill("two")
    expect(told).to_have_text(re.compile("of 4$"))
    field.press("Escape")
    expect(told).to_have_text("")
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    assert painted() == [[], []]
    assert lines(page) == ["one", "two and two", "three two", "warning two"]
    expect(page.get_by_role("button", name="Next match")).to_be_hidden()


def test_the_word_stderr_is_not_output_that_is_searched(ended):
    page = ended("short")
    page.fill("#seek", "stderr")
    expect(page.locator("#found")).to_have_text("No matches")


def test_searching_while_lines_come_never_fights_following(visit, tmp_path: Path):
    page = visit(at=None)
    gate = tmp_path / "gate"
    running(page, f"while [ ! -e {gate} ]; do echo needle; sleep 0.05; done; echo the last")
    field = page.locator("#seek")
    field.fill("needle")
    told = page.locator("#found")
    expect(told).to_have_text(re.compile(r"^\d+ of"))
    found = told.inner_text().split()[0]
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "false")
    count = "document.getElementById('found').textContent.split(' ').pop().replace(',', '')"
    more = f"least => Number({count}) > least"
    place = page.locator("#scroll").evaluate("s => s.scrollTop")
    few = int(page.evaluate(count))
    page.wait_for_function(more, arg=few + 20)
    expect(told).to_have_text(re.compile(f"^{found} of"))
    assert page.locator("#scroll").evaluate("s => s.scrollTop") == place
    follow.click()
    page.wait_for_function(more, arg=few + 60)
    expect(follow).to_have_attribute("aria-pressed", "true")
    gate.touch()
    last = page.locator("#log .ln", has_text="the last")
    expect(last).to_be_visible()
    in_sight(page, last.get_attribute("id"))


# --- times, wrapping, copying, the whole window -------------------------------------------


def test_times_and_wrapping_are_remembered_before_anything_is_painted(ended):
    page = ended("short")
    time = page.locator("#log time").first
    expect(time).to_be_visible()
    page.get_by_role("button", name="Show times").click()
    page.get_by_role("button", name="Wrap long lines").click()
    expect(time).to_be_hidden()
    assert page.locator("#log .tx").first.evaluate("e => getComputedStyle(e).whiteSpace") == "pre"
    page.route(
        re.compile(r"task\.js"),
        lambda route: route.fulfill(body="", content_type="text/javascript"),
    )
    page.reload()
    expect(time).to_be_hidden()
    assert page.locator("#log .tx").first.evaluate("e => getComputedStyle(e).whiteSpace") == "pre"
    page.unroute_all()
    page.reload()
    button = page.get_by_role("button", name="Show times")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    expect(time).to_be_visible()
    expect(button).to_have_attribute("aria-pressed", "true")


def test_without_storage_times_and_wrapping_hold_for_the_page(ended):
    ended("short")
    page = ended("short")
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    )
    page.reload()
    page.get_by_role("button", name="Show times").click()
    expect(page.locator("#log time").first).to_be_hidden()


def test_toggling_keeps_the_place(ended):
    page = ended("long")
    page.locator("#scroll").evaluate("s => s.scrollTop = 9000")
    name = page.evaluate(
        """() => { const f = document.getElementById('scroll').getBoundingClientRect();
        return document.elementFromPoint(f.left + 200, f.top + 12).closest('.ln').id }"""
    )
    before = top_of(page.locator(f"#{name}"))
    page.locator("#times").click()
    assert abs(top_of(page.locator(f"#{name}")) - before) < 4


def test_copying(ended):
    page = ended("short", **CLIPBOARD)
    stop_clock(page)
    page.get_by_role("button", name="Copy output").click()
    told = page.locator("#told")
    expect(told).to_have_text("Copied")
    assert told.get_attribute("role") == "status"
    assert clipboard(page) == "one\ntwo and two\nthree two\nwarning two\n"
    page.clock.run_for(2_000)
    expect(told).to_have_text("")


def test_copying_a_part_says_so(ended):
    page = ended("long", **CLIPBOARD)
    stop_clock(page)
    page.get_by_role("button", name="Copy output").click()
    expect(page.locator("#told")).to_have_text("Copied the lines that show: 2,000")
    assert clipboard(page).splitlines() == [f"line {n}" for n in range(LONG - 1_999, LONG + 1)]


def test_the_whole_window_goes_on_live_and_gives_focus_back(visit):
    page = visit(at=None)
    running(page, "i=0; while [ $i -lt 4000 ]; do echo tick $i; sleep 0.2; i=$((i+1)); done")
    full = page.get_by_role("button", name="Full screen")
    full.focus()
    full.press("Enter")
    panel = page.locator("#panel")
    box = panel.bounding_box()
    size = page.viewport_size
    assert box
    assert (box["x"], box["y"], box["width"], box["height"]) == (
        0,
        0,
        size["width"],
        size["height"],
    )
    expect(page.get_by_role("dialog", name="demo-1")).to_be_visible()
    assert page.locator(".nav").evaluate("nav => nav.closest('[inert]') !== null")
    page.locator("#log").focus()
    for _ in range(30):  # nothing else can be reached
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || "
            "document.getElementById('panel').contains(document.activeElement)"
        )
    count = len(numbers(page))
    more = "least => document.querySelectorAll('#log .ln').length > least"
    page.wait_for_function(more, arg=count + 3)
    expect_end(page)
    page.fill("#seek", "tick")
    page.locator("#seek").press("Escape")
    expect(panel).to_have_attribute("role", "dialog")
    page.locator("#seek").press("Escape")
    expect(panel).not_to_have_attribute("role", "dialog")
    expect(full).to_be_focused()
    assert page.locator("[inert]").count() == 0


# --- the keyboard -----------------------------------------------------------------------


def test_everything_by_keyboard(ended):
    page = ended("long", **CLIPBOARD)
    stop_clock(page)
    log = page.get_by_role("log")
    page.locator("#full").focus()
    page.keyboard.press("Tab")  # to the link to earlier lines
    page.keyboard.press("Tab")
    expect(log).to_be_focused()
    cursor = page.locator("#log .cur")
    page.keyboard.press("End")
    expect(cursor).to_have_id(f"L{LONG}")
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    expect(cursor).to_have_id(f"L{LONG - 3}")
    expect(page.locator("#say")).to_have_text(f"Line {LONG - 3}: line {LONG - 3}")
    page.keyboard.press("l")
    expect(page.locator("#told")).to_have_text("Link copied")
    assert clipboard(page).endswith(f"#L{LONG - 3}")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#log .aim")).to_have_count(3)
    page.keyboard.press("L")
    expect(page).to_have_url(re.compile(f"#L{LONG - 3}-L{LONG - 1}$"))
    page.keyboard.press("PageUp")
    assert int(cursor.get_attribute("id")[1:]) < LONG - 8
    page.keyboard.press("Home")
    expect(cursor).to_have_id(f"L{LONG - 1_999}")
    in_sight(page, f"L{LONG - 1_999}")
    page.keyboard.press("PageDown")
    assert int(cursor.get_attribute("id")[1:]) > LONG - 1_995
    page.keyboard.press("t")
    expect(page.locator("#times")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("w")
    expect(page.locator("#wrap")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("y")
    expect(page.locator("#told")).to_contain_text("Copied")
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys in the output")
    expect(keys).to_be_visible()
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    expect(log).to_be_focused()


def test_f_follows_and_single_keys_are_the_logs_alone(visit):
    page = visit(at=None)
    running(page, "seq 200")
    follow = page.get_by_role("button", name="Follow")
    page.locator("#log").focus()
    page.keyboard.press("f")
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("f")
    expect(follow).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowUp")
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("End")
    expect(follow).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Control+f")
    page.locator("#seek").focus()
    page.keyboard.type("ftw")
    expect(page.locator("#seek")).to_have_value("ftw")
    follow.focus()
    page.keyboard.press("t")
    expect(page.locator("#times")).to_have_attribute("aria-pressed", "true")


# --- looks ------------------------------------------------------------------------------


def test_the_panel_is_accessible_and_fits_a_phone(ended):
    page = ended("colours", "#L2")
    page.fill("#seek", "1")
    expect(page.locator("#found")).to_contain_text("of")
    assert_looks_good(page, "searched")
    page.locator("#wrap").click()
    assert_fits_phones(page, "not wrapped")
    page.locator("#full").click()
    assert_fits_phones(page, "not wrapped, the whole window")
    page = ended("short")
    page.locator("#full").click()
    assert_looks_good(page, "the whole window")
    page.locator("#keys-open").click()
    assert_accessible(page, "keys")
    page = ended("long", "#L30")
    expect(page.locator("#later")).to_be_visible()
    assert_accessible(page, "earlier lines")


def test_an_instance_that_does_not_answer_is_told_of(visit):
    page = visit()
    page.clock.install()
    running(page, "echo begun")
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 10)
    page.evaluate(
        """() => document.getElementById('log-note').innerHTML = '<p data-waits='
        + '"web-05 hasn&#39;t answered for {n} s. Trying again."><span>Connecting</span></p>'"""
    )
    note = page.locator("#log-note")
    page.clock.run_for(8_000)
    expect(note).to_have_text("Connecting")
    page.clock.run_for(4_000)
    expect(note).to_have_text(re.compile(r"web-05 hasn't answered for 1\d s\. Trying again\."))
