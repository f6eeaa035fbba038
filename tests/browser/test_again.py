"""Running again, retrying and downloading, in a real browser on real instances."""

from __future__ import annotations

import csv
import io
import re
import secrets
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Download, Locator, Page, expect

from tests.browser.looks import assert_looks_good, on_phones
from tests.browser.test_control import status_of
from tests.browser.test_journey import create


@pytest.fixture
def fails_once(tmp_path: Path) -> str:
    """A script that fails on demo-2, once; on every other instance it succeeds."""
    mark = tmp_path / secrets.token_hex(6)
    return (
        "echo on {{ACS::InstanceName}}\n"
        'if [ "{{ACS::InstanceName}}" = demo-2 ] && ! [ -e '
        f"{mark} ]; then touch {mark}; echo broken >&2; exit 1; fi\necho fine\n"
    )


def create_failing(page: Page, script: str) -> str:
    """A task that has failed on one of two instances; its address."""
    page.goto("/run/")
    page.fill("[name=name]", "Fails once")
    page.get_by_role("switch", name="Use parameters").check()
    page.fill("[name=content]", script)
    # It moves what stands below: a click would go astray.
    expect(page.locator("#builtin-rows code")).to_be_visible()
    for instance in ("demo-1", "demo-2"):
        page.get_by_role("checkbox", name=instance, exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    expect(page).to_have_title(re.compile("^Partly failed:"))
    return page.url


def create_secret(page: Page) -> str:
    """A task with a hidden value, which the script tells the length of; its address."""
    page.goto("/run/")
    page.fill("[name=name]", "Keeps a secret")
    page.get_by_role("switch", name="Save command").uncheck()
    page.get_by_role("switch", name="Use parameters").check()
    page.fill("[name=content]", "t='{{token}}'; echo length ${#t}")
    update = page.get_by_role("button", name="Update parameters")
    if update.is_visible():
        update.click()
    page.fill("[name=param-token]", "hunter2")
    page.get_by_role("checkbox", name="demo-1", exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    return page.url


def wait_until(page: Page, status: str) -> None:
    """Load the task's page until it says ``status``, as somebody without JavaScript does."""
    url = page.url
    for _ in range(180):
        if status_of(page) == status:
            break
        page.wait_for_timeout(500)
    page.goto(url)
    assert status_of(page) == status


def instances_of(page: Page) -> list[str]:
    runs = page.request.get(page.url.split("?")[0] + "status.json").json()["runs"]
    return [run["instance_id"] for run in runs]


def retry_of(page: Page) -> Locator:
    """The link that retries what failed, once a press on it opens the dialog.

    What a stream brings is linked to the scripts a moment after it is seen.
    """
    return page.locator("#retry:not(.htmx-added)").get_by_role("link", name="Retry 1 failed")


def fetched(download: Download) -> bytes:
    return Path(download.path()).read_bytes()


def test_retrying_what_failed_takes_two_clicks(visit, fails_once):
    page = visit(at=None)
    old = create_failing(page, fails_once)
    retry = retry_of(page)
    expect(retry).to_have_class(re.compile(r"\bpri\b"))
    retry.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Retry on demo-2?")
    dialog.get_by_role("button", name="Retry on 1 instance").click()
    page.wait_for_url(lambda url: "/tasks/t-" in url and url != old)
    expect(page).to_have_title(re.compile("^Succeeded:"))
    assert len(instances_of(page)) == 1
    expect(page.locator("#log")).to_contain_text("on demo-2")
    expect(page.locator("#log")).to_contain_text("fine")
    expect(page.locator("#retry a")).to_have_count(0)
    new = page.url
    page.get_by_text("Retry of").get_by_role("link").click()
    page.wait_for_url(old)
    page.get_by_text("Run again as").get_by_role("link").click()
    page.wait_for_url(new)


def test_the_button_comes_while_the_task_runs(visit):
    page = visit()
    page.fill("[name=name]", "Fails at once")
    page.fill("[name=content]", "exit 1")
    for instance in ("demo-1", "demo-2"):
        page.get_by_role("checkbox", name=instance, exact=True).check()
    page.get_by_text("More: how many at a time").click()
    page.get_by_label("First batch").fill("1")
    page.get_by_label("Pause between batches").select_option("Until somebody continues")
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    retry = retry_of(page)
    expect(retry).to_be_visible()
    expect(retry).not_to_have_class(re.compile(r"\bpri\b"))
    retry.click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text("Retry on demo-1?")
    page.get_by_role("dialog").get_by_role("link", name="Back to the task").click()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_running_again_by_keyboard_only(visit):
    page = visit(at=None)
    old = create(page, "echo again", instances=["demo-1"], name="Repeat me")
    expect(page).to_have_title(re.compile("^Succeeded:"))
    page.get_by_role("button", name="Run again").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Same instances")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Same instances")).to_be_hidden()
    expect(page.get_by_role("button", name="Run again")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Same instances")).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Run on 1 instance")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Run again").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Same instances")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Run on 1 instance")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/tasks/t-" in url and url != old)
    expect(page).to_have_title(re.compile("^Succeeded:"))


