"""What the form does while somebody types: rows, notes, meters, a draft, and nothing lost."""

from __future__ import annotations

import re
import secrets

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.held import Held
from tests.browser.looks import RULES, assert_looks_good

NOTE = "Use parameters was turned on, because the command has a parameter."


# Notes that the rows of parameters have followed what was typed since.
FOLLOW = """() => {
  window.followed = false;
  const content = document.getElementById("id_content");
  content.addEventListener("input", () => {
    content.form.addEventListener("edited", () => { window.followed = true; }, { once: true });
  }, { once: true });
}"""


def write(page: Page, text: str) -> None:
    """Type ``text`` over the command, as a person would, and wait until rows have followed."""
    page.evaluate(FOLLOW)
    page.locator("#id_content").select_text()
    page.keyboard.insert_text(text)
    page.wait_for_function("() => window.followed")


def rows(page: Page) -> list[str]:
    """Names of the parameters that would be sent, in the order of their rows."""
    return page.locator("#parameter-rows > :not(.gone) .k").all_text_contents()


def chips(page: Page) -> list[tuple[str, str]]:
    """What is marked in the painted command, and as what."""
    return page.locator("#editor pre b").evaluate_all(
        "all => all.map(b => [b.textContent, b.className])"
    )


def tick(page: Page, name: str = "demo-1") -> None:
    page.get_by_role("checkbox", name=name, exact=True).check()


def create(page: Page) -> None:
    page.get_by_role("button", name="Create task").click()


def save(page: Page, text: str, **fields: str) -> str:
    """Save a command with a new name, in the library; its name."""
    name = f"Saved {secrets.token_hex(4)}"
    page.goto("/run/")
    page.fill("[name=name]", name)
    write(page, text)
    for field, value in fields.items():
        page.fill(f"[name={field}]", value)
    page.get_by_role("button", name="Save without running").click()
    page.wait_for_url("**/commands/*/")
    return name


# ---------- parameters ----------


def test_rows_follow_the_text_while_it_is_typed(visit):
    page = visit()
    content = page.locator("#id_content")
    write(page, "echo {{ Service }} {{service}} {{ACS::instanceid}} {{.Names}} {{api_key}}")
    expect(page.get_by_role("switch", name="Use parameters")).to_be_checked()
    assert rows(page) == ["{{Service}}", "{{api_key}}"]
    assert page.locator("#parameter-rows .uses").all_text_contents() == ["used 2×", "used 1×"]
    assert page.locator("#builtin-rows code").all_text_contents() == ["{{ACS::InstanceId}}"]
    expect(page.locator("[data-count]")).to_have_text("2")
    expect(page.locator("#parameters-said")).to_have_text(
        "Parameter Service added. Parameter api_key added"
    )
    assert chips(page) == [
        ["{{ Service }}", "k"],
        ["{{service}}", "k"],
        ["{{ACS::instanceid}}", "k own"],
        ["{{.Names}}", "k wrong"],
        ["{{api_key}}", "k"],
    ]
    expect(page.get_by_label("{{Service}}")).to_have_attribute("type", "text")
    expect(page.get_by_label("{{api_key}}")).to_have_attribute("type", "password")
    expect(content).to_be_focused()


def test_rows_keep_the_order_of_first_appearance_and_their_values(visit):
    page = visit()
    write(page, "{{a}} {{b}}")
    page.get_by_label("{{b}}").fill("of b")
    write(page, "{{c}} {{B}} {{a}}")
    assert rows(page) == ["{{c}}", "{{B}}", "{{a}}"]
    expect(page.get_by_label("{{B}}")).to_have_value("of b")
    write(page, "{{ lines\n}} {{" + "x" * 65 + "}}")
    assert rows(page) == ["{{lines}}"]
    assert [kind for _, kind in chips(page)] == ["k", "k", "k wrong"]
    assert page.locator("#editor pre").evaluate(
        "pre => [...pre.children].map(line => line.textContent).join('\\n')"
    ) == page.input_value("#id_content")


