"""The library in a real browser: every state accessible, live search, asking, two who edit."""

from __future__ import annotations

import json
import re
import secrets

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Console
from tests.browser.held import Held
from tests.browser.looks import assert_looks_good

SEED = """
import json
from dataclasses import replace
from django.utils import timezone
from commands.models import Team, User
from commands.rules.schema import ParameterSchema
from commands.services import library, teams
from commands.services.definitions import CommandInput
user = User.objects.get(username={user!r})
team, region, now = user.teams.get(), teams.default_region(), timezone.now()
first = CommandInput(
    name="Archive logs", type="RunShellScript", use_params=True,
    content="#!/bin/bash\\n# Pack the logs of a day\\ntar -czf {{{{target}}}} /var/log/app\\n",
    description="Packs yesterday's logs", tags=(("env", "prod"),),
    parameters={{"target": ParameterSchema(required=True, default="/tmp/x.tar.gz")}},
)
made = library.create_command(actor=user, team=team, region=region, command=first, now=now)
changed = replace(first, content=first.content.replace("app", "web"), timeout="90")
library.edit_command(actor=user, command=made, definition=changed, based_on=1, now=now)
for name in ("Check disk space", "A very long name that has to wrap " + "x" * 60):
    plain = CommandInput(name=name, type="RunShellScript", content="df -h")
    library.create_command(actor=user, team=team, region=region, command=plain, now=now)
print(json.dumps(made.uid))
"""
STATES = [
    "empty",
    "list",
    "nothing found",
    "asked",
    "asked on a page",
    "detail",
    "versions",
    "history",
    "new",
    "new with errors",
    "edit",
    "conflict",
]


@pytest.fixture(scope="module")
def shelves() -> dict[str, str]:
    """Users with a full and with an empty library of their own: made once for this module."""
    return {}


@pytest.fixture
def shelf(console: Console, member, shelves) -> tuple[str, str]:
    """Somebody whose team keeps some commands, and the id of the first of them."""
    if "user" not in shelves:
        user = member("operator", f"Shelf {secrets.token_hex(3)}")
        printed = console.manage("shell", "-c", SEED.format(user=user))
        shelves.update(user=user, uid=json.loads(printed.splitlines()[-1]))
    return shelves["user"], shelves["uid"]


@pytest.fixture
def fresh(console: Console, member) -> tuple[str, str]:
    """The same, for a test that changes something."""
    user = member("operator", f"Shelf {secrets.token_hex(3)}")
    printed = console.manage("shell", "-c", SEED.format(user=user))
    return user, json.loads(printed.splitlines()[-1])


@pytest.fixture
def who(state, member, shelf, shelves) -> str:
    if state != "empty":
        return shelf[0]
    if "empty" not in shelves:
        shelves["empty"] = member("operator", f"Empty {secrets.token_hex(3)}")
    return shelves["empty"]


def open_state(page: Page, state: str, uid: str) -> None:
    """Bring ``page`` into one of the states above."""
    page.goto(
        {
            "nothing found": "/commands/?q=nothing+of+the+kind",
            "asked on a page": f"/commands/delete/?uid={uid}",
            "detail": f"/commands/{uid}/",
            "versions": f"/commands/{uid}/?tab=versions",
            "history": f"/commands/{uid}/history/",
            "new": "/commands/new/",
            "new with errors": "/commands/new/",
            "edit": f"/commands/{uid}/edit/",
            "conflict": f"/commands/{uid}/edit/",
        }.get(state, "/commands/")
    )
    if state == "asked":
        page.get_by_role("link", name="Delete Archive logs").click()
        expect(page.get_by_role("dialog", name="Delete Archive logs?")).to_be_visible()
    elif state == "new with errors":
        page.fill("[name=timeout]", "abc")
        page.get_by_role("button", name="Save command", exact=True).click()
        page.wait_for_selector("[role=alert]")
    elif state == "conflict":
        page.evaluate("document.querySelector('[name=based_on]').value = '1'")
        page.fill("[name=content]", page.input_value("[name=content]") + "# mine\n")
        page.get_by_role("button", name="Save new version").click()
        page.wait_for_selector("[role=alert]")


@pytest.mark.parametrize("state", STATES)
def test_it_is_accessible_and_fits_a_phone(visit, who, shelf, state):
    page = visit(username=who, at=None)
    open_state(page, state, shelf[1])
    assert_looks_good(page)


