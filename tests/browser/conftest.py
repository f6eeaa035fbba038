"""A console as README's first command starts it, and a real Chromium in front of it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.conftest import missing

ROOT = Path(__file__).resolve().parent.parent.parent
PASSWORD = "correct horse battery"
GONE = "^htmx:(afterRequest|sendAbort)"
"""What htmx says of a request that ended because its page did."""
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]


@dataclass(frozen=True)
class Console:
    """A running console."""

    url: str
    data: Path
    environment: dict[str, str]

    def manage(self, *arguments: str) -> str:
        """What a command of manage.py prints, run on this console's data."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            check=False,
            timeout=120,
            capture_output=True,
            text=True,
            env={**self.environment, "CONSOLE_DATA_DIR": str(self.data)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


MEMBER = """
from django.utils import timezone
from commands.models import Team, User
from commands.services import teams
team = Team.objects.get_or_create(name={team!r})[0] if {team!r} else teams.first_team()
user = User.objects.create_user({name!r}, password={password!r})
teams.add_member(team=team, user=user, role={role!r})
"""


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    data = tmp_path_factory.mktemp("console") / "data"
    mine = ("CONSOLE_DATA_DIR", "DJANGO_SETTINGS_MODULE", "BROKER_URL", "DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in mine}
    output = data.parent / "output"
    with output.open("wb") as file:
        up = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", "0", "--data", str(data)],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**environment, "CONSOLE_ADMIN_PASSWORD": PASSWORD},
        )
    try:
        yield Console(_address(up, output), data, environment)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0


def _address(up: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + 120
    while not (found := re.search(r"(http://127\.0\.0\.1:\d+)/", output.read_text())):
        assert up.poll() is None, output.read_text()
        assert time.monotonic() < deadline, "the console did not start"
        time.sleep(0.1)
    return found[1]


# Its event loop runs in this thread as long as it is there: other packages need that thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or missing("chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield started
        started.close()


def sign_in(page: Page, username: str = "admin") -> None:
    """Sign in on the sign-in page."""
    page.goto("/sign-in/")
    page.fill("[name=username]", username)
    page.fill("[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(re.compile("/(run|tasks)/$"))


@pytest.fixture
def member(console: Console) -> Callable[..., str]:
    """Make somebody a member of the first team, or of another: ``member(role, team)``'s name."""

    def add(role: str, team: str = "") -> str:
        name = f"{role}-{secrets.token_hex(3)}"
        code = MEMBER.format(team=team, name=name, password=PASSWORD, role=role)
        console.manage("shell", "-c", code)
        return name

    return add


@pytest.fixture
def visit(console: Console, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open the console as somebody new: ``visit(username=..., **options of the context)``.

    At the end of the test no page may have met an error or broken the content policy.
    """
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(*, signed_in: bool = True, username: str = "admin", **options: object) -> Page:
        context = browser.new_context(base_url=console.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text)
                if message.type == "error"
                and not re.search(f"status of (40[1349]|422|502)|{GONE}", message.text)
                else None
            ),
        )
        if signed_in:
            sign_in(page, username)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