def test_a_row_that_left_keeps_its_value_for_half_a_minute(visit):
    page = visit()
    page.clock.install()
    page.goto("/run/")
    content = page.locator("#id_content")
    content.fill("echo {{gone}} {{stays}}")
    page.clock.run_for(200)
    page.get_by_label("{{gone}}").fill("kept")
    content.fill("echo {{stays}}")
    page.clock.run_for(200)
    row = page.locator("[data-key=gone]")
    expect(row).to_contain_text("Not in the command any more")
    expect(page.locator("#parameters-said")).to_have_text("Parameter gone removed")
    assert "param-gone" not in page.evaluate(
        "[...new FormData(document.getElementById('run-form')).keys()]"
    )
    expect(content).to_be_focused()
    content.fill("echo {{stays}} {{gone}}")
    page.clock.run_for(20_000)
    content.fill("echo {{stays}}")
    page.clock.run_for(20_000)
    content.fill("echo {{gone}} {{stays}}")
    page.clock.run_for(60_000)
    expect(page.get_by_label("{{gone}}")).to_be_enabled()
    expect(page.get_by_label("{{gone}}")).to_have_value("kept")
    assert rows(page) == ["{{gone}}", "{{stays}}"]
    content.fill("echo {{stays}}")
    page.clock.run_for(31_000)
    expect(row).to_have_count(0)


def test_the_switch_turns_itself_on_once(visit):
    page = visit()
    switch = page.get_by_role("switch", name="Use parameters")
    write(page, "docker ps --format '{{.Names}}'")
    expect(switch).not_to_be_checked()
    assert chips(page) == []
    write(page, "echo {{item}}")
    expect(switch).to_be_checked()
    expect(page.locator("#params-note")).to_contain_text(NOTE)
    page.get_by_role("button", name="Undo").click()
    expect(switch).not_to_be_checked()
    expect(page.locator("#params-note")).to_be_empty()
    expect(page.locator("#id_content")).to_be_focused()
    expect(page.locator("#parameter-rows")).to_be_hidden()
    write(page, "echo {{item}} {{more}}")
    expect(switch).not_to_be_checked()


def test_switching_parameters_off_loses_no_value(visit):
    page = visit()
    write(page, "echo {{item}}")
    page.get_by_label("{{item}}").fill("a value")
    switch = page.get_by_role("switch", name="Use parameters")
    switch.uncheck()
    expect(page.get_by_label("{{item}}")).to_be_hidden()
    expect(page.locator("#r-params-row")).to_be_hidden()
    expect(page.locator(".nothing")).to_have_text("Off: braces in the command stay as they are.")
    switch.check()
    expect(page.get_by_label("{{item}}")).to_have_value("a value")
    expect(page.locator(".nothing")).to_be_hidden()


def test_hiding_a_value_masks_it_at_once(visit):
    page = visit()
    write(page, "echo {{word}}")
    field = page.get_by_label("{{word}}")
    field.fill("seen")
    hide = page.locator("[data-key=word]").get_by_role("checkbox", name="Hide value")
    hide.check()
    expect(field).to_have_attribute("type", "password")
    hide.uncheck()
    expect(field).to_have_attribute("type", "text")
    expect(field).to_have_value("seen")


def test_rows_made_while_typing_are_what_is_sent(visit):
    page = visit()
    write(page, "echo {{Word}} {{word}} {{secret}}")
    page.fill("[name=name]", "Typed rows")
    page.get_by_label("{{Word}}").fill("hello")
    page.get_by_label("{{secret}}").fill("s3cret")
    tick(page)
    page.fill("[name=workdir]", "tmp")
    create(page)
    expect(page.get_by_role("alert").first).to_contain_text("Execution path must start with /")
    expect(page.get_by_label("{{Word}}")).to_have_value("hello")
    expect(page.get_by_label("{{secret}}")).to_have_value("")
    expect(page.locator("#r-params")).to_contain_text("2 filled")
    assert "s3cret" not in page.content()
    page.fill("[name=workdir]", "/tmp")
    create(page)
    page.wait_for_url("**/tasks/t-*/")
    expect(page).to_have_title(re.compile("^Succeeded:"))
    expect(page.locator("#log")).to_contain_text("hello hello ******")


# ---------- the editor ----------


def test_crossing_the_limit_is_said_and_nothing_is_cut(visit):
    page = visit()
    content = page.locator("#id_content")
    said = page.locator("#size-said")
    expect(said).to_be_empty()
    content.fill("x" * 11_100)
    expect(said).to_have_text("80 % of the command's size is used")
    content.fill("x" * 13_827)
    expect(said).to_have_text("The command is too long")
    expect(page.locator("#content-size")).to_contain_text("4 bytes too long")
    expect(content).to_have_value("x" * 13_827)
    content.fill("x")
    expect(said).to_be_empty()


