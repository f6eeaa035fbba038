"""The whole console as people start it, and tasks created over HTTP as the form does."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from tests.benchmarks.engine import WrongResult
from tests.benchmarks.machines import Machines

_ROOT = Path(__file__).resolve().parents[2]
_PASSWORD = "correct horse battery staple"
_LOOK_S = 0.004
_LONGEST_S = 300.0
_INSTANCES = """
import json, sys
from commands.models import Region, Team, User
from commands.rules.quotas import DEFINITIONS, Quota
from commands.services import instances, quotas
given = json.load(sys.stdin)
admin, team, region = User.objects.get(), Team.objects.get(), Region.objects.get()
for key in (Quota.INSTANCES_PER_TASK, Quota.TASKS_PER_DAY):
    most = DEFINITIONS[key].most
    quotas.set_limit(actor=admin, team=team, region=region, key=key, limit=most)
where = {"actor": admin, "team": team, "region": region}
key = instances.add_credential(name="key", private_key=given["key"], **where)
for number, each in enumerate(given["machines"]):
    made = instances.add_instance(name=f"host-{number:04}", credential=key, **each, **where)
    print(made.uid)
"""


class Console:
    """``manage.py up`` in a data directory of its own, with all machines as instances."""

    def __init__(self, machines: Machines, directory: Path, root: Path = _ROOT) -> None:
        self._machines = machines
        self._directory = directory
        self._root = root
        self._cookies: dict[str, str] = {}
        self.instances: list[str] = []

    def __enter__(self) -> Console:
        self._directory.mkdir(mode=0o700, parents=True)
        # Checked once at the start; later checks would open connections that are to be cold.
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "CONSOLE_DATA_DIR": str(self._directory),
            "CONSOLE_ADMIN_PASSWORD": _PASSWORD,
            "CONSOLE_CHECK_EVERY": "1000000",
        }
        self._log = (self._directory.parent / f"{self._directory.name}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", "0", "--no-demo"],
            cwd=self._root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self._address = urlsplit(self._wait_for_address())
            self._http = http.client.HTTPConnection(
                str(self._address.hostname), self._address.port, timeout=60
            )
            self._sign_in()
            self._add_instances()
            database = f"file:{self._directory / 'db.sqlite3'}?mode=ro"
            self._rows = sqlite3.connect(database, uri=True, isolation_level=None, timeout=20)
            self._wait_until_checked()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(AttributeError):
            self._rows.close()
            self._http.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its guardian ends the rest
            self._process.wait()
        self._log.close()

    def everywhere(self, script: str, expected: bytes, hosts: int | None = None) -> float:
        """Run ``script`` on all (or the first ``hosts``) instances.

        Seconds from sending the form until every run is final in the database.
        """
        chosen = self.instances[:hosts]
        fields = self._fields(script, chosen)
        began = time.perf_counter()
        task = self._create(fields)
        self._wait_until_final(task, len(chosen))
        took = time.perf_counter() - began
        self._check(task, expected, len(chosen))
        return took

    def latencies(self, script: str, hosts: int) -> list[float]:
        """Seconds from each line's own time stamp until another connection can read its row.

        The script must print stamps of ``date +%s.%N``, one a line.
        """
        chosen = self.instances[:hosts]
        last = self._one("SELECT coalesce(max(id), 0) FROM commands_outputchunk")
        task = self._create(self._fields(script, chosen))
        found: list[float] = []
        until = time.monotonic() + _LONGEST_S
        final = False
        while time.monotonic() < until:
            rows = self._rows.execute(
                "SELECT id, data FROM commands_outputchunk WHERE id > ? ORDER BY id", (last,)
            ).fetchall()
            now = time.time()
            for row_id, data in rows:
                last = row_id
                found += [now - float(stamp) for stamp in bytes(data).split()]
            if final and not rows:
                return found
            final = self._unfinished(task) == 0
            time.sleep(_LOOK_S / 2)
        raise WrongResult("the task has not ended")

    def final_soon(self) -> None:
        """Wait until nothing runs any more."""
        self._wait(lambda: not self._one(f"SELECT count(*) FROM commands_run WHERE {_OPEN}"))

    # --- HTTP -----------------------------------------------------------------------------

    def _wait_for_address(self) -> str:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            text = Path(self._log.name).read_text()
            if found := re.search(r"is at (http://\S+)", text):
                return found[1]
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise WrongResult(f"the console did not start: {Path(self._log.name).read_text()}")

    def _sign_in(self) -> None:
        page = self._request("GET", "/sign-in/")[1]
        fields = {"username": "admin", "password": _PASSWORD}
        status, _, _ = self._post("/sign-in/", {**fields, **_token(page)}.items())
        if status not in (302, 303):
            raise WrongResult(f"signing in was answered with {status}")
        self._csrf = _token(self._request("GET", "/run/")[1])

    def _fields(self, script: str, instances: Sequence[str]) -> list[tuple[str, str]]:
        fields = {
            "name": "Benchmark",
            "type": "RunShellScript",
            "content": script,
            "timeout": "300",
        }
        pairs = [*fields.items(), *self._csrf.items()]
        return pairs + [("instances", each) for each in instances]

    def _create(self, fields: list[tuple[str, str]]) -> str:
        status, page, location = self._post("/run/", fields)
        if status != 303:
            errors = re.findall(r'class="[^"]*(?:error|problem)[^"]*"[^>]*>\s*([^<]+)', page)
            raise WrongResult(f"POST /run/ was answered with {status}: {errors}")
        return location.strip("/").rpartition("/")[2]

    def _post(self, path: str, fields: object) -> tuple[int, str, str]:
        body = urlencode(list(fields)).encode()  # type: ignore[call-overload]  # pairs or a dict
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._request("POST", path, body, kind)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        more: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = {**(more or {}), "Cookie": cookies}
        try:
            self._http.request(method, path, body, headers)
            response = self._http.getresponse()
        except (OSError, http.client.HTTPException):
            # The server closes a connection that was idle for a while.
            self._http.close()
            self._http.request(method, path, body, headers)
            response = self._http.getresponse()
        for value in response.headers.get_all("Set-Cookie") or []:
            name, _, rest = value.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        page = response.read().decode()
        return response.status, page, response.headers.get("Location", "")

    # --- rows -----------------------------------------------------------------------------

    def _add_instances(self) -> None:
        given = {
            "key": self._machines.key.read_text(),
            "machines": [
                {
                    "host": each.address,
                    "port": each.port,
                    "user": self._machines.user,
                    "host_key": each.host_key,
                }
                for each in self._machines.all
            ],
        }
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", _INSTANCES],
            cwd=self._root,
            env=self._environment,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        self.instances = done.stdout.split()
        if len(self.instances) != self._machines.count:
            raise WrongResult(f"instances were not added: {done.stderr[-1000:]}")

    def _wait_until_checked(self) -> None:
        """Until every instance is known to be reachable: then nothing is checked any more."""
        self._wait(
            lambda: (
                not self._one(
                    "SELECT count(*) FROM commands_instance WHERE connection != 'reachable'"
                )
            )
        )

    def _wait_until_final(self, task: str, hosts: int) -> None:
        self._wait(lambda: self._unfinished(task) == 0)

    def _unfinished(self, task: str) -> int:
        return int(
            self._one(
                "SELECT count(*) FROM commands_run WHERE invocation_id = "
                f"(SELECT id FROM commands_invocation WHERE uid = ?) AND {_OPEN}",
                task,
            )
        )

    def _check(self, task: str, expected: bytes, hosts: int) -> None:
        rows = self._rows.execute(
            "SELECT status, stdout_size FROM commands_run WHERE invocation_id = "
            "(SELECT id FROM commands_invocation WHERE uid = ?)",
            (task,),
        ).fetchall()
        if rows != [("Success", len(expected))] * hosts:
            raise WrongResult(f"the console's runs ended as {set(rows)}")

    def _one(self, query: str, *values: str) -> int:
        return int(self._rows.execute(query, values).fetchone()[0])

    def _wait(self, done: object) -> None:
        assert callable(done)
        until = time.monotonic() + _LONGEST_S
        while not done():
            if time.monotonic() > until:
                raise WrongResult("the console is not done in time")
            time.sleep(_LOOK_S)


_OPEN = "status IN ('Pending', 'Running', 'Stopping')"


def _token(page: str) -> dict[str, str]:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    if found is None:
        raise WrongResult("a page has no form")
    return {"csrfmiddlewaretoken": found[1]}
