"""The console in Chinese: no English is left on its pages, and they fit."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Console
from tests.browser.test_journey import create, wait_until_failed

LATIN = re.compile(r"[A-Za-z_]{4,}")
NAMES = re.compile(
    r"Command Console|First team|Local|Demo key|Looks \w+|demo-\d|admin|(?:operator|team_admin)-\w+"
    r"|[tcip]-[0-9a-f]+|LTAI\w+|[\w.-]+@[\w.-]+|SHA256:\S+|[a-z]+[:=]\w+|[A-Z]\w+/\w+|UTF-8|Base64"
    r"|的 Host 作为|HostName、Port、User"
)
"""Names of things, and what programs read."""
SAME = {
    *("Shell", "PowerShell", "Linux", "Windows", "Debian", "Ubuntu", "OpenSSH", "English"),
    *("bash", "root", "sudo", "sshd", "stderr", "ECDSA", "demo", "host", "prod"),
    *("ProxyJump", "IdentityFile", "known_hosts", "Enter", "Shift", "Ctrl"),
}
"""What is the same in every language."""
SAID = """() => {
  const same = "code, pre, samp, kbd, optgroup, script, style, [translate=no], .mono, .log, .ln";
  const said = [document.title];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const around = texts.currentNode.parentElement;
    if (!around.closest(same)) said.push(texts.currentNode.data);
  }
  for (const one of document.querySelectorAll("[aria-label], [title], [placeholder]")) {
    if (one.closest(same)) continue;
    for (const name of ["aria-label", "title", "placeholder"]) {
      said.push(one.getAttribute(name) ?? "");
    }
  }
  return said.join("\\n");
}"""
"""All words of a page that are neither code nor output, also of what is folded or closed."""
READER = """
from commands.models import User
User.objects.filter(username={name!r}).update(language="zh-hans")
"""

FOREIGN = """
from commands.models import (
    Command, Credential, Instance, InstanceTag, Invocation, QuotaRequest, Team, User
)
SAID = {
    Command: ["name", "description"], Credential: ["name"], InstanceTag: ["key", "value"],
    Instance: ["name", "system", "connection_info"], Invocation: ["name"], Team: ["name"],
    QuotaRequest: ["reason", "comment"], User: ["username"],
}
for model, columns in SAID.items():
    for said in model.objects.values_list(*columns):
        print(*said, sep="\\n")
"""
"""What instances call their systems, and what people wrote, here or in other tests."""


@pytest.fixture(scope="module")
def readers() -> dict[str, str]:
    """Names of those who read Chinese, by role: made once for this module."""
    return {}


@pytest.fixture
def reader(member, console, readers) -> Callable[[str], str]:
    """Somebody with a role who reads Chinese: ``reader(role)``'s name."""

    def find(role: str) -> str:
        if role not in readers:
            readers[role] = member(role)
            console.manage("shell", "-c", READER.format(name=readers[role]))
        return readers[role]

    return find


@pytest.fixture(scope="module")
def tasks() -> dict[str, str]:
    """Addresses of tasks that tests of this module share, made once."""
    return {}


MADE = {
    "failed": ("echo one; exit 3", ["demo-3"]),
    "running": ("echo one; sleep 600", ["demo-1"]),
    "many": ("hostname; exit 4", ["demo-1", "demo-2", "demo-3"]),
}


def make(page: Page, kind: str, tasks: dict[str, str]) -> str:
    """The address of a task, which is made if it is not there."""
    if kind not in tasks:
        script, instances = MADE[kind]
        create(page, script, instances=instances, name=f"Looks {kind}")
        if kind == "running":
            page.wait_for_selector("#log .ln")
        else:
            wait_until_failed(page)
        tasks[kind] = page.url.split("?")[0]
    return tasks[kind]


@pytest.fixture
def left(console: Console) -> Callable[[Page], set[str]]:
    """Finds English words on a page; what instances and people said is none."""
    foreign = set(filter(None, console.manage("shell", "-c", FOREIGN).splitlines()))
    longest_first = map(re.escape, sorted(foreign, key=len, reverse=True))
    people_said = re.compile(rf"(?a:(?<![\w-])(?:{'|'.join(longest_first)})(?![\w-]))")

    def find(page: Page) -> set[str]:
        said = people_said.sub("", page.evaluate(SAID))
        return set(LATIN.findall(NAMES.sub("", said))) - SAME

    return find


def assert_fits(page: Page) -> None:
    """Nothing is wider than a desktop, or a phone."""
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => innerWidth === width", arg=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/run/",
        "/tasks/",
        "/tasks/?status=failures&q=looks",
        "/tasks/?q=nowhere",
        "/commands/",
        "/commands/new/",
        "/instances/",
        "/instances/add/",
        "/instances/import/",
        "/find/",
        "/find/?q=demo",
        "/team/members/",
        "/team/quotas/",
        "/team/quotas/request/",
        "/team/lending/",
        "/team/keys/",
        "/team/audit/",
        "/team/approvals/",
        "/team/settings/",
        "/team/why/",
        "/account/",
        "/account/security/",
        "/account/password/",
        "/account/security/second-factor/",
        "/tasks/t-nowhere/",
    ],
)
def test_no_english_is_left(visit, reader, left, tasks, address):
    make(visit(at=None), "failed", tasks)
    page = visit(username=reader("team_admin"), at=address)
    assert left(page) - {"nowhere", "looks"} == set()
    assert_fits(page)


@pytest.mark.parametrize("kind", MADE)
def test_no_english_is_left_in_a_task(visit, reader, left, tasks, kind):
    address = make(visit(at=None), kind, tasks)
    page = visit(username=reader("operator"), at=address)
    assert left(page) == set()
    assert_fits(page)


def test_no_english_is_left_of_an_instance(visit, reader, left):
    page = visit(username=reader("team_admin"), at="/instances/")
    page.get_by_role("link", name="demo-1", exact=True).click()
    page.wait_for_url("**/instances/i-*/")
    address = page.url
    for part in ("", "edit/", "tags/", "host-key/", "remove/"):
        page.goto(address + part)
        assert left(page) == set(), part
        assert_fits(page)


def test_no_english_is_left_before_signing_in(visit, left):
    page = visit(signed_in=False, locale="zh-CN")
    page.goto("/sign-in/")
    assert left(page) == set()
    assert_fits(page)


def test_no_english_is_left_in_what_is_wrong(visit, reader, left):
    page = visit(username=reader("team_admin"))
    page.fill("[name=timeout]", "abc")
    page.get_by_role("button", name="创建任务").click()
    page.wait_for_selector("#errors")
    assert left(page) == set()
    assert_fits(page)
