"""Every page in light, dark and on a phone: accessible, no sideways scroll, small, ours."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looks import assert_looks_good
from tests.browser.test_control import create_paused
from tests.browser.test_journey import create

FIRST_LOAD_BYTES = 45 * 1024
"""What the design allows, as it travels: compressed, with the heads of the answers."""


@pytest.fixture(scope="module")
def tasks() -> dict[str, str]:
    """Addresses of tasks that tests of this module share, made once."""
    return {}


def open_state(page: Page, state: str, tasks: dict[str, str]) -> None:
    """Bring ``page`` into one of the states below."""
    if state in ADDRESSES:
        page.goto(ADDRESSES[state])
    if state == "sign-in refused":
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", "wrong")
        page.click("button[type=submit]")
        page.wait_for_selector("[role=alert]")
    elif state == "form with errors":
        page.fill("[name=timeout]", "abc")
        page.get_by_role("button", name="Create task").click()
        page.wait_for_selector("#errors")
    elif state == "too old":
        page.context.clear_cookies(name="csrftoken")
        page.get_by_role("button", name="Create task").click()
        expect(page.get_by_role("heading", name="This page is too old")).to_be_visible()
    elif state == "onlooker":
        expect(page.get_by_role("heading", name="You can't create tasks here")).to_be_visible()
    elif state not in ADDRESSES:
        open_task(page, state, tasks)


def open_task(page: Page, state: str, tasks: dict[str, str]) -> None:
    """Bring ``page`` into one of the states of a task."""
    if state == "failed":
        if state not in tasks:
            tasks[state] = create(
                page, "echo a; echo b >&2; exit 3", instances=["demo-3"], name="Looks failed"
            )
            expect(page).to_have_title(re.compile("^Failed:"))
        page.goto(tasks[state])
        return
    if state in {"paused", "asked before stopping"}:
        if "paused" not in tasks:
            tasks["paused"] = create_paused(page)
        page.goto(tasks["paused"])
        page.wait_for_selector("#progress[data-paused]")
        if state != "paused":
            page.get_by_role("link", name="Stop task").click()
            page.wait_for_selector("dialog[open] button")
        return
    create(page, "echo a; sleep 50", instances=["demo-1", "demo-2"], name="Looks running")
    page.wait_for_selector("#log .ln")
    if state == "signed out":
        page.route(re.compile("/events"), lambda route: route.fulfill(status=401))
        page.reload()
        page.wait_for_selector("#gone-401")


ADDRESSES = {
    "sign-in": "/sign-in/",
    "sign-in refused": "/sign-in/",
    "form": "/run/",
    "form with errors": "/run/",
    "too old": "/run/",
    "onlooker": "/run/",
    "overview": "/",
    "list": "/tasks/?status=failures",
    "find": "/find/?q=demo",
    "account": "/account/",
    "missing": "/tasks/t-nowhere/",
}
TASK_STATES = ["running", "signed out", "failed", "paused", "asked before stopping"]
STATES = [*ADDRESSES, *TASK_STATES]


@pytest.fixture
def who(state, member) -> dict[str, object]:
    """Who looks at ``state``, as options of ``visit``."""
    if state == "onlooker":
        return {"username": member("viewer")}
    return {"signed_in": not state.startswith("sign-in")}


@pytest.mark.parametrize("state", STATES)
def test_it_is_accessible_and_fits_a_phone(visit, tasks, who, state):
    page = visit(**who, at=None)
    open_state(page, state, tasks)
    assert_looks_good(page)


def test_what_is_said_of_a_run_stands_on_one_line(visit, tasks):
    page = visit(viewport={"width": 1280, "height": 900})
    open_task(page, "failed", tasks)
    box = page.locator("#panel-state").bounding_box()
    assert box
    assert box["height"] < 30


def test_the_first_load_is_small_and_all_ours(visit, console):
    page = visit()
    page.wait_for_load_state("networkidle")
    network = page.context.new_cdp_session(page)
    asked: dict[str, str] = {}
    came: dict[str, float] = {}
    network.on(
        "Network.requestWillBeSent", lambda e: asked.update({e["requestId"]: e["request"]["url"]})
    )
    network.on(
        "Network.loadingFinished", lambda e: came.update({e["requestId"]: e["encodedDataLength"]})
    )
    network.send("Network.enable")
    network.send("Network.setCacheDisabled", {"cacheDisabled": True})
    page.goto("/run/")
    page.wait_for_load_state("networkidle")
    assert all(url.startswith(console.url) for url in asked.values())
    sizes = {url: came[number] for number, url in asked.items()}
    print(sizes)
    assert len([url for url in sizes if url.endswith((".css", ".js"))]) > 5
    assert sum(sizes.values()) <= FIRST_LOAD_BYTES, sizes
