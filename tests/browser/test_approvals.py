"""Four eyes in a real browser: one member creates, another reads and decides, both see it live."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import sign_in
from tests.browser.looks import assert_accessible

RULE = """
from django.utils import timezone
from commands.models import User
from commands.services import approval_rules, teams
approval_rules.set_rule(
    actor=User.objects.get(username="admin"), team=teams.first_team(),
    more_than={more_than!r}, hours="24", now=timezone.now(),
)
"""
INSTANCES = ("demo-1", "demo-2")


@pytest.fixture(autouse=True)
def rule(console):
    """Tasks on more than one instance need approval; other tests' tasks do not afterwards."""
    console.manage("shell", "-c", RULE.format(more_than="1"))
    yield
    console.manage("shell", "-c", RULE.format(more_than=""))


def create_waiting(page: Page, script: str) -> None:
    """Create a task that waits, having read before that it will."""
    page.goto("/run/")
    page.fill("[name=name]", "Looks shared")
    page.fill("[name=content]", script)
    expect(page.locator("#approval-note .note")).to_have_count(0)
    for instance in INSTANCES:
        page.get_by_role("checkbox", name=instance, exact=True).check()
    note = page.locator("#approval-note")
    expect(note).to_contain_text("This task will wait for approval of another member")
    expect(note).to_contain_text("Number of instances: 2, which is more than 1.")
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    expect(banner(page)).to_contain_text("Waiting for approval of another member")


def banner(page: Page):
    return page.locator("#approval")


def test_another_member_reads_and_approves_and_both_see_it_run(visit, member):
    creator, approver = visit(username=member("operator")), visit(signed_in=False)
    create_waiting(creator, "echo seen by four eyes")
    sign_in(approver, member("operator"))
    waits = approver.get_by_role("region", name="Waiting for approval")
    waits.get_by_role("link", name=re.compile("Read it")).last.click()
    approver.wait_for_url(creator.url)
    expect(banner(approver)).to_contain_text("echo seen by four eyes")
    assert_accessible(approver)
    banner(approver).get_by_role("link", name="Approve").click()
    dialog = approver.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Approve, and run it on 2 instances?")
    dialog.get_by_label("Comment").fill("Looks right")
    dialog.get_by_role("button", name="Approve").click()
    for page in (approver, creator):
        expect(banner(page)).to_contain_text("Looks right")
        expect(banner(page).get_by_role("heading")).to_contain_text("Approved by operator-")
        expect(page.locator("#log")).to_contain_text("seen by four eyes")
        expect(page).to_have_title(re.compile("Succeeded: Looks shared"))


def test_who_asked_reads_why_it_was_declined(visit, member):
    creator = visit(username=member("operator"))
    create_waiting(creator, "echo never")
    narrow = {"width": 390, "height": 844}
    approver = visit(username=member("operator"), viewport=narrow)
    approver.goto(creator.url)
    assert approver.evaluate("document.documentElement.scrollWidth") <= 390
    banner(approver).get_by_role("link", name="Decline").click()
    dialog = approver.get_by_role("dialog")
    dialog.get_by_label("Comment").fill("Not on a Friday")
    dialog.get_by_role("button", name="Decline").click()
    expect(banner(creator)).to_contain_text("Not on a Friday")
    expect(banner(creator).get_by_role("heading")).to_contain_text("Declined by operator-")
    expect(creator).to_have_title(re.compile("Stopped: Looks shared"))
    expect(creator.locator("#log .ln")).to_have_count(0)
