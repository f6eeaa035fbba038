"""Real OpenSSH servers on loopback, for tests: each with its own keys and an own HOME.

    with Sshd.started(tmp_path, count=3) as servers:
        executor.start(servers[0].endpoint, spec)

Nothing outside ``tmp_path`` is read or written (except ``/run/sshd``, which sshd wants to
exist), and only processes that were started here are ended.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from commands.execution.executor import Endpoint
from tests.conftest import missing

_PATHS = "/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/bin"


def need_sshd() -> str:
    """The path of sshd. Skips the test without it; fails it where CI promised to have it."""
    found = shutil.which("sshd", path=_PATHS)
    return found or missing("an OpenSSH server")


def ssh_keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> str:
    """Make a key pair at ``path``; its public line ("ssh-ed25519 AAAA…")."""
    keygen = shutil.which("ssh-keygen", path=_PATHS) or "ssh-keygen"
    size = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(
        [keygen, "-q", "-t", kind, *size, "-N", passphrase, "-C", "", "-f", str(path)], check=True
    )
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


@dataclass
class Sshd:
    """One sshd. ``home`` is the HOME of the sessions, ``endpoint`` how to sign in."""

    directory: Path
    options: Mapping[str, str] = field(default_factory=dict)
    key_type: str = "ed25519"
    shell_env: Mapping[str, str] = field(default_factory=dict)
    shell: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        tmp_path: Path,
        count: int = 1,
        key_type: str = "ed25519",
        shell_env: Mapping[str, str] | None = None,
        shell: str = "",
        **options: str | int,
    ) -> Iterator[list[Sshd]]:
        """Start ``count`` servers; ``options`` are sshd's own (``MaxSessions=3``).

        ``shell_env`` is set for the sessions, beside HOME. ``shell`` ("bash", "busybox") is what
        ``/bin/sh`` is there, by a mount that nobody else sees.
        """
        need_sshd()
        texts = {name: str(value) for name, value in options.items()}
        servers: list[Sshd] = []
        try:
            for _ in range(count):
                directory = tmp_path / f"sshd-{len(list(tmp_path.glob('sshd-*')))}"
                directory.mkdir(mode=0o700, parents=True)
                server = cls(directory, texts, key_type, dict(shell_env or {}), shell)
                servers.append(server)
                server.start()
            yield servers
        finally:
            for server in servers:
                server.stop()

    @property
    def home(self) -> Path:
        """The HOME of sessions on this server."""
        return self.directory / "home"

    @property
    def base(self) -> Path:
        """Where the runner keeps its runs on this server."""
        return self.home / ".command-console"

    @property
    def endpoint(self) -> Endpoint:
        """How to reach this server and sign in."""
        return Endpoint(
            host="127.0.0.1",
            port=self.port,
            user=pwd.getpwuid(os.getuid()).pw_name,
            host_key=" ".join((self.directory / "host_key.pub").read_text().split()[:2]),
            private_key=(self.directory / "client_key").read_text(),
        )

    def start(self) -> None:
        """Start (again), on the same port if there was one, and wait until it answers."""
        self._prepare()
        for _ in range(5):
            port = self.port or _free_port()
            self.process = subprocess.Popen(
                [*self._with_shell(), need_sshd(), "-D", "-e", "-f", str(self._config(port))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=(self.directory / "log").open("ab"),
            )
            if self._answers(port):
                self.port = port
                return
            self.stop()
        raise RuntimeError((self.directory / "log").read_text())

    def stop(self) -> None:
        """End this server and its sessions. What the sessions detached goes on."""
        if self.process is None:
            return
        self.kill_sessions()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def sessions(self) -> list[psutil.Process]:
        """The sshd processes of connections that are open now."""
        if self.process is None:
            return []
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [each for each in found if each.name().startswith("sshd")]
        except psutil.NoSuchProcess:
            return []

    def kill_sessions(self) -> int:
        """Kill all open connections, as a crash would; how many processes that were."""
        sessions = self.sessions()
        for each in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        return len(sessions)

    def _with_shell(self) -> list[str]:
        """What starts a program for which ``/bin/sh`` is the wanted shell."""
        if not self.shell:
            return []
        wanted = shutil.which(self.shell)
        if wanted is None or os.getuid() != 0:
            missing(f"{self.shell} and a root shell, which alone can put it in the place of sh,")
        mount = f'mount --bind "{wanted}" "$(readlink -f /bin/sh)" && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", mount, "sh"]

    def _prepare(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.home.mkdir(mode=0o700, exist_ok=True)
        if not (self.directory / "host_key").exists():
            ssh_keygen(self.directory / "host_key", self.key_type)
            public = ssh_keygen(self.directory / "client_key", self.key_type)
            (self.directory / "authorized_keys").write_text(public + "\n")

    def _config(self, port: int) -> Path:
        env = {"HOME": str(self.home), **self.shell_env}
        settings = {
            "Port": str(port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(self.directory / "host_key"),
            "AuthorizedKeysFile": str(self.directory / "authorized_keys"),
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PermitRootLogin": "yes",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PrintMotd": "no",
            "UseDNS": "no",
            "MaxStartups": "100",
            "LogLevel": "ERROR",
            "SetEnv": " ".join(f'"{name}={value}"' for name, value in env.items()),
            **self.options,
        }
        path = self.directory / "sshd_config"
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        return path

    def _answers(self, port: int) -> bool:
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process is not None:
            if self.process.poll() is not None:
                return False
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
            ):
                # Somebody else's may have been given the same port in the meantime.
                if sock.recv(4) == b"SSH-" and self._listens(port):
                    return True
            time.sleep(0.02)
        return False

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(psutil.Error):
            assert self.process is not None
            found = psutil.Process(self.process.pid).net_connections("tcp")
            return any(each.laddr.port == port for each in found if each.status == "LISTEN")
        return False


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
