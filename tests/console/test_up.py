"""``manage.py up`` for real: one command starts all of it, and its end leaves nothing."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import paramiko
import pytest
from cryptography.fernet import Fernet

from console import guardian
from console.management.commands.up import _whereabouts

ROOT = Path(guardian.__file__).resolve().parent.parent
MANAGE = ROOT / "manage.py"


def until(condition: Callable[[], object], *, within: float = 90.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def command(*options: str) -> list[str]:
    return [sys.executable, str(MANAGE), "up", *options]


def environment(**more: str) -> dict[str, str]:
    """As a person's shell would have it: nothing of the test settings."""
    unwanted = ("CONSOLE_DATA_DIR", "DJANGO_SETTINGS_MODULE", "BROKER_URL", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | more


@dataclass
class Up:
    """A running ``manage.py up``."""

    process: subprocess.Popen[bytes]
    data: Path
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def cookie(self) -> str:
        return (self.data / "run" / "cookie").read_text()

    @property
    def port(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.text)
        return found[1] if found else ""

    @property
    def log(self) -> str:
        """What the web server has logged."""
        return (self.data / "logs" / "web.log").read_text()

    def pid(self, name: str) -> int:
        lines = (line.split() for line in (self.data / "run" / "children").read_text().splitlines())
        return next((int(pid) for pid, _, noted in lines if noted == name), 0)

    def health(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=30) as answer:
            return int(answer.status)


@contextmanager
def started(tmp_path: Path, *options: str, **variables: str) -> Iterator[Up]:
    data, output = tmp_path / "data", tmp_path / "output"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command("--data", str(data), "--port", "0", *options),
            env=environment(**variables),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        running = Up(process, data, output)
        try:
            until(lambda: running.port or process.poll() is not None)
            assert running.port, running.text
            yield running
        finally:
            process.kill()
            guardian.sweep(running.cookie, patience=0)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with started(tmp_path) as running:
        yield running


def output_of(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=90,
        umask=0o022,
        check=False,
    )


def refused(*options: str, **variables: str) -> str:
    result = output_of(str(MANAGE), "up", *options, **variables)
    assert result.returncode == 1
    return result.stderr


def test_starts_everything_and_refuses_what_would_clash(up, tmp_path):
    assert up.health() == 200
    assert "Sign in as admin with the password" in up.text
    assert up.data.stat().st_mode & 0o077 == 0
    for name in ("broker", "demo", "web", "worker", "control", "beat"):
        assert up.pid(name)
    assert "already runs" in refused("--data", str(up.data), "--port", "0")
    other = tmp_path / "other"
    assert "--port" in refused("--data", str(other), "--port", up.port)
    assert "--no-demo" in refused("--data", str(other), "--port", "0", "--host", "0.0.0.0")
    assert not (other / "lock").exists()


def test_a_killed_child_comes_back_and_ctrl_c_leaves_nothing(up):
    worker = up.pid("worker")
    os.kill(worker, signal.SIGKILL)
    until(lambda: up.pid("worker") not in (0, worker))
    assert "worker stopped (exit -9), starting it again in 0.5 s" in up.text
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert guardian.find(up.cookie) == []


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_works(up):
    up.process.kill()
    up.process.wait()
    # The lock is free only when the guardian has ended everything, so ask until it is.
    until(lambda: is_free(up.data / "lock"))
    assert guardian.find(up.cookie, notes=str(up.data / "run" / "children")) == []
    again = command("--data", str(up.data), "--port", "0", "--no-demo")
    with subprocess.Popen(again, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "Command Console is at" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


WRONG = [
    ({"DATABASE_URL": "postgres://u:p4ss@h:notaport/x"}, "DATABASE_URL must be an address"),
    ({"DATABASE_URL": "postgres://u:p4ss@127.0.0.1:1/x"}, "DATABASE_URL cannot be .* refused"),
    ({"DATABASE_URL": "sqlite:////nonexistent/x.db"}, "DATABASE_URL .* unable to open"),
    ({"DATABASE_URL": "sqlite:////etc/passwd"}, "DATABASE_URL .* not a database"),
    ({"LOG_LEVEL": "loud"}, "LOG_LEVEL must be one of DEBUG, INFO"),
    ({"BROKER_URL": "redis://:p4ss:port/x"}, "BROKER_URL must be the address"),
    ({"BROKER_URL": "memory://"}, "BROKER_URL must be the address"),
    (
        {"BROKER_URL": "redis://:p4ss@127.0.0.1:1/0"},
        "broker of BROKER_URL does not answer: .* refused",
    ),
    (
        {"BROKER_URL": "amqp://u:p4ss@127.0.0.1:1//"},
        "broker of BROKER_URL does not answer: .* refused",
    ),
    ({"CONSOLE_DB_POOL": "x"}, "CONSOLE_DB_POOL must be a whole number from 1"),
    ({"CONSOLE_DB_POOL": "0"}, "CONSOLE_DB_POOL must be a whole number from 1"),
    ({"FORWARDED_ALLOW_IPS": "abc"}, "FORWARDED_ALLOW_IPS must be addresses"),
    ({"CSRF_TRUSTED_ORIGINS": "console.example"}, "CSRF_TRUSTED_ORIGINS must be origins"),
    ({"ALLOWED_HOSTS": "http://console.example"}, "ALLOWED_HOSTS must be names"),
    ({"STATIC_ROOT": str(ROOT / "static")}, "STATICFILES_DIRS .* STATIC_ROOT"),  # a system check
    (["--port", "99999"], "--port must be from 0 to 65535, not 99999"),
    (["--port", "-1"], "--port must be from 0 to 65535, not -1"),
    (["--host", "127.0.0.2"], "ALLOWED_HOSTS=127.0.0.2"),
]


@pytest.mark.parametrize(("given", "sentence"), WRONG)
def test_what_is_wrong_is_said_in_a_sentence(given, sentence, tmp_path):
    variables, options = (given, []) if isinstance(given, dict) else ({}, given)
    told = refused("--data", str(tmp_path / "data"), "--port", "0", *options, **variables)
    assert re.search(sentence, told)
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert "p4ss" not in told
    assert not (tmp_path / "data" / "run" / "cookie").exists()  # nothing was started


def test_a_missing_package_is_named(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['psycopg'] = None")
    variables = {"DATABASE_URL": "postgres://u:p@h/x", "PYTHONPATH": str(tmp_path)}
    told = refused("--data", str(tmp_path / "data"), "--port", "0", **variables)
    assert re.fullmatch(r"DATABASE_URL names .* pip install -e '\.\[production\]'\n", told)


@pytest.mark.parametrize(
    "arguments", ["manage.py check", "manage.py migrate", "-m console.server --port 0"]
)
def test_every_program_says_it_in_a_sentence(arguments, tmp_path):
    result = output_of(*arguments.split(), CONSOLE_DATA_DIR=str(tmp_path), LOG_LEVEL="loud")
    assert result.returncode == 1
    assert re.fullmatch("LOG_LEVEL must be one of .*\n", result.stderr)
    shown = output_of("manage.py", "check", "--traceback", LOG_LEVEL="loud")
    assert "Traceback" in shown.stderr


def test_a_database_that_fails_is_said_in_a_sentence(tmp_path):
    wrong = {"CONSOLE_DATA_DIR": str(tmp_path), "DATABASE_URL": "sqlite:////nonexistent/x.db"}
    result = output_of("manage.py", "migrate", **wrong)
    assert result.returncode == 1
    assert re.fullmatch("The database of DATABASE_URL .*\n", result.stderr)


ONLY_HERE = (
    "Only this machine is let in. Set ALLOWED_HOSTS to the name people will type, such as "
    f"ALLOWED_HOSTS={socket.gethostname()}."
)


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        ("127.0.0.1,localhost", "127.0.0.1", ["Command Console is at http://127.0.0.1:8000/"]),
        ("localhost,[::1]", "::1", ["Command Console is at http://[::1]:8000/"]),
        (
            "127.0.0.1",
            "0.0.0.0",
            [
                ONLY_HERE,
                "Command Console is at http://127.0.0.1:8000/",
            ],
        ),
        ("*", "0.0.0.0", ["Command Console is at http://127.0.0.1:8000/"]),
        ("console.example", "0.0.0.0", ["Command Console is at http://console.example:8000/"]),
        ("console.example", "10.0.0.7", ["Command Console is at http://console.example:8000/"]),
        (
            "console.example",
            "127.0.0.1",
            ["Command Console listens on 127.0.0.1, port 8000, for console.example"],
        ),
    ],
)
def test_the_address_it_says_is_one_that_works(names, host, expected, settings):
    settings.ALLOWED_HOSTS = names.split(",")
    expected[-1] += " (Ctrl-C ends it)"
    assert _whereabouts(host, 8000) == expected


def test_whatever_comes_first_makes_a_private_data_directory(tmp_path):
    data = tmp_path / "with + and %41"
    result = output_of("manage.py", "migrate", CONSOLE_DATA_DIR=str(data))
    assert result.returncode == 0, result.stderr
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (data, *data.iterdir())}
    # There is a note for the broker where this path is too long for a socket's.
    assert modes.pop("run", 0o700) == 0o700
    assert modes == {data.name: 0o700, "keys": 0o700, "db.sqlite3": 0o600}


