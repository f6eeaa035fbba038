"""No secret is where it should not be: planted ones are searched for in all that a console leaves.

A whole console runs, with its own processes and broker and real SSH servers. Somebody uses it
over HTTP with secrets that nobody else knows; afterwards they are looked for in the database, the
data directory, the logs at DEBUG, everything that went through the broker, all pages and
downloads that links lead to, and what ``/proc`` shows of all processes while a script runs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import re
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode, urljoin, urlsplit

import pyotp
import pytest
import redis

from console import broker
from tests.console.test_up import Up, started, until
from tests.filled import shown_fields
from tests.postgres import Postgres, postgres
from tests.sshd import Sshd, ssh_keygen

SHOWN_ONCE = ("/account/security/second-factor/", "/account/security/codes/")
"""Pages that show a new secret to its owner on purpose."""
VARIANTS = 3
"""Pages of one address, with different queries, that the walk looks at."""
DIGITS = re.compile(r"\d+|(?<=/)[a-z]{1,2}-[0-9a-f]{20}")


def planted(kind: str) -> str:
    """A secret with characters that every way of writing it down writes differently."""
    return f'{kind[0]}{secrets.token_hex(12)}&"ü +/{secrets.token_hex(4)}'


def spellings(secret: str) -> set[bytes]:
    """The ways in which ``secret`` could be written down."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), json.dumps(secret)[1:-1].encode()}
    found |= {quote(secret, safe="").encode(), quote_plus(secret).encode()}
    found |= {html.escape(secret).encode(), repr(secret)[1:-1].encode()}
    found.add(json.dumps(json.dumps(secret)[1:-1])[1:-1].encode())
    for shift in range(3):  # within something longer it begins at any of three places
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"\0" * shift + raw)
            found.add(coded[-(-shift * 8 // 6) : len(raw) * 8 // 6 - 1])
    # The digits of a planted one, whatever is done to the rest.
    return found | set(re.findall(rb"[0-9a-f]{24}", raw))


@dataclass
class Secrets:
    """What must be found nowhere, by what it is."""

    by_name: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str, value: str = "") -> str:
        """A secret called ``name``: a fresh one, or one that the console made."""
        self.by_name[name] = value or planted(name)
        return self.by_name[name]

    def within(self, where: str, what: bytes) -> list[str]:
        """Which of them, and where, are in ``what``."""
        return [
            f"{name} in {where}"
            for name, value in self.by_name.items()
            if any(one in what for one in spellings(value))
        ]


class Person:
    """Somebody with a browser that keeps cookies. ``seen`` is everything that came, by address."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.seen: dict[str, bytes] = {}
        self._jar = CookieJar()
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar)).open

    def get(self, path: str, *, once: bool = False) -> str:
        """A page; with ``once`` it shows a secret on purpose and is not kept."""
        return self._ask(path, None, once=once)[1]

    def post(
        self, path: str, fields: dict[str, str | list[str]], *, once: bool = False
    ) -> tuple[str, str]:
        """Where it led, and the page that came; also one that says what is wrong."""
        token = next((one.value for one in self._jar if one.name == "csrftoken"), "")
        body = urlencode({**fields, "csrfmiddlewaretoken": token}, doseq=True).encode()
        return self._ask(path, body, once=once)

    def walk(self, *starts: str) -> None:
        """Look at everything that links lead to, a few of each kind of address."""
        waiting, known, kinds = [*starts], set(starts), {}
        while waiting:
            path = waiting.pop(0)
            text = self.get(path)
            for found in re.findall(r'\s(?:href|src|hx-get|sse-connect)="([^"#]+)', text):
                target = urljoin(self.base + path, html.unescape(found))
                place = urlsplit(target)
                name = place.path + (f"?{place.query}" if place.query else "")
                kind = DIGITS.sub("#", place.path)
                if not target.startswith(self.base + "/") or place.path.startswith("/static/"):
                    continue
                if name in known or place.path in SHOWN_ONCE or kinds.get(kind, 0) >= VARIANTS:
                    continue
                known.add(name)
                kinds[kind] = kinds.get(kind, 0) + 1
                waiting.append(name)

    def _ask(self, path: str, body: bytes | None, *, once: bool) -> tuple[str, str]:
        request = urllib.request.Request(self.base + path, body)
        try:
            with self._open(request, timeout=90) as answer:
                data, where, headers = answer.read(), answer.geturl(), str(answer.headers)
        except urllib.error.HTTPError as error:
            data, where, headers = error.read(), path, str(error.headers)
        if not once:
            name = f"{'GET' if body is None else 'POST'} {path} {len(self.seen)}"
            self.seen[name] = headers.encode() + b"\n" + data + _unpacked(data)
        return where.removeprefix(self.base), data.decode("utf-8", "replace")


def _unpacked(data: bytes) -> bytes:
    """What is in a zip file; nothing for anything else."""
    if not data.startswith(b"PK"):
        return b""
    with zipfile.ZipFile(BytesIO(data)) as packed:
        return b"\n".join(packed.read(name) for name in packed.namelist())


class Monitor:
    """Everything that anybody tells the broker, with what Celery writes in base64 as text too."""

    def __init__(self, socket: Path) -> None:
        self._client = redis.Redis(unix_socket_path=str(socket))
        self._heard: list[str] = []
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._began.wait(30)

    def close(self) -> bytes:
        """End; all of it, and all that is still kept there."""
        self._client.publish("the-end", "of-the-test")
        self._thread.join(30)
        assert not self._thread.is_alive()
        kept = [self._client.dump(key) or b"" for key in self._client.scan_iter()]
        said = "\n".join(self._heard).encode()
        assert b"of-the-test" in said, "it went away before the end"
        bodies = re.findall(rb'"body\\*": \\*"([A-Za-z0-9+/=]+)\\*"', said)
        assert bodies, "no message was heard"
        return b"\n".join([said, *kept, *map(base64.b64decode, bodies)])

    def _listen(self) -> None:
        with suppress(redis.ConnectionError), self._client.monitor() as monitor:
            self._began.set()
            while not self._heard or "of-the-test" not in self._heard[-1]:
                self._heard.append(str(monitor.next_command()["command"]))


class _Receiver(BaseHTTPRequestHandler):
    """Takes what a webhook sends."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.headers["X-Console-Signature"], body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@contextmanager
def receiver() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Receiver)
    server.taken = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(30)
    server.server_close()


def processes() -> dict[str, bytes]:
    """Arguments and environments of all processes, as far as they can be read."""
    found: dict[str, bytes] = {}
    for name in ("cmdline", "environ"):
        for path in Path("/proc").glob(f"[0-9]*/{name}"):
            try:
                found[str(path)] = path.read_bytes()
            except OSError:
                continue  # it has ended, or is somebody else's
    return found


def said(page: str) -> str:
    """The words of a page, for whoever reads why a test fails."""
    main = page[page.find("<main") :]
    return " ".join(re.sub(r"<[^>]*>", " ", main).split())[:2_000]


# ---------- what somebody does ----------


def secure(person: Person, hidden: Secrets, first: str) -> None:
    """Sign in, mistype, choose a new password, and set up a second factor."""
    person.get("/sign-in/")
    person.post("/sign-in/", {"username": "admin", "password": hidden.plant("a mistyped password")})
    person.post("/sign-in/", {"username": "admin", "password": first})
    person.get("/account/password/")
    new = hidden.plant("the new password")
    wrong = {"old_password": hidden.plant("another mistyped one"), "new_password1": new}
    person.post("/account/password/", {**wrong, "new_password2": new})
    right = {"old_password": first, "new_password1": new, "new_password2": new}
    assert person.post("/account/password/", right)[0] == "/account/security/"
    page = person.get("/account/security/second-factor/", once=True)
    shown = re.search(r'class="key">([^<]+)<', page)[1]
    hidden.plant("the authenticator's key as it is shown", shown)
    key = hidden.plant("the authenticator's key", shown.replace(" ", ""))
    code = pyotp.TOTP(key).now()
    _, page = person.post("/account/security/second-factor/", {"code": code}, once=True)
    codes = re.findall(r"<code>([a-z2-7]{4}(?:-[a-z2-7]{4}){3})</code>", page)
    assert codes
    for number, one in enumerate(codes):
        hidden.plant(f"recovery code {number}", one)
        hidden.plant(f"recovery code {number} without dashes", one.replace("-", ""))
    person.post("/sign-out/", {})
    person.get("/sign-in/")
    person.post("/sign-in/", {"username": "admin", "password": new})
    assert person.post("/sign-in/code/", {"code": codes[0]})[0] == "/"


def add_webhook(person: Person, hidden: Secrets, port: int) -> str:
    """A webhook that is told of every task; the secret that signs."""
    target = f"http://127.0.0.1:{port}/told"
    rule = {"kind": "webhook", "url": target, "when": "always", "enabled": "on"}
    _, page = person.post("/team/notices/add/", rule, once=True)
    found = re.search(r'class="secret"[^>]*><code>([^<]+)<', page)
    assert found, said(page)
    return hidden.plant("the webhook's secret", found[1])


def add_instance(person: Person, name: str, server: Sshd, **key: str) -> str:
    """Add an instance with a key on the two pages that do it; its id."""
    fields = shown_fields(person.get("/instances/add/"), "instance-form")
    where = server.endpoint
    place = {"host": where.host, "port": str(where.port), "user": where.user, "name": name}
    fields = {**fields, **place, **key, "way": "key", "action": "read"}
    _, page = person.post("/instances/add/", fields)
    fields = {**shown_fields(page, "instance-form"), "confirmed": "on", "action": "save"}
    path, page = person.post("/instances/add/", fields)
    found = re.fullmatch(r"/instances/(i-\w+)/", path)
    assert found, said(page)
    return found[1]


def add_instances(person: Person, hidden: Secrets, server: Sshd, folder: Path) -> list[str]:
    """Two instances: an encrypted key that is right, and a password that is not."""
    passphrase = hidden.plant("a key's passphrase")
    public = ssh_keygen(folder / "key", passphrase=passphrase)
    with (server.directory / "authorized_keys").open("a") as keys:
        keys.write(public + "\n")
    keys = [(folder / "key").read_text(), server.endpoint.private_key]
    for key in keys:
        for number, line in enumerate(key.splitlines()[2:-2]):  # the first says what it is
            hidden.plant(f"line {number} of a private key {key[40:80]}", line)
    ids = [
        add_instance(person, "planted-one", server, private_key=keys[0], passphrase=passphrase),
        add_instance(person, "planted-two", server, private_key=keys[1], passphrase=""),
    ]
    change_password(person, "Key of planted-two", hidden.plant("a credential's password"))
    return ids


def change_password(person: Person, credential: str, password: str) -> None:
    """Put a password in the place of a credential's key, on the admin site."""
    page = person.get("/admin/commands/credential/")
    rows = re.findall(r'href="(/admin/commands/credential/\d+/change/)[^"]*">([^<]+)<', page)
    [address] = [address for address, name in rows if name == credential]
    person.get(address)
    path, page = person.post(address, {"password": password})
    assert path == "/admin/commands/credential/", said(page)


def run(person: Person, hidden: Secrets, ids: list[str], go: Path, begun: Path) -> str:
    """Run a script that prints its hidden values and waits for ``go``; the task's page."""
    script = (
        "value={{token}}\nother={{key}}\necho planted-marker $value\necho $other >&2\n"
        f"touch {begun}\nuntil [ -e {go} ]; do sleep 0.1; done\necho $value $other\n"
    )
    form = shown_fields(person.get("/run/"))
    wrong = {
        "name": "planted-command",
        "type": "RunShellScript",
        "content": script,
        "use_params": "on",
        "param-token": f"'{hidden.plant('a hidden value')}'",  # quoted for the shell by who types
        "secret-token": "on",
        "seen-token": "on",
        "save": "on",
        "timeout": "nonsense",
    }
    other = {"param-key": hidden.plant("a quoted value"), "secret-key": "on", "seen-key": "on"}
    insertion = {"about-insertion-key": "quoted"}
    # Once with a mistake, so that the values wait in the session for the next try.
    first = {**form, **wrong, **other, **insertion, "instances": ids}
    where, page = person.post("/run/", first)
    assert where == "/run/", said(page)
    # The one with the wrong password may be known to refuse it by now.
    right = {**shown_fields(page), "timeout": "120", "instances": ids[:1]}
    path, page = person.post("/run/", right)
    assert path.startswith("/tasks/"), said(page)
    return path


def ended(person: Person, task: str) -> bool:
    """Whether the only run of the task has ended as it should."""
    [one] = json.loads(person.get(f"{task}status.json"))["runs"]
    assert one["status"] in ("Pending", "Running", "Success"), one
    return one["status"] == "Success"


# ---------- what is left ----------


def files(folder: Path, *, but: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """All files under ``folder``, except in the folders ``but``."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] not in but:
            try:
                what = path.read_bytes()
            except FileNotFoundError:
                continue  # the console runs: some come and go
            yield str(path.relative_to(folder)), what


def dump(server: Postgres) -> bytes:
    """What PostgreSQL's own tool makes of a database."""
    command = [str(server.programs / "pg_dump"), "--inserts", f"--dbname={server.url}"]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Postgres | None]:
    """The database's server; None for the usual file."""
    if request.param == "sqlite":
        yield None
        return
    with postgres() as server:
        yield server


def test_the_search_finds_a_secret_however_it_is_written() -> None:
    hidden = Secrets()
    value = hidden.plant("it")
    for before in (b"", b"x", b"xy", b"xyz"):
        for written in (base64.b64encode, base64.urlsafe_b64encode, bytes):
            assert hidden.within("here", written(before + value.encode() + b"abc")) == [
                "it in here"
            ]
    for text in (quote(value), quote_plus(value), html.escape(value), json.dumps({"a": value})):
        assert hidden.within("here", text.encode())
    assert hidden.within("here", json.dumps(json.dumps(value)).encode())
    assert hidden.within("here", value.encode().hex().encode())
    assert not hidden.within("here", value[::-1].encode())


def test_planted_secrets_are_nowhere(tmp_path: Path, database: Postgres | None) -> None:
    hidden = Secrets()
    first = hidden.plant("the first password")
    settings = {
        "LOG_LEVEL": "DEBUG",
        "CONSOLE_ADMIN_PASSWORD": first,
        "CONSOLE_WEBHOOK_HTTP": "true",
        "CONSOLE_ALLOWED_NETWORKS": "127.0.0.0/8",
        **({"DATABASE_URL": database.url} if database else {}),
    }
    with (
        Sshd.started(tmp_path / "ssh") as [server],
        receiver() as hook,
        started(tmp_path, **settings) as up,
    ):
        monitor = Monitor(broker.socket_path(up.data))
        person = Person(f"http://127.0.0.1:{up.port}")
        secure(person, hidden, first)
        signs = add_webhook(person, hidden, hook.server_port)
        ids = add_instances(person, hidden, server, tmp_path)
        go, begun = tmp_path / "go", tmp_path / "begun"
        task = run(person, hidden, ids, go, begun)
        until(begun.exists)
        left = Left(hidden)
        until(lambda: left.sees_in(processes(), b"sleep\x000.1"))  # it sleeps again and again
        go.touch()
        until(lambda: ended(person, task))
        until(lambda: hook.taken)
        check_signature(hook.taken[0], signs)
        person.walk("/", task, f"{task}events?once=1", "/team/", "/admin/", "/account/security/")
        again = person.get(f"{task}again/")
        assert "planted-command" in again
        look_at_all(left, up, person, monitor, database)
    assert left.found == []


def check_signature(taken: tuple[str, bytes], secret: str) -> None:
    """The webhook's secret is really the one that signs."""
    signature, body = taken
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]+)", signature)
    assert found
    message = found[1].encode() + b"." + body
    assert hmac.new(secret.encode(), message, hashlib.sha256).hexdigest() == found[2]


