"""Every page in light, dark and on a phone: accessible, no sideways scroll, small, ours."""

from __future__ import annotations

import gzip
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.test_journey import create

FIRST_LOAD_BYTES = 45 * 1024
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}


@pytest.fixture(scope="module")
def tasks() -> dict[str, str]:
    """Addresses of tasks that tests of this module share: made once."""
    return {}


def open_state(page: Page, state: str, tasks: dict[str, str]) -> None:
    """Bring ``page`` into one of the states below."""
    if state == "sign-in":
        page.goto("/sign-in/")
    elif state == "sign-in refused":
        page.goto("/sign-in/")
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", "wrong")
        page.click("button[type=submit]")
        page.wait_for_selector("[role=alert]")
    elif state == "form":
        page.goto("/run/")
    elif state == "form with errors":
        page.goto("/run/")
        page.fill("[name=timeout]", "abc")
        page.get_by_role("button", name="Create task").click()
        page.wait_for_selector("[role=alert]")
    elif state == "running":
        create(page, "echo a; sleep 20", instances=["demo-1", "demo-2"], name="Looks running")
        page.wait_for_selector("#log .ln")
    elif state == "failed":
        if state not in tasks:
            tasks[state] = create(
                page, "echo a; echo b >&2; exit 3", instances=["demo-3"], name="Looks failed"
            )
            expect(page).to_have_title(re.compile("^Failed:"), timeout=30_000)
        page.goto(tasks[state])
    elif state == "list":
        page.goto("/tasks/")
    else:
        page.goto("/tasks/t-nowhere/")


STATES = [
    "sign-in",
    "sign-in refused",
    "form",
    "form with errors",
    "running",
    "failed",
    "list",
    "missing",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_no_accessibility_violation(visit, tasks, state, scheme):
    page = visit(signed_in=not state.startswith("sign-in"), color_scheme=scheme)
    open_state(page, state, tasks)
    results = Axe().run(page, options=RULES)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("width", [390, 320])
@pytest.mark.parametrize("state", STATES)
def test_no_sideways_scroll_on_a_phone(visit, tasks, state, width):
    page = visit(
        signed_in=not state.startswith("sign-in"), viewport={"width": width, "height": 844}
    )
    open_state(page, state, tasks)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_first_load_is_small_and_all_ours(visit, console):
    page = visit()
    bodies: dict[str, bytes] = {}
    page.on("response", lambda response: bodies.update({response.url: response.body()}))
    page.goto("/run/")
    page.wait_for_load_state("networkidle")
    assert all(url.startswith(console.url) for url in bodies)
    sizes = {url: len(gzip.compress(body, 9)) for url, body in bodies.items()}
    print(sizes)
    assert sum(sizes.values()) <= FIRST_LOAD_BYTES, sizes
