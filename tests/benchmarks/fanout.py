#!/usr/bin/env python3
"""How fast the console runs a short command on many instances, beside other tools.

    .venv/bin/python tests/benchmarks/fanout.py            50 hosts, 10 rounds, all parts
    .venv/bin/python tests/benchmarks/fanout.py --quick    a few hosts and rounds, a minute

Starts private OpenSSH servers on loopback addresses, installs the other tools into an environment
of their own, measures everything once a round in an order that changes, and prints ratios of the
same round with their spread. Seconds of one machine say little; ratios say what is faster there.
At the end nothing that was started is left. docs/benchmarks.md says what each row means.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import engine
from tests.benchmarks.engine import Engine, WrongResult
from tests.benchmarks.machines import MOST, Machines, sshd_program
from tests.benchmarks.peers import PACKAGES, Peers, install
from tests.benchmarks.product import Console
from tests.benchmarks.report import Row, Spread, percentile, ratios, table

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("echo", "cpu", "latency", "large-output", "many-hosts", "own-part")
ECHO, ECHOED = "echo hello from the benchmark", b"hello from the benchmark\n"
_LINE = b"0123456789abcdef" * 4 + b"\n"
_LINES = 1_000_000 // len(_LINE)
MEGABYTE = _LINE * _LINES
PRINT_MEGABYTE = f"yes {_LINE.decode().strip()} | head -n {_LINES}"
STAMPS = "n=0; while [ $n -lt {count} ]; do date +%s.%N; sleep 0.1; n=$((n + 1)); done"


@dataclass
class Measure:
    """One thing to measure: ``run`` returns seconds by name.

    Connections are cut before it. ``warm`` makes them anew, and is not measured.
    """

    name: str
    run: Callable[[], float | dict[str, float]]
    warm: Callable[[], object] = lambda: None


@dataclass
class Rounds:
    """Measures everything once a round, shuffled; each alone, without others' connections."""

    machines: Machines
    until: float
    say: Callable[[str], None]
    found: dict[str, list[float | None]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def go(self, measures: list[Measure], rounds: int) -> None:
        """Measure; no further round is begun once time is over."""
        for number in range(rounds):
            if time.monotonic() > self.until:
                self.say(f"Time is over after {number} of {rounds} rounds")
                break
            for each in random.sample(measures, len(measures)):
                for name, seconds in self._measure(each).items():
                    # Holes stand for rounds in which something else was measured in vain.
                    row = self.found.setdefault(name, [])
                    row += [None] * (number - len(row)) + [seconds]
            self.say(f"Round {number + 1} of {rounds}: " + self._last())
        longest = max((len(row) for row in self.found.values()), default=0)
        for row in self.found.values():
            row.extend([None] * (longest - len(row)))

    def of(self, name: str) -> list[float | None]:
        """Seconds of every round."""
        return self.found.get(name, [None] * max(map(len, self.found.values()), default=0))

    def row(self, what: str, above: str, below: str, goal: float | None = None) -> Row:
        """A row of the table: a ratio of two measures."""
        note = "; ".join(
            f"{each}: {self.broken[each]}" for each in (above, below) if each in self.broken
        )
        return Row(what, goal, ratios(self.of(above), self.of(below)), note=note)

    def _measure(self, measure: Measure) -> dict[str, float]:
        if measure.name in self.broken:
            return {}
        try:
            self.machines.cut()
            measure.warm()
            took = measure.run()
        except (WrongResult, OSError, subprocess.SubprocessError) as error:
            self.broken[measure.name] = str(error).strip()[:200] or type(error).__name__
            self.say(f"{measure.name} failed and is left out from here on: {error}")
            return {}
        return took if isinstance(took, dict) else {measure.name: took}

    def _last(self) -> str:
        last = ((name, row[-1]) for name, row in sorted(self.found.items()))
        return ", ".join(f"{name} {took:.2f}" for name, took in last if took is not None)


class Benchmark:
    """All parts, as the options say."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self.scratch = scratch
        self.until = time.monotonic() + options.limit
        self.rows: list[Row] = []
        self.seconds: dict[str, dict[str, list[float | None]]] = {}
        self.missing: list[str] = []

    def run(self) -> None:
        """Measure everything that was asked for."""
        self.peers = self._install()
        parts = set(self.options.parts)
        if parts - {"own-part", "many-hosts"}:
            with self._stage(self.options.hosts, "main") as (machines, peers, consoles):
                if "echo" in parts:
                    self.echo(machines, peers, consoles)
                if "cpu" in parts:
                    self.on_the_instance(machines)
                if "large-output" in parts:
                    self.large_output(machines, peers, consoles[""])
                if "latency" in parts:
                    self.latency(machines, consoles[""])
        if "many-hosts" in parts and self._time_left("many-hosts"):
            with self._stage(self.options.many, "many") as (machines, peers, consoles):
                self.many_hosts(machines, peers, consoles[""])
        if "own-part" in parts and self._time_left("own-part"):
            self.own_part()

    def say(self, text: str) -> None:
        """Tell how far it is."""
        print(text, file=sys.stderr, flush=True)

    # --- parts ----------------------------------------------------------------------------

    def echo(self, machines: Machines, peers: Peers, consoles: dict[str, Console]) -> None:
        """A short command everywhere."""
        bare = Engine(machines)
        script = f"{ECHO}\n".encode()

        def run() -> float:
            return bare.everywhere(script, ECHOED)

        measures = [Measure("engine cold", run, bare.fresh), Measure("engine warm", run, run)]
        for mark, console in consoles.items():
            measures += _of_console(console, mark)
        measures += self._of_peers(peers)
        rounds = self._rounds(machines)
        with contextlib.closing(bare):
            rounds.go(measures, self.options.rounds)
        self.seconds["echo"] = rounds.found
        hosts = f"{machines.count} hosts, echo"
        goals = [
            ("bare engine, warm / clush ControlPersist", "engine warm", "clush persist", 0.8),
            ("cold, whole path / clush cold", "console cold", "clush cold", 1.0),
            ("cold, whole path / ansible raw cold", "console cold", "ansible cold", 0.4),
            ("warm, whole path / ansible raw warm", "console warm", "ansible warm", 0.3),
            ("warm, whole path / clush ControlPersist", "console warm", "clush persist", 1.3),
            (
                "cold, whole path / asyncssh cold",
                "console cold",
                "asyncssh cold",
                None,
            ),
            ("cold, whole path / parallel-ssh cold", "console cold", "parallel-ssh cold", None),
            ("warm, whole path / asyncssh warm", "console warm", "asyncssh warm", None),
            ("warm, whole path / parallel-ssh warm", "console warm", "parallel-ssh warm", None),
            ("warm, whole path / ssh ControlMaster", "console warm", "ssh persist", None),
            ("warm, whole path / bare engine warm", "console warm", "engine warm", None),
            ("cold, whole path / bare engine cold", "console cold", "engine cold", None),
        ]
        self.rows += [rounds.row(f"{hosts}: {what}", *rest) for what, *rest in goals]
        if "other" in consoles:
            for state in ("cold", "warm"):
                names = (f"console {state}", f"other console {state}")
                self.rows.append(
                    rounds.row(f"{hosts}: {state}, whole path / other checkout", *names)
                )

    def on_the_instance(self, machines: Machines) -> None:
        """What a run costs its instance."""
        times = 4 if self.options.quick else 20
        script = f"{ECHO}\n".encode()
        found = [
            engine.cpu_per_run(machines, script, times) for _ in range(self.options.cpu_rounds)
        ]
        for name, goal in (("run", 15.0), ("exec", None)):
            what = {
                "run": "CPU on the instance per short run, sshd included",
                "exec": "the same, plain exec",
            }
            spread = Spread.of([1000 * each[name] for each in found])
            self.rows.append(Row(what[name], goal, spread, " ms"))
        attached, detached = engine.processes_beside_script(machines)
        what = "processes on the instance beside the script"
        self.rows.append(Row(f"{what}, nobody connected", 2, Spread.of([detached])))
        self.rows.append(Row(f"{what}, with its channel", None, Spread.of([attached])))

    def large_output(self, machines: Machines, peers: Peers, console: Console) -> None:
        """A megabyte from every instance."""
        takes = {"console warm": console.everywhere}
        if "clush" in self.peers:
            takes["clush persist"] = peers.clush_persist
        measures = [
            Measure(name, partial(take, PRINT_MEGABYTE, MEGABYTE), partial(take, ECHO, ECHOED))
            for name, take in takes.items()
        ]
        rounds = self._rounds(machines)
        rounds.go(measures, self.options.few_rounds)
        self.seconds["large output"] = rounds.found
        what = f"{machines.count} hosts, 1 MB each: warm, whole path / clush ControlPersist"
        self.rows.append(rounds.row(what, "console warm", "clush persist"))

    def latency(self, machines: Machines, console: Console) -> None:
        """From a line's own time stamp until another connection reads its row."""
        machines.cut()
        hosts = min(10, machines.count)
        script = STAMPS.format(count=5 if self.options.quick else 30)
        console.everywhere(ECHO, ECHOED, hosts)
        many = [console.latencies(script, hosts) for _ in range(self.options.few_rounds)]
        for share, goal in ((0.5, 60.0), (0.95, 150.0)):
            spread = Spread.of([1000 * percentile(each, share) for each in many])
            what = f"remote echo to readable row, p{share * 100:.0f} ({hosts} hosts)"
            self.rows.append(Row(what, goal, spread, " ms"))

    def many_hosts(self, machines: Machines, peers: Peers, console: Console) -> None:
        """More hosts than a default task may have."""
        measures = [*_of_console(console, ""), *self._of_peers(peers, only=("clush",))]
        rounds = self._rounds(machines)
        rounds.go(measures, self.options.few_rounds)
        self.seconds["many hosts"] = rounds.found
        hosts = f"{machines.count} hosts, echo"
        for state, other in (("cold", "clush cold"), ("warm", "clush persist")):
            what = f"{hosts}: {state}, whole path / {other}"
            self.rows.append(rounds.row(what, f"console {state}", other))

    def own_part(self) -> None:
        """The console's own cost of a run, from a few to many runs in a task."""
        sizes = self.options.sizes
        argv = [
            *(sys.executable, "-m", "tests.benchmarks.own_part"),
            *("--dir", str(self.scratch / "own"), "--rounds", str(self.options.own_rounds)),
            *("--sizes", *map(str, sizes)),
        ]
        done = subprocess.run(
            argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
        )
        if done.returncode:
            self.say(f"own-part failed: {done.stderr[-500:]}")
            self.rows.append(Row("the console's own part of a run", None, None, note="failed"))
            return
        found = json.loads(done.stdout)
        by = {
            (key, size): [each[key] for each in found if each["size"] == size]
            for key in ("cpu", "wall")
            for size in sizes
        }
        first, last = min(sizes), max(sizes)
        for key in ("cpu", "wall"):
            what = f"the console's own {key} for each run, {last:,} runs / {first:,} runs"
            goal = 1.2 if key == "cpu" else None
            self.rows.append(Row(what, goal, ratios(by[key, last], by[key, first])))
        spread = Spread.of([1000 * each for each in by["cpu", last]])
        self.rows.append(
            Row(f"the console's own CPU for each of {last:,} runs", None, spread, " ms")
        )

    # --- what they stand on -----------------------------------------------------------------

    @contextlib.contextmanager
    def _stage(self, hosts: int, name: str) -> Iterator[tuple[Machines, Peers, dict[str, Console]]]:
        root = self.scratch / name
        (root / "m").mkdir(parents=True)
        (root / "p").mkdir()
        self.say(f"Starting {hosts} instances and the console")
        with contextlib.ExitStack() as stack:
            machines = stack.enter_context(Machines(root / "m", hosts))
            consoles = {"": stack.enter_context(Console(machines, root / "c"))}
            if self.options.other and name == "main":
                other = Console(machines, root / "o", self.options.other.resolve())
                consoles["other"] = stack.enter_context(other)
            peers = Peers(machines, self.options.peers.resolve(), root / "p")
            peers.prepare()
            yield machines, peers, consoles
            machines.cut()  # masters of ssh end with their connections

    def _install(self) -> set[str]:
        if self.options.no_peers:
            self.missing = ["ssh", *PACKAGES]
            return set()
        present = install(self.options.peers.resolve(), self.say)
        self.missing = [each for each in ("ssh", *PACKAGES) if each not in present]
        return present

    def _of_peers(self, peers: Peers, only: tuple[str, ...] = ()) -> list[Measure]:
        persist, ansible, ssh = (
            partial(take, ECHO, ECHOED)
            for take in (peers.clush_persist, peers.ansible, peers.ssh_master)
        )

        def library(name: str) -> Callable[[], dict[str, float]]:
            def run() -> dict[str, float]:
                cold, warm = peers.library(name, ECHO, ECHOED)
                return {f"{name} cold": cold, f"{name} warm": warm}

            return run

        measures = {
            "clush": [
                Measure("clush cold", partial(peers.clush, ECHO, ECHOED)),
                Measure("clush persist", persist, persist),
            ],
            "ansible": [
                Measure("ansible cold", ansible),
                Measure("ansible warm", ansible, ansible),
            ],
            "ssh": [Measure("ssh persist", ssh, ssh)],
            "asyncssh": [Measure("asyncssh", library("asyncssh"))],
            "parallel-ssh": [Measure("parallel-ssh", library("parallel-ssh"))],
        }
        wanted = [each for each in measures if each in self.peers and (not only or each in only)]
        return [each for name in wanted for each in measures[name]]

    def _rounds(self, machines: Machines) -> Rounds:
        return Rounds(machines, self.until, self.say)

    def _time_left(self, part: str) -> bool:
        left = time.monotonic() < self.until
        if not left:
            self.say(f"No time is left for {part}")
        return left


def _of_console(console: Console, mark: str) -> list[Measure]:
    before = f"{mark} " if mark else ""

    def run() -> float:
        return console.everywhere(ECHO, ECHOED)

    return [Measure(f"{before}console cold", run), Measure(f"{before}console warm", run, run)]


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, help="instances (50; quick: 3)")
    parser.add_argument("--rounds", type=int, help="rounds of the short command (10; quick: 2)")
    parser.add_argument("--few-rounds", type=int, help="rounds of the longer parts (3; quick: 1)")
    parser.add_argument("--many", type=int, default=200, help="instances of many-hosts (200)")
    parser.add_argument("--sizes", type=int, nargs="+", help="runs in a task of own-part (50 1000)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="only these parts")
    parser.add_argument("--quick", action="store_true", help="a minute, for a look")
    parser.add_argument("--no-peers", action="store_true", help="the console alone")
    parser.add_argument("--other", type=Path, help="another checkout, measured in the same rounds")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--limit", type=float, default=2400, help="seconds; then no new round")
    parser.add_argument(
        "--peers",
        type=Path,
        default=ROOT / ".benchmark" / "peers",
        help="environment that the peers are installed into (.benchmark/peers)",
    )
    options = parser.parse_args()
    quick = options.quick
    options.hosts = options.hosts or (3 if quick else 50)
    options.rounds = options.rounds or (2 if quick else 10)
    options.few_rounds = options.few_rounds or (1 if quick else 3)
    options.cpu_rounds = 1 if quick else 5
    options.own_rounds = 2 if quick else 5
    options.sizes = options.sizes or ([10, 50] if quick else [50, 200, 1000])
    parts = [each for each in PARTS if each != "many-hosts"] if quick else list(PARTS)
    options.parts = options.parts or parts
    for number in (options.hosts, options.many, *options.sizes):
        if not 1 <= number <= MOST:
            parser.error(f"numbers of instances are from 1 to {MOST}")
    if sshd_program() is None:
        parser.error("sshd is not installed (Debian: apt-get install openssh-server)")
    return options


def main() -> None:
    """Measure, print the table, write the numbers."""
    options = _parsed()
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # connections are cut all the time
    # A short name: sockets of ssh masters are made below, and have 108 characters at most.
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as name:
        benchmark = Benchmark(options, Path(name))
        with contextlib.suppress(KeyboardInterrupt):
            benchmark.run()
    head = (
        f"{datetime.now().astimezone():%Y-%m-%d}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.0f}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
    print(f"\n{head}\n\n{table(benchmark.rows)}")
    if benchmark.missing:
        why = "as asked" if options.no_peers else "as not installed"
        print(f"\nNot measured, {why}: {', '.join(benchmark.missing)}")
    if options.json:
        answer = {
            "machine": head,
            "missing": benchmark.missing,
            "rows": [each.to_dict() for each in benchmark.rows],
            "seconds": benchmark.seconds,
        }
        options.json.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
