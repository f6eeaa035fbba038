"""``manage.py up``: the whole console with one command, until Ctrl-C."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from console import broker, guardian, seed
from console.datadir import DataDir, DataDirError
from console.processes import Child, StartFailed, Supervisor

_PYTHON = [sys.executable, "-m"]


class Command(BaseCommand):
    """Starts broker, demo instances, web server, worker and beat, and looks after them."""

    help = "Start the whole console: database, broker, demo instances, web, worker, schedules."
    requires_system_checks = ()  # migrate runs them, once it is clear that this may start

    def add_arguments(self, parser: ArgumentParser) -> None:
        """``--data`` was read by manage.py already, as settings depend on it."""
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one")
        parser.add_argument("--data", help="data directory (default: $CONSOLE_DATA_DIR or var)")
        parser.add_argument("--no-demo", action="store_true", help="without demo instances")

    def handle(self, **options: Any) -> None:
        """Refuse what cannot work before anything is started, then run until a signal."""
        demo = not options["no_demo"]
        listener = _listen(options["host"], options["port"], demo=demo)
        data = DataDir(settings.DATA_DIR)
        try:
            data.create()
            lock = data.lock()
            self._run(data, listener, lock, demo=demo)
        except (DataDirError, StartFailed, broker.BrokerMissing) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            pass  # asked to end before everything was up

    def _run(self, data: DataDir, listener: socket.socket, lock: int, *, demo: bool) -> None:
        _end_leftovers(data)
        supervisor = Supervisor(
            logs=data.logs, notes=data.run / "children", say=self._say, held=[lock]
        )
        (data.run / "cookie").write_text(supervisor.cookie)
        with supervisor:
            self._start(supervisor, data, listener, demo=demo)
            host, port = listener.getsockname()[:2]
            name = f"[{host}]" if ":" in host else host
            self._say(f"Command Console is at http://{name}:{port}/ (Ctrl-C ends it)")
            supervisor.run()
            self._say("Ending…")
            listener.close()

    def _start(
        self, supervisor: Supervisor, data: DataDir, listener: socket.socket, *, demo: bool
    ) -> None:
        """Start what needs no database, prepare the database meanwhile, start the rest."""
        early = [_broker(data)] if not os.environ.get("BROKER_URL") else []
        early += [_demo(data)] if demo else []
        for child in early:
            supervisor.start(child)
        call_command("migrate", verbosity=0, interactive=False)
        if hint := seed.first_user():
            self._say(hint)
        os.environ.pop(seed.PASSWORD, None)  # no child has any use for it
        for child in early:
            supervisor.wait_ready(child.name)
        if demo:
            seed.demo_instances(data)
        for child in (_web(listener), _worker(), _beat(data)):
            supervisor.start(_with_settings(child, data))
        supervisor.wait_ready("web")

    def _say(self, sentence: str) -> None:
        try:
            self.stdout.write(sentence)
            self.stdout.flush()
        except OSError:
            pass  # nobody listens any more, as with: up | head


def _listen(host: str, port: int, *, demo: bool) -> socket.socket:
    """A listening socket. The supervisor keeps it, so a new web server finds who waited."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CommandError(f"{host} is no address of this machine; see --host.") from error
    if demo and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise CommandError(
            "The demo instances run scripts as you on this machine, for everybody who may use "
            f"the console; they are not offered on {host}. Add --no-demo, or use --host "
            "127.0.0.1."
        )
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise CommandError(
            f"Port {port} of {host} cannot be used ({error.strerror}). Choose another one with "
            "--port, or end the program that has it."
        ) from error
    return listener


def _end_leftovers(data: DataDir) -> None:
    """End what an earlier start left behind, should its guardian have been killed as well."""
    cookie = data.run / "cookie"
    if cookie.exists():
        guardian.sweep(cookie.read_text())


def _broker(data: DataDir) -> Child:
    return Child(
        "broker",
        broker.command(data.root),
        ready=lambda pid: broker.answers(data.root),
        serves_others=True,
    )


def _demo(data: DataDir) -> Child:
    return Child(
        "demo",
        [*_PYTHON, "console.demo", "--data", str(data.root)],
        ready=lambda pid: _described_by(data, pid),
        serves_others=True,
    )


def _described_by(data: DataDir, pid: int) -> bool:
    """Whether the demo process ``pid`` listens: it then has written its description."""
    try:
        return bool(json.loads((data.demo / "demo.json").read_text())["pid"] == pid)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _web(listener: socket.socket) -> Child:
    return Child(
        "web",
        [*_PYTHON, "console.server", "--fd", str(listener.fileno())],
        ready=lambda pid: _healthy(listener),
        fds=[listener.fileno()],
    )


def _worker() -> Child:
    # Tasks end within moments (a run is followed outside of them), so few threads suffice.
    # One worker has nobody to gossip or mingle with; heartbeats are for RabbitMQ's events.
    flags = ["--pool", "threads", "--concurrency", "4", "-Q", "run,control", "-l", "WARNING"]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return Child("worker", [*_PYTHON, "celery", "-A", "console", "worker", *flags, *alone])


def _beat(data: DataDir) -> Child:
    schedule = str(data.run / "beat-schedule")
    flags = ["-l", "WARNING", "-s", schedule]
    return Child("beat", [*_PYTHON, "celery", "-A", "console", "beat", *flags])


def _with_settings(child: Child, data: DataDir) -> Child:
    env = {"CONSOLE_DATA_DIR": str(data.root), "DJANGO_SETTINGS_MODULE": "console.settings"}
    if not os.environ.get("BROKER_URL"):
        env["BROKER_URL"] = broker.url(data.root)
    return Child(child.name, child.argv, env, child.ready, child.serves_others, child.fds)


def _healthy(listener: socket.socket) -> bool:
    """Whether the page answers: ``GET /healthz`` gives 200."""
    host, port = listener.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    connection = http.client.HTTPConnection(reachable, port, timeout=1)
    # The header a proxy would set, where the console is served over HTTPS only.
    headers = {"Host": _own_name(), "X-Forwarded-Proto": "https"}
    try:
        connection.request("GET", "/healthz", headers=headers)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _own_name() -> str:
    """A host name that ALLOWED_HOSTS lets through."""
    names = [name for name in settings.ALLOWED_HOSTS if not name.startswith((".", "*"))]
    return names[0] if names else "localhost"
