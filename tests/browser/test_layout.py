"""Pages that hold much keep their shape, and say what of it they do not show."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_groups import END, make, uid_of

NAMES = [f"api-{n:03}" for n in range(1, 4)]
PARTS = """[
    Part("db-", 2, "Failed", stderr="nginx: test failed\\n"),
    Part("api-", 3, "Running", output="copying\\n"),
    Part("old-", 1, "Cancelled"),
]"""
LONG = '[Part("web-", 1, output="".join(f"no. {n} of many\\n" for n in range(3000)))]'


@pytest.fixture
def much(console):
    """The address of a task with which everything can be done."""
    address = make(console, PARTS)
    yield address
    console.manage("shell", "-c", END.format(uid=uid_of(address), names=NAMES))


@pytest.mark.parametrize("width", [1280, 1000])
def test_the_name_of_a_task_stays_whole_and_its_list_inside_the_page(visit, much, width):
    page = visit(viewport={"width": width, "height": 900})
    page.goto(much)
    expect(page.get_by_role("link", name="Retry 2 failed")).to_be_visible()
    expect(page.get_by_role("link", name="Stop task")).to_be_visible()
    box = page.get_by_role("heading", name="Check disk space").bounding_box()
    assert box
    assert box["height"] < 40
    page.goto("/tasks/")
    expect(page.get_by_role("link", name="Run again Check disk space").first).to_be_visible()
    assert page.evaluate("document.querySelector('.tasks').scrollWidth") <= page.evaluate(
        "document.querySelector('.tasks').clientWidth"
    )


def test_a_search_says_whether_it_looked_at_all_lines(console, visit):
    page = visit()
    page.goto(make(console, LONG))
    told = page.locator("#found")
    page.fill("#seek", "no. 2999")
    expect(told).to_have_text("1 of 1 in these lines")
    page.fill("#seek", "no. 7 ")
    expect(told).to_have_text("No matches in these lines")
    page.get_by_role("link", name="Show earlier lines").click()
    expect(told).to_have_text(re.compile("^. of 1$"))