def test_lines_are_indented_by_keys_and_tab_goes_on(visit):
    page = visit()
    content = page.locator("#id_content")
    content.fill("if true; then\necho a\n\necho b\nfi")
    content.evaluate("area => area.setSelectionRange(16, 24)")
    page.keyboard.press("Control+]")
    expect(content).to_have_value("if true; then\n    echo a\n\n    echo b\nfi")
    page.keyboard.press("Control+[")
    expect(content).to_have_value("if true; then\necho a\n\necho b\nfi")
    page.keyboard.press("Control+z")
    expect(content).to_have_value("if true; then\n    echo a\n\n    echo b\nfi")
    page.keyboard.press("Tab")
    expect(content).not_to_be_focused()


def test_the_editor_grows_from_8_to_24_rows(visit):
    page = visit()
    height = "document.getElementById('editor').clientHeight"
    page.fill("#id_content", "one")
    assert page.evaluate(height) == 8 * 20 + 20
    page.fill("#id_content", "line\n" * 14 + "last")
    assert page.evaluate(height) == 15 * 20 + 20
    page.fill("#id_content", "line\n" * 60)
    assert page.evaluate(height) == 24 * 20 + 20


# ---------- the review ----------


def test_the_review_counts_parameters(visit):
    page = visit()
    expect(page.locator("#r-params-row")).to_be_hidden()
    write(page, "{{a}} {{b}} {{api_token}} {{ACS::RegionId}}")
    page.get_by_label("{{a}}").fill("1")
    expect(page.locator("#r-params span")).to_have_text("1 filled, 2 empty")
    expect(page.locator("#r-params small")).to_have_text("b, api_token · 1 hidden · 1 built in")
    page.get_by_label("{{b}}").fill("2")
    page.get_by_label("{{api_token}}").fill("3")
    expect(page.locator("#r-params span")).to_have_text("3 filled")
    expect(page.locator("#r-params small")).to_have_text("1 hidden · 1 built in")


def test_the_quota_follows_the_save_switch(visit):
    page = visit()
    meter = page.locator("#q-saved b")
    used, rest = re.fullmatch(r"(\d+) → \d+ (of \d+)", meter.text_content()).groups()
    only = page.get_by_role("button", name="Save without running")
    expect(only).to_be_visible()
    page.get_by_role("switch", name="Save command").uncheck()
    expect(meter).to_have_text(f"{used} {rest}, unchanged")
    expect(only).to_be_hidden()
    page.get_by_role("switch", name="Save command").check()
    expect(meter).to_have_text(f"{used} → {int(used) + 1} {rest}")
    expect(only).to_be_visible()


def test_the_description_is_counted_from_400_characters(visit):
    page = visit()
    count = page.locator("#description-count")
    field = page.get_by_label("Command description")
    field.fill("x" * 399)
    expect(count).to_be_hidden()
    field.fill("x" * 399 + "🙂")
    expect(count).to_have_text("400 of 512 characters")


def test_a_raised_timeout_is_told_until_another_is_typed(visit):
    page = visit()
    asked = page.locator("[name=timeout_asked]")
    note = page.get_by_text("Raised from -3 to 10 seconds, the shortest timeout allowed.")
    timeout = page.get_by_label("Timeout period")
    timeout.fill("-3")
    timeout.blur()
    expect(timeout).to_have_value("10")
    expect(asked).to_have_value("-3")
    expect(note).to_be_visible()
    create(page)
    page.wait_for_selector("#errors")
    page.wait_for_load_state()  # its scripts see what is typed from now on
    expect(note).to_be_visible()
    timeout.fill("30")
    expect(asked).to_have_value("")
    expect(note).to_be_hidden()
    timeout.press("Shift+ArrowDown")
    expect(timeout).to_have_value("20")
    expect(page.locator("#r-timeout")).to_have_text("20 seconds")


# ---------- errors and sending ----------


def test_a_link_of_the_summary_opens_the_fold_around_its_field(visit):
    page = visit()
    page.fill("[name=name]", "Wrong")
    page.get_by_text("More: user, launcher, tags, termination").click()
    page.get_by_label("Tags").fill("=nothing")
    create(page)
    summary = page.locator("#errors")
    expect(summary).to_be_focused()
    page.locator(".more").first.evaluate("fold => (fold.open = false)")
    summary.locator("[href='#id_tags']").first.click()
    expect(page.get_by_label("Tags", exact=False).first).to_be_focused()
    expect(page.get_by_label("Tags", exact=False).first).to_be_in_viewport()


