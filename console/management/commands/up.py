"""``manage.py up``: the whole console with one command, until Ctrl-C."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import sys
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

import django.db
import kombu
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import CommandError
from django.http.request import validate_host

from console import broker, environment, guardian, seed
from console.datadir import DataDir, DataDirError
from console.management.audited import AuditedCommand
from console.processes import Child, StartFailed, Supervisor

_PYTHON = [sys.executable, "-m"]
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how to reach all addresses
_PATIENCE = 5  # seconds for a database or a broker to answer


class Command(AuditedCommand):
    """Starts broker, demo instances, web server, workers and beat, and looks after them."""

    help = "Start the whole console: database, broker, demo instances, web, workers, schedules."
    requires_system_checks = ()  # handle runs them, once it is clear that this may start

    def add_arguments(self, parser: ArgumentParser) -> None:
        """``--data`` was read by manage.py already, as settings depend on it."""
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one")
        parser.add_argument("--data", help="data directory (default: $CONSOLE_DATA_DIR or var)")
        parser.add_argument("--no-demo", action="store_true", help="without demo instances")

    def handle(self, **options: Any) -> None:
        """Refuse what cannot work before anything is started, then run until a signal."""
        password = environment.taken(seed.PASSWORD)  # no child is to know it
        demo = not options["no_demo"]
        listener = _listen(options["host"], options["port"], demo=demo)
        data = DataDir(settings.DATA_DIR)
        try:
            data.create()
            lock = data.lock()
            _refuse_what_fails()
            self._run(data, listener, lock, password, demo=demo)
        except (DataDirError, StartFailed, broker.BrokerMissing) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            pass  # asked to end before everything was up

    def _run(
        self, data: DataDir, listener: socket.socket, lock: int, password: str, *, demo: bool
    ) -> None:
        _end_leftovers(data)
        supervisor = Supervisor(
            logs=data.logs, notes=data.run / "children", say=self._say, held=[lock]
        )
        (data.run / "cookie").write_text(supervisor.cookie)
        with supervisor:
            self._start(supervisor, data, listener, password, demo=demo)
            for sentence in _whereabouts(*listener.getsockname()[:2]):
                self._say(sentence)
            supervisor.run()
            self._say("Ending…")
            listener.close()

    def _start(
        self,
        supervisor: Supervisor,
        data: DataDir,
        listener: socket.socket,
        password: str,
        *,
        demo: bool,
    ) -> None:
        """Start what needs no database, prepare the database meanwhile, start the rest."""
        early = [_broker(data)] if not environment.text("BROKER_URL") else []
        early += [_demo(data)] if demo else []
        for child in early:
            supervisor.start(child)
        call_command("migrate", verbosity=0, interactive=False)
        if hint := seed.first_user(password):
            self._say(hint)
        for child in early:
            supervisor.wait_ready(child.name)
        if demo:
            seed.demo_instances(data)
        for child in (_web(listener), *_workers(), _beat(data)):
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
    if not 0 <= port <= 65_535:
        raise CommandError(f"--port must be from 0 to 65535, not {port}.")
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
    _refuse_without_name(str(address[0]))
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


def _refuse_without_name(host: str) -> None:
    """Every request would be answered with 400 where no allowed name leads to ``host``."""
    if not _allows(_LOOPBACK_OF.get(host, host)) and not _names():
        raise CommandError(
            f"ALLOWED_HOSTS has no name that leads to {host}. Set it to the name people will "
            f"type, such as ALLOWED_HOSTS={_bracketed(host)}."
        )


def _whereabouts(host: str, port: int) -> list[str]:
    """Sentences on where the console is: an address that works, and for whom it does not."""
    near, names = _LOOPBACK_OF.get(host, host), _names()
    loopback = ipaddress.ip_address(near.partition("%")[0]).is_loopback
    said = []
    if not _allows(near) and loopback and near == host:
        said = [f"Command Console listens on {host}, port {port}, for {', '.join(names)}"]
    else:
        name = _bracketed(near) if _allows(near) else names[0]
        said = [f"Command Console is at http://{name.lstrip('.')}:{port}/"]
    said[-1] += " (Ctrl-C ends it)"
    if near != host and not names and "*" not in settings.ALLOWED_HOSTS:
        said.insert(
            0,
            "Only this machine is let in. Set ALLOWED_HOSTS to the name people will type, such as "
            f"ALLOWED_HOSTS={socket.gethostname()}.",
        )
    return said


def _allows(host: str) -> bool:
    return validate_host(_bracketed(host), settings.ALLOWED_HOSTS)


def _names() -> list[str]:
    """Allowed names other than this machine's own for itself."""
    own = {"localhost", "127.0.0.1", "[::1]", "*"}
    return [name for name in settings.ALLOWED_HOSTS if name not in own]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _refuse_what_fails() -> None:
    """Raise CommandError where the database, the broker or a system check says no."""
    _reach_database()
    if url := environment.text("BROKER_URL"):
        _reach_broker(url)
    found = checks.run_checks(databases=["default"])
    errors = [each for each in found if each.is_serious() and not each.is_silenced()]
    if errors:
        raise CommandError("\n".join(" ".join(filter(None, (e.msg, e.hint))) for e in errors))


