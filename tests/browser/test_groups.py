"""The left half of a task in a real browser: filters, keys, groups of the same output, the grid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Console
from tests.browser.held import HeldAnswers
from tests.browser.looks import RULES, assert_looks_good

MAKE = """
from commands.models import User
from commands.services import teams
from tests.alike import THOUSAND, Part, make_task
parts = {parts}
user = User.objects.get(username="admin")
print(make_task(teams.first_team(), teams.default_region(), user, parts).uid)
"""
SIXTY = [
    'Part("db-", 2, "Failed", "disk is full\\n")',
    'Part("api-", 3, "Running", "copying\\n")',
    'Part("web-", 54, output="{name} took 12 s\\nall is well\\n")',
    'Part("odd-", 1, output="took 9 s\\nall is well, but slow\\n")',
]
FEW = [
    'Part("db-", 2, "Failed", stderr="nginx: test failed\\n")',
    'Part("q-", 1, "Timeout", error_code="ExecutionTimeout")',
    'Part("web-", 9, output="{name} is warm\\n")',
    'Part("api-", 3, output="{name} is warm\\nnote: slowly\\n")',
]
END = """
from django.utils import timezone
from commands.models import Run
Run.objects.filter(invocation__uid={uid!r}, instance_name__in={names!r}).update(
    status="Success", exit_code=0, phase="finished", finished_at=timezone.now()
)
"""
DEMO = """case {{{{ACS::InstanceName}}}} in
demo-3) while [ ! -e {gate} ]; do sleep 0.2; done; echo another word;;
*) echo "hello from {{{{ACS::InstanceName}}}}";;
esac"""


def make(console: Console, parts: str) -> str:
    """The address of a task that is made in the database of ``console``."""
    uid = console.manage("shell", "-c", MAKE.format(parts=parts)).split()[-1]
    return f"/tasks/{uid}/"


@pytest.fixture(scope="module")
def tasks(console: Console) -> Iterator[dict[str, str]]:
    """Addresses of tasks that tests of this module look at."""
    made = {
        "thousand": make(console, "THOUSAND"),
        "sixty": make(console, f"[{', '.join(SIXTY)}]"),
        "few": make(console, f"[{', '.join(FEW)}]"),
    }
    yield made
    names = [f"api-{n:03}" for n in (1, 2, 3)]
    console.manage("shell", "-c", END.format(uid=uid_of(made["sixty"]), names=names))


def uid_of(address: str) -> str:
    return address.split("/")[2]


def names(page: Page) -> Locator:
    """The names of the rows that show."""
    return page.locator("#rows .inst:visible .nm")


def rows(page: Page) -> list[str]:
    """Those that show just now; where a page may be on its way, expect ``names``."""
    return names(page).all_inner_texts()


def chip(page: Page, word: str):
    return page.locator("a.chip", has_text=word)


def test_groups_of_three_demo_instances_appear_as_they_finish(visit, tmp_path: Path):
    gate = tmp_path / "gate"
    page = visit()
    page.fill("[name=name]", "Says hello")
    page.fill("[name=timeout]", "600")
    page.fill("[name=content]", DEMO.format(gate=gate))
    expect(page.get_by_role("switch", name="Use parameters")).to_be_checked()
    for name in ("demo-1", "demo-2", "demo-3"):
        page.get_by_role("checkbox", name=name, exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    expect(page.locator("#same-told")).to_have_text("2 same")
    expect(page.locator("#same-count")).to_have_text("1")
    page.get_by_role("link", name="Same output").click()
    expect(page.locator(".grp")).to_have_count(1)
    expect(page.locator(".grp .who p")).to_have_text("demo-1, demo-2")
    expect(page.locator(".grp pre")).to_contain_text("hello from demo-1")
    gate.touch()
    expect(page.locator(".grp")).to_have_count(2)
    expect(page.locator("#same-told")).to_have_text("2 same, 1 differs")
    page.get_by_role("link", name="Compare with the largest group").click()
    expect(page.locator(".diff .old")).to_contain_text("hello from ‹instance›")
    expect(page.locator(".diff .new")).to_contain_text("another word")
    results = Axe().run(page, options=RULES)
    assert results.violations_count == 0, results.generate_report()


def test_chips_and_the_filter_work_at_once_and_stand_in_the_address(visit, tasks):
    page = visit(at=tasks["few"])
    assert rows(page)[:3] == ["db-001", "db-002", "q-001"]
    chip(page, "Timed out").click()
    expect(page).to_have_url(re.compile("status=timeout"))
    expect(names(page)).to_have_text(["q-001"])
    expect(chip(page, "Timed out")).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(names(page)).to_have_count(15)
    find = page.get_by_role("searchbox", name="Filter by name")
    find.fill("exit:1")
    expect(page).to_have_url(re.compile("q=exit%3A1"))
    expect(names(page)).to_have_text(["db-001", "db-002"])
    find.fill("WEB-00 warm")
    expect(page.locator("#rows .inst:visible")).to_have_count(9)
    expect(page.locator("#rows .inst:visible").first).to_have_attribute(
        "href", re.compile(r"q=WEB-00\+warm")
    )
    find.fill("nowhere")
    expect(page.get_by_text("No instance matches.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("No instance matches.")).to_be_visible()
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator("#rows .inst:visible")).to_have_count(15)


def test_a_run_that_ends_leaves_the_list_of_those_that_run(console, visit):
    address = make(console, '[Part("api-", 3, "Running"), Part("web-", 2)]')
    page = visit(at=f"{address}?status=running")
    assert rows(page) == ["api-001", "api-002", "api-003"]
    chip(page, "Running").focus()
    end = END.format(uid=uid_of(address), names=["api-002"])
    console.manage("shell", "-c", end)
    expect(names(page)).to_have_text(["api-001", "api-003"])
    expect(chip(page, "Running")).to_have_text(re.compile("2$"))
    expect(chip(page, "Running")).to_be_focused()
    expect(chip(page, "Succeeded")).to_have_text(re.compile("3$"))
    end = END.format(uid=uid_of(address), names=["api-001", "api-003"])
    console.manage("shell", "-c", end)
    expect(page.get_by_text("No instance matches.")).to_be_visible()


def test_the_link_that_retries_stays_under_a_press(console, visit):
    address = make(console, '[Part("db-", 2, "Failed"), Part("api-", 3, "Running")]')
    page = visit(at=address)
    retry = page.get_by_role("link", name="Retry 2 failed")
    retry.focus()
    retry.hover()
    page.mouse.down()
    console.manage("shell", "-c", END.format(uid=uid_of(address), names=["api-002"]))
    expect(chip(page, "Succeeded")).to_have_text(re.compile("1$"))
    expect(retry).to_be_focused()
    page.mouse.up()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_be_visible()
    console.manage("shell", "-c", END.format(uid=uid_of(address), names=["api-001", "api-003"]))
    expect(page.locator("#retry .pri")).to_have_text("Retry 2 failed")


def test_everything_is_there_for_the_keyboard(visit, tasks):
    page = visit(at=tasks["few"])
    page.get_by_role("searchbox", name="Filter by name").focus()
    page.keyboard.type("v")  # a letter in a field is a letter
    expect(page.get_by_text("No instance matches.")).to_be_visible()
    page.get_by_role("searchbox", name="Filter by name").fill("")
    expect(page.locator("#rows .inst:visible")).to_have_count(15)
    page.keyboard.press("Tab")
    expect(page.locator(".inst").first).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".inst").nth(2)).to_be_focused()
    page.keyboard.press("k")
    expect(page.locator(".inst").nth(1)).to_be_focused()
    page.keyboard.press("3")
    expect(page).to_have_url(re.compile("status=timeout"))
    page.keyboard.press("1")
    expect(page).not_to_have_url(re.compile("status="))
    page.keyboard.press("v")
    page.wait_for_url("**view=same*")
    # What is not compared yet would come anew, and the focus would be in front again.
    expect(page.locator("#groups")).to_have_attribute("data-left", "0")
    page.locator(".grp .view").first.focus()
    page.keyboard.press("j")
    expect(page.locator(".grp .view").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**instance=i-q-001*")
    expect(page.locator("#shown-name")).to_have_text("q-001")


def test_a_thousand_instances_are_five_results_and_a_grid(visit, tasks):
    page = visit(viewport={"width": 1440, "height": 900}, at=tasks["thousand"])
    # What nobody compared yet is compared while somebody looks.
    expect(page.locator("#same-told")).to_have_text("941 same, 24 differ, 35 failed")
    expect(page.locator(".groups")).to_contain_text("5 distinct results from 1,000 instances")
    expect(page.locator(".grp .cnt b")).to_have_text(["29", "4", "2", "941", "24"])
    expect(page.locator(".grp .who p")).to_have_text(
        [
            "db-001 to db-029",
            "nfs-001 to nfs-004",
            "edge-001, edge-002",
            "web-001 to web-941",
            "build-001 to build-024",
        ]
    )
    expect(page.locator(".grp").first.get_by_role("link", name="Retry these")).to_be_visible()
    expect(page.locator(".grp").nth(3).get_by_role("link", name="Retry these")).to_have_count(0)
    grid = page.get_by_role("listbox", name="All instances")
    assert grid.locator("b").count() == 1_000
    grid.focus()  # where the output is from that shows
    expect(page.locator("#dot-told")).to_have_text("db-001: Failed")
    page.keyboard.press("End")
    expect(page.locator("#dot-told")).to_have_text("web-941: Succeeded")
    page.keyboard.press("Home")
    for _ in range(24):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#dot-told")).to_have_text("db-001: Failed")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#dot-told")).to_have_text(re.compile("^web-"))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**instance=i-db-001*")
    expect(page.locator("#shown-name")).to_have_text("db-001")
    box = page.locator(".term").bounding_box()
    assert box
    assert box["x"] > 700  # over the right half
    page.get_by_role("link", name="Close output").click()
    expect(page).not_to_have_url(re.compile("instance="))


def test_many_instances_are_listed_a_hundred_at_a_time(visit, tasks):
    page = visit(at=f"{tasks['thousand']}?view=instances")
    assert len(rows(page)) == 100
    page.get_by_role("link", name="Next").click()
    expect(page).to_have_url(re.compile("page=2"))
    expect(page.locator(".pgr")).to_contain_text("101 to 200 of 1,000")
    page.get_by_role("searchbox", name="Filter by name").fill("edge-")
    expect(page.locator("#rows .inst")).to_have_count(2)
    expect(page.get_by_role("searchbox", name="Filter by name")).to_be_focused()
    chip(page, "Timed out").click()
    expect(page.get_by_text("No instance matches.")).to_be_visible()


def test_squares_and_groups_of_many_follow_what_happens(console, visit, tasks):
    page = visit(at=tasks["sixty"])
    expect(page.locator("#same-told")).to_have_text("54 same, 1 differs, 2 failed")
    square = page.get_by_role("option", name="api-001: Running")
    expect(square).to_have_class("r")
    events = page.locator("#squares-now")
    expect(events).to_have_attribute("data-states", re.compile("^rrr"))
    end = END.format(uid=uid_of(tasks["sixty"]), names=["api-001"])
    console.manage("shell", "-c", end)
    expect(page.get_by_role("option", name="api-001: Succeeded")).to_have_class("o")
    page.reload()  # nobody carried it, so nobody but this page compares it
    expect(page.locator("#same-told")).to_have_text("54 same, 2 differ, 2 failed")
    page.get_by_role("link", name="Ignore numbers and times").click()
    expect(page).to_have_url(re.compile("loose=1"))
    expect(page.locator(".groups")).to_contain_text("4 distinct results from 58 instances")


def test_what_ends_while_the_list_is_on_its_way_shows_in_the_next(console, visit, tasks):
    page = visit()
    lists = HeldAnswers(page, "listed")
    page.goto(f"{tasks['sixty']}?view=instances")
    lists.wait()  # it shows what runs now
    end = END.format(uid=uid_of(tasks["sixty"]), names=["api-002"])
    console.manage("shell", "-c", end)
    expect(page.get_by_role("option", name="api-002: Succeeded")).to_have_class("o")
    lists.let_go()
    lists.let_go()
    row = page.locator("#rows .inst", has_text="api-002")
    expect(row).to_contain_text("exit 0")


VIEWS = {
    "few": "few",
    "few, groups": "few:view=same",
    "many, groups": "thousand",
    "many, list": "thousand:view=instances",
    "many, chosen": "thousand:instance=i-nfs-001",
    "running": "sixty",
}


def open_view(page: Page, tasks: dict[str, str], view: str) -> None:
    task, _, query = VIEWS[view].partition(":")
    page.goto(f"{tasks[task]}?{query}")


@pytest.mark.parametrize("view", VIEWS)
def test_it_is_accessible_and_fits_a_phone(visit, tasks, view):
    page = visit(at=None)
    open_view(page, tasks, view)
    assert_looks_good(page)


def test_all_of_it_works_without_javascript(visit, tasks):
    page = visit(java_script_enabled=False, at=tasks["few"])
    chip(page, "Failed").click()
    expect(names(page)).to_have_text(["db-001", "db-002"])
    page.get_by_role("searchbox", name="Filter by name").fill("002")
    page.get_by_role("button", name="Filter").click()
    expect(names(page)).to_have_text(["db-002"])
    page.get_by_role("link", name="Same output").click()
    expect(page.locator(".grp")).to_have_count(1)
    page.get_by_role("link", name="Clear filters").wait_for(state="hidden")
    chip(page, "All").click()
    page.get_by_role("searchbox", name="Filter by name").fill("")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".grp")).to_have_count(4)
    page.get_by_role("link", name="Compare with the largest group").last.click()
    expect(page.locator(".diff .new")).to_contain_text("note: slowly")
    page.go_back()
    page.get_by_role("link", name="View web-001").click()
    expect(page.locator("#shown-name")).to_have_text("web-001")