def test_the_task_is_created_once_and_the_button_comes_back(visit):
    page = visit()
    page.clock.install()
    page.goto("/run/")
    page.fill("[name=name]", "Slow")
    tick(page)
    sent = []

    def swallow(route: Route) -> None:
        sent.append(route.request.method)
        route.fulfill(status=204)  # no answer that a browser would show

    page.route("**/run/", swallow)
    page.focus("[name=workdir]")
    page.keyboard.press("Control+Enter")
    button = page.locator("#create")
    expect(button).to_contain_text("Creating…")
    expect(button).to_have_attribute("aria-disabled", "true")
    page.keyboard.press("Control+Enter")
    button.click(force=True)
    page.clock.run_for(10_500)
    expect(page.get_by_text("No answer yet. Pressing again is safe.")).to_be_visible()
    expect(button).to_contain_text("Create task")
    assert sent == ["POST"]


def test_only_a_changed_command_holds_up_who_leaves(visit):
    page = visit()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.get_by_label("Command name").press_sequentially("A name")
    wait_for_draft(page)
    page.goto("/tasks/")
    assert asked == []
    # A draft that comes while somebody types has what is typed, and nobody need be asked.
    restored = expect(page.locator("#draft")).to_contain_text
    page.goto("/run/")
    restored("restored")
    page.locator("#id_content").press_sequentially("echo")
    page.goto("/tasks/")
    assert asked == ["beforeunload"]
    page.goto("/run/")
    restored("restored")
    page.locator("#id_content").press_sequentially("echo")
    page.fill("[name=name]", "Leaves")
    tick(page)
    create(page)
    page.wait_for_url("**/tasks/t-*/")
    assert asked == ["beforeunload"]


# ---------- the draft ----------


def wait_until_kept(page: Page, what: str) -> None:
    """Wait until ``what`` is so of the draft that this tab keeps."""
    page.wait_for_function(
        "() => Object.entries(sessionStorage).filter(([key]) => key.startsWith('draft '))"
        f".map(([, text]) => JSON.parse(text)).some((draft) => {what})"
    )


def wait_for_draft(page: Page) -> None:
    expect(page.locator("#draft")).to_have_text(re.compile(r"^Draft kept \d\d:\d\d:\d\d$"))


def write_draft(page: Page) -> None:
    write(page, "echo {{word}} {{password}}")
    page.fill("[name=name]", "Half done")
    page.get_by_label("{{word}}").fill("shown")
    page.get_by_label("{{password}}").fill("s3cret")
    page.get_by_label("PowerShell").check(force=True)
    page.get_by_role("switch", name="Save command").uncheck()
    wait_for_draft(page)


def test_a_draft_is_given_back_without_hidden_values(visit):
    page = visit()
    write_draft(page)
    assert "s3cret" not in page.evaluate(
        "JSON.stringify({...sessionStorage}) + JSON.stringify(history.state)"
    )
    page.goto("/tasks/")
    page.goto("/run/")
    expect(page.locator("#draft")).to_contain_text(re.compile(r"^Draft from [\d:]+ restored"))
    expect(page.get_by_label("Command name")).to_have_value("Half done")
    expect(page.locator("#id_content")).to_have_value("echo {{word}} {{password}}")
    expect(page.get_by_label("{{word}}")).to_have_value("shown")
    expect(page.get_by_label("{{password}}")).to_have_value("")
    expect(page.get_by_label("{{password}}")).to_have_attribute("type", "password")
    expect(page.get_by_label("PowerShell")).to_be_checked()
    expect(page.get_by_role("switch", name="Save command")).not_to_be_checked()
    expect(page.locator("#r-name")).to_contain_text("Half done")
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_label("Command name")).to_have_value("")
    assert rows(page) == []
    page.goto("/tasks/")
    page.goto("/run/")
    expect(page.locator("#draft")).to_be_empty()


def test_a_draft_is_somebodys_own(visit, member):
    page = visit()
    write_draft(page)
    page.context.clear_cookies()
    page.goto("/sign-in/")
    page.fill("[name=username]", member("operator"))
    page.fill("[name=password]", "correct horse battery")
    page.click("button[type=submit]")
    page.wait_for_url(re.compile("//[^/]+/$"))
    page.goto("/run/")
    expect(page.get_by_label("Command name")).to_have_value("")


def test_a_created_task_ends_the_draft(visit):
    page = visit()
    write(page, "echo done")
    page.fill("[name=name]", "Done")
    wait_for_draft(page)
    tick(page)
    create(page)
    page.wait_for_url("**/tasks/t-*/")
    page.goto("/run/")
    expect(page.get_by_label("Command name")).to_have_value("")
    expect(page.locator("#draft")).to_be_empty()