def test_hidden_values_are_asked_for_again(visit):
    page = visit(at=None)
    old = create_secret(page)
    expect(page.locator("#log")).to_contain_text("length 7")
    expect(page).to_have_title(re.compile("^Succeeded:"))
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("link", name="Same instances").click()
    dialog = page.get_by_role("dialog")
    field = dialog.get_by_label("token")
    expect(field).to_be_focused()
    assert "hunter2" not in page.content()
    dialog.get_by_role("button", name="Run on 1 instance").click()
    expect(page.get_by_text("Enter a value for token again")).to_be_visible()
    page.get_by_label("token").fill("four")
    page.get_by_role("button", name="Run on 1 instance").click()
    page.wait_for_url(lambda url: "/tasks/t-" in url and "/again/" not in url and url != old)
    expect(page.locator("#log")).to_contain_text("length 4")
    assert "four" not in page.content()


def test_without_javascript(visit, console):
    page = visit(java_script_enabled=False, at=None)
    old = create_secret(page)
    wait_until(page, "Success")
    page.get_by_role("button", name="Run again").click()  # the browser's own: no script
    page.get_by_role("link", name="Same instances").click()
    page.wait_for_url("**/again/")
    page.get_by_label("token").fill("fives")
    page.get_by_role("button", name="Run on 1 instance").click()
    page.wait_for_url(lambda url: "/tasks/t-" in url and "/again/" not in url and url != old)
    wait_until(page, "Success")
    assert "length 5" in page.locator("#log").inner_text()


def test_editing_first(visit):
    page = visit(at=None)
    create_secret(page)
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("link", name="Edit first").click()
    page.wait_for_url("**/run/?from=*")
    expect(page.get_by_text("The hidden value of token has to be typed again.")).to_be_visible()
    expect(page.locator("[name=name]")).to_have_value("Keeps a secret")
    expect(page.get_by_role("checkbox", name="demo-1", exact=True)).to_be_checked()
    expect(page.get_by_role("switch", name="Save command")).not_to_be_checked()
    expect(page.locator("[name=param-token]")).to_have_value("")
    page.fill("[name=param-token]", "threes")
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    expect(page.locator("#log")).to_contain_text("length 6")


