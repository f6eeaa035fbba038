"""Importing instances from a file in a real browser: keys read from real SSH servers."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looks import assert_accessible, assert_looks_good, on_phones
from tests.sshd import Sshd

ADD = """
import json
from commands.models import User
from commands.services import instances, teams
given = json.loads({given!r})
instances.add_credential(
    actor=User.objects.get(username="admin"), team=teams.first_team(),
    region=teams.default_region(), name="Key of the import", private_key=given["private_key"],
)
"""
CLEAR = """
from commands.models import Import, Instance
Instance.objects.filter(tags__key="imported").delete()
Import.objects.all().delete()
"""
EXCHANGE = """
from commands.models import ImportRow
first, second = (ImportRow.objects.get(name=name) for name in ("new-1", "new-2"))
ImportRow.objects.filter(pk=second.pk).update(host_key=first.host_key)
"""
REMOVE = """
from commands.models import Credential
Credential.objects.filter(name="Key of the import").delete()
"""


@dataclass(frozen=True)
class Servers:
    """Two servers that answer, and the port of one that does not."""

    csv: str
    known_hosts: str


@pytest.fixture(scope="module")
def servers(console, tmp_path_factory) -> Iterator[Servers]:
    with (
        Sshd.started(tmp_path_factory.mktemp("servers"), count=2) as [first, second],
        socket.socket() as closed,
    ):
        closed.bind(("127.0.0.1", 0))
        # One key signs in to both.
        keys = first.directory / "authorized_keys"
        (second.directory / "authorized_keys").write_text(keys.read_text())
        endpoint = first.endpoint
        given = json.dumps({"private_key": endpoint.private_key})
        console.manage("shell", "-c", ADD.format(given=given))
        ports = {"new-1": first.port, "new-2": second.port, "silent": closed.getsockname()[1]}
        rows = [
            f"{name},127.0.0.1,{port},{endpoint.user},Key of the import,imported"
            for name, port in ports.items()
        ]
        csv = "\n".join(["name,host,port,user,credential,tags", *rows, "bad name!,-x,1,u,,"])
        known = "".join(
            f"[127.0.0.1]:{one.port} {one.endpoint.host_key}\n" for one in (first, second)
        )
        try:
            yield Servers(csv, known)
        finally:
            console.manage("shell", "-c", CLEAR)
            console.manage("shell", "-c", REMOVE)


@pytest.fixture(autouse=True)
def nothing_there(console, servers):
    console.manage("shell", "-c", CLEAR)


def bring(page: Page, servers: Servers, known_hosts: str = "") -> None:
    """Give the file, and come to the table of what it means."""
    page.goto("/instances/import/")
    page.get_by_label("Text", exact=True).fill(servers.csv)
    page.get_by_label("Text of known_hosts").fill(known_hosts)
    page.get_by_role("button", name="Show what it means").click()
    expect(page.get_by_role("heading", name="Review the import")).to_be_visible()
    page.wait_for_load_state()  # with its scripts, which know what is ticked


def row(page: Page, name: str):
    return page.locator(".lines tbody tr").filter(has=page.get_by_text(name, exact=True))


def test_keys_are_read_compared_and_the_servers_run_commands(visit, servers):
    page = visit()
    bring(page, servers)
    expect(row(page, "bad name!")).to_contain_text("Wrong")
    expect(row(page, "new-1")).to_contain_text("Not known yet")
    page.get_by_role("button", name="Read the host keys of 3 hosts").click()
    expect(page.locator("#reading")).to_contain_text("1 showed none: leave it out, or ask again.")
    expect(row(page, "new-1")).to_contain_text("SHA256:")
    expect(row(page, "silent")).to_contain_text("does not answer")
    page.get_by_role("button", name="Import 2 instances").click()
    expect(page.get_by_role("alert").first).to_contain_text("Compare the fingerprints")
    page.get_by_role("checkbox", name="I compared the fingerprints").check()
    page.get_by_role("button", name="Import 2 instances").click()
    expect(page.get_by_text("2 instances were added.")).to_be_visible()
    expect(page.get_by_text("1 without a host key was left out.")).to_be_visible()
    page.goto("/run/")
    page.fill("[name=name]", "On the new ones")
    page.fill("[name=content]", "echo here we are")
    for name in ("new-1", "new-2"):
        page.get_by_role("checkbox", name=name, exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    expect(page).to_have_title(re.compile("^Succeeded: "))


def test_with_known_hosts_nobody_is_asked_and_again_changes_nothing(visit, servers):
    page = visit()
    bring(page, servers, servers.known_hosts)
    expect(row(page, "new-1")).to_contain_text("from known_hosts")
    page.get_by_role("checkbox", name="new-2", exact=True).uncheck()
    page.get_by_role("checkbox", name="silent", exact=True).uncheck()
    page.get_by_role("button", name="Import 1 instance").click()
    expect(page.get_by_text("1 instance was added.")).to_be_visible()
    bring(page, servers, servers.known_hosts)
    expect(row(page, "new-1")).to_contain_text("Already there")
    expect(page.get_by_role("checkbox", name="new-1", exact=True)).to_have_count(0)
    every = page.get_by_role("checkbox", name="Select all that can be imported")
    expect(every).to_be_checked()
    every.uncheck()
    expect(page.locator("#import")).to_have_attribute("aria-disabled", "true")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Nothing was imported.")).to_be_visible()


def test_without_javascript(visit, servers):
    page = visit(java_script_enabled=False)
    bring(page, servers)
    page.get_by_role("checkbox", name="silent", exact=True).uncheck()
    page.get_by_role("button", name="Read the host keys of 3 hosts").click()
    expect(page.locator("#reading")).to_contain_text(re.compile("hosts (were )?asked for"))
    until = time.monotonic() + 90
    while " hosts asked for" in page.locator("#reading").inner_text():
        assert time.monotonic() < until
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Look again").click()
    expect(row(page, "silent")).to_contain_text("Not known yet")
    page.get_by_role("checkbox", name="I compared the fingerprints").check()
    page.get_by_role("button", name="Import 2 instances").click()
    expect(page.get_by_text("2 instances were added.")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_what_was_not_shown_is_not_imported(visit, servers, console, scripts):
    page = visit(java_script_enabled=scripts)
    bring(page, servers, servers.known_hosts)
    console.manage("shell", "-c", EXCHANGE)
    page.get_by_role("button", name="Import 2 instances").click()
    said = page.get_by_role("alert").first
    expect(said).to_contain_text("1 row that you chose means something else by now")
    if scripts:
        expect(said).to_be_focused()
        assert_fits(page)
    second = page.get_by_role("checkbox", name="new-2", exact=True)
    expect(second).not_to_be_checked()
    expect(page.get_by_role("checkbox", name="new-1", exact=True)).to_be_checked()
    expect(page.locator(".lines tbody tr").first).to_contain_text("Not what was shown when you")
    second.check()
    page.locator("#import").click()
    expect(page.get_by_text("2 instances were added.")).to_be_visible()


def test_a_file_with_an_error(visit, servers):
    page = visit(at="/instances/import/")
    page.set_input_files(
        "[name=file]",
        {"name": "a.csv", "mimeType": "text/csv", "buffer": b'host\n"a'},
    )
    page.get_by_role("button", name="Show what it means").click()
    expect(page.locator("#errors")).to_be_focused()
    expect(page.locator("#errors")).to_contain_text("row that begins on line 2 don't match")


def test_both_pages_are_accessible_and_fit(visit, servers):
    page = visit(at="/instances/import/")
    assert_fits(page)
    bring(page, servers, servers.known_hosts + "@cert-authority * ssh-ed25519 AAAA\n")
    assert_fits(page)
    page.get_by_role("button", name="Read the host key of 1 host").click()
    expect(row(page, "silent")).to_contain_text("does not answer")
    assert_fits(page)


def assert_fits(page: Page) -> None:
    """It looks good on every screen, and names have room."""
    page.wait_for_load_state()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_looks_good(page)
    assert_names_have_room(page)
    for _ in on_phones(page):
        assert_accessible(page)
        assert_names_have_room(page)


def assert_names_have_room(page: Page) -> None:
    for name in page.locator(".lines tbody .nm").all():
        box = name.bounding_box()
        assert box
        assert box["width"] > 60
