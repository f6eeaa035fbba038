"""Being told: the tab's icon, a notification, rules of a team, and runs that wait for input."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.looks import RULES, assert_accessible

# What the browser is asked to show, as nobody looks at a headless one.
HEAR = """
window.heard = [];
let asked = localStorage.getItem("asked") === "yes";
const Real = window.Notification;
window.Notification = class extends Real {
  constructor(title, options) {
    super(title, options);
    window.heard.push({ title, ...options });
  }
  static get permission() { return asked ? "granted" : super.permission; }
  static async requestPermission() {
    const answer = await Real.requestPermission();
    asked = answer === "granted";
    localStorage.setItem("asked", asked ? "yes" : "no");
    return answer;
  }
};
"""
# Chromium's headless shell grants what was asked for, and reads "denied" afterwards all the same.
AGE = """
from datetime import timedelta
from django.utils import timezone
from commands.models import OutputChunk, Run
then = timezone.now() - timedelta(seconds={seconds})
runs = Run.objects.filter(invocation__uid={uid!r})
runs.update(started_at=then)
OutputChunk.objects.filter(run__in=runs).update(arrived_at=then)
"""


def create(page: Page, script: str, *instances: str) -> str:
    """A new task; its id."""
    page.goto("/run/")
    page.fill("[name=name]", "Told")
    page.get_by_role("switch", name="Save command").uncheck()
    page.fill("[name=content]", script)
    for instance in instances or ("demo-1",):
        page.get_by_role("checkbox", name=instance, exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    return page.url.rstrip("/").split("/")[-1]


def gate(tmp_path: Path) -> tuple[Path, str]:
    """A file, and what in a script waits for it."""
    mark = tmp_path / secrets.token_hex(6)
    return mark, f"until [ -e {mark} ]; do sleep 0.1; done"


def icon(page: Page) -> str:
    return page.locator('link[rel="icon"]').get_attribute("href").split("/")[-1]


def test_a_wanted_notification_comes_when_the_task_ends(visit, tmp_path):
    page = visit(permissions=["notifications"])
    page.add_init_script(HEAR)
    mark, wait = gate(tmp_path)
    create(page, f"echo hi; {wait}")
    expect(page.locator('link[rel="icon"]')).to_have_attribute("href", re.compile("-run.svg$"))
    button = page.get_by_role("button", name="Notify me when it ends")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#notify-note")).to_contain_text("This browser notifies you")
    mark.touch()
    expect(page).to_have_title(re.compile("^Succeeded: Told"))
    expect(page.locator('link[rel="icon"]')).to_have_attribute("href", re.compile("-ok.svg$"))
    expect(page.locator("#say")).to_have_text("Finished: 1 succeeded")
    (told,) = page.evaluate("window.heard")
    assert (told["title"], told["body"]) == ("Succeeded: Told", "1 succeeded")
    assert told["icon"].endswith("favicon-ok.svg")
    expect(button).to_be_hidden()
    # It is remembered, and can be taken back.
    mark, wait = gate(tmp_path)
    create(page, f"echo hi; {wait}; exit 3")
    button = page.get_by_role("button", name="Notify me when it ends")
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    mark.touch()
    expect(page.locator('link[rel="icon"]')).to_have_attribute("href", re.compile("-bad.svg$"))
    expect(page).to_have_title(re.compile("^Failed: Told"))
    assert page.evaluate("window.heard") == []
    page.reload()
    assert icon(page) == "favicon-bad.svg"
    expect(page.get_by_role("button", name="Notify me when it ends")).to_have_count(0)


def test_a_browser_that_refuses(visit, tmp_path):
    page = visit()
    page.add_init_script("Notification.requestPermission = () => Promise.resolve('denied');")
    mark, wait = gate(tmp_path)
    create(page, wait)
    button = page.get_by_role("button", name="Notify me when it ends")
    button.click()
    expect(page.locator("#notify-note")).to_contain_text("does not let this site notify you")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert Axe().run(page, options=RULES).response["violations"] == []
    mark.touch()
    expect(page).to_have_title(re.compile("^Succeeded: Told"))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("Object.defineProperty(window, 'isSecureContext', {value: false})", "only on pages that"),
        ("delete window.Notification", "can’t notify you"),
    ],
)
def test_where_there_are_no_notifications(visit, tmp_path, script, words):
    page = visit()
    page.add_init_script(script)
    mark, wait = gate(tmp_path)
    create(page, wait)
    page.get_by_role("button", name="Notify me when it ends").click()
    expect(page.locator("#notify-note")).to_contain_text(words)
    mark.touch()
    expect(page).to_have_title(re.compile("^Succeeded: Told"))


def test_rules_tests_and_deliveries(visit):
    page = visit()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Notices").click()
    page.get_by_role("link", name="Add a rule").click()
    expect(page.get_by_label("Address of the webhook")).to_be_hidden()
    page.get_by_label("Addresses").fill("ops@example.com")
    page.get_by_label("Every task that ends").check()
    page.get_by_role("button", name="Add the rule").click()
    row = page.get_by_role("listitem").filter(has_text="ops@example.com")
    row.get_by_role("button", name="Send a test").click()
    # Without a reload: the mail goes to the worker's log.
    deliveries = page.get_by_role("region", name="Last deliveries")
    expect(deliveries.get_by_role("row").nth(1)).to_contain_text("Sent")
    expect(deliveries.get_by_role("button", name="Refresh")).to_have_count(0)
    create(page, "echo hi")
    expect(page).to_have_title(re.compile("^Succeeded: Told"))
    # What ends is told a moment later, and the page looks again only while something is to be sent.
    until = time.monotonic() + PATIENCE_MS / 1000
    while True:
        page.goto("/team/notices/")
        first = page.get_by_role("region", name="Last deliveries").get_by_role("row").nth(1)
        if "Told" in first.inner_text() or time.monotonic() > until:
            break
        page.wait_for_timeout(500)
    expect(first).to_contain_text("Told")
    page.get_by_role("link", name="ops@example.com").click()
    page.get_by_text("Delete this rule").click()
    page.get_by_role("button", name="Delete the rule").click()
    expect(page.get_by_text("No rules yet")).to_be_visible()


def test_a_webhook_and_its_secret(visit):
    page = visit(at="/team/notices/add/")
    page.get_by_label("Webhook", exact=True).check()
    expect(page.get_by_label("Addresses")).to_be_hidden()
    page.get_by_label("Address of the webhook").fill("http://127.0.0.1/")
    page.get_by_role("button", name="Add the rule").click()
    expect(page.get_by_role("alert")).to_contain_text("over https:// only")
    page.get_by_label("Address of the webhook").fill("https://chat.example/hooks/abc")
    page.get_by_role("button", name="Add the rule").click()
    expect(page.locator(".secret")).to_have_text(re.compile(r"^\s*\S{43}\s*$"))
    page.wait_for_load_state()
    assert Axe().run(page, options=RULES).response["violations"] == []
    page.get_by_role("link", name="Done").click()
    page.get_by_role("link", name="https://chat.example").click()
    page.get_by_text("Delete this rule").click()
    page.get_by_role("button", name="Delete the rule").click()
    expect(page.get_by_text("No rules yet")).to_be_visible()


FILL = """
from datetime import timedelta
from django.utils import timezone
from commands.models import Notice, User
from commands.services import notice_rules, teams
from commands.services.notice_rules import RuleInput
team, now = teams.first_team(), timezone.now()
admin = User.objects.get(username="admin")
for rule in (
    RuleInput("webhook", "https://" + "very-" * 12 + "long.example/x", "always"),
    RuleInput("email", "ops@example.com", "problems", enabled=False),
):
    made = notice_rules.add_rule(actor=admin, team=team, rule=rule, now=now)
    Notice.objects.create(team=team, rule=made, made_at=now, state="given_up", ended_at=now,
        attempts=1, last_error="It can't be reached: Connection refused.")
    Notice.objects.create(team=team, rule=made, made_at=now, state="sent", ended_at=now, attempts=1)
    Notice.objects.create(team=team, rule=made, made_at=now, attempts=3, next_at=now + timedelta(1),
        last_error="It answered 500.")
