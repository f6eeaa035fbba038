"""The team portal in a real browser: joining by a link, asking for more, keyboard, both themes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, Console
from tests.browser.held import stop_clock
from tests.browser.looks import RULES, assert_accessible, assert_looks_good, on_phones

LIMIT = """
from commands.models import Team, User
from commands.rules.quotas import Quota
from commands.services import quotas, teams
quotas.set_limit(
    actor=User.objects.get(username="admin"), team=Team.objects.get(name={team!r}),
    region=teams.default_region(), key=Quota.SAVED_COMMANDS, limit={limit},
)
"""
APPROVE = """
from django.utils import timezone
from commands.models import QuotaRequest, User
from commands.services import quota_requests
quota_requests.approve(
    actor=User.objects.get(username="admin"), request=QuotaRequest.objects.get(team__name={team!r}),
    granted={granted}, now=timezone.now(),
)
"""
EVENTS = """
from commands.models import AuditEvent
found = AuditEvent.objects.filter(team_name={team!r}).order_by("pk")
print(" ".join(found.values_list("action", flat=True)))
"""
TEAM_UID = """
from commands.models import Team
print(Team.objects.get(name={team!r}).uid)
"""
PAGES = {
    "members": "/team/members/",
    "why": "/team/why/?command=&instance=&run_as=root",
    "quotas": "/team/quotas/",
    "request": "/team/quotas/request/",
    "lending": "/team/lending/",
    "approvals": "/team/approvals/",
    "audit": "/team/audit/",
    "settings": "/team/settings/",
}
WITH_ERRORS = {"request": "Send request", "lending": "Offer", "settings": "Save"}


@pytest.fixture
def team() -> str:
    return f"Portal {secrets.token_hex(3)}"


@pytest.fixture
def admin(member, team) -> str:
    return member("team_admin", team)


@pytest.fixture
def open_as(visit) -> Callable[..., Page]:
    def go(username: str, address: str, **options: object) -> Page:
        return visit(username=username, at=address, **options)

    return go


def invite(page: Page, email: str) -> str:
    """Invite somebody as operator; the link that is shown."""
    page.goto("/team/members/")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Role", exact=True).select_option("operator")
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_role("heading", name=f"{email} is invited")).to_be_visible()
    return page.locator("#link").inner_text()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_somebody_is_invited_and_joins(console: Console, visit, open_as, admin, team, scripts):
    name = f"lin-{secrets.token_hex(3)}"
    inviting = open_as(admin, "/team/members/", java_script_enabled=scripts)
    link = invite(inviting, f"{name}@example.com")
    mails = (console.data / "mail").iterdir()
    assert any(link in each.read_text().replace("=\n", "") for each in mails)

    joining = visit(signed_in=False, java_script_enabled=scripts)
    joining.goto(link)
    expect(joining.get_by_role("heading", name=f"Join {team}")).to_be_visible()
    joining.get_by_label("Choose a user name").fill(admin)  # taken
    joining.get_by_label("Full name").fill("Lin Wei")
    joining.get_by_label("Choose a password").fill(PASSWORD)
    joining.get_by_role("button", name="Create account and join").click()
    expect(joining.get_by_text("This user name is taken.")).to_be_visible()
    expect(joining.get_by_label("Full name")).to_have_value("Lin Wei")
    joining.get_by_label("Choose a user name").fill(name)
    joining.get_by_label("Choose a password").fill(PASSWORD)
    joining.get_by_role("button", name="Create account and join").click()
    expect(joining.get_by_text(f"Welcome to {team}. You are Operator.")).to_be_visible()

    inviting.goto("/team/members/")
    row = inviting.get_by_role("row").filter(has_text="Lin Wei")
    expect(row).to_contain_text(name)
    inviting.get_by_label("Role of Lin Wei").select_option("viewer")
    row.get_by_role("button", name="Change the role of Lin Wei").click()
    expect(inviting.get_by_text("Lin Wei is Viewer now.")).to_be_visible()
    joining.goto("/team/quotas/request/")  # in force at once
    expect(joining.get_by_role("heading", level=1)).not_to_contain_text("Request increase")

    again = visit(signed_in=False)
    again.goto(link)
    expect(again.get_by_role("heading", name="This invitation isn't valid")).to_be_visible()
    told = console.manage("shell", "-c", EVENTS.format(team=team)).splitlines()[-1].split()
    assert told == ["member:invite", "member:join", "member:role"]


def test_somebody_with_an_account_signs_in_and_joins(visit, open_as, admin, member, team):
    other = member("viewer", f"{team} elsewhere")
    link = invite(open_as(admin, "/team/members/"), "there@example.com")
    page = visit(signed_in=False)
    page.goto(link)
    page.get_by_role("link", name="Sign in and join").click()
    page.fill("[name=username]", other)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Join").click()
    expect(page.get_by_text(f"Welcome to {team}.")).to_be_visible()


def save_command(page: Page, name: str) -> None:
    page.goto("/commands/new/")
    page.fill("[name=name]", name)
    page.fill("[name=content]", "echo hi")
    page.get_by_role("button", name="Save command", exact=True).click()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_higher_limit_is_asked_for_approved_and_in_force(
    console: Console, open_as, member, team, scripts
):
    operator = member("operator", team)
    console.manage("shell", "-c", LIMIT.format(team=team, limit=1))
    page = open_as(operator, "/", java_script_enabled=scripts)
    save_command(page, "first")
    page.wait_for_url(re.compile("/commands/c-"))
    save_command(page, "second")
    expect(page.locator("#errors")).to_contain_text("its only saved command")

    page.goto("/team/quotas/")
    row = page.locator("[data-quota=saved_commands]")
    expect(row).to_contain_text("Full")
    row.get_by_role("link", name="Request increase").click()
    page.get_by_label("New limit").fill("1")
    page.get_by_label("Reason").fill("Nightly backups until the end of the year.")
    page.get_by_role("button", name="Send request").click()
    expect(page.locator("#errors")).to_contain_text("Enter a number above 1.")
    expect(page.get_by_label("Reason")).to_have_value("Nightly backups until the end of the year.")
    page.get_by_label("New limit").fill("5")
    page.get_by_role("button", name="Send request").click()
    expect(row).to_contain_text(f"Requested 5 by {operator}, waiting")

    console.manage("shell", "-c", APPROVE.format(team=team, granted=3))
    page.goto("/tasks/")
    banner = page.get_by_text("Approved: saved commands is now 3")
    expect(banner).to_be_visible()
    page.get_by_role("button", name="Got it").click()
    page.wait_for_url("**/tasks/")
    expect(banner).to_have_count(0)
    save_command(page, "second")
    page.wait_for_url(re.compile("/commands/c-"))
    page.goto("/team/quotas/")
    expect(row).to_contain_text("2 of 3")
    expect(row).to_contain_text("1 left")


def test_with_the_keyboard_alone_somebody_is_invited(open_as, admin):
    page = open_as(admin, "/team/members/")
    page.get_by_label("E-mail address").focus()
    page.keyboard.type("keys@example.com")
    page.keyboard.press("Enter")
    expect(page.locator("#given")).to_be_focused()
    page.get_by_role("button", name="Revoke keys@example.com").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The invitation to keys@example.com is revoked.")).to_be_visible()
    page.get_by_label("E-mail address").focus()
    page.keyboard.type("nobody")
    page.keyboard.press("Enter")
    expect(page.locator("#errors")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.type("x")
    expect(page.get_by_label("E-mail address")).to_be_focused()


def test_a_link_is_copied(open_as, admin):
    page = open_as(admin, "/team/members/", permissions=["clipboard-read", "clipboard-write"])
    link = invite(page, "copy@example.com")
    stop_clock(page)  # it says so for two seconds only
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == link


def test_each_page_is_accessible_and_fits_a_phone(open_as, visit, admin, member, team):
    member("operator", team)
    page = open_as(admin, "/")
    for name, address in PAGES.items():
        page.goto(address)
        assert_looks_good(page, name)
        for _ in on_phones(page):
            cut = page.evaluate(
                "[...document.querySelectorAll('main .card')]"
                ".some((card) => card.scrollWidth > card.clientWidth)"
            )
            assert not cut, name
        if name in WITH_ERRORS:
            page.locator("[name=wanted], [name=team], [name=keep_days]").first.fill("x")
            page.get_by_role("button", name=WITH_ERRORS[name]).click()
            page.wait_for_selector("#errors")
            assert_accessible(page, f"{name} with errors")
    for name in ("Narrow", "Remove"):
        page.goto("/team/members/")
        page.get_by_role("link", name=name).first.click()
        expect(page).not_to_have_url(re.compile("/team/members/$"))
        assert_accessible(page, name)
    link = invite(page, "a-rather-long-address-of-somebody@example.com")
    assert_looks_good(page, "invited")
    stranger = visit(signed_in=False)
    stranger.goto(link)
    assert_looks_good(stranger, "joining")
    stranger.get_by_role("button", name="Create account and join").click()
    stranger.wait_for_selector(".err")
    assert_accessible(stranger, "joining with errors")
    page.goto(link)
    assert_accessible(page, "joining with an account")


def test_an_instance_is_offered_accepted_used_and_given_back(
    console: Console, open_as, admin, member, team
):
    """From the team that has the demo instances to another one, and back."""
    lender = open_as("admin", "/team/lending/")
    uid = console.manage("shell", "-c", TEAM_UID.format(team=team)).split()[-1]
    lender.fill("#id_instance", "demo-2")
    lender.fill("#id_team", uid)
    lender.get_by_role("button", name="Offer").click()
    row = lender.get_by_role("row").filter(has_text=team)
    expect(row).to_contain_text("waiting for acceptance")

    page = open_as(admin, "/instances/")
    expect(page.get_by_text("demo-2")).to_have_count(0)
    page.goto("/team/lending/")
    offered = page.get_by_role("region", name="Instances offered to us")
    expect(offered).to_contain_text("demo-2")
    found = Axe().run(page, options=RULES)
    assert found.response["violations"] == []
    offered.get_by_role("button", name="Accept demo-2").click()
    expect(page.get_by_text(f"{team} can run tasks on demo-2 now.")).to_be_visible()

    page.goto("/run/")
    page.fill("[name=name]", "borrowed")
    page.fill("[name=content]", "echo hello from a loan")
    page.get_by_role("checkbox", name="demo-2").check()
    page.get_by_role("button", name="Create Task").click()
    expect(page.get_by_text("hello from a loan", exact=True).first).to_be_visible()

    page.goto("/team/lending/")
    page.get_by_role("button", name="Give back demo-2").click()
    expect(page.get_by_text("demo-2 is given back to")).to_be_visible()
    lender.goto("/team/lending/")
    expect(row).to_have_count(0)
    page.goto("/instances/")
    expect(page.get_by_role("table")).to_have_count(0)
