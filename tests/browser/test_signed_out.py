"""Signed out in the middle of a form: what was written comes back, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PASSWORD, Console

SCRIPT = "# who am I\nid «ö» & uname -a\necho {{greeting}}, {{api_token}}"
VALUES = {
    "name": "Kept <name>",
    "content": SCRIPT,
    "workdir": "/tmp",
    "timeout": "77",
    "description": 'What "it" is for',
}
PICKED = ["demo-1", "demo-3"]
DELETE = (
    "from django.contrib.sessions.models import Session; Session.objects.filter(pk={!r}).delete()"
)


@pytest.fixture
def end_session(console: Console):
    """Delete the session of a page on the server, as an expiry or an admin does."""

    def end(page: Page) -> None:
        key = next(c["value"] for c in page.context.cookies() if c["name"] == "sessionid")
        console.manage("shell", "-c", DELETE.format(key))

    return end


def fill(page: Page, *, scripts: bool = True) -> None:
    page.get_by_role("switch", name="Use parameters").check()
    for name, value in VALUES.items():
        page.fill(f"[name={name}]", value)
    if scripts:
        # A row comes for each parameter, and moves what stands below: a click would go astray.
        expect(page.locator("[name=param-api_token]")).to_be_visible()
    for instance in PICKED:
        page.get_by_role("checkbox", name=instance, exact=True).check()


def create(page: Page) -> None:
    page.get_by_role("button", name="Create task").click()


def sign_in_here(page: Page, username: str, password: str = PASSWORD) -> None:
    page.fill("[name=username]", username)
    page.fill("[name=password]", password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def assert_all_there(page: Page) -> None:
    for name, value in VALUES.items():
        expect(page.locator(f"[name={name}]")).to_have_value(value)
    expect(page.get_by_role("switch", name="Use parameters")).to_be_checked()
    expect(page.locator("[name=instances]:checked")).to_have_count(len(PICKED))
    for instance in PICKED:
        expect(page.get_by_role("checkbox", name=instance, exact=True)).to_be_checked()


@pytest.mark.parametrize("scripts", [True, False])
def test_the_form_is_back_after_signing_in(visit, member, end_session, scripts):
    name = member("operator")
    page = visit(username=name, java_script_enabled=scripts)
    fill(page, scripts=scripts)
    end_session(page)
    create(page)
    expect(page.get_by_text("Your form is kept. Sign in to go on.")).to_be_visible()
    assert "Kept" not in page.content()
    sign_in_here(page, name, "not the password")
    expect(page.get_by_role("alert")).to_contain_text("don't match")
    page.goto("/sign-in/?next=/run/")
    expect(page.get_by_text("Your form is kept. Sign in to go on.")).to_be_visible()
    sign_in_here(page, name)
    page.wait_for_url("**/run/")
    assert_all_there(page)
    create(page)
    page.wait_for_url("**/tasks/t-*/")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Kept <name>")


def test_values_of_parameters_are_back(visit, member, end_session):
    name = member("operator")
    page = visit(username=name, java_script_enabled=False)
    fill(page, scripts=False)
    page.get_by_role("button", name="Update parameters").click()
    page.fill("[name=param-greeting]", "hello")
    page.fill("[name=param-api_token]", "s3cr3t-value")
    end_session(page)
    create(page)
    sign_in_here(page, name)
    page.wait_for_url("**/run/")
    assert_all_there(page)
    expect(page.locator("[name=param-greeting]")).to_have_value("hello")
    assert "s3cr3t-value" not in page.content()
    expect(page.get_by_text("Kept from your last try. Type to change it.")).to_be_visible()


def test_somebody_else_in_the_same_browser_sees_nothing(visit, member, end_session):
    page = visit(username=member("operator"))
    fill(page)
    end_session(page)
    create(page)
    page.wait_for_url("**/sign-in/**")
    sign_in_here(page, member("operator"))
    page.wait_for_url("**/run/")
    expect(page.locator("[name=name]")).not_to_have_value(re.compile("Kept"))
    expect(page.locator("[name=content]")).not_to_have_value(re.compile("who am I"))


def test_a_search_says_that_one_is_signed_out_and_goes_on(visit, member, end_session):
    name = member("operator")
    page = visit(username=name)
    fill(page)
    end_session(page)
    bar = page.locator("#signed-out")
    expect(bar).to_be_hidden()
    page.locator("#id_q").press_sequentially("demo")
    expect(bar).to_be_visible()
    expect(page.get_by_role("alert")).to_have_text(
        "You've been signed out. Sign in in a new tab, then try again. Your form is still here."
    )
    with page.expect_popup() as opened:
        bar.get_by_role("link", name="Sign in in a new tab").click()
    sign_in_here(opened.value, name)
    opened.value.wait_for_url(re.compile("//[^/]+/$"))
    page.locator("#id_q").fill("demo-")
    expect(bar).to_be_hidden()
    assert_all_there(page)
    create(page)
    page.wait_for_url("**/tasks/t-*/")
