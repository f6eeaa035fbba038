"""Instances in a browser: added with a key pair made here, used, rebuilt, compared, used again."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from commands.models.instance import fingerprint
from tests.browser.conftest import Console
from tests.browser.looks import assert_looks_good
from tests.browser.test_journey import create
from tests.conftest import HOST_KEY
from tests.sshd import Sshd, ssh_keygen

# Checked tomorrow: no check of the running console changes what these tests look at.
INVENTORY = """
from datetime import timedelta
from django.utils import timezone
from commands.models import Credential, Instance, InstanceTag, Team, User
from commands.services import credentials, teams
demo = Instance.objects.filter(name="demo-1").order_by("pk").first()
password = User.objects.get(username="admin").password
user = User.objects.create(username={name!r}, password=password)
team = teams.create_team(name={name!r}, admin=user)
group = team.resource_groups.get()
onlooker = User.objects.create(username={name!r} + "-onlooker", password=password)
teams.add_member(team=team, user=onlooker, role="viewer")
region = teams.default_region()
key = credentials.generate_credential(actor=user, team=team, region=region, name="Deploy key")
now = timezone.now()
def add(name, **columns):
    return Instance(team=team, region=region, resource_group=group, credential=key, name=name,
        user="root", host_key={host_key!r}, host_key_by="Lena Weber", host_key_at=now,
        **{{"host": "127.0.0.1", "connection": "reachable", "checked_at": now + timedelta(days=1),
            "system": "Debian GNU/Linux 12 (bookworm)", **columns}})
Instance.objects.bulk_create(
    [add(f"web-{{n:02}}") for n in range(52)]
    + [add("bastion"), add("off-01", enabled=False), add("new-01", connection="unknown")]
    + [add("api-01", connection="unreachable", connection_since=now - timedelta(days=1),
        connection_info="127.0.0.1 port 22 did not answer in 10 s.")]
    + [add("db-01", host=demo.host, port=demo.port, connection="host_key_changed",
        connection_info="The host key of 127.0.0.1 is not the recorded one.")]
    + [add("cache-01", connection="sign_in_refused", connection_info="It did not let root in.")])
own = Instance.objects.filter(team=team)
own.filter(name="api-01").update(jump_host=own.get(name="bastion"))
InstanceTag.objects.bulk_create(
    InstanceTag(instance=one, key="role", value=one.name[:3]) for one in own)
