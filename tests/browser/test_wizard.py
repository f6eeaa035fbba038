"""The wizard's journeys, as an operator makes them: in Chromium, with and without JavaScript."""

from __future__ import annotations

import re
import tarfile

import pytest
from playwright.sync_api import Page, expect

from commands.models.instance import fingerprint
from tests.browser.conftest import Console
from tests.browser.test_live_form import write
from tests.sshd import Sshd

ARCHIVE = """#! /bin/bash
OF={folder}/my-backup-$(date +%Y%m%d).tgz
tar -cf $OF {{{{file}}}}
"""

SAVE = """
from django.utils import timezone
from commands.models import Command, Team, User
from commands.rules.schema import ParameterSchema
from commands.services import library, teams
from commands.services.definitions import CommandInput
user = User.objects.get(username="admin")
command = library.create_command(
    actor=user, team=teams.first_team(), region=teams.default_region(), now=timezone.now(),
    command=CommandInput(**{columns!r}),
)
library.pin(actor=user, command=command, pinned=True)
print(command.uid)
"""

LIMIT = """
from commands.models import User
from commands.rules.quotas import Quota
from commands.services import quotas, teams
from commands.models import Command, QuotaOverride
team, region = teams.first_team(), teams.default_region()
limit = {limit} or Command.objects.kept().filter(team=team, region=region).count()
QuotaOverride.objects.filter(team=team, region=region).delete()
if {limit} != -1:
    quotas.set_limit(actor=User.objects.get(username="admin"), team=team, region=region,
                     key=Quota.SAVED_COMMANDS, limit=limit)
print(Command.objects.kept().filter(team=team, region=region).count())
"""

UNREACHABLE = """
from django.utils import timezone
from commands.models import Credential, Instance, User
from commands.services import instances, teams
team, region = teams.first_team(), teams.default_region()
instances.add_instance(
    actor=User.objects.get(username="admin"), team=team, region=region, name={name!r},
    host="127.0.0.1", port=9, user="root", credential=Credential.objects.first(),
    host_key=Instance.objects.first().host_key,
)
Instance.objects.filter(name={name!r}).update(
    connection="unreachable", connection_since=timezone.now(), checked_at=timezone.now())
"""


@pytest.fixture
def saved(console: Console):
    """Save and pin a command: ``saved(name=..., content=...)``; its id."""

    def make(**columns: object) -> str:
        given = {"type": "RunShellScript", "content": "echo saved", **columns}
        return console.manage("shell", "-c", SAVE.format(columns=given)).split()[-1]

    return make


@pytest.fixture
def full_library(console: Console):
    """The library has no place left while a test runs; how many commands it has."""

    def count(limit: int = 0) -> int:
        return int(console.manage("shell", "-c", LIMIT.format(limit=limit)).split()[-1])

    yield count
    count(-1)


def create(page: Page) -> None:
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")


