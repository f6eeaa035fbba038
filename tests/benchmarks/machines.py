"""Instances to run things on: one sshd for each, on loopback addresses, and a CPU meter for all.

``Machines`` starts this module as a process of its own. That process is the *subreaper* of
everything below it: what a session detaches is reaped here and not by process 1, so that the
CPU time of the instances (servers, sessions, scripts) is known to the last process. It ends
everything that it started when its standard input ends, whatever became of its parent.

    with Machines(directory, 50) as machines:
        machines.cut()          end every open connection
        machines.cpu()          seconds of CPU that the instances have used so far
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import pwd
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

KEX = "curve25519-sha256,curve25519-sha256@libssh.org"
"""The only key exchange offered: OpenSSH's default costs its own client 76 ms, others nothing."""
MOST = 1000
"""Instances at most."""
_PATHS = "/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/bin"
_ROOT = Path(__file__).resolve().parents[2]
_PR_SET_CHILD_SUBREAPER = 36

_SERVER = """\
Port {port}
ListenAddress {address}
HostKey {directory}/host_key
AuthorizedKeysFile {common}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
PermitUserRC no
MaxStartups 4096
MaxSessions 100
KexAlgorithms {kex}
LogLevel ERROR
SetEnv HOME={directory}/home
"""
_CLIENT = """\
Host *
    User {user}
    Port {port}
    IdentityFile {common}/client_key
    IdentitiesOnly yes
    IdentityAgent none
    PreferredAuthentications publickey
    GSSAPIAuthentication no
    KexAlgorithms {kex}
    UserKnownHostsFile {common}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    UpdateHostKeys no
    BatchMode yes
    LogLevel ERROR
"""


def sshd_program() -> str | None:
    """The path of sshd, if it is installed."""
    return shutil.which("sshd", path=_PATHS)