"""
UID = "from commands.models import Instance; print(Instance.objects.get({where}).uid)"


@pytest.fixture(scope="module")
def leader(console: Console) -> str:
    """The team admin of a team of her own, which has 58 instances."""
    name = f"inventory-{secrets.token_hex(3)}"
    console.manage("shell", "-c", INVENTORY.format(name=name, host_key=HOST_KEY))
    return name


@pytest.fixture
def opened(visit, leader) -> Callable[..., Page]:
    def open_list(path: str = "/instances/", **options: object) -> Page:
        return visit(username=leader, at=path, **options)

    return open_list


@pytest.fixture
def one(console: Console, leader) -> Callable[[str], str]:
    """The address of one of her instances, by name."""

    def find(name: str) -> str:
        where = f"team__name={leader!r}, name={name!r}"
        uid = console.manage("shell", "-c", UID.format(where=where)).split()[-1]
        return f"/instances/{uid}/"

    return find


def told(page: Page) -> Locator:
    """What the page says was done."""
    return page.locator(".told[role=status]")


def rebuild(server: Sshd) -> None:
    """Start the server again with another host key."""
    server.stop()
    for name in ("host_key", "host_key.pub"):
        (server.directory / name).unlink()
    ssh_keygen(server.directory / "host_key")
    server.start()


def describe(page: Page, server: Sshd, name: str) -> None:
    """Fill in the form up to the credential."""
    page.goto("/instances/add/")
    page.get_by_label("Host", exact=True).fill(server.endpoint.host)
    page.get_by_label("Port").fill(str(server.port))
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("User").fill(server.endpoint.user)


def install(page: Page, server: Sshd) -> None:
    """Put the public half that the page shows where the server looks for it."""
    line = page.locator("#public-line").inner_text()
    with (server.directory / "authorized_keys").open("a") as keys:
        keys.write(line + "\n")


def test_an_instance_from_its_key_pair_to_its_rebuilding(visit, tmp_path):
    name = f"new-{secrets.token_hex(3)}"
    page = visit()
    with Sshd.started(tmp_path) as [server]:
        describe(page, server, name)
        page.get_by_label("More tags").fill("role=new")
        page.get_by_label("More tags").press("Enter")
        expect(page.get_by_role("checkbox", name="role=new")).to_be_checked()
        page.get_by_text("Generate a key pair").click()
        page.get_by_role("button", name="Test connection").click()
        expect(page.locator(".fp")).to_have_text(fingerprint(server.endpoint.host_key))
        page.get_by_label("I compared it").check()
        page.get_by_role("button", name="Sign in and add").click()
        expect(page.locator("#errors")).to_contain_text("did not let")
        expect(page.get_by_label("I compared it")).to_be_checked()
        install(page, server)
        page.get_by_role("button", name="Sign in and add").click()
        expect(told(page)).to_contain_text(re.compile(rf"{name} answered in \d+ ms\."))
        expect(page.locator("#verdict")).to_contain_text(re.compile("Reachable|Not checked yet"))
        address = page.url

        create(page, "echo hello from here", instances=[name], name="On the new one")
        expect(page).to_have_title(re.compile("^Succeeded:"))

        rebuild(server)
        page.goto(address)
        expect(page.get_by_role("link", name="On the new one")).to_be_visible()
        page.get_by_role("button", name="Check now").click()
        expect(told(page)).to_contain_text("is not the recorded one")
        expect(page.locator(".likely h3")).to_contain_text("The host key changed")
        page.goto(f"/run/?q={name}")
        page.fill("#id_q", name)
        expect(page.get_by_role("checkbox", name=name, exact=True)).to_be_disabled()

        page.goto("/instances/?q=" + name)
        page.get_by_role("link", name="Compare the keys").click()
        expect(page.locator(".differs .fp")).to_have_text(fingerprint(server.endpoint.host_key))
        page.get_by_role("button", name="Accept the new key").click()
        expect(page.locator("#errors")).to_contain_text("Compare the new fingerprint")
        page.get_by_label("I compared the new fingerprint").check()
        page.get_by_label("Why is the new key right?").fill("Rebuilt for the journey")
        page.get_by_role("button", name="Accept the new key").click()
        expect(told(page)).to_contain_text("is pinned")
        expect(page.locator(".changes")).to_contain_text("Rebuilt for the journey")

        create(page, "echo hello again", instances=[name], name="After the rebuilding")
        expect(page).to_have_title(re.compile("^Succeeded:"))

        page.goto(address)
        page.get_by_role("link", name="Remove").click()
        page.locator("dialog").get_by_role("button", name="Remove instance").click()
        expect(told(page)).to_contain_text(f"{name} was removed.")


def test_the_same_without_javascript(visit, tmp_path):
    name = f"plain-{secrets.token_hex(3)}"
    page = visit(java_script_enabled=False)
    with Sshd.started(tmp_path) as [server]:
        describe(page, server, name)
        page.get_by_text("Private key", exact=True).first.click()
        page.locator("#id_private_key").fill(server.endpoint.private_key)
        page.get_by_role("button", name="Test connection").click()
        page.get_by_label("I compared it").check()
        page.get_by_role("button", name="Sign in and add").click()
        expect(told(page)).to_contain_text(f"{name} answered in")
        page.get_by_role("button", name="Check now").click()
        expect(told(page)).to_contain_text(f"{name} answered in")
        page.get_by_role("link", name="Edit tags").click()
        page.get_by_label("More tags").fill("role=plain")
        page.get_by_role("button", name="Save tags").click()
        expect(told(page)).to_contain_text(f"Tags of {name} saved.")
        page.goto("/instances/")
        page.get_by_label("Search instances").fill("tag:role=plain")
        page.get_by_role("button", name="Search").click()
        row = page.get_by_role("row", name=name)
        expect(row).to_contain_text("role=plain")
        row.get_by_role("button", name=f"Check {name} now").click()
        expect(told(page)).to_contain_text(f"{name} answered in")
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("link", name="Remove").click()
        page.get_by_role("button", name="Remove instance").click()
        expect(told(page)).to_contain_text("was removed")


def test_searching_and_filtering_while_typing(opened):
    page = opened()
    expect(page.locator(".pgr")).to_contain_text("1–50 of 58")
    page.get_by_label("Search instances").press_sequentially("web-0")
    expect(page.locator(".pgr")).to_contain_text("1–10 of 10")
    expect(page).to_have_url(re.compile(r"q=web-0"))
    expect(page.locator("#say")).to_have_text("10 instances found")
    page.get_by_label("Search instances").fill("")
    page.get_by_label("Connection").select_option("Host key changed")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("Compare the keys")
    page.reload()
    expect(page.get_by_label("Connection")).to_have_value("host_key_changed")
    page.get_by_label("Search instances").fill("nowhere")
    expect(page.get_by_role("heading", name="Nothing matches 'nowhere'")).to_be_visible()
    page.get_by_role("link", name="Clear search").click()
    expect(page.locator(".pgr")).to_contain_text("1–50 of 58")


def test_rows_are_kept_up_to_date_where_they_are(console, opened, leader):
    page = opened("/instances/?sort=connection&q=web-0")
    rows = page.locator("tbody tr .nm")
    before = rows.all_inner_texts()
    where = f"Instance.objects.filter(team__name={leader!r}, name='web-00')"
    columns = 'connection="sign_in_refused", system="Rebuilt OS"'
    console.manage(
        "shell", "-c", f"from commands.models import Instance; {where}.update({columns})"
    )
    first = page.get_by_role("row", name="web-00")
    expect(first).to_contain_text("Sign-in refused")
    expect(first).to_contain_text("Rebuilt OS")
    assert rows.all_inner_texts() == before
    console.manage(
        "shell",
        "-c",
        f"from commands.models import Instance; {where}.update(connection='reachable')",
    )
    expect(first).to_contain_text("Reachable")


def test_checking_in_the_list_says_what_came_of_it(visit):
    page = visit(at="/instances/?q=demo-1")
    page.get_by_role("button", name="Check demo-1 now").click()
    expect(page.locator("#told")).to_contain_text(re.compile(r"demo-1 answered in \d+ ms\."))
    expect(page.get_by_role("row", name="demo-1")).to_contain_text(
        re.compile(r"Reachable, \d+ s ago")
    )
    expect(page).to_have_url(re.compile("q=demo-1$"))


def test_tags_in_a_dialog_by_keyboard_alone(opened):
    page = opened("/instances/?q=web-51")
    page.get_by_role("link", name="Edit tags of web-51").focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_be_visible()
    page.get_by_label("More tags").focus()
    page.keyboard.type("env=test,")
    expect(page.get_by_role("checkbox", name="env=test")).to_be_checked()
    page.keyboard.press("Enter")
    expect(told(page)).to_contain_text("Tags of web-51 saved.")
    expect(page.get_by_role("row", name="web-51")).to_contain_text("env=test")
    expect(page).to_have_url(re.compile("q=web-51$"))
    page.wait_for_load_state()  # with its scripts, which open the dialog
    page.get_by_role("link", name="Edit tags of web-51").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)


STATES = {
    "list": "/instances/",
    "nothing found": "/instances/?q=nowhere",
    "no instances": "/instances/",
    "onlooker": "/instances/",
    "add": "/instances/add/",
    "add with errors": "/instances/add/",
    "add, key shown": "/instances/add/",
    "reachable": "web-01",
    "unreachable": "api-01",
    "off": "off-01",
    "edit": "web-01",
    "tags": "web-01",
    "remove": "bastion",
    "host key": "db-01",
    "host key unread": "web-01",
    "tags in a dialog": "web-01",
    "remove in a dialog": "web-01",
}
BELOW = {
    "edit": "edit/",
    "tags": "tags/",
    "remove": "remove/",
    "host key": "host-key/",
    "host key unread": "host-key/",
}


def bring(page: Page, state: str, one: Callable[[str], str], console: Console) -> None:
    """Bring ``page`` into one of the states above."""
    where = STATES[state]
    page.goto(where if where.startswith("/") else one(where) + BELOW.get(state, ""))
    if state == "add with errors":
        page.get_by_text("Private key", exact=True).first.click()
        page.get_by_role("button", name="Test connection").click()
        page.wait_for_selector("#errors")
    elif state == "add, key shown":
        page.get_by_label("Host", exact=True).fill("127.0.0.1")
        port = console.manage(
            "shell", "-c", UID.format(where="name='demo-1', team__pk=1").replace(".uid", ".port")
        )
        page.get_by_label("Port").fill(port.split()[-1])
        page.get_by_role("button", name="Test connection").click()
        page.wait_for_selector(".fp")
    elif state == "tags in a dialog":
        page.get_by_role("link", name="Edit tags").click()
        page.wait_for_selector("dialog[open] #id_tags")
    elif state == "remove in a dialog":
        page.get_by_role("link", name="Remove").click()
        page.wait_for_selector("dialog[open] .answers")
    page.wait_for_load_state()


@pytest.fixture
def who(state, leader, member) -> str:
    """Who looks at ``state``."""
    if state == "no instances":
        return member("team_admin", f"empty-{secrets.token_hex(3)}")
    return f"{leader}-onlooker" if state == "onlooker" else leader


@pytest.mark.parametrize("state", STATES)
def test_it_is_accessible_and_fits_a_phone(visit, who, one, console, state):
    page = visit(username=who, at=None)
    bring(page, state, one, console)
    assert_looks_good(page)
