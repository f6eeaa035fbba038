"""A console as README's first command starts it, and a real Chromium in front of it."""

from __future__ import annotations

import contextlib
import json
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
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.conftest import missing

PATIENCE_MS = 90_000
"""How long a test waits for what should come at once, on a machine that is busy with others."""

expect.set_options(timeout=PATIENCE_MS)

ROOT = Path(__file__).resolve().parent.parent.parent
PASSWORD = "correct horse battery"
GONE = "^htmx:(afterRequest|sendAbort)"
"""What htmx says of a request that ended because its page did."""
CHROMIUM = ["chromium-headless-shell", "chromium"]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]


# What `manage.py shell -c CODE` does, for one CODE after another: starting anew for each would
# take longer than most tests. A line of JSON asks, and a line of JSON tells.
SHELL = """
import contextlib, io, json, os, sys, traceback
import django
from django.core.management import call_command
from django.db import connections
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
django.setup()
for line in sys.stdin:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            call_command("shell", "-c", json.loads(line))
        told = [True, printed.getvalue()]
    except BaseException:
        told = [False, printed.getvalue() + traceback.format_exc()]
    connections.close_all()
    answers.write(json.dumps(told) + "\\n")
    answers.flush()
"""
# The session that signing in makes.
SESSION = """
import time
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from commands.models import User
user = User.objects.get(username={name!r})
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session["session.began"] = time.time()
session.save()
print(session.session_key)
"""


class Shell:
    """A ``manage.py shell`` that stays: it starts when it is first asked."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = {**environment, "DJANGO_SETTINGS_MODULE": "console.settings"}
        self._process: subprocess.Popen[str] | None = None

    def run(self, code: str) -> str:
        """What ``code`` prints."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SHELL],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        fine, told = json.loads(self._process.stdout.readline())
        assert fine, told
        return str(told)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.communicate(timeout=PATIENCE_MS / 1_000)
            assert self._process.returncode == 0


@dataclass(frozen=True)
class Console:
    """A running console."""

    url: str
    data: Path
    environment: dict[str, str]
    shell: Shell

    def manage(self, *arguments: str) -> str:
        """What a command of manage.py prints, run on this console's data."""
        if arguments[:2] == ("shell", "-c"):
            return self.shell.run(*arguments[2:])
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            check=False,
            timeout=120,
            capture_output=True,
            text=True,
            env=self.environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


MEMBER = """
from django.utils import timezone
from commands.models import Team, User
from commands.services import resource_groups, teams
team, made = teams.first_team(), False
if {team!r}:
    team, made = Team.objects.get_or_create(name={team!r})
if made:
    resource_groups.make_default(team)
# The administrator's password too: to hash it once more would take longer than all the rest.
password = User.objects.get(username="admin").password
user = User.objects.create(username={name!r}, password=password)
teams.add_member(team=team, user=user, role={role!r})
"""


# Ends all that still runs. What a test made itself, which runs nowhere, is not waited for long.
STOP_ALL = """
import time
from django.utils import timezone
from commands.models import Invocation
from commands.services import invocations
for task in Invocation.objects.active():
    invocations.stop_invocation(actor=task.created_by, invocation=task, now=timezone.now())
until = time.monotonic() + 20
while Invocation.objects.active().exists() and time.monotonic() < until:
    time.sleep(0.2)
"""


@pytest.fixture(scope="package")
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
    environment["CONSOLE_DATA_DIR"] = str(data)
    try:
        with contextlib.closing(Shell(environment)) as shell:
            yield Console(_address(up, output), data, environment, shell)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE_MS / 1_000) == 0


def _address(up: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + 600
    while not (found := re.search(r"(http://127\.0\.0\.1:\d+)/", output.read_text())):
        assert up.poll() is None, output.read_text()
        assert time.monotonic() < deadline, "the console did not start"
        time.sleep(0.1)
    return found[1]


@pytest.fixture(scope="module", autouse=True)
def nothing_left(console: Console) -> Iterator[None]:
    """Other modules count what runs, and share the instances that it runs on."""
    yield
    console.manage("shell", "-c", STOP_ALL)


# Its event loop runs in this thread as long as it is there: other packages need that thread.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # Chromium without a window's frame around each page: that frame costs more than the pages.
    program = next(filter(None, map(shutil.which, CHROMIUM)), None) or missing("chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=QUIET, timeout=PATIENCE_MS
        )
        yield started
        started.close()


def sign_in(page: Page, username: str = "admin") -> None:
    """Sign in on the sign-in page."""
    page.goto("/sign-in/")
    page.fill("[name=username]", username)
    page.fill("[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(re.compile("//[^/]+/$"))


@pytest.fixture
def member(console: Console) -> Callable[..., str]:
    """Make somebody a member of the first team, or of another: ``member(role, team)``'s name."""

    def add(role: str, team: str = "") -> str:
        name = f"{role}-{secrets.token_hex(3)}"
        code = MEMBER.format(team=team, name=name, role=role)
        console.manage("shell", "-c", code)
        return name

    return add


@pytest.fixture
def visit(console: Console, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open the console as somebody new: ``visit(username=..., **options of the context)``.

    She is signed in already and looks at the form, or at the page ``at``, or at none yet;
    ``sign_in`` is for tests in which she does that herself.
    At the end of the test no page may have met an error or broken the content policy.
    """
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_page(
        *,
        signed_in: bool = True,
        username: str = "admin",
        at: str | None = "/run/",
        **options: object,
    ) -> Page:
        context = browser.new_context(base_url=console.url, **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
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
            key = console.manage("shell", "-c", SESSION.format(name=username)).split()[-1]
            context.add_cookies([{"name": "sessionid", "value": key, "url": console.url}])
            if at:
                page.goto(at)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
