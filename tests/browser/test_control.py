"""Stopping a task and letting a paused one go on, in a real browser on real instances."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from tests.browser.test_journey import create

ENDED = 90_000


def create_paused(page: Page) -> str:
    """A task that waits for somebody after the first of two instances; its address."""
    page.goto("/run/")
    page.fill("[name=name]", "Careful")
    page.fill("[name=content]", "echo a")
    for instance in ("demo-1", "demo-2"):
        page.get_by_role("checkbox", name=instance, exact=True).check()
    page.get_by_text("More: how many at a time").click()
    page.get_by_label("First batch").fill("1")
    page.get_by_label("Pause between batches").select_option("Until somebody continues")
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    wait_until_paused(page)
    return page.url


def wait_until_paused(page: Page) -> None:
    """However long a busy machine takes to get there, the page must then say so by itself."""
    until = time.monotonic() + 90
    while states_of(page) != {"Success", "Pending"} and time.monotonic() < until:
        page.wait_for_timeout(100)
    assert states_of(page) == {"Success", "Pending"}
    page.wait_for_selector("#progress[data-paused]")


def states_of(page: Page) -> set[str]:
    """The states of the runs."""
    answer = page.request.get(page.url.split("?")[0] + "status.json")
    return {run["status"] for run in answer.json()["runs"]}


def status_of(page: Page) -> str:
    url = page.url.split("?")[0] + "status.json"
    return page.request.get(url).json()["status"]


def test_stopping_in_a_dialog(visit):
    page = visit(at=None)
    script = "sleep 600 & echo begun; sleep 600"
    create(page, script, instances=["demo-1"], name="Stop me", timeout=900)
    page.wait_for_selector("#log .ln")
    page.get_by_role("link", name="Stop task").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Stop on 1 instance?")).to_be_visible()
    expect(dialog.get_by_role("link", name="Keep running")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    assert status_of(page) == "Running"
    page.get_by_role("link", name="Stop task").click()
    dialog.get_by_role("button", name="Stop on 1 instance").click()
    expect(page.locator(".told")).to_contain_text("1 instance was asked to stop.")
    expect(page).to_have_title(re.compile("^Stopped: "), timeout=ENDED)
    expect(page.locator("#log-note")).to_contain_text(
        "Stopped by admin, 0 processes left. Output above is kept."
    )
    expect(page.get_by_role("link", name="Stop task")).to_be_hidden()


def test_stopping_without_javascript(visit):
    page = visit(java_script_enabled=False)
    page.fill("[name=name]", "Stop me")
    page.fill("[name=timeout]", "900")
    page.fill("[name=content]", "echo begun; sleep 600")
    page.get_by_role("checkbox", name="demo-1", exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.get_by_role("link", name="Stop task").click()
    page.get_by_role("button", name="Stop on 1 instance").click()
    page.wait_for_url(re.compile(r"/tasks/t-[^/]+/(\?|$)"))
    url = page.url
    until = time.monotonic() + ENDED / 1_000
    while status_of(page) != "Stopped":
        assert time.monotonic() < until
        page.wait_for_timeout(500)
    page.goto(url)
    assert page.title().startswith("Stopped: ")


def test_a_paused_task_goes_on_when_somebody_says_so(visit):
    page = visit(at=None)
    create_paused(page)
    expect(page.locator("#progress")).to_contain_text("Paused after 1 of 2")
    page.get_by_role("link", name="Continue").click()
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()
    expect(page).to_have_title(re.compile("^Succeeded: "), timeout=ENDED)
    expect(page.get_by_role("link", name="Continue")).to_be_hidden()


def test_what_can_be_pressed_has_room_on_a_phone(visit):
    page = visit(viewport={"width": 390, "height": 844}, at=None)
    create_paused(page)
    for name in ("Continue", "Stop task"):
        box = page.get_by_role("link", name=name).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["height"] >= 24
