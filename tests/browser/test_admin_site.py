"""The admin site in a browser: deciding on a request, at every width, without a policy broken."""

from __future__ import annotations

import os
from itertools import product

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

REQUEST = """
from django.utils import timezone
from commands.models import Region, Team, User
from commands.rules.quotas import Quota
from commands.services import quota_requests, teams
made = quota_requests.ask(
    actor=User.objects.get(username={who!r}), team=teams.first_team(),
    region=teams.default_region(), key=Quota.SAVED_COMMANDS, wanted={wanted},
    reason="Nightly backups of the whole fleet until the end of the year.", now=timezone.now(),
)
print(made.pk)
"""
LIMIT = """
from commands.rules.quotas import Quota
from commands.services import quotas, teams
place = {"team": teams.first_team(), "region": teams.default_region()}
print(quotas.limit(**place, key=Quota.SAVED_COMMANDS))
"""
PAGES = [
    "/admin/",
    "/admin/commands/quotaoverride/",
    "/admin/commands/quotarequest/",
    "/admin/commands/auditevent/",
    "/admin/commands/team/",
    "/admin/commands/resourcegroup/",
]


def looks(page, name):
    """Keep a picture where somebody wants to look at it."""
    if where := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{where}/{name}.png", full_page=True)


@pytest.fixture
def asked(console, member):
    operator = member("operator")
    code = REQUEST.format(who=operator, wanted=200)
    return int(console.manage("shell", "-c", code).split()[-1])


def test_a_request_is_approved_and_the_limit_in_force(console, visit, asked):
    page = visit(at="/admin/")
    page.get_by_role("link", name="Quota requests").first.click()
    page.get_by_role("link", name="Saved commands").first.click()
    expect(page.get_by_text("Nightly backups")).to_be_visible()
    looks(page, "request")
    page.get_by_label("Approve").check()
    page.get_by_label("Granted limit").fill("150")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert console.manage("shell", "-c", LIMIT).split()[-1] == "150"
    page.goto("/admin/commands/quotaoverride/?quota=saved_commands")
    limit = page.get_by_label("Limit: Saved commands of First team in Local")
    expect(limit).to_have_value("150")
    expect(page.get_by_role("row", name="Override").first).to_be_visible()
    limit.fill("100")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("1 limit is changed.")).to_be_visible()


@pytest.mark.parametrize("path", PAGES)
def test_it_is_accessible_and_fits(visit, path):
    page = visit()
    for theme, width in product(["light", "dark"], [1280, 390]):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(path)  # anew: colours fade from one theme to the other
        looks(page, f"{PAGES.index(path)}-{theme}-{width}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} wide"
        # Without preload: it puts Django's imported styles inline, which the policy refuses.
        found = Axe().run(page, options={"preload": False}).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == [], theme