@pytest.mark.parametrize("failure", ["error", "broken"])
def test_a_submit_that_failed_keeps_the_draft(visit, failure):
    page = visit()
    write(page, "echo not yet")
    page.fill("[name=name]", "Not yet")
    wait_for_draft(page)
    if failure == "error":
        create(page)
        page.wait_for_selector("#errors")
    else:
        page.route("**/run/", lambda route: route.abort())
        create(page)
        page.wait_for_url("chrome-error://**")
        page.unroute("**/run/")
    page.goto("/run/")
    expect(page.get_by_label("Command name")).to_have_value("Not yet")


def test_back_finds_the_values_of_parameters(visit):
    page = visit()
    write(page, "echo {{word}}")
    page.fill("[name=name]", "Comes back")
    page.get_by_label("{{word}}").fill("again")
    tick(page)
    wait_for_draft(page)  # what keeps it has come
    create(page)
    page.wait_for_url("**/tasks/t-*/")
    page.go_back()
    page.wait_for_url("**/run/")
    expect(page.get_by_label("{{word}}")).to_have_value("again")
    expect(page.locator("#r-params")).to_contain_text("1 filled")
    page.get_by_role("link", name="Run a command").click()
    expect(page.get_by_label("Command name")).to_have_value("")


@pytest.mark.parametrize("width", [1440, 1280, 800, 390, 320])
def test_a_type_tells_its_system_where_there_is_no_room_to_show_it(visit, width):
    page = visit(viewport={"width": width, "height": 844})
    for name in ("Shell Linux", "Bat Windows", "PowerShell Windows"):
        expect(page.get_by_role("radio", name=name, exact=True)).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("address", ["/run/", "/commands/new/"])
def test_an_untouched_beginning_follows_the_type(visit, member, address):
    page = visit(username=member("operator", team=f"Types {secrets.token_hex(3)}"), at=address)
    content = page.locator("#id_content")
    expect(content).to_have_value("#!/bin/bash\n")
    page.get_by_role("radio", name="Bat").check(force=True)
    expect(content).to_have_value("@echo off\n")
    assert page.locator("#editor pre i").all_text_contents() == ["@echo off", ""]
    expect(page.locator("#content-size [data-size]")).to_have_text("16")
    page.get_by_role("radio", name="PowerShell").check(force=True)
    expect(content).to_have_value("")
    if address == "/run/":
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        page.goto("/tasks/")
        assert asked == []
        page.goto(address)
    content.fill("#!/bin/bash\nmine")
    page.get_by_role("radio", name="Shell", exact=False).first.check(force=True)
    expect(content).to_have_value("#!/bin/bash\nmine")


# ---------- saved commands ----------


def test_a_saved_command_is_found_by_typing_and_loaded(visit):
    page = visit(at=None)
    name = save(page, "echo {{word}}", description="finds the zebra")
    other = save(page, "echo other")
    page.goto("/run/")
    page.fill("[name=name]", "Stays")
    tick(page, "demo-2")
    page.locator("[name=source][value=existing]").check()
    box = page.locator("input[role=combobox]")
    options = page.get_by_role("listbox", name="Existing command").get_by_role("option")
    expect(box).to_have_attribute("aria-expanded", "false")
    box.fill("ZEBRA finds")
    expect(options).to_have_count(1)
    box.press("ArrowDown")
    expect(page.locator("#command-list [aria-selected=true]")).to_contain_text(name)
    box.press("Escape")
    expect(options).to_have_count(0)
    box.fill("zebra")
    box.press("Enter")
    expect(page.locator("#saved-name")).to_have_text(name)
    expect(page.locator("#saved-content")).to_have_text("echo {{word}}")
    expect(box).to_have_value(name)
    expect(box).to_be_focused()
    expect(page.locator("#r-name")).to_contain_text(f"{name}Shell · 1 line")
    expect(page.locator("#q-saved")).to_contain_text("unchanged")
    expect(page.get_by_role("checkbox", name="demo-2", exact=True)).to_be_checked()
    page.get_by_label("{{word}}").fill("typed")
    expect(page.locator("#r-params")).to_contain_text("1 filled")
    page.wait_for_function(
        "() => history.state?.typed?.fields.some(([name, value]) =>"
        " name === 'param-word' && value === 'typed')"
    )
    page.reload()
    expect(page.locator("#saved-name")).to_have_text(name)
    expect(page.get_by_label("{{word}}")).to_have_value("typed")
    box.fill("nothing like that")
    expect(options).to_have_text("No saved command matches")
    box.blur()
    expect(box).to_have_value(name)
    box.click()
    options.filter(has_text=other).click()
    expect(page.locator("#saved-name")).to_have_text(other)
    page.locator("[name=source][value=new]").check()
    expect(page.get_by_label("Command name")).to_have_value("Stays")
    expect(page.locator("[name=type]:checked")).to_have_value("RunShellScript")
    page.go_back()
    expect(page.locator("#saved-name")).to_have_text(other)
    expect(page.locator("[name=source]:checked")).to_have_value("existing")