def test_search_is_live_and_its_address_can_be_shared(visit, shelf):
    page = visit(username=shelf[0], at="/commands/")
    page.get_by_role("searchbox", name="Search saved commands").press_sequentially("web")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    expect(page.locator("#say")).to_have_text("1 command found")
    expect(page.get_by_role("searchbox", name="Search saved commands")).to_be_focused()
    expect(page).to_have_url(re.compile(r"/commands/\?q=web&type=$"))
    page.get_by_role("searchbox", name="Search saved commands").fill("nowhere")
    expect(page.get_by_role("heading", name="Nothing matches 'nowhere'")).to_be_visible()
    page.get_by_role("link", name="Clear search").click()
    expect(page.locator("#results tbody tr")).to_have_count(3)
    page.go_back()
    expect(page.get_by_role("searchbox", name="Search saved commands")).to_have_value("nowhere")


def test_another_type_is_shown_at_once(visit, shelf):
    page = visit(username=shelf[0], at="/commands/")
    page.get_by_role("combobox", name="Type").select_option("PowerShell")
    expect(page.get_by_role("heading", name="No command of this type")).to_be_visible()
    page.get_by_role("combobox", name="Type").select_option("Shell")
    expect(page.locator("#results tbody tr")).to_have_count(3)


def test_somebody_who_was_signed_out_is_told_so_in_place(visit, shelf):
    page = visit(username=shelf[0], at="/commands/")
    page.context.clear_cookies(name="sessionid")
    page.get_by_role("searchbox", name="Search saved commands").fill("logs")
    expect(page.get_by_role("alert")).to_contain_text("You've been signed out.")
    expect(page.locator("#results tbody tr")).to_have_count(3)


def test_a_pin_stays_where_the_reader_is_and_is_there_after_a_reload(visit, fresh):
    page = visit(username=fresh[0], at="/commands/")
    star = page.get_by_role("button", name="Pin Check disk space")
    star.press("Enter")
    expect(star).to_have_attribute("aria-pressed", "true")
    expect(star).to_be_focused()
    page.reload()
    expect(page.locator("tbody .nm").first).to_have_text("Check disk space")


def test_with_the_keyboard_alone_some_are_selected_kept_and_deleted(visit, fresh):
    page = visit(username=fresh[0], at="/commands/")
    button = page.get_by_role("button", name="Delete selected")
    button.press("Enter")
    expect(page.locator("#say")).to_have_text("Select at least one command first.")
    expect(page.locator("[name=uid]").first).to_be_focused()
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name="Select Check disk space").press("Space")
    button.press("Enter")
    dialog = page.get_by_role("dialog", name="Delete 2 commands?")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("link", name="Keep them")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="2 commands were deleted.")).to_be_visible()
    expect(page.locator("#results tbody tr")).to_have_count(1)


def test_select_all_follows_the_rows(visit, shelf):
    page = visit(username=shelf[0], at="/commands/")
    everything = page.get_by_role("checkbox", name="Select all on this page")
    everything.check()
    expect(page.locator("[name=uid]:checked")).to_have_count(3)
    page.locator("[name=uid]").first.uncheck()
    expect(everything).not_to_be_checked()
    assert everything.evaluate("box => box.indeterminate")


def test_select_all_counts_before_its_script_has_come(visit, shelf):
    page = visit(username=shelf[0], at=None)
    held = Held(page, re.compile(r"/static/js/commands\b"))
    page.goto("/commands/", wait_until="commit")
    page.get_by_role("checkbox", name="Select all on this page").check()
    expect(page.locator("[name=uid]:checked")).to_have_count(0)
    held.let_go()
    expect(page.locator("[name=uid]:checked")).to_have_count(3)


def test_the_command_is_copied_as_it_is(visit, shelf):
    allowed = ["clipboard-read", "clipboard-write"]
    page = visit(username=shelf[0], permissions=allowed, at=f"/commands/{shelf[1]}/")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#say")).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == "#!/bin/bash\n# Pack the logs of a day\ntar -czf {{target}} /var/log/web"


def edit(page: Page, uid: str, line: str) -> None:
    page.fill("[name=content]", f"echo {line}\n")
    page.get_by_role("button", name="Save new version").click()


@pytest.mark.parametrize("scripts", [True, False])
def test_of_two_who_edit_the_second_decides_and_loses_nothing(visit, fresh, scripts):
    user, uid = fresh
    first = visit(username=user)
    second = visit(username=user, java_script_enabled=scripts)
    for page in (first, second):
        page.goto(f"/commands/{uid}/edit/")
    edit(first, uid, "first")
    expect(first.get_by_text("Saved v3.")).to_be_visible()
    second.fill("[name=description]", "from the second")
    edit(second, uid, "second")
    expect(
        second.get_by_role("heading", name=re.compile("saved v3 while you were"))
    ).to_be_visible()
    second.get_by_role("link", name="See the difference").click()
    expect(second.locator(".d.old")).to_contain_text("echo first")
    expect(second.locator(".d.new")).to_contain_text("echo second")
    assert second.input_value("[name=description]") == "from the second"
    second.get_by_role("button", name="Save mine as v4").click()
    expect(second.get_by_text("Saved v4.")).to_be_visible()
    expect(second.locator("#script")).to_contain_text("echo second")


