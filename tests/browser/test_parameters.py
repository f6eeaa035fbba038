"""Parameters in the form, with and without JavaScript, against a real instance."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.looks import RULES
from tests.browser.test_journey import lines

CONTENT = "echo {{greeting}} {{ Greeting }} from {{ACS::InstanceName}}\necho {{api_token}} | wc -c"


@pytest.mark.parametrize("javascript", [True, False])
def test_values_are_filled_on_each_instance(visit, javascript):
    page = visit(java_script_enabled=javascript)
    page.fill("[name=name]", "Greets")
    page.fill("[name=content]", CONTENT)
    if javascript:  # it turns itself on
        expect(page.get_by_role("switch", name="Use parameters")).to_be_checked()
    else:
        page.get_by_role("switch", name="Use parameters").check()
        page.get_by_role("button", name="Update parameters").click()
    expect(page.get_by_label("greeting")).to_be_visible()
    assert page.input_value("[name=name]") == "Greets"
    page.get_by_label("greeting").fill("hello")
    page.get_by_label("api_token").fill("s3cret")
    assert page.get_by_label("api_token").get_attribute("type") == "password"
    if javascript:
        assert Axe().run(page, options=RULES).violations_count == 0
    for name in ("demo-1", "demo-2"):
        page.get_by_role("checkbox", name=name, exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    while not re.match("Succeeded", page.title()):
        page.wait_for_timeout(300)
        page.reload()
    expect(page.locator("#log .ln")).to_have_count(2)
    assert lines(page) == ["hello hello from demo-1", "7"]
    assert "s3cret" not in page.content()


def test_a_bad_name_is_told_with_its_line_and_nothing_is_lost(visit):
    page = visit()
    page.fill("[name=name]", "Bad")
    page.fill("[name=content]", "true\ndocker ps --format '{{.Names}}'")
    page.get_by_role("switch", name="Use parameters").check()
    page.get_by_role("checkbox", name="demo-1", exact=True).check()
    page.press("[name=name]", "Enter")
    expect(page.get_by_role("alert")).to_contain_text(
        "{{.Names}}` on line 2, column 21, isn't a parameter name"
    )
    assert "docker ps" in page.input_value("[name=content]")
    expect(page.get_by_role("switch", name="Use parameters")).to_be_checked()
    page.get_by_role("switch", name="Use parameters").uncheck()
    page.press("[name=name]", "Enter")
    page.wait_for_url("**/tasks/t-*/")