@dataclass
class Left:
    """Everything that was looked at, and which secrets were where."""

    hidden: Secrets
    looked: dict[str, bytes] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    def look(self, more: dict[str, bytes]) -> None:
        """Search in ``more``."""
        self.looked |= more
        for where, what in more.items():
            self.found += self.hidden.within(where, what)

    def sees_in(self, more: dict[str, bytes], expected: bytes) -> bool:
        """Search in ``more`` too; whether what is ``expected`` is in it."""
        self.look(more)
        return any(expected in one for one in more.values())


def look_at_all(
    left: Left, up: Up, person: Person, monitor: Monitor, database: Postgres | None
) -> None:
    """Look at what the console has left, and make sure that it was all there to look at."""
    time.sleep(1)  # what comes late, such as the last lines of the logs
    left.look({"the broker": monitor.close(), "the console's own words": up.output.read_bytes()})
    left.look(dict(files(up.data, but=("keys",))))
    left.look(person.seen)
    if database:
        left.look({"pg_dump": dump(database)})
    rows = left.looked["pg_dump" if database else "db.sqlite3"]
    if not database:
        rows += left.looked.get("db.sqlite3-wal", b"")
    assert b"planted-marker" in rows
    assert b"commands.tasks" in left.looked["the broker"]
    assert b"DEBUG" in left.looked["logs/web.log"]
    for name in ("worker", "control"):  # what they do now and then, not how they begin
        assert b" succeeded in " in left.looked[f"logs/{name}.log"]
    kinds = {DIGITS.sub("#", name.split()[1].split("?")[0]) for name in person.seen}
    for kind in ("/tasks/#/output.zip", "/tasks/#/results.csv", "/tasks/#/i/#/log.txt"):
        assert kind in kinds
    for kind in ("/team/audit/events.csv", "/tasks/#/events", "/admin/commands/credential/"):
        assert kind in kinds
    assert "/admin/commands/credential/#/change/" in kinds
    assert "/commands/#/edit/" in kinds
    marked = [name for name, text in person.seen.items() if b"planted-marker" in text]
    assert any("output.zip" in name for name in marked)
    assert any("log.txt" in name for name in marked)
