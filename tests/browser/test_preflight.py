"""Looking at instances before a task is created, in a real browser, on real SSH servers."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.held import Held
from tests.browser.looks import assert_looks_good
from tests.conftest import missing
from tests.sshd import Sshd

DEMOS = ["demo-1", "demo-2", "demo-3"]
OTHERS = ["elsewhere", "gone"]

# What nobody checks meanwhile: the checker would find that one is gone and forbid choosing it.
ADD = """
import json
from datetime import timedelta
from django.utils import timezone
from commands.models import Instance, User
from commands.services import instances, teams
given = json.loads({given!r})
admin, team, region = User.objects.get(username="admin"), teams.first_team(), teams.default_region()
where = dict(actor=admin, team=team, region=region)
credential = instances.add_credential(
    **where, name="Key of the preflight", private_key=given["private_key"]
)
for name, port in given["ports"].items():
    made = instances.add_instance(
        **where, name=name, host="127.0.0.1", port=port, user=given["user"],
        credential=credential, host_key=given["host_key"], tags=dict(role="preflight"),
    )
    Instance.objects.filter(pk=made.pk).update(
        connection="reachable", checked_at=timezone.now() + timedelta(days=1)
    )
"""
REMOVE = """
from commands.models import Credential, Instance
Instance.objects.filter(tags__key="role", tags__value="preflight").delete()
Credential.objects.filter(name="Key of the preflight").delete()
"""


@pytest.fixture(scope="module")
def place(console, tmp_path_factory) -> Iterator[str]:
    """A directory that is there on the demo instances, and missing on "elsewhere"."""
    if os.getuid() != 0:
        missing("a root shell, which alone can hide a directory,")
    parent: Path = tmp_path_factory.mktemp("machine")
    (parent / "app").mkdir()
    hide = f"mount -t tmpfs none {parent} && exec /bin/sh -s"
    command = f'exec unshare -m /bin/sh -c "{hide}"'
    with (
        Sshd.started(tmp_path_factory.mktemp("server"), ForceCommand=command) as [server],
        socket.socket() as closed,
    ):
        closed.bind(("127.0.0.1", 0))
        endpoint = server.endpoint
        given = {
            "private_key": endpoint.private_key,
            "user": endpoint.user,
            "host_key": endpoint.host_key,
            "ports": {"elsewhere": server.port, "gone": closed.getsockname()[1]},
        }
        console.manage("shell", "-c", ADD.format(given=json.dumps(given)))
        try:
            yield str(parent / "app")
        finally:
            console.manage("shell", "-c", REMOVE)


def fill(page: Page, place: str, instances: list[str]) -> None:
    page.goto("/run/")
    page.fill("[name=name]", "Careful")
    page.fill("[name=content]", "#!/usr/bin/env sh\necho here: $PWD")
    page.fill("[name=workdir]", place)
    for name in instances:
        page.get_by_role("checkbox", name=name, exact=True).check()


def row(page: Page, name: str):
    return page.locator(".checks tbody tr").filter(has=page.get_by_text(name, exact=True))


def check_all(page: Page, place: str) -> None:
    fill(page, place, [*DEMOS, *OTHERS])
    page.get_by_role("button", name="Check these 5 before running").click()
    expect(page.locator("#preflight-sum")).to_have_text("3 of 5 instances are ready.")


def test_going_on_with_those_that_pass(visit, place):
    page = visit()
    check_all(page, place)
    for name in DEMOS:
        expect(row(page, name)).to_contain_text("Ready")
    expect(row(page, "elsewhere")).to_contain_text("DirectoryNotExists")
    expect(row(page, "elsewhere")).to_contain_text(f"The execution path {place} does not exist")
    expect(row(page, "gone")).to_contain_text("ConnectionRefused")
    assert page.locator("#preflight .stale").is_hidden()
    page.get_by_role("button", name="Continue with the 3 that pass").click()
    expect(page.get_by_text("3 of 50 selected").first).to_be_visible()
    expect(page.locator("#create")).to_be_focused()
    for name in OTHERS:
        expect(page.get_by_role("checkbox", name=name, exact=True)).not_to_be_checked()
    assert page.input_value("[name=name]") == "Careful"
    assert page.input_value("[name=workdir]") == place
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    expect(page).to_have_title(re.compile("^Succeeded: "))
    expect(page.locator("#log")).to_contain_text(f"here: {place}")


def test_what_changes_afterwards_is_told(visit, place):
    page = visit()
    fill(page, place, ["demo-1"])
    page.get_by_role("button", name="Check this instance before running").click()
    expect(page.locator("#preflight-sum")).to_have_text("The instance is ready.")
    expect(page.locator("#preflight-says")).to_have_text("The instance is ready.")
    stale = page.locator("#preflight .stale")
    expect(stale).to_be_hidden()
    page.get_by_role("checkbox", name="demo-2", exact=True).check()
    expect(stale).to_be_visible()
    page.get_by_role("checkbox", name="demo-2", exact=True).uncheck()
    expect(stale).to_be_hidden()
    page.fill("[name=workdir]", "/no/such/place")
    expect(stale).to_be_visible()
    page.get_by_role("button", name="Check this instance again").click()
    expect(page.locator("#preflight-sum")).to_have_text("The instance is not ready.")
    expect(stale).to_be_hidden()


def test_checking_again_gives_up_looking_for_what_was_found_before(visit, place):
    page = visit()
    fill(page, place, ["demo-1"])
    looks = re.compile("/run/check/")
    look = Held(page, looks)
    with page.expect_request(looks):
        page.get_by_role("button", name="Check this instance before running").click()
    page.fill("[name=workdir]", "/no/such/place")
    with page.expect_event("requestfailed", lambda request: looks.search(request.url)):
        page.get_by_role("button", name="Check this instance again").click()
    look.let_go()
    expect(page.locator("#preflight-sum")).to_have_text("The instance is not ready.")


def test_a_path_that_is_none_is_said_beside_the_button(visit, place):
    page = visit()
    fill(page, "relative", ["demo-1"])
    page.get_by_role("button", name="Check this instance before running").click()
    expect(page.locator("#preflight")).to_contain_text("Execution path must start with /.")
    assert page.input_value("[name=workdir]") == "relative"


def test_without_javascript(visit, place):
    page = visit(java_script_enabled=False)
    fill(page, place, ["demo-1", *OTHERS])
    page.get_by_role("button", name="Check the selected instances before running").click()
    until = time.monotonic() + 90
    while "checked" in page.locator("#preflight-sum").inner_text():
        assert time.monotonic() < until
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Look again").click()
    expect(page.locator("#preflight-sum")).to_have_text("1 of 3 instances are ready.")
    page.get_by_role("button", name="Continue with the one that passes").click()
    expect(page.locator("#preflight")).to_contain_text("2 instances are no longer selected.")
    for name in OTHERS:
        expect(page.get_by_role("checkbox", name=name, exact=True)).not_to_be_checked()
    assert page.input_value("[name=content]") == "#!/usr/bin/env sh\necho here: $PWD"
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")


def test_results_are_accessible_and_fit_a_phone(visit, place):
    page = visit(viewport={"width": 390, "height": 844})
    check_all(page, place)
    assert_looks_good(page)
    for button in page.locator("#preflight button").all():
        box = button.bounding_box()
        assert box
        assert box["x"] + box["width"] <= 390
        assert box["height"] >= 24
