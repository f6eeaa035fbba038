"""The bare engine: the executor alone, from threads, without database, broker and web."""

from __future__ import annotations

import contextlib
import io
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paramiko
import psutil

from commands.execution.executor import Ending, Endpoint, Gap, Handle, Offsets, Output, RunSpec
from commands.execution.ssh import SshExecutor
from tests.benchmarks.machines import Machines

_COOKIE = "COMMAND_CONSOLE_RUN"


class WrongResult(Exception):
    """A tool did not do what it was measured for."""


def endpoints(machines: Machines) -> list[Endpoint]:
    """How the console signs in to every machine."""
    key = machines.key.read_text()
    return [
        Endpoint(
            host=each.address,
            port=each.port,
            user=machines.user,
            host_key=each.host_key,
            private_key=key,
        )
        for each in machines.all
    ]


def run(executor: SshExecutor, endpoint: Endpoint, script: bytes) -> bytes:
    """One run from its start until the instance has forgotten it; what it wrote to stdout."""
    spec = RunSpec(f"bench-{secrets.token_hex(8)}", script)
    taken: list[bytes] = []

    def receive(output: Output | Gap) -> None:
        assert isinstance(output, Output)
        if output.stream == "stdout":
            taken.append(output.data)

    handle = Handle(spec.run_id, executor.start(endpoint, spec).base)
    finished = executor.follow(endpoint, handle, Offsets(), receive)
    executor.acknowledge(endpoint, handle)
    if finished.ending is not Ending.EXIT or finished.exit_code != 0:
        raise WrongResult(f"a run ended as {finished}")
    return b"".join(taken)


class Engine:
    """All machines at once, a thread each."""

    def __init__(self, machines: Machines) -> None:
        self._endpoints = endpoints(machines)
        self._executor = SshExecutor()

    def fresh(self) -> None:
        """Forget all connections."""
        self._executor.close()
        self._executor = SshExecutor()

    def close(self) -> None:
        """Close all connections."""
        self._executor.close()

    def everywhere(self, script: bytes, expected: bytes) -> float:
        """Run ``script`` on every machine; seconds until all have been forgotten there."""
        began = time.perf_counter()
        answers = in_threads(
            [lambda at=each: run(self._executor, at, script) for each in self._endpoints]
        )
        took = time.perf_counter() - began
        if answers != [expected] * len(answers):
            raise WrongResult("the bare engine brought other output than was printed")
        return took


def in_threads(jobs: Sequence[Callable[[], object]]) -> list[object]:
    """The results of all jobs, each in a thread of its own. Raises what one of them raised."""
    results: list[object] = [None] * len(jobs)
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            results[number] = jobs[number]()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in range(len(jobs))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]
    return results


# --- what a run costs its instance --------------------------------------------------------------


def cpu_per_run(machines: Machines, script: bytes, repeat: int) -> dict[str, float]:
    """CPU seconds on the instances for a run by the engine, and for a plain exec of the same.

    On open connections, ``repeat`` times on a few machines, one after the other.
    """
    chosen = endpoints(machines)[:4]
    executor = SshExecutor()
    with contextlib.ExitStack() as ended_last, contextlib.closing(executor):
        clients = [ended_last.enter_context(_plain(each)) for each in chosen]
        for each, client in zip(chosen, clients, strict=True):
            run(executor, each, script)
            _exec(client, script)
        used = {"run": 0.0, "exec": 0.0}
        for _ in range(repeat):
            before = machines.cpu()
            for each in chosen:
                run(executor, each, script)
            time.sleep(0.05)  # what clears up behind a run counts too
            between = machines.cpu()
            for client in clients:
                _exec(client, script)
            time.sleep(0.05)
            used["run"] += between - before
            used["exec"] += machines.cpu() - between
    machines.cut()
    return {name: seconds / (repeat * len(chosen)) for name, seconds in used.items()}


@contextlib.contextmanager
def _plain(endpoint: Endpoint) -> Iterator[paramiko.SSHClient]:
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            endpoint.host,
            endpoint.port,
            endpoint.user,
            pkey=_key(endpoint.private_key),
            allow_agent=False,
            look_for_keys=False,
        )
        yield client


def _key(text: str) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text))


def _exec(client: paramiko.SSHClient, script: bytes) -> None:
    """The same script as the engine's, by the shell that sshd starts."""
    _, stdout, _ = client.exec_command(script.decode())
    stdout.read()
    stdout.channel.recv_exit_status()


def processes_beside_script(machines: Machines) -> tuple[int, int]:
    """How many processes a running run has on its instance beside the script's own.

    First while its channel is open, then once nobody is connected any more.
    """
    machine, endpoint = machines.all[0], endpoints(machines)[0]
    spec = RunSpec(f"bench-{secrets.token_hex(8)}", b"exec sleep 60\n")
    with contextlib.closing(SshExecutor()) as executor:
        handle = Handle(spec.run_id, executor.start(endpoint, spec).base)
        time.sleep(0.3)
        attached = _count(machine.home)
    machines.cut()
    time.sleep(0.3)
    detached = _count(machine.home)
    with contextlib.closing(SshExecutor()) as executor:
        executor.cancel(endpoint, handle)
        executor.acknowledge(endpoint, handle)
    return attached, detached


def _count(home: Path) -> int:
    found = 0
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environ = each.environ()
            ours = environ.get("HOME") == str(home) and _COOKIE not in environ
            found += ours and not each.name().startswith("sshd")
    return found