def test_the_web_servers_log_stays_short(tmp_path):
    with started(tmp_path, "--no-demo") as up:
        page = urllib.request.urlopen(f"http://127.0.0.1:{up.port}/sign-in/").read().decode()
        [style, *_] = re.findall(r'href="(/static/[^"]+\.css)"', page)
        with urllib.request.urlopen(f"http://127.0.0.1:{up.port}{style}") as answer:
            assert answer.status == 200
        connection = http.client.HTTPConnection("127.0.0.1", int(up.port), timeout=30)
        connection.request("GET", "/sign-in/", headers={"Host": "strange.example"})
        assert connection.getresponse().status == 400
        until(lambda: "strange.example" in up.log)
        lines = up.log.splitlines()
        assert [line for line in lines if "strange.example" in line][1:] == []
        assert "Traceback" not in up.log
        assert "StreamingHttpResponse" not in up.log


def environ(pid: int) -> str:
    """What a process was given; nothing of one that has ended, as those do that try instances."""
    try:
        return Path(f"/proc/{pid}/environ").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def on_a_demo(data: Path, script: str) -> str:
    """What a script prints on the first demo instance."""
    described = json.loads((data / "demo" / "demo.json").read_text())
    [instance, *_] = described["instances"]
    key = paramiko.Ed25519Key.from_private_key_file(str(data / "demo" / "id_ed25519"))
    transport = paramiko.Transport((instance["host"], instance["port"]))
    try:
        transport.start_client(timeout=30)
        transport.auth_publickey(described["user"], key)
        channel = transport.open_session(timeout=30)
        channel.exec_command(script)
        return channel.makefile().read().decode("utf-8", "replace")
    finally:
        transport.close()