# ---------- pace ----------

PACE = {"concurrency": "2", "max_failures": "10%", "canary": "1", "batch_pause": "confirm"}


def set_pace(page: Page) -> None:
    page.get_by_text("More: how many at a time").click()
    page.get_by_label("At most at a time").fill("2")
    page.get_by_label("No more after failures").fill("10%")
    page.get_by_label("First batch").fill("1")
    page.get_by_label("Pause between batches").select_option("Until somebody continues")


def expect_pace(page: Page) -> None:
    """It is all there, and seen."""
    for name, value in PACE.items():
        expect(page.locator(f"[name={name}]")).to_have_value(value)
        expect(page.locator(f"[name={name}]")).to_be_visible()
    expect(page.locator("#r-pace")).to_have_text(
        "at most 2 at a time, first batch 1, somebody continues after each batch, "
        "no more after 10% failures"
    )


def test_the_review_tells_the_pace_as_the_task_will(visit):
    page = visit()
    expect(page.locator("#r-pace")).not_to_be_visible()
    set_pace(page)
    expect_pace(page)
    page.get_by_label("Pause between batches").select_option("30 seconds")
    expect(page.locator("#r-pace")).to_contain_text("pauses of 30 s")
    for name in ("concurrency", "max_failures", "canary"):
        page.fill(f"[name={name}]", " ")
    page.get_by_label("Pause between batches").select_option("None")
    expect(page.locator("#r-pace")).not_to_be_visible()


def test_the_pace_is_kept_whatever_happens(visit):
    page = visit(at=None)
    name = save(page, "echo other")
    page.goto("/run/")
    page.fill("[name=name]", "Careful")
    write(page, "echo careful")
    page.fill("[name=workdir]", "tmp")
    set_pace(page)
    tick(page)
    create(page)
    page.wait_for_selector("#errors")
    expect_pace(page)
    page.get_by_role("button", name="Preview").click()
    page.wait_for_selector("#errors")
    expect_pace(page)
    page.locator("[name=source][value=existing]").check()
    expect_pace(page)
    page.locator("input[role=combobox]").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#saved-name")).to_have_text(name)
    expect_pace(page)
    page.locator("[name=source][value=new]").check()
    expect(page.get_by_label("Command name")).to_have_value("Careful")
    expect_pace(page)
    page.fill("[name=workdir]", "/tmp")
    create(page)
    page.wait_for_url("**/tasks/t-*/")
    page.go_back()
    page.wait_for_url("**/run/")
    expect_pace(page)


def test_a_draft_shows_the_pace_and_all_else_that_is_folded_away(visit):
    page = visit()
    page.fill("[name=name]", "Careful")
    set_pace(page)
    page.get_by_text("More: user, launcher, tags, termination").click()
    page.get_by_role("radio", name="Only the script itself").check()
    expect(page.locator("#draft")).to_contain_text("Draft kept")
    last = page.get_by_role("radio", name="Only the script itself").get_attribute("value")
    wait_until_kept(page, f"draft.fields.some(([, value]) => value === '{last}')")
    page.goto("/tasks/")
    page.goto("/run/")
    expect(page.locator("#draft")).to_contain_text("restored")
    expect_pace(page)
    expect(page.get_by_role("radio", name="Only the script itself")).to_be_checked()
    expect(page.get_by_role("radio", name="Only the script itself")).to_be_visible()


def test_enter_takes_the_command_whose_name_was_typed_though_others_match_too(visit):
    page = visit(at=None)
    name = save(page, "echo one")
    save(page, "echo two", description=f"as {name}, but two")
    page.goto("/run/")
    page.locator("[name=source][value=existing]").check()
    box = page.locator("input[role=combobox]")
    box.fill(f" {name.upper()} ")
    options = page.get_by_role("listbox", name="Existing command").get_by_role("option")
    expect(options).to_have_count(2)
    box.press("Enter")
    expect(page.locator("#saved-name")).to_have_text(name)


# Puts an image on each page that never comes: the page stays as it is before all has loaded.
NEVER_LOADED = """
addEventListener("DOMContentLoaded", () => {
  document.body.append(Object.assign(new Image(), { id: "awaited", src: "/static/awaited" }));
});
"""


