"""The overview, filters, Find by keyboard, theme, language: by hand, in a browser."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import STOP_ALL
from tests.browser.held import Held
from tests.browser.looks import RULES
from tests.browser.test_journey import create, wait_until_failed


@pytest.fixture
def operator(member) -> str:
    """Somebody of their own, so that no other test sees what they choose."""
    return member("operator")


@pytest.fixture(scope="module")
def failed() -> dict[str, str]:
    """Addresses of tasks that tests of this module share, made once."""
    return {}


def make_failed(page: Page, failed: dict[str, str]) -> str:
    """The address of a task that failed on one instance."""
    if "url" not in failed:
        failed["url"] = create(page, "exit 3", instances=["demo-3"], name="Looks broken")
        wait_until_failed(page)
    return failed["url"]


def test_what_runs_comes_and_goes_by_itself(visit, operator, console):
    page = visit(username=operator, at="/")
    other = page.context.new_page()
    create(other, "sleep 600", instances=["demo-1", "demo-2"], name="Looks long")
    row = page.locator("#live .runs li", has_text="Looks long")
    expect(row).to_contain_text("0 of 2")
    console.manage("shell", "-c", STOP_ALL)
    expect(row).to_have_count(0)


def test_a_page_that_nobody_sees_asks_for_nothing(visit, operator):
    page = visit(username=operator)
    page.clock.install()
    page.goto("/")
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s})"
    page.evaluate(hide % "true")
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(30_000)
    page.wait_for_timeout(300)
    assert asked == []
    page.evaluate(hide % "false")
    with page.expect_request(lambda request: True):
        page.clock.run_for(6_000)
    assert asked


def test_a_failure_needs_a_look_until_it_was_looked_at(visit, operator, failed):
    page = visit(username=operator)
    url = make_failed(page, failed)
    page.goto("/")
    row = page.locator("#live li", has_text="Looks broken")
    expect(row).to_contain_text("1 of 1 failed")
    again = f"/tasks/{url.split('/')[-2]}/again/?only=failed"
    retry = row.get_by_role("link", name="Retry failed Looks broken")
    expect(retry).to_have_attribute("href", again)
    page.get_by_role("button", name="Mark as looked at").click()
    expect(row).to_have_count(0)


def test_what_is_being_pressed_stays_while_the_page_asks_again(visit, operator, failed):
    page = visit(username=operator)
    make_failed(page, failed)
    page.clock.install()
    page.goto("/")
    page.get_by_role("button", name="Mark as looked at").hover()
    page.mouse.down()
    with page.expect_response(lambda one: one.request.headers.get("hx-target") == "live"):
        page.clock.run_for(6_000)
    page.wait_for_function("() => !document.querySelector('.htmx-request')")
    page.mouse.up()
    expect(page.get_by_text("No failures in the last three days")).to_be_visible()


def test_find_by_keyboard(visit, operator, failed):
    page = visit(username=operator)
    make_failed(page, failed)
    page.goto("/account/")
    page.keyboard.press("/")
    expect(page.locator("#find")).to_be_focused()
    with page.expect_response(re.compile("/find/.*q=broken")):  # the whole word
        page.keyboard.type("broken")
    link = page.locator("#found-quick").get_by_role("link", name=re.compile("Looks broken")).first
    expect(link).to_be_visible()
    expect(page.locator("#find-say")).to_have_text("Results are below. Press the down arrow.")
    held = Held(page, "**/find/?q=*")
    with page.expect_request("**/find/?q=*"):
        page.keyboard.type("x")
    page.keyboard.press("ArrowDown")
    expect(link).to_be_focused()
    with page.expect_response("**/find/?q=*"):  # a late answer takes nothing away
        held.let_go()
    page.wait_for_load_state("networkidle")
    expect(link).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#found-quick")).to_be_empty()
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type(" ")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Control+a")
    page.keyboard.type("broken")
    expect(link).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/tasks/t-*/")


def test_find_on_the_form_loads_what_it_needs_once(visit, operator):
    page = visit(username=operator)
    page.locator("#find").click()
    page.keyboard.type("demo-2")
    expect(page.locator("#found-quick")).to_contain_text("demo-2")
    page.locator("#id_q").fill("demo-1")
    expect(page.locator(".picker tbody tr")).to_have_count(1)
    assert page.locator("script[src*='htmx-2']").count() == 1


def test_a_whole_id_leads_there_without_scripts(visit, operator, failed):
    url = make_failed(visit(username=operator), failed)
    page = visit(username=operator, java_script_enabled=False)
    page.fill("#find", url.split("/")[-2])
    page.press("#find", "Enter")
    expect(page).to_have_url(url)


def test_keys_that_work_alone_can_be_switched_off(visit, operator):
    page = visit(username=operator, at="/account/")
    page.keyboard.press("c")
    page.wait_for_url("**/run/")
    page.locator("#id_name").press("c")
    expect(page.locator("#id_name")).to_have_value("c")
    page.goto("/account/")
    page.get_by_role("checkbox", name="Keys that work alone").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".told")).to_contain_text("Saved.")
    page.keyboard.press("c")
    page.keyboard.press("/")
    expect(page.locator("#find")).not_to_be_focused()
    expect(page).to_have_url(re.compile("/account/$"))


@pytest.mark.parametrize("scripts", [True, False])
def test_filters_are_in_the_address(visit, operator, failed, scripts):
    make_failed(visit(username=operator), failed)
    page = visit(username=operator, java_script_enabled=scripts, at="/tasks/")
    rows = page.locator(".tbl tbody tr")
    page.fill("#q", "looks broken")
    page.select_option("[name=status]", "failures")
    if not scripts:
        page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile(r"q=looks(\+|%20)broken&status=failures"))
    expect(rows.first).to_contain_text("Looks broken")
    chip = page.get_by_role("link", name="Remove the filter Status: With failures")
    expect(chip).to_be_visible()
    page.fill("#instance", "demo-1")
    if not scripts:
        page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name="No tasks match")).to_be_visible()
    page.go_back()
    expect(rows.first).to_contain_text("Looks broken")
    page.get_by_role("link", name="Clear filters").click()
    expect(page).to_have_url(re.compile("/tasks/$"))


def test_asking_for_the_same_twice_is_one_step_back(visit, operator, failed):
    make_failed(visit(username=operator), failed)
    page = visit(username=operator, at="/tasks/")
    steps = page.evaluate("history.length")
    page.fill("#q", "looks broken")
    expect(page).to_have_url(re.compile("q=looks"))
    with page.expect_response("**/tasks/?q=*"):
        page.locator("#q").press("Enter")
    page.wait_for_function("() => !document.querySelector('.htmx-request')")
    assert page.evaluate("history.length") == steps + 1


def test_new_tasks_are_told_and_not_pushed_in(visit, operator):
    page = visit(username=operator, at=None)
    create(page, "true", instances=["demo-1"], name="Looks first")
    page.goto("/tasks/?q=looks")
    top = page.locator(".tbl tbody tr").first
    expect(top).to_contain_text("Looks first")
    other = page.context.new_page()
    create(other, "true", instances=["demo-1"], name="Looks newest")
    show = page.get_by_role("link", name="1 new task. Show")
    expect(show).to_be_visible()
    expect(top).to_contain_text("Looks first")
    show.click()
    expect(top).to_contain_text("Looks newest")


@pytest.mark.parametrize("scripts", [True, False])
def test_theme_and_language_are_chosen_in_the_top_bar(visit, operator, scripts):
    page = visit(username=operator, color_scheme="light", java_script_enabled=scripts, at="/tasks/")
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page).to_have_url(re.compile("/tasks/$"))
    if scripts:
        expect(page.locator("body")).to_have_css("background-color", "rgb(15, 18, 23)")
    page.get_by_role("button", name="Language").click()
    page.get_by_role("button", name="简体中文").click()
    expect(page.get_by_role("heading", name="任务", exact=True)).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    page.get_by_role("button", name=re.compile("的账号")).click()
    page.get_by_role("button", name="退出登录").click()
    expect(page.get_by_role("heading", name="登录")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def in_chinese(page: Page) -> None:
    page.goto("/account/")
    page.select_option("#id_language", "zh-hans")
    page.locator(".mine .pri").click()
    expect(page.locator(".told")).to_have_text("已保存，所有页面将按此显示。")


def test_a_running_task_is_streamed_in_chinese(visit, operator, console):
    page = visit(username=operator)
    in_chinese(page)
    page.goto("/run/")
    page.fill("[name=name]", "Looks live")
    page.fill("[name=content]", "sleep 600")
    page.get_by_role("checkbox", name="demo-1", exact=True).check()
    page.get_by_role("button", name="创建任务").click()
    page.wait_for_url("**/tasks/t-*/")
    expect(page.locator("#task-head-state")).to_have_text("执行中")
    console.manage("shell", "-c", STOP_ALL)
    expect(page.locator("#task-head-state")).to_have_text("已停止")
    expect(page.locator("#progress")).to_contain_text("已完成 1 / 1")


def test_chinese_pages_are_accessible_and_fit_a_phone(visit, operator, failed):
    page = visit(username=operator, viewport={"width": 390, "height": 844})
    make_failed(page, failed)
    in_chinese(page)
    for address in ("/", "/tasks/?status=failures", "/account/", "/run/"):
        page.goto(address)
        results = Axe().run(page, options=RULES)
        assert results.violations_count == 0, f"{address}: {results.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address


def test_the_open_list_under_find_and_the_menus_are_accessible(visit, operator):
    page = visit(username=operator)
    page.goto("/account/")  # nothing lies under them there
    page.fill("#find", "demo")
    expect(page.locator("#found-quick")).to_contain_text("demo-1")
    results = Axe().run(page, options=RULES)
    assert results.violations_count == 0, results.generate_report()
    page.get_by_role("button", name="Theme").click()
    results = Axe().run(page, options=RULES)
    assert results.violations_count == 0, results.generate_report()


def test_compact_rows_are_lower(visit, operator, failed):
    page = visit(username=operator)
    make_failed(page, failed)
    page.goto("/tasks/?q=looks")
    row = page.locator(".tbl tbody tr").first
    before = row.bounding_box()
    page.goto("/account/")
    page.select_option("#id_density", "compact")
    page.locator(".mine .pri").click()
    expect(page.locator(".told")).to_be_visible()
    page.goto("/tasks/?q=looks")
    after = row.bounding_box()
    assert before
    assert after
    assert after["height"] < before["height"]


def test_the_first_steps_lead_to_a_first_task(visit, member):
    page = visit(username=member("operator", f"Fresh team {id(member)}"))
    page.goto("/")
    steps = page.locator(".steps li")
    expect(steps).to_have_count(3)
    expect(page.locator(".steps .done")).to_have_count(0)
    page.get_by_role("link", name="Run it").click()
    expect(page.locator("#id_name")).to_have_value("uname -a")
    expect(page.locator("#id_content")).to_have_value("uname -a")