def test_children_and_scripts_do_not_learn_secrets(tmp_path):
    password, key, database = (secrets.token_hex(32) for _ in range(3))
    fernet = Fernet.generate_key().decode()
    given = {
        "CONSOLE_ADMIN_PASSWORD": password,
        "SECRET_KEY": key,
        "CONSOLE_ENCRYPTION_KEYS": fernet,
        "DATABASE_URL": f"sqlite:///{tmp_path}/{database}",
        "SOMEBODY_ELSES": "of-no-concern",
    }
    with started(tmp_path, **given) as up:
        assert "password in CONSOLE_ADMIN_PASSWORD" in up.text
        children = Path(f"/proc/{up.process.pid}/task/{up.process.pid}/children").read_text()
        everybody = {up.process.pid, *map(int, children.split())}
        found = guardian.find(up.cookie)
        everybody |= {process.pid for process in found}
        assert len(everybody) >= 7
        for pid in everybody:
            assert password not in environ(pid)
        needy = {up.pid(name) for name in ("web", "worker", "control", "beat")}
        # A worker that begins asks `uname` where it is, which is over at once.
        needy |= {process.pid for process in found if process.parent in needy}
        needy.add(up.process.pid)
        assert key in environ(up.pid("web"))
        for pid in everybody - needy:
            for value in given.values():
                assert value not in environ(pid)
        seen = on_a_demo(up.data, "env; cat /proc/$PPID/environ")
        assert "SSH_CONNECTION" in seen
        for value in given.values():
            assert value not in seen
        assert password not in on_a_demo(up.data, "cat /proc/[0-9]*/environ 2>/dev/null")


def running_task(up: Up) -> tuple[str, str]:
    """Sign in and run a long script on all demo instances; the task's path and the cookies."""
    base, jar = f"http://127.0.0.1:{up.port}", CookieJar()
    web = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))

    def send(path: str, **fields: str | list[str]) -> str:
        token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
        body = urlencode({**fields, "csrfmiddlewaretoken": token}, doseq=True).encode()
        return str(web.open(base + path, body, timeout=30).geturl())

    def read(path: str) -> str:
        return str(web.open(base + path, timeout=30).read().decode())

    read("/sign-in/")
    [password] = re.findall(r"with the password (\S+) ", up.text)
    send("/sign-in/", username="admin", password=password)
    page = read("/run/")
    inputs = [tag for tag in re.findall("<input[^>]*>", page) if 'name="instances"' in tag]
    ids = [found[1] for tag in inputs if (found := re.search('value="([^"]+)"', tag))]
    [token] = re.findall(r'name="client_token" value="([^"]+)"', page)
    fields = {"name": "long", "type": "RunShellScript", "content": "echo begun\nsleep 60\n"}
    task = send("/run/", **fields, timeout="600", instances=ids, client_token=token)
    path = task.removeprefix(base)
    assert path.startswith("/tasks/")
    until(lambda: "begun" in read(f"{path}i/{ids[0]}/log.txt"))
    return path, "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


def test_ctrl_c_ends_a_hundred_open_streams_and_a_running_task(up):
    path, cookies = running_task(up)
    head = f"GET {path}events HTTP/1.1\r\nHost: 127.0.0.1:{up.port}\r\nCookie: {cookies}\r\n\r\n"
    with ExitStack() as stack:
        streams = [
            stack.enter_context(socket.create_connection(("127.0.0.1", int(up.port)), timeout=60))
            for _ in range(100)
        ]
        for stream in streams:
            stream.sendall(head.encode())
        for stream in streams:
            received = b""
            while b"event:" not in received:
                more = stream.recv(65_536)
                assert more, received
                received += more
            assert received.startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(30) == 0
        print(f"Ctrl-C took {time.monotonic() - began:.2f} s")
    assert guardian.find(up.cookie) == []