"""
EMPTY = "from commands.models import NoticeRule; NoticeRule.objects.all().delete()"


@pytest.fixture
def filled(console):
    console.manage("shell", "-c", FILL)
    yield
    console.manage("shell", "-c", EMPTY)


@pytest.mark.parametrize("width", [1280, 390])
def test_how_it_looks(visit, filled, width):
    page = visit(viewport={"width": width, "height": 900})
    for path in ("/team/notices/add/", "/team/notices/"):
        page.goto(path)
        assert_accessible(page, path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.get_by_role("link", name="ops@example.com").click()
    page.wait_for_url("**/team/notices/*/")
    assert_accessible(page, "a rule")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript(visit):
    page = visit(java_script_enabled=False, at="/team/notices/add/")
    page.get_by_label("Addresses").fill("ops@example.com")
    page.get_by_role("button", name="Add the rule").click()
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("A test is on its way.")).to_be_visible()
    page.get_by_role("link", name="ops@example.com").click()
    page.get_by_text("Delete this rule").click()
    page.get_by_role("button", name="Delete the rule").click()
    expect(page.get_by_text("No rules yet")).to_be_visible()


def test_a_run_that_waits_for_input_is_told(visit, console):
    page = visit(at=None)
    uid = create(page, "echo hi; sleep 600 | script -qc 'read x' /dev/null")
    expect(page.locator("#log")).to_contain_text("hi")
    expect(page.locator("#quiet")).to_be_hidden()
    console.manage("shell", "-c", AGE.format(uid=uid, seconds=72))
    note = page.locator("#log-note")
    expect(note).to_contain_text("Waits for input: ")
    expect(note).to_contain_text("reads from a terminal")
    assert Axe().run(page, options=RULES).response["violations"] == []
    expect(page.locator("#quiet")).to_be_hidden()
    page.get_by_role("link", name="Stop task").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").first.click()
    expect(page).to_have_title(re.compile("^Stopped: Told"))
    expect(note).not_to_contain_text("Waits for input")


def test_a_silence_is_told(visit, console, tmp_path):
    page = visit()
    mark, wait = gate(tmp_path)
    uid = create(page, f"echo hi; {wait}; echo more; sleep 600")
    expect(page.locator("#log")).to_contain_text("hi")
    console.manage("shell", "-c", AGE.format(uid=uid, seconds=72))
    page.reload()
    expect(page.locator("#quiet")).to_have_text(re.compile(r"No output for 01:\d\d"))
    mark.touch()
    expect(page.locator("#log")).to_contain_text("more")
    expect(page.locator("#quiet")).to_be_hidden()
    page.get_by_role("link", name="Stop task").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").first.click()
    expect(page).to_have_title(re.compile("^Stopped: Told"))