def test_back_finds_a_saved_command_that_was_left_before_its_page_had_loaded(visit):
    page = visit(at=None)
    name = save(page, "echo {{word}}")
    page.route("**/static/awaited", lambda route: None)
    page.add_init_script(NEVER_LOADED)
    page.goto("/run/", wait_until="commit")
    page.locator("[name=source][value=existing]").check()
    page.locator("input[role=combobox]").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#saved-name")).to_have_text(name)
    page.locator("#awaited").wait_for(state="attached")
    page.get_by_label("{{word}}").fill("typed")
    page.locator("[name=source][value=new]").check()
    page.get_by_label("Command name").wait_for()
    page.go_back(wait_until="commit")
    expect(page.locator("#saved-name")).to_have_text(name)
    expect(page.locator("[name=source]:checked")).to_have_value("existing")


@pytest.mark.parametrize("field", ["input[role=combobox]", "#id_q"])
def test_who_types_before_the_page_has_loaded_is_left_alone_when_it_has(visit, field):
    page = visit(at=None)
    name = save(page, "echo one")
    page.goto("/run/")
    page.add_init_script(NEVER_LOADED)
    held = Held(page, "**/static/awaited")
    page.locator("[name=source][value=existing]").check()
    page.locator("#awaited").wait_for(state="attached")
    page.locator(field).fill(name)
    held.let_go()
    page.wait_for_load_state()
    expect(page.locator(field)).to_be_focused()
    expect(page.locator(field)).to_have_value(name)


def test_a_source_chosen_before_the_page_is_ready_is_shown_once_it_is(visit):
    page = visit()
    held = Held(page, re.compile(r"/static/js/run\b"))
    page.goto("/run/", wait_until="commit")
    page.locator("[name=source][value=existing]").check()
    expect(page.locator("#id_command")).to_have_count(0)
    page.fill("[name=workdir]", "/srv")
    held.let_go()
    page.locator("#id_command").wait_for(state="attached")
    expect(page.locator("[name=source]:checked")).to_have_value("existing")
    page.locator("[name=source][value=new]").check()
    expect(page.get_by_label("Execution path")).to_have_value("/srv")


def test_what_is_written_before_the_scripts_have_come_is_acted_on(visit):
    page = visit(at=None)
    held = Held(page, re.compile(r"/static/js/editor\b"))
    page.goto("/run/", wait_until="commit")
    page.get_by_role("radio", name="PowerShell").check(force=True)
    page.locator("#id_content").fill("echo {{word}}")
    expect(page.locator("#parameter-rows .k")).to_have_count(0)
    held.let_go()
    expect(page.get_by_role("switch", name="Use parameters")).to_be_checked()
    expect(page.locator("#params-note")).to_contain_text(NOTE)
    expect(page.get_by_label("{{word}}")).to_be_visible()
    expect(page.get_by_role("checkbox", name="demo-1", exact=True)).to_be_disabled()
    expect(page.get_by_role("radio", name="PowerShell")).to_be_checked()


def test_what_is_typed_before_the_draft_has_come_stays(visit):
    page = visit()
    write_draft(page)
    page.goto("/tasks/")
    held = Held(page, re.compile(r"/static/js/draft\b"))
    page.goto("/run/")
    page.fill("[name=name]", "Newer")
    tick(page, "demo-2")
    held.let_go()
    expect(page.locator("#draft")).to_contain_text("restored")
    expect(page.locator("#id_content")).to_have_value("echo {{word}} {{password}}")
    expect(page.get_by_label("{{word}}")).to_have_value("shown")
    expect(page.get_by_label("Command name")).to_have_value("Newer")
    wait_until_kept(page, "draft.fields.some(([, value]) => value === 'Newer')")
    expect(page.get_by_role("checkbox", name="demo-1", exact=True)).not_to_be_checked()
    expect(page.get_by_role("checkbox", name="demo-2", exact=True)).to_be_checked()


# ---------- looks ----------


