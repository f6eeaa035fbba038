"""A second factor in a real browser: set up, used to sign in, and done without by recovery code."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial

import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD
from tests.browser.looks import assert_looks_good

STEP_S = 30
PAGES = {
    "security": "/account/security/",
    "new codes": "/account/security/codes/",
    "turn off": "/account/security/turn-off/",
    "password": "/account/password/",
}


@pytest.fixture
def operator(member) -> str:
    return member("operator")


def set_up(page: Page) -> tuple[pyotp.TOTP, list[str]]:
    """Set up a second factor as somebody with a phone does; the app, and the recovery codes."""
    page.goto("/account/security/")
    page.get_by_role("link", name="Set up").click()
    app = pyotp.TOTP(page.locator("code.key").inner_text().replace(" ", ""))
    page.get_by_label("Enter the code that it shows").fill(app.now())
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_text("The second factor is on.")).to_be_visible()
    page.wait_for_load_state()
    return app, page.locator(".codes code").all_inner_texts()


def give_password(page: Page, username: str) -> None:
    """The first step of signing in, which leads to the second."""
    page.goto("/sign-in/")
    page.fill("[name=username]", username)
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Enter a code")).to_be_visible()


def give_code(page: Page, code: str) -> None:
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Sign in").click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Account of").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in/")


def expect_overview(page: Page) -> None:
    page.wait_for_url(re.compile("//[^/]+/$"))
    expect(page.get_by_role("link", name="Run a command").first).to_be_visible()


def test_it_is_set_up_and_asked_for_and_a_recovery_code_does_too(visit, operator):
    page = visit(username=operator)
    app, codes = set_up(page)
    assert len(set(codes)) == 10
    page.get_by_role("link", name="I kept them").click()
    expect_overview(page)

    sign_out(page)
    give_password(page, operator)
    page.goto("/tasks/")  # the password alone opens nothing
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    give_password(page, operator)
    give_code(page, "000000" if app.now() != "000000" else "111111")
    expect(page.get_by_role("alert")).to_contain_text("That code doesn't match.")
    expect(page.get_by_label("Code")).to_be_focused()
    # The code that set it up is used; an app that is one step ahead shows the next already.
    give_code(page, app.at(int(time.time()) + STEP_S))
    expect_overview(page)

    sign_out(page)
    give_password(page, operator)
    give_code(page, codes[0])
    expect_overview(page)
    page.goto("/account/security/")
    expect(page.get_by_text("9 recovery codes are left.")).to_be_visible()

    sign_out(page)
    give_password(page, operator)
    give_code(page, codes[0])  # each works once
    expect(page.get_by_role("alert")).to_contain_text("That code doesn't match.")


def each_page(page: Page, username: str, check: Callable[[str], None]) -> None:
    """Walk through every page of the second factor and of signing in with it, and check each."""
    page.goto("/account/security/")
    check("security, off")
    page.goto("/account/security/second-factor/")
    check("set up")
    page.get_by_label("Enter the code that it shows").fill("no code")
    page.get_by_role("button", name="Turn on").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check("set up, refused")
    set_up(page)
    check("recovery codes")
    for name, address in PAGES.items():
        page.goto(address)
        check(name)
    sign_out(page)
    give_password(page, username)
    check("code")
    give_code(page, "no code")
    expect(page.get_by_role("alert")).to_be_visible()
    check("code, refused")


def test_each_page_is_accessible_and_fits_a_phone(visit, operator):
    page = visit(username=operator)
    each_page(page, operator, partial(assert_looks_good, page))