def become_subreaper() -> None:
    """Let orphans below this process become its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this system has no subreapers")


@dataclass(frozen=True)
class Machine:
    """One instance."""

    address: str
    port: int
    host_key: str
    home: Path


class Machines:
    """All instances, and how to sign in to them."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.count = count
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.all: list[Machine] = []

    @property
    def key(self) -> Path:
        """The private key that all of them accept."""
        return self.directory / "client_key"

    @property
    def known_hosts(self) -> Path:
        """Their host keys."""
        return self.directory / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        """For ``ssh -F``."""
        return self.directory / "ssh_config"

    @property
    def addresses(self) -> list[str]:
        """Where they are."""
        return [each.address for each in self.all]

    def __enter__(self) -> Machines:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.benchmarks.machines"),
                *("--dir", str(self.directory), "--hosts", str(self.count)),
            ],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            for line in self._answer()["machines"]:
                self.all.append(Machine(**{**line, "home": Path(line["home"])}))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cut(self) -> None:
        """End every open connection. Returns when none is left."""
        self._ask("cut")

    def sessions(self) -> int:
        """How many connections are open."""
        return int(self._ask("sessions")["sessions"])

    def cpu(self) -> float:
        """Seconds of CPU that the instances have used, with everything that ran there."""
        return float(self._ask("cpu")["cpu"])

    def _ask(self, question: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the instances could not be started, or ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


# --- the process of the instances --------------------------------------------------------------


def _address(number: int) -> str:
    return f"127.{77 + number // 62_500}.{1 + number // 250 % 250}.{1 + number % 250}"


def _free_port(addresses: list[str]) -> int:
    for _ in range(50):
        with socket.socket() as first:
            first.bind((addresses[0], 0))
            port = int(first.getsockname()[1])
        if all(_is_free(address, port) for address in addresses):
            return port
    raise RuntimeError("no port is free on all addresses")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _make_key(path: Path) -> str:
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


class _Host:
    """Starts the servers, reaps, counts, and ends what it started."""

    def __init__(self, common: Path, count: int) -> None:
        self.common = common
        self.count = count
        self.servers: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> list[dict[str, object]]:
        addresses = [_address(number) for number in range(self.count)]
        port = _free_port(addresses)
        user = pwd.getpwuid(os.getuid()).pw_name
        public = _make_key(self.common / "client_key")
        (self.common / "authorized_keys").write_text(f"{public}\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        described: list[dict[str, object]] = []
        for number, address in enumerate(addresses):
            directory = self.common / f"{number:04}"
            (directory / "home").mkdir(mode=0o700, parents=True)
            host_key = _make_key(directory / "host_key")
            config = directory / "sshd_config"
            values = {"common": self.common, "directory": directory, "kex": KEX}
            config.write_text(_SERVER.format(address=address, port=port, **values))
            self._start_server(config, directory / "log")
            described.append(
                {
                    "address": address,
                    "port": port,
                    "host_key": host_key,
                    "home": str(directory / "home"),
                }
            )
        known = [f"[{each['address']}]:{port} {each['host_key']}\n" for each in described]
        (self.common / "known_hosts").write_text("".join(known))
        (self.common / "ssh_config").write_text(
            _CLIENT.format(user=user, port=port, common=self.common, kex=KEX)
        )
        for address in addresses:
            self._wait_for(address, port)
        return described

    def _start_server(self, config: Path, log: Path) -> None:
        program = sshd_program()
        if program is None:
            raise SystemExit("sshd is not installed (Debian: apt-get install openssh-server)")
        with log.open("ab") as file:
            server = subprocess.Popen(
                [program, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.servers[server.pid] = server

    def _wait_for(self, address: str, port: int) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((address, port), timeout=2) as sock,
            ):
                if sock.recv(4) == b"SSH-":
                    return
            time.sleep(0.02)
        raise SystemExit(f"{address} port {port} does not answer; see {self.common}")

    def serve(self) -> None:
        while True:
            self._reap()
            readable, _, _ = select.select([sys.stdin], [], [], 0.1)
            if not readable:
                continue
            question = sys.stdin.readline().strip()
            if not question:
                return
            self._say(getattr(self, f"answer_{question}")())

    def answer_cpu(self) -> dict[str, object]:
        self._reap()
        reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = reaped.ru_utime + reaped.ru_stime
        return {"cpu": used + sum(_cpu_of(each) for each in self._below())}

    def answer_sessions(self) -> dict[str, object]:
        return {"sessions": len(self._sessions())}

    def answer_cut(self) -> dict[str, object]:
        until = time.monotonic() + 10
        while (found := self._sessions()) and time.monotonic() < until:
            for each in found:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            self._reap()
            time.sleep(0.02)
        return {"left": len(found)}

    def stop(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            until = time.monotonic() + 3
            while (found := self._below()) and time.monotonic() < until:
                for each in found:
                    with contextlib.suppress(psutil.Error):
                        each.send_signal(signum)
                self._reap()
                time.sleep(0.05)

    def _say(self, answer: dict[str, object]) -> None:
        print(json.dumps(answer), flush=True)

    def _below(self) -> list[psutil.Process]:
        found = psutil.Process().children(recursive=True)
        return [each for each in found if _is_alive(each)]

    def _sessions(self) -> list[psutil.Process]:
        """The sshd processes of connections: below the servers, or orphaned."""
        found = []
        for each in self._below():
            with contextlib.suppress(psutil.Error):
                if each.pid not in self.servers and each.name().startswith("sshd"):
                    found.append(each)
        return found

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _cpu_of(process: psutil.Process) -> float:
    """Its own time (to the nanosecond) and that of its children that it has reaped (to 10 ms)."""
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        times = process.cpu_times()
        below = times.children_user + times.children_system
        own = Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]
        return int(own) / 1e9 + below
    return 0.0


def main() -> None:
    """Start the servers, say where they are, answer questions until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--hosts", type=int, required=True)
    options = parser.parse_args()
    if not 1 <= options.hosts <= MOST:
        parser.error(f"--hosts must be from 1 to {MOST}")
    # Ctrl-C is the parent's; it ends this process by its standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    become_subreaper()
    host = _Host(options.dir.resolve(), options.hosts)
    try:
        host._say({"machines": host.start()})
        host.serve()
    finally:
        host.stop()


if __name__ == "__main__":
    main()