def open_state(page: Page, state: str) -> None:
    """Bring ``page`` into one of the states below."""
    if state == "parameters":
        write(page, "# {{a}}\necho {{a}} {{b}} {{api_token}} {{ACS::RegionId}} {{.No}}")
        page.locator("[data-key=a] summary").click()
        page.get_by_text("More: user, launcher, tags, termination").click()
        write(page, "echo {{a}} {{api_token}} {{ACS::RegionId}} {{.No}}")
        expect(page.locator(".gone")).to_have_count(1)
    elif state == "errors":
        write(page, "echo {{a}}")
        page.fill("[name=workdir]", "tmp")
        page.get_by_text("More: how many at a time").click()
        for name in ("concurrency", "canary", "max_failures"):
            page.fill(f"[name={name}]", "many")
        page.select_option("[name=batch_pause]", "30")
        create(page)
        page.wait_for_selector("#errors")
    elif state in {"existing", "list of commands"}:
        save(page, "# a comment\necho {{a}}", description="Says what it is for")
        page.locator("main").get_by_role("link", name="Run", exact=True).click()
        expect(page.locator("#saved-content")).to_be_visible()
        if state == "list of commands":
            page.locator("input[role=combobox]").click()
            page.keyboard.press("ArrowDown")
    elif state == "preview":
        page.fill("[name=name]", "Previewed")
        write(page, "echo {{a}} {{ACS::InstanceName}}")
        for name in ("demo-1", "demo-2"):
            tick(page, name)
        page.get_by_role("button", name="Preview").click()
        expect(page.locator("#preview")).to_be_focused()


STATES = ["blank", "parameters", "errors", "existing", "list of commands", "preview"]


@pytest.mark.parametrize("state", STATES)
def test_it_is_accessible_and_fits_a_phone(visit, state):
    page = visit()
    open_state(page, state)
    assert_looks_good(page)


FULL = """
from django.db import transaction
from django.utils import timezone
from commands.models import QuotaOverride, Team
from commands.rules.quotas import Quota
from commands.services import quotas, teams
where = {{"team": Team.objects.get(name={team!r}), "region": teams.default_region()}}
for key in (Quota.SAVED_COMMANDS, Quota.TASKS_PER_DAY):
    QuotaOverride.objects.create(**where, key=key, limit=1)
with transaction.atomic():
    quotas.take_task(**where, runs=1, now=timezone.now())
"""


def test_quotas_and_the_review_are_there_at_every_width(visit):
    page = visit()
    create = page.get_by_role("button", name="Create task")
    for width in (1280, 1100, 800, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate("scrollTo(0, 0)")
        expect(create).to_be_in_viewport()
        for part in ("#q-saved b", "#q-tasks b", "#r-name", "#r-instances"):
            page.locator(part).scroll_into_view_if_needed()
            expect(page.locator(part)).to_be_in_viewport(ratio=1)
            expect(create).to_be_in_viewport()
        last, bar = page.locator("#q-tasks").bounding_box(), create.bounding_box()
        assert last
        assert bar
        assert last["y"] + last["height"] <= bar["y"], width


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 320)])
def test_full_quotas_are_told_in_words(console, visit, member, scheme, width):
    team = f"Full {scheme}"
    who = member("operator", team=team)
    screen = {"width": width, "height": 844}
    page = visit(username=who, color_scheme=scheme, viewport=screen, at=None)
    save(page, "echo only one")
    console.manage("shell", "-c", FULL.format(team=team))
    page.goto("/run/")
    expect(page.locator("main > .told.bad:visible")).to_contain_text(
        "Your team has used its only task today."
    )
    switch = page.get_by_role("switch", name="Save command")
    expect(switch).not_to_be_checked()
    expect(page.locator("#q-saved")).to_contain_text("1 of 1")
    expect(page.locator("#q-saved")).to_contain_text("Full.")
    switch.check()
    expect(page.locator("#q-saved b")).to_have_text("1 of 1")
    results = Axe().run(page, options=RULES)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_draft_brings_back_what_was_selected(visit):
    page = visit()
    page.fill("[name=name]", "Half done")
    tick(page, "demo-1")
    tick(page, "demo-3")
    expect(page.locator("#draft")).to_contain_text("Draft kept")
    wait_until_kept(page, "draft.picked?.length === 2")
    page.goto("/tasks/")
    page.goto("/run/")
    expect(page.locator("#draft")).to_contain_text("restored")
    expect(page.locator("[name=name]")).to_have_value("Half done")
    for name, ticked in [("demo-1", True), ("demo-2", False), ("demo-3", True)]:
        expect(page.get_by_role("checkbox", name=name, exact=True)).to_be_checked(checked=ticked)


def test_a_draft_of_another_type_brings_the_rows_that_fit_it(visit):
    page = visit()
    page.get_by_role("radio", name="PowerShell").check(force=True)
    page.fill("[name=name]", "For Windows")
    expect(page.locator("#draft")).to_contain_text("Draft kept")
    page.goto("/tasks/")
    page.goto("/run/")
    expect(page.get_by_role("radio", name="PowerShell")).to_be_checked()
    expect(page.get_by_role("checkbox", name="demo-1", exact=True)).to_be_disabled()
