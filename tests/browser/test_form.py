"""The form in a browser: nothing typed is lost, nothing pressed is missed, no false words."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import sign_in

SCRIPT = "# who am I\nid\nuname -a"
VALUES = {"name": "Kept", "content": SCRIPT, "workdir": "/tmp", "timeout": "77"}
PICKED = ["demo-1", "demo-3"]
TICKED = """names => {
  const boxes = [...document.querySelectorAll("[name=instances]:checked")];
  return String(boxes.map((box) => box.dataset.name)) === String(names);
}"""


def fill(page: Page, **changed: str) -> None:
    for name, value in {**VALUES, **changed}.items():
        page.fill(f"[name={name}]", value)
    for instance in PICKED:
        page.get_by_role("checkbox", name=instance, exact=True).check()


def send(page: Page) -> None:
    page.get_by_role("button", name="Create task").click()


def assert_all_there(page: Page, **changed: str) -> None:
    """Every field and tick, and everything that is painted or counted after them."""
    values = {**VALUES, **changed}
    for name, value in values.items():
        expect(page.locator(f"[name={name}]")).to_have_value(value)
    painted = page.locator("#editor pre i")
    expect(painted).to_have_text(SCRIPT.split("\n"))
    expect(page.locator("#picked [data-picked]")).to_have_text("2")
    page.wait_for_function(TICKED, arg=PICKED)
    expect(painted.first).to_have_class("com")
    expect(page.locator("#content-size [data-size]")).to_have_text("32")
    expect(page.locator("#content-size progress")).to_have_js_property("value", 32)
    expect(page.locator("#r-name")).to_contain_text("Kept")
    expect(page.locator("#r-name")).to_contain_text("3 lines · 22 bytes")
    expect(page.locator("#r-instances")).to_contain_text("2 instances")
    expect(page.locator("#r-timeout")).to_have_text("77 seconds")
    expect(page.locator("#r-workdir")).to_contain_text(values["workdir"])
    expect(page.locator("#pick-all")).to_have_js_property("indeterminate", True)
    expect(page.get_by_role("button", name="Create task")).not_to_have_attribute(
        "aria-disabled", "true"
    )


def test_back_brings_everything_again(visit):
    page = visit()
    fill(page)
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    page.go_back()
    page.wait_for_url("**/run/")
    assert_all_there(page)


ALREADY = re.compile(r"This task was already created at \d\d:\d\d:\d\d\.")


def test_creating_again_after_back_leads_to_the_task_that_is_there(visit):
    page = visit()
    fill(page)
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    task = page.url
    expect(page.get_by_text(ALREADY)).to_have_count(0)
    page.go_back()
    page.wait_for_url("**/run/")
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    assert page.url == task
    expect(page.get_by_text(ALREADY)).to_be_visible()
    page.go_back()
    page.wait_for_url("**/run/")
    page.fill("[name=workdir]", "/var")
    send(page)
    changed = "You changed the form after it was sent. Check it and create again."
    expect(page.locator("#errors")).to_contain_text(changed)
    expect(page.locator("[name=workdir]")).to_have_value("/var")
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    assert page.url != task
    expect(page.get_by_text(ALREADY)).to_have_count(0)


def test_creating_a_saved_command_again_after_back_makes_no_second_task(visit):
    page = visit()
    fill(page, name="Twice")
    page.get_by_role("button", name="Save without running").click()
    page.wait_for_url("**/commands/c-*/")
    page.get_by_role("link", name="Run", exact=True).click()
    page.wait_for_url("**/run/?command=*")  # with its scripts, which know the form after Back
    page.get_by_role("checkbox", name="demo-1", exact=True).check()
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    task = page.url
    page.go_back()
    page.wait_for_url("**/run/?command=*")
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    assert page.url == task
    expect(page.get_by_text(ALREADY)).to_be_visible()
    page.goto("/run/")
    fill(page, name="Another")
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    expect(page.get_by_text(ALREADY)).to_have_count(0)


def test_back_from_a_page_with_errors_and_back_to_it(visit):
    page = visit()
    fill(page, workdir="tmp")
    send(page)
    page.wait_for_selector("#errors")
    assert_all_there(page, workdir="tmp")
    page.go_back()
    expect(page.locator("#errors")).to_have_count(0)
    assert_all_there(page, workdir="tmp")
    page.go_forward()
    assert_all_there(page, workdir="tmp")
    page.fill("[name=workdir]", "/tmp")
    send(page)
    page.wait_for_url("**/tasks/t-*/")
    page.go_back()
    page.wait_for_url("**/run/")
    assert_all_there(page)


def test_back_from_the_page_that_says_it_is_too_old(visit):
    page = visit()
    fill(page)
    page.context.clear_cookies(name="csrftoken")
    send(page)
    expect(page.get_by_role("heading", name="This page is too old")).to_be_visible()
    expect(page.get_by_text("go back with your browser's Back button")).to_be_visible()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="sign in in a new tab").click()
    opened.value.wait_for_load_state()
    page.go_back()
    assert_all_there(page)
    send(page)
    page.wait_for_url("**/tasks/t-*/")


def test_a_sign_in_in_another_tab_leaves_the_form_good(visit):
    page = visit()
    fill(page)
    other = page.context.new_page()
    other.goto("/tasks/")
    other.get_by_role("button", name="Account of").click()
    other.get_by_role("button", name="Sign out").click()
    other.wait_for_url("**/sign-in/**")
    sign_in(other)
    send(page)
    page.wait_for_url("**/tasks/t-*/")


def test_back_from_the_sign_in_page(visit):
    page = visit()
    fill(page)
    page.context.clear_cookies(name="sessionid")
    send(page)
    page.wait_for_url("**/sign-in/**")
    other = page.context.new_page()
    sign_in(other)
    page.go_back()
    page.wait_for_url("**/run/")
    assert_all_there(page)
    send(page)
    page.wait_for_url("**/tasks/t-*/")


@pytest.mark.parametrize("width", [1280, 780, 390, 320])
def test_the_first_press_after_a_short_timeout_counts(visit, width):
    page = visit(viewport={"width": width, "height": 844})
    timeout = page.get_by_label("Timeout period")
    box = page.get_by_role("checkbox", name="demo-2", exact=True)
    timeout.click()
    timeout.press("Control+A")
    page.keyboard.type("5")
    box.scroll_into_view_if_needed()
    before = box.bounding_box()
    assert before
    note = page.get_by_text("Raised from 5 to 10 seconds, the shortest timeout allowed.")
    hint = page.locator("#timeout-hint")
    expect(note).not_to_be_visible()
    expect(hint).to_be_visible()
    page.mouse.move(before["x"] + 8, before["y"] + 8)
    page.mouse.down()
    expect(timeout).to_have_value("10")
    page.mouse.up()
    expect(box).to_be_checked()
    expect(note).to_be_visible()
    assert box.bounding_box() == pytest.approx(before, abs=1)  # pages scroll by whole pixels
    expect(hint).not_to_be_visible()
    timeout.fill("20")
    expect(note).not_to_be_visible()
    expect(hint).to_be_visible()


def test_an_empty_path_is_the_home_folder(visit):
    page = visit()
    path = page.get_by_label("Execution path")
    expect(path).to_have_attribute("placeholder", "Home folder")
    expect(path).to_have_accessible_description(
        "Empty: the home folder of the user that runs it, /root for root. "
        "Another folder must already exist."
    )
    rail = page.locator("#r-workdir")
    expect(rail).to_have_text(re.compile("^Home folder *default$"))
    path.fill("/srv")
    expect(rail).to_have_text("/srv")
    path.fill("")
    expect(rail).to_have_text(re.compile("^Home folder *default$"))


def test_the_review_says_that_none_is_selected(visit):
    page = visit()
    expect(page.locator("#r-instances")).to_have_text("None selected")
    box = page.get_by_role("checkbox", name="demo-1", exact=True)
    box.check()
    expect(page.locator("#r-instances")).to_contain_text("demo-1")
    box.uncheck()
    expect(page.locator("#r-instances")).to_have_text("None selected")


def test_a_team_without_instances_learns_who_can_add_one(visit, member):
    page = visit(username=member("operator", team="Bare"))
    expect(page.locator("#r-instances")).to_have_text("No instances yet")
    expect(page.locator(".picker")).to_contain_text("Add one under Instances, or ask a team admin.")


@pytest.mark.parametrize("width", [1280, 320])
def test_who_may_only_look_gets_no_form(visit, member, width):
    page = visit(username=member("viewer"), viewport={"width": width, "height": 844}, at="/")
    expect(page.locator("a[href^='/run/']")).to_have_count(0)
    brand = page.get_by_role("link", name="Command Console")
    expect(brand).to_have_attribute("href", "/")
    page.goto("/run/")
    expect(page.locator("#run-form")).to_have_count(0)
    team = page.locator(".top .team b").text_content()
    expect(page.locator("main")).to_contain_text(
        f"Your role in {team} can look at tasks, not create them. Ask a team admin."
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.goto("/tasks/t-nowhere/")
    expect(page.locator("a[href='/run/']")).to_have_count(0)
    page.goto("/run/")
    page.locator("main").get_by_role("link", name="Tasks").click()
    page.wait_for_url("**/tasks/")
