"""``manage.py check --deploy``: silent with what docs/production.md says to set, not without."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from commands import checks

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "SECRET_KEY": "a-key-of-this-test-with-more-than-fifty-different-characters-0123456789",
    "CONSOLE_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "CONSOLE_AUDIT_KEY": "another-key-of-this-test-that-nobody-guesses-0123456789",
    # Nothing listens there, and a check asks nobody.
    "DATABASE_URL": "postgres://console:secret@127.0.0.1:9/console",
    "BROKER_URL": "redis://127.0.0.1:9/0",
    "ALLOWED_HOSTS": "console.example",
    "CSRF_TRUSTED_ORIGINS": "https://console.example",
    "CONSOLE_SECURE": "true",
}


@dataclass(frozen=True)
class Missing:
    """What an administrator left out, and the one check that finds it."""

    found: str
    without: str = ""
    others_may_look: bool = False


MISSING = [
    Missing("commands.W001", others_may_look=True),
    Missing("commands.W002", without="SECRET_KEY"),
    Missing("commands.W002", without="CONSOLE_ENCRYPTION_KEYS"),
    Missing("commands.W002", without="CONSOLE_AUDIT_KEY"),
    Missing("commands.W003", without="DATABASE_URL"),
]


@pytest.fixture
def check(tmp_path) -> Callable[[Missing], tuple[int, list[str], str]]:
    """Check in a process of its own; its exit code, the ids that were found, and the output."""

    def run(missing: Missing) -> tuple[int, list[str], str]:
        data = tmp_path / f"{missing.found or 'none'}-{missing.without}"
        data.mkdir(mode=0o700)
        if missing.others_may_look:
            data.chmod(0o755)
        settings = {name: SETTINGS[name] for name in SETTINGS if name != missing.without}
        done = subprocess.run(
            [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "CONSOLE_DATA_DIR": str(data), **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        return done.returncode, re.findall(r"^\S+: \((\w+\.\w\d+)\)", output, re.MULTILINE), output

    return run


def test_it_sets_what_the_page_for_administrators_says():
    page = (ROOT / "docs/production.md").read_text()
    (paragraph,) = re.findall(r"^Set `SECRET_KEY`.*?Then$", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([A-Z_]{5,})(?:=true)?`", paragraph)) == set(SETTINGS)


def test_each_check_of_the_console_has_something_that_it_finds():
    known = set(re.findall(r'id="(commands\.\w+)"', inspect.getsource(checks)))
    assert {each.found for each in MISSING} == known


def test_nothing_is_found_in_production_as_it_is_described(check):
    status, found, output = check(Missing(""))
    assert (status, found) == (0, []), output


def test_of_what_is_left_out_each_is_found_and_nothing_else(check):
    with ThreadPoolExecutor(2) as pool:
        for missing, (status, found, output) in zip(MISSING, pool.map(check, MISSING), strict=True):
            assert (status, found) == (1, [missing.found]), output
            assert missing.without in output
