"""A whole console under ``manage.py up``, its own sshd, and a person's HTTP client."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from commands.models.instance import fingerprint
from tests.console.test_up import MANAGE, Up, environment, started, until
from tests.sshd import Sshd

FINAL = {"Success", "Failed", "Error", "Timeout", "Cancelled", "Terminated", "Invalid", "Aborted"}


@dataclass
class Console:
    """What a test does with a console: create, watch, read."""

    up: Up
    server: Sshd
    address: str = ""
    _opener: urllib.request.OpenerDirector = field(
        default_factory=lambda: urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(CookieJar())
        )
    )

    def sign_in(self, password: str, username: str = "admin") -> None:
        self._post("/sign-in/", {"username": username, "password": password})

    def manage(self, *arguments: str) -> None:
        """Run a command of ``manage.py`` on this console's data."""
        subprocess.run(
            [sys.executable, str(MANAGE), *arguments],
            env=environment(CONSOLE_DATA_DIR=str(self.up.data)),
            check=True,
            capture_output=True,
        )

    def approve(self, task: str) -> None:
        """Say yes to a task that waits, as it is."""
        digest = self.status(task)["approval"]["digest"]
        self._post(f"/tasks/{task}/approve/", {"digest": digest})

    def add_instance(self, name: str, *, port: int = 0) -> None:
        end = self.server.endpoint
        arguments = [name, end.host, "--port", str(port or end.port), "--user", end.user]
        arguments += ["--key", str(self.server.directory / "client_key")]
        arguments += ["--fingerprint", fingerprint(end.host_key)]
        self.manage("add_instance", *arguments)

    def create(self, script: str, *names: str, timeout: int = 60) -> str:
        """Run ``script`` on instances; the task's id."""
        page = self.get("/run/").decode()
        found = dict(re.findall(r'value="(i-\w+)"[^>]*aria-label="(?:Select )?([\w-]+)', page))
        ids = [key for key, name in found.items() if name in names] or re.findall(
            r'name="instances" value="(i-\w+)"', page
        )
        [token] = re.findall(r'name="client_token" value="([^"]*)"', page)[:1]
        values = [("name", "soak"), ("type", "RunShellScript"), ("content", script)]
        values += [("timeout", str(timeout)), ("client_token", token), ("source", "new")]
        values += [("instances", each) for each in ids]
        return self._post("/run/", values).rstrip("/").rsplit("/", 1)[1]

    def status(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get(f"/tasks/{task}/status.json"))
        return found

    def wait(self, task: str, *, within: float = 120.0) -> dict[str, Any]:
        """The only run of a task, once it has ended."""
        end = time.monotonic() + within
        while True:
            try:
                [run] = self.status(task)["runs"]
            except OSError:
                run = {"status": "?"}  # the web server is away just now
            if run["status"] in FINAL:
                return dict(run)
            assert time.monotonic() < end, run
            time.sleep(0.1)

    def log(self, task: str, run: dict[str, Any]) -> bytes:
        return self.get(f"/tasks/{task}/i/{run['instance_id']}/log.txt")

    def get(self, path: str) -> bytes:
        with self._opener.open(f"http://127.0.0.1:{self.up.port}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def _post(self, path: str, values: object) -> str:
        """The address of the page that a form leads to."""
        page = self.get(path).decode()
        [token] = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[:1]
        pairs = list(values.items()) if isinstance(values, dict) else list(values)  # type: ignore[call-overload]
        body = urllib.parse.urlencode([*pairs, ("csrfmiddlewaretoken", token)]).encode()
        url = f"http://127.0.0.1:{self.up.port}{path}"
        with self._opener.open(urllib.request.Request(url, data=body), timeout=60) as answer:
            return str(answer.url)


@contextmanager
def console(tmp_path: Path, server: Sshd, *, port: int = 0) -> Iterator[Console]:
    """A console that knows one instance: ``server``, perhaps through another ``port``."""
    with started(tmp_path, "--no-demo", CONSOLE_ADMIN_PASSWORD="soak soak soak") as up:
        found = Console(up, server)
        found.sign_in("soak soak soak")
        found.add_instance("soaked", port=port)
        yield found


def child(up: Up, name: str) -> int:
    """The process id of a child of ``up`` that runs."""
    until(lambda: up.pid(name))
    return up.pid(name)