def _reach_database() -> None:
    # Without the pool, which would try in vain for half a minute.
    once = django.db.connection.copy()
    once.settings_dict["OPTIONS"].pop("pool", None)
    if once.vendor == "postgresql":
        once.settings_dict["OPTIONS"].setdefault("connect_timeout", _PATIENCE)
    try:
        once.ensure_connection()
    except (django.db.Error, TypeError) as error:  # TypeError: an option there is not
        raise CommandError(
            f"The database of DATABASE_URL cannot be used: {_brief(error)}"
        ) from error
    finally:
        once.close()


def _reach_broker(url: str) -> None:
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    once = kombu.Connection(url, connect_timeout=_PATIENCE, transport_options=options)
    refusals: tuple[type[BaseException], ...] = (
        OSError,
        *once.connection_errors,
        *once.channel_errors,
    )
    try:
        once.connect()
    except refusals as error:
        raise CommandError(
            f"The message broker of BROKER_URL does not answer: {_brief(error)}"
        ) from error
    finally:
        once.release()


def _brief(error: BaseException) -> str:
    """The first line of what a library says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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


def _workers() -> list[Child]:
    """One worker for starts, and one for what must never wait behind them: stops first of all."""
    return [_worker("worker", "run", 4), _worker("control", "control", 2)]


def _worker(name: str, queue: str, slots: int) -> Child:
    # Tasks end within moments (a run is followed outside of them), so few threads suffice.
    # Nobody wants to gossip or mingle here; heartbeats are for RabbitMQ's events.
    flags = ["--pool", "threads", "--concurrency", str(slots), "-Q", queue]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    node = ["-n", f"{name}@%h"]
    return Child(name, [*_PYTHON, "celery", "-A", "console", "worker", *node, *flags, *alone])


def _beat(data: DataDir) -> Child:
    schedule = str(data.run / "beat-schedule")
    return Child("beat", [*_PYTHON, "celery", "-A", "console", "beat", "-s", schedule])


def _with_settings(child: Child, data: DataDir) -> Child:
    env = {"CONSOLE_DATA_DIR": str(data.root), "DJANGO_SETTINGS_MODULE": "console.settings"}
    if not environment.text("BROKER_URL"):
        env["BROKER_URL"] = broker.url(data.root)
    return replace(child, env=env, trusted=True)


def _healthy(listener: socket.socket) -> bool:
    """Whether the page answers: ``GET /healthz`` gives 200."""
    host, port = listener.getsockname()[:2]
    connection = http.client.HTTPConnection(_LOOPBACK_OF.get(host, host), port, timeout=1)
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
