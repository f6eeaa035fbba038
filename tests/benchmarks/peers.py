"""Other tools that run a command on many hosts, installed into an environment of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.engine import WrongResult
from tests.benchmarks.machines import Machines

PACKAGES = {
    "ansible": "ansible-core==2.19.14",
    "clush": "clustershell==1.9.1",
    "asyncssh": "asyncssh==2.24.1",
    "parallel-ssh": "parallel-ssh==2.16.0",
}
"""What pip installs, by the name of the tool. ``ssh`` is the system's."""
FANOUT = 50
PERSIST_S = 300
_LIMIT_S = 600
_LIBRARY = Path(__file__).with_name("peer_library.py")


def install(directory: Path, say: Callable[[str], None]) -> set[str]:
    """Install what is missing into ``directory``; the names of the tools that are there."""
    python = directory / "bin" / "python"
    if not python.exists():
        say(f"Making an environment for the peers in {directory}")
        subprocess.run(["python3", "-m", "venv", str(directory)], check=True)
    present = {"ssh"} if shutil.which("ssh") else set()
    for name, package in PACKAGES.items():
        if not _has(python, package):
            say(f"Installing {package}")
            _pip(python, package)
        if _has(python, package):
            present.add(name)
    if "ssh" not in present:
        present -= {"ansible", "clush"}
    return present


def _has(python: Path, package: str) -> bool:
    name, _, version = package.partition("==")
    code = f"import importlib.metadata as m, sys; sys.exit(m.version({name!r}) != {version!r})"
    return not subprocess.run(
        [str(python), "-c", code], capture_output=True, check=False
    ).returncode


def _pip(python: Path, package: str) -> None:
    # From wheels alone where there would be something to compile.
    wheels = ["--only-binary", "ssh2-python,ssh-python,gevent,cryptography"]
    flags = ["--quiet", "--disable-pip-version-check", *wheels]
    subprocess.run([str(python), "-m", "pip", "install", *flags, package], check=False)


@dataclass(frozen=True)
class Peers:
    """The tools that are present, and how to have each run one command everywhere.

    Each method returns the seconds that it took, and raises WrongResult where output is missing.
    """

    machines: Machines
    environment: Path
    scratch: Path
    """A directory with a short name: sockets of ssh masters are made there."""

    @property
    def _persist_config(self) -> Path:
        return self.scratch / "persist_config"

    def prepare(self) -> None:
        """Write the files that the tools read."""
        masters = (
            f"    ControlMaster auto\n    ControlPersist {PERSIST_S}\n"
            f"    ControlPath {self.scratch}/%C\n"
        )
        self._persist_config.write_text(self.machines.ssh_config.read_text() + masters)
        lines = [
            f"h{number} ansible_host={each.address}"
            for number, each in enumerate(self.machines.all)
        ]
        (self.scratch / "inventory").write_text("\n".join(lines) + "\n")

    def clush(self, command: str, expected: bytes) -> float:
        """ClusterShell with plain ssh."""
        return self._clush(command, expected, self.machines.ssh_config)

    def clush_persist(self, command: str, expected: bytes) -> float:
        """ClusterShell with ssh masters that stay."""
        return self._clush(command, expected, self._persist_config)

    def _clush(self, command: str, expected: bytes, config: Path) -> float:
        argv = [
            *(str(self.environment / "bin" / "clush"), "-N", "-f", str(FANOUT)),
            *("-o", f"-F {config}"),
            *("-w", ",".join(self.machines.addresses), command),
        ]
        return self._timed(argv, expected)

    def ansible(self, command: str, expected: bytes) -> float:
        """Ansible's raw module: no Python on the host, pipelining, masters that stay."""
        argv = [
            *(str(self.environment / "bin" / "ansible"), "all", "-m", "raw", "-f", str(FANOUT)),
            *("-i", str(self.scratch / "inventory"), "-a", command),
        ]
        # Ansible looks for these words to know that masters stay.
        words = (
            "ControlMaster=auto",
            f"ControlPersist={PERSIST_S}",
            f"ControlPath={self.scratch}/%C",
        )
        ssh = f"-F {self.machines.ssh_config} " + " ".join(f"-o {each}" for each in words)
        return self._timed(argv, expected, ANSIBLE_SSH_ARGS=ssh)

    def ssh_master(self, command: str, expected: bytes) -> float:
        """Plain ssh with masters that stay, from as many threads as there are hosts."""

        def one(address: str) -> bytes:
            argv = ["ssh", "-F", str(self._persist_config), address, command]
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_LIMIT_S
            )
            return done.stdout

        began = time.perf_counter()
        with ThreadPoolExecutor(FANOUT) as threads:
            outputs = list(threads.map(one, self.machines.addresses))
        took = time.perf_counter() - began
        _check("ssh", b"".join(outputs), expected, self.machines.count)
        return took

    def library(self, name: str, command: str, expected: bytes) -> tuple[float, float]:
        """A Python library: seconds on new connections, then again on the same ones."""
        request = {
            "addresses": self.machines.addresses,
            "port": self.machines.all[0].port,
            "user": self.machines.user,
            "key": str(self.machines.key),
            "known_hosts": str(self.machines.known_hosts),
            "command": command,
        }
        argv = [str(self.environment / "bin" / "python"), str(_LIBRARY), name]
        done = subprocess.run(
            argv,
            input=json.dumps(request).encode(),
            capture_output=True,
            check=False,
            timeout=_LIMIT_S,
        )
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise WrongResult(f"{name}: {done.stderr.decode()[-500:]}") from None
        for output in answer["outputs"]:
            _check(name, output.encode(), expected, self.machines.count)
        return answer["cold"], answer["warm"]

    def _timed(self, argv: Sequence[str], expected: bytes, **more: str) -> float:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(self.scratch),
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "LC_ALL": "C.UTF-8",
            **more,
        }
        began = time.perf_counter()
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=environment,
            timeout=_LIMIT_S,
        )
        took = time.perf_counter() - began
        with contextlib.suppress(WrongResult):
            _check(argv[0], done.stdout, expected, self.machines.count)
            return took
        text = (done.stderr or done.stdout).decode(errors="replace")[-500:]
        raise WrongResult(f"{Path(argv[0]).name} did not answer for all hosts: {text}")


def _check(name: str, output: bytes, expected: bytes, hosts: int) -> None:
    """Every host's output is there: its last line as often as there are hosts."""
    found = output.count(expected.splitlines()[-1])
    if found < hosts:
        raise WrongResult(f"{name} brought the output of {found} hosts of {hosts}")