def tick(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_role("checkbox", name=name, exact=True).check()


def ends_as(page: Page, word: str) -> None:
    expect(page).to_have_title(re.compile(f"^{word}:"))


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_the_procedures_example_makes_an_archive_on_a_real_server(
    console: Console, visit, tmp_path, scripts
):
    """A new command with a parameter, saved and run on OpenSSH."""
    name = f"archive-{scripts}"
    source, folder = tmp_path / "app/usrcredential", tmp_path / "backup"
    source.mkdir(parents=True)
    folder.mkdir()
    (source / "token.txt").write_text("content")
    with Sshd.started(tmp_path, count=1) as servers:
        endpoint = servers[0].endpoint
        told = console.manage(
            "add_instance", name, endpoint.host, "--port", str(endpoint.port),
            "--user", endpoint.user, "--key", str(servers[0].directory / "client_key"),
            "--fingerprint", fingerprint(endpoint.host_key),
        )  # fmt: skip
        assert f"Added {name}" in told
        page = visit(java_script_enabled=scripts)
        page.fill("[name=name]", f"Back up {scripts}")
        page.fill("[name=content]", ARCHIVE.format(folder=folder))
        if scripts:
            expect(page.get_by_role("switch", name="Use parameters")).to_be_checked()
        else:
            page.check("[name=use_params]")
            page.get_by_role("button", name="Update parameters").click()
        page.fill("[name=param-file]", str(source))
        page.fill("[name=description]", "Archives one folder")
        if scripts:
            page.fill("#id_q", name)
            expect(page.get_by_role("checkbox", name="demo-1", exact=True)).to_have_count(0)
        tick(page, name)
        create(page)
        if not scripts:
            while "Succeeded" not in page.title():
                assert "Failed" not in page.title(), page.content()
                page.wait_for_timeout(300)
                page.reload()
        ends_as(page, "Succeeded")
    archives = list(folder.glob("my-backup-*.tgz"))
    assert len(archives) == 1
    with tarfile.open(archives[0]) as archive:
        assert any(member.endswith("usrcredential/token.txt") for member in archive.getnames())
    page.goto("/commands/")
    expect(page.get_by_role("link", name=f"Back up {scripts}").first).to_be_visible()


def test_a_saved_command_runs_on_three_instances_in_five_clicks(visit, saved):
    saved(name="Five clicks", content="echo from five clicks")
    page = visit(at="/")
    clicks = 0

    def click(locator) -> None:
        nonlocal clicks
        locator.click()
        clicks += 1

    click(page.get_by_role("link", name="Run Five clicks"))
    for name in ("demo-1", "demo-2", "demo-3"):
        click(page.get_by_role("checkbox", name=name, exact=True))
    click(page.get_by_role("button", name="Create task"))
    page.wait_for_url("**/tasks/t-*/")
    expect(page.locator("#log .ln")).to_contain_text("from five clicks")
    assert clicks <= 5


def test_a_saved_command_is_chosen_and_its_path_changed_without_scripts(visit, saved):
    uid = saved(name="Where am I", content="pwd; echo {{word}}", use_params=True)
    page = visit(java_script_enabled=False)
    page.get_by_role("radio", name=re.compile("Existing command")).check()
    page.get_by_role("button", name="Switch").click()
    page.select_option("[name=command]", uid)
    page.get_by_role("button", name="Load").click()
    page.fill("[name=param-word]", "hello")
    page.fill("[name=workdir]", "/tmp")
    tick(page, "demo-1")
    create(page)
    while "Succeeded" not in page.title():
        page.wait_for_timeout(300)
        page.reload()
    expect(page.locator("#log")).to_contain_text("/tmp")
    expect(page.locator("#log")).to_contain_text("hello")


def test_a_full_library_and_the_same_form_with_save_off(visit, full_library, saved):
    saved(name="Takes a place")
    before = full_library()
    page = visit()
    save = page.get_by_role("switch", name="Save command")
    expect(save).not_to_be_checked()
    page.fill("[name=name]", "No room")
    page.fill("[name=content]", "echo no room")
    tick(page, "demo-1")
    save.check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_selector("#errors")
    expect(page.locator("#errors")).to_contain_text("Turn off Save command, delete one, or")
    assert page.input_value("[name=content]").strip() == "echo no room"
    expect(page.get_by_role("checkbox", name="demo-1", exact=True)).to_be_checked()
    save.uncheck()
    create(page)
    ends_as(page, "Succeeded")
    assert full_library() == before


def test_a_short_timeout_is_raised_on_the_page_and_said_on_the_task(visit):
    page = visit()
    page.fill("[name=name]", "Short")
    page.fill("[name=content]", "echo short")
    page.fill("[name=timeout]", "5")
    page.press("[name=timeout]", "Tab")
    expect(page.locator("[name=timeout]")).to_have_value("10")
    expect(page.get_by_text("Raised from 5 to 10 seconds, the shortest")).to_be_visible()
    tick(page, "demo-1")
    create(page)
    expect(page.get_by_text("raised from 5")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_pasted_list_with_an_unknown_and_an_unreachable_name(console: Console, visit, scripts):
    name = f"gone-{scripts}"
    console.manage("shell", "-c", UNREACHABLE.format(name=name))
    page = visit(java_script_enabled=scripts)
    page.get_by_text("Paste a list").click()
    page.fill("[name=paste]", f"demo-1\n{name}\nwbe-03\ndemo-2")
    page.get_by_role("button", name="Add").click()
    told = page.locator("[data-told]")
    expect(told).to_contain_text(re.compile(r"1 not found \(.*wbe-03"))
    expect(told).to_contain_text(f"1 offline ({name})")
    for ticked in ("demo-1", "demo-2"):
        expect(page.get_by_role("checkbox", name=ticked, exact=True)).to_be_checked()


MESSAGES = [
    ("name", "", "Enter a command name."),
    ("name", "x" * 129, "Command name must be 128 characters or fewer."),
    ("content", "  ", "Enter a command."),
    ("content", "x" * 20_000, "bytes after Base64; the limit is 18,432."),
    ("workdir", "tmp", "Execution path must start with /."),
    ("workdir", "/" + "x" * 200, "Execution path must be 200 characters or fewer."),
    ("timeout", "abc", "Enter a whole number of seconds."),
    ("timeout", "9.5", "Enter a whole number of seconds."),
    ("timeout", "86401", "Timeout can't be longer than 86,400 seconds."),
    ("description", "x" * 513, "Description must be 512 characters or fewer."),
]


def test_every_validation_message_stands_above_and_beside(visit):
    page = visit()
    for number, (field, value, sentence) in enumerate(MESSAGES):
        page.goto("/run/")
        if number:  # what was refused comes back as a draft, and is written over
            expect(page.locator("#draft")).to_contain_text("restored")
        # Not what maxlength allows, but what a program or an older page would send.
        page.evaluate(
            "document.querySelectorAll('[maxlength]').forEach(e => e.removeAttribute('maxlength'))"
        )
        good = {"name": "ok", "content": "echo ok", "workdir": "", "timeout": "60"}
        for name, text in {**good, field: value}.items():
            page.fill(f"[name={name}]", text)
        tick(page, "demo-1")
        expect(page.locator("#draft")).not_to_be_empty()  # it is kept from now on
        page.get_by_role("button", name="Create task").click()
        page.wait_for_selector("#errors")
        expect(page).to_have_title(re.compile("^Error:"))
        expect(page.locator("#errors")).to_be_focused()
        expect(page.locator("#errors a")).to_contain_text([sentence])
        expect(page.locator(f"#e-{field}")).to_contain_text(sentence)
        page.locator("#errors a").first.click()
        expect(page.locator(f"#id_{field}")).to_be_focused()
    page.evaluate("window.onbeforeunload = null")


def test_parameters_that_are_wrong_are_said_by_name(visit, saved):
    page = visit()
    wrong = [
        ("docker ps --format '{{.Names}}'", "isn't a parameter name. If the script needs it"),
        ("echo {{my key}}", "`{{my key}}` on line 1, column 6, isn't a valid name."),
        ("".join(f"{{{{p{n}}}}}" for n in range(21)), "can have 20 parameters. This one has 21."),
    ]
    for number, (content, sentence) in enumerate(wrong):
        page.goto("/run/")
        if number:  # what was refused comes back as a draft, and is written over
            expect(page.locator("#draft")).to_contain_text("restored")
        page.fill("[name=name]", "Wrong")
        write(page, content)  # it may turn itself on
        page.check("[name=use_params]")
        tick(page, "demo-1")
        expect(page.locator("#draft")).not_to_be_empty()  # it is kept from now on
        page.get_by_role("button", name="Create task").click()
        page.wait_for_selector("#errors")
        expect(page.locator("#e-content")).to_contain_text(sentence)
    uid = saved(name="Needs a value", content="echo {{where}}", use_params=True)
    page.goto(f"/run/?command={uid}")
    page.get_by_role("button", name="Create task").click()
    page.wait_for_selector("#errors")
    expect(page.locator("#errors")).to_contain_text("Select at least one instance.")


def test_back_reload_and_a_double_click_lose_and_double_nothing(visit):
    page = visit()
    page.fill("[name=name]", "Once only")
    page.fill("[name=content]", "echo {{word}}")
    page.fill("[name=param-word]", "back")
    page.fill("[name=workdir]", "/tmp")
    tick(page, "demo-2")
    expect(page.locator("#draft")).to_contain_text("Draft kept")  # and all else when it is sent
    page.get_by_role("button", name="Create task").dblclick()
    page.wait_for_url("**/tasks/t-*/")
    address = page.url
    page.reload()
    assert page.url == address
    page.go_back()
    expect(page.locator("[name=content]")).to_have_value(re.compile(r"echo \{\{word\}\}"))
    expect(page.locator("[name=param-word]")).to_have_value("back")
    expect(page.locator("[name=workdir]")).to_have_value("/tmp")
    expect(page.get_by_role("checkbox", name="demo-2", exact=True)).to_be_checked()
    page.goto("/tasks/")
    assert page.get_by_role("link", name="Once only", exact=True).count() == 1


def test_a_secret_is_masked_wherever_it_could_show(visit):
    page = visit()
    page.fill("[name=name]", "Secret")
    page.fill("[name=content]", "echo begin {{token}} end; printf %s hunter; sleep 1; echo 2-long")
    page.fill("[name=param-token]", "hunter2-long")
    expect(page.locator("[name=param-token]")).to_have_attribute("type", "password")
    tick(page, "demo-1")
    page.get_by_role("button", name="Preview").click()
    page.wait_for_selector("#preview")
    expect(page.locator("#preview")).to_contain_text("echo begin •••••• end")
    assert "hunter2-long" not in page.content()
    create(page)
    ends_as(page, "Succeeded")
    expect(page.locator("#log")).to_contain_text("begin ************ end")
    log = page.request.get(page.get_by_role("link", name="Plain text").get_attribute("href")).text()
    assert log == "begin ************ end\n************\n"
    page.get_by_text("Command as run").click()
    expect(page.locator(".script")).to_contain_text("echo begin •••••• end")
    assert "hunter2-long" not in page.content()


def test_a_command_is_written_and_run_with_the_keyboard_alone(visit):
    page = visit()
    page.locator("[name=name]").focus()
    page.keyboard.type("By keyboard")
    page.locator("[name=content]").focus()
    page.keyboard.type("echo typed")
    page.keyboard.press("Tab")
    expect(page.locator("[name=content]")).not_to_be_focused()
    page.get_by_role("checkbox", name="demo-3", exact=True).focus()
    page.keyboard.press("Space")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/tasks/t-*/")
    ends_as(page, "Succeeded")


def test_values_outlive_parameters_being_switched_off_and_on(visit):
    page = visit()
    page.fill("[name=content]", "echo {{word}}")
    page.fill("[name=param-word]", "kept")
    page.get_by_role("switch", name="Use parameters").uncheck()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_selector("#errors")
    page.get_by_role("switch", name="Use parameters").check()
    expect(page.locator("[name=param-word]")).to_have_value("kept")


DELETE = """
from commands.models import Command
Command.objects.filter(uid={uid!r}).delete()
"""

FEW = """
from commands.models import QuotaOverride
from commands.services import teams
wanted = dict(team=teams.first_team(), region=teams.default_region(), key="instances_per_task")
QuotaOverride.objects.filter(**wanted).delete()
if {limit}:
    QuotaOverride.objects.create(**wanted, limit={limit})
"""


def refused(page: Page, field: str, sentence: str) -> None:
    """Create the task; it is refused with ``sentence`` above and beside the field."""
    page.get_by_role("button", name="Create task").click()
    page.wait_for_selector("#errors")
    expect(page.locator("#errors")).to_contain_text(sentence)
    expect(page.locator(f"#e-{field}")).to_contain_text(sentence)


def test_messages_about_saved_commands(console: Console, visit, saved):
    uid = saved(
        name="Greets somebody",
        content="echo {{who}}",
        use_params=True,
        parameters={},
    )
    page = visit()
    page.get_by_role("radio", name=re.compile("Existing command")).check(force=True)
    expect(page.locator("input[role=combobox]")).to_be_visible()
    tick(page, "demo-1")
    refused(page, "command", "Choose a saved command.")
    page.goto(f"/run/?command={uid}")
    tick(page, "demo-1")
    console.manage("shell", "-c", DELETE.format(uid=uid))
    refused(page, "command", "That command was deleted. Choose another.")
    expect(page.get_by_role("checkbox", name="demo-1", exact=True)).to_be_checked()


def test_messages_about_values_types_and_paths(visit):
    page = visit()
    page.fill("[name=name]", "Wrong")
    page.fill("[name=content]", "echo {{who}}")
    page.get_by_text("About who").click()
    page.get_by_label("A value is required").check()
    tick(page, "demo-1")
    refused(page, "param-who", "Enter a value for who.")
    page.fill("[name=param-who]", "x")
    page.get_by_role("radio", name="Bat").check(force=True)
    page.fill("[name=workdir]", "/tmp")
    refused(page, "workdir", "Execution path must start with a drive letter, such as C:\\.")
    page.evaluate("document.querySelectorAll('[name=type]').forEach(e => { e.checked = false })")
    refused(page, "type", "Choose a command type.")
    assert page.input_value("[name=param-who]") == "x"


def test_messages_about_instances(console: Console, visit):
    page = visit()
    page.fill("[name=name]", "Wrong")
    page.fill("[name=content]", "echo wrong")
    refused(page, "instances", "Select at least one instance.")
    tick(page, "demo-1", "demo-2", "demo-3")
    console.manage("shell", "-c", FEW.format(limit=2))
    try:
        refused(page, "instances", "Select 2 instances or fewer. You have 3.")
    finally:
        console.manage("shell", "-c", FEW.format(limit=0))
    expect(page.get_by_role("checkbox", name="demo-3", exact=True)).to_be_checked()