def test_without_scripts_everything_is_there(visit, fresh):
    user, uid = fresh
    page = visit(username=user, java_script_enabled=False, at="/commands/")
    page.get_by_role("searchbox", name="Search saved commands").fill("disk")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody .nm")).to_have_text("Check disk space")
    page.get_by_role("button", name="Pin Check disk space").click()
    expect(page).to_have_url(re.compile(r"q=disk"))
    page.get_by_role("checkbox", name="Select Check disk space").check()
    page.get_by_role("button", name="Delete selected").click()
    expect(page.get_by_role("heading", name="Delete Check disk space?")).to_be_visible()
    page.get_by_role("button", name="Delete 1 command").click()
    expect(page.get_by_text("1 command was deleted.")).to_be_visible()
    page.goto(f"/commands/{uid}/?tab=versions")
    page.get_by_role("button", name="Restore v1").click()
    expect(page.get_by_text("v1 was restored as v3.")).to_be_visible()


def test_a_copy_keeps_what_is_said_of_parameters(visit, fresh):
    page = visit(username=fresh[0], at="/commands/")
    page.get_by_role("link", name="Clone Archive logs").click()
    expect(page.locator("[name=name]")).to_have_value("Archive logs (copy)")
    page.get_by_role("button", name="Save command", exact=True).click()
    expect(page.get_by_text("Saved Archive logs (copy).")).to_be_visible()
    expect(page.get_by_role("cell", name="target")).to_be_visible()


def kept(page: Page) -> None:
    expect(page.locator("#draft")).to_contain_text("Draft kept")


@pytest.mark.parametrize("way", ["new", "edit"])
def test_what_is_written_for_the_library_is_kept_as_a_draft(visit, fresh, way):
    user, uid = fresh
    address = {"new": "/commands/new/", "edit": f"/commands/{uid}/edit/"}[way]
    page = visit(username=user)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(address)
    expect(page.locator("#draft")).to_be_empty()
    before = page.input_value("[name=description]")
    page.fill("[name=name]", "Half written")
    page.fill("[name=description]", "For later")
    kept(page)
    page.goto("/commands/")
    for elsewhere in ("/run/", "/commands/new/?from=" + uid):
        page.goto(elsewhere)
        assert page.input_value("[name=name]") != "Half written"
    page.goto(address)
    expect(page.locator("#draft")).to_contain_text("restored")
    expect(page.locator("[name=name]")).to_have_value("Half written")
    expect(page.locator("[name=description]")).to_have_value("For later")
    page.get_by_role("button", name="Discard").click()
    expect(page.locator("[name=description]")).to_have_value(before)
    page.fill("[name=name]", "Written")
    page.fill("[name=content]", "echo written")
    kept(page)
    page.locator(".save .pri").click()
    expect(page.locator("main > .told[role=status]")).to_have_text(re.compile("^Saved "))
    page.goto(address)
    expect(page.locator("#draft")).to_be_empty()
    assert page.input_value("[name=name]") == ("" if way == "new" else "Written")


def test_a_draft_of_an_older_version_overwrites_no_newer_one(visit, fresh):
    user, uid = fresh
    page = visit(username=user)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/commands/{uid}/edit/")
    page.fill("[name=description]", "mine")
    kept(page)
    other = visit(username=user, at=f"/commands/{uid}/edit/")
    edit(other, uid, "theirs")
    expect(other.get_by_text("Saved v3.")).to_be_visible()
    page.goto(f"/commands/{uid}/edit/")
    expect(page.locator("[name=description]")).to_have_value("mine")
    page.get_by_role("button", name="Save new version").click()
    expect(page.get_by_role("heading", name=re.compile("saved v3 while you were"))).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    page.goto(f"/commands/{uid}/edit/")
    expect(page.locator("[name=description]")).to_have_value("mine")


@pytest.mark.parametrize("field", ["name", "description", "launcher"])
def test_whoever_leaves_the_library_with_something_typed_is_asked(visit, fresh, field):
    page = visit(username=fresh[0])
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.goto("/commands/new/")
    page.locator("#id_name").click()
    page.goto("/commands/")
    assert asked == []
    page.goto("/commands/new/")
    page.locator("details.more > summary").click()
    page.locator(f"[name={field}]").press_sequentially("x")
    page.goto("/commands/")
    assert asked == ["beforeunload"]
    page.goto("/commands/new/")
    page.fill("[name=name]", "Saved")
    page.fill("[name=content]", "true")
    page.get_by_role("button", name="Save command", exact=True).click()
    expect(page.get_by_text("Saved Saved.")).to_be_visible()
    assert asked == ["beforeunload"]