def test_downloads_are_what_the_log_says_byte_by_byte(visit):
    page = visit()
    script = "printf 'a\\377\\0b\\n'; echo oops >&2; seq 1 20000; exit 4"
    create(page, script, instances=["demo-1", "demo-2"], name='Down/load "me"')
    expect(page).to_have_title(re.compile("^Failed:"))
    task = page.url.split("?")[0]
    uid = task.rstrip("/").rpartition("/")[2]
    logs = {one: page.request.get(f"{task}i/{one}/log.txt").body() for one in instances_of(page)}
    assert all(b"a\xff\x00b\n" in log and b"\n20000\n" in log for log in logs.values())
    found = {}
    page.get_by_role("button", name="Download").click()
    for name in ("Output of", "All outputs", "Results"):
        with page.expect_download() as told:
            page.get_by_role("link", name=re.compile(f"^{name}")).click()
        found[name] = told.value
    assert re.fullmatch(r"demo-\d\.txt", found["Output of"].suggested_filename)
    assert fetched(found["Output of"]) in logs.values()
    assert found["All outputs"].suggested_filename == f"Down_load_me.{uid}.zip"
    with zipfile.ZipFile(io.BytesIO(fetched(found["All outputs"]))) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    table = fetched(found["Results"])
    assert files.pop("results.csv") == table
    assert {name.split(".")[1]: data for name, data in files.items()} == logs
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"), newline="")))
    assert [(row["name"], row["exit_code"]) for row in rows] == [("demo-1", "4"), ("demo-2", "4")]
    assert {row["host_key_fingerprint"][:7] for row in rows} == {"SHA256:"}
    assert [row["instance_id"] for row in rows] == list(logs)


def test_the_machine_is_told_while_the_task_runs(visit):
    page = visit(at=None)
    create(page, "echo a; sleep 3", instances=["demo-1"], name="Where am I")
    page.locator("details.cmdbox summary").click()
    expect(page.locator("#ran-on")).to_contain_text("SHA256:")
    shown = page.locator("#ran-on").inner_text()
    state = page.request.get(page.url + "status.json").json()["runs"][0]
    assert state["host_key_fingerprint"] in shown
    assert state["machine_id"] in shown


STATES = [
    "ended",
    "command",
    "menu",
    "download menu",
    "asked",
    "asked on a page",
    "refused",
    "filled",
]


def open_state(page: Page, state: str, address: str) -> None:
    """Bring ``page`` into one of the states of a task that failed on one instance."""
    page.goto(address)
    if state == "command":
        page.locator("details.cmdbox summary").click()
    elif state == "menu":
        page.get_by_role("button", name="Run again").click()
        expect(page.get_by_role("link", name="Same instances")).to_be_visible()
    elif state == "download menu":
        page.get_by_role("button", name="Download").click()
        expect(page.get_by_role("link", name="All outputs")).to_be_visible()
    elif state == "asked":
        page.get_by_role("link", name="Retry 1 failed").click()
        expect(page.get_by_role("dialog").get_by_role("heading")).to_be_visible()
    elif state == "asked on a page":
        page.goto(f"{address}again/")
    elif state == "filled":
        page.goto(f"/run/?from={address.rstrip('/').rpartition('/')[2]}&only=failed")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The addresses of tasks that tests of this module share."""
    return {}


def open_made(page: Page, state: str, made: dict[str, str]) -> None:
    """The same, of a task that is made once."""
    if state == "refused":
        if "secret" not in made:
            made["secret"] = create_secret(page)
        page.goto(f"{made['secret']}again/")
        page.get_by_role("button", name="Run on 1 instance").click()
        expect(page.get_by_text("Enter a value for token again")).to_be_visible()
        return
    if "failed" not in made:
        made["failed"] = create_failing(page, '[ "{{ACS::InstanceName}}" = demo-1 ]')
    open_state(page, state, made["failed"])


@pytest.mark.parametrize("state", STATES)
def test_it_is_accessible_and_on_a_phone_nothing_is_cut_off(visit, made, state):
    page = visit(at=None)
    open_made(page, state, made)
    assert_looks_good(page)
    for width in on_phones(page):
        for pressed in page.locator(".acts .btn:visible, .pop:visible .item, .answers .btn").all():
            box = pressed.bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["height"] >= 24
