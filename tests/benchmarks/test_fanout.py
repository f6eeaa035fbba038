"""The benchmark runs: it is not timed here, only kept from rotting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.report import Row, Spread, percentile, ratios, table
from tests.sshd import need_sshd

SCRIPT = Path(__file__).with_name("fanout.py")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Like ``tmp_path``, but short: names of sockets have 108 characters at most."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_quick_run_without_peers(tmp_path: Path, scratch: Path) -> None:
    need_sshd()
    numbers = tmp_path / "numbers.json"
    size = ["--hosts", "3", "--rounds", "1", "--sizes", "5", "10"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--no-peers", *size, "--json", str(numbers)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(numbers.read_text())
    seconds = found["seconds"]["echo"]
    assert set(seconds) == {"engine cold", "engine warm", "console cold", "console warm"}
    rows = {each["what"]: each for each in found["rows"]}
    assert rows["CPU on the instance per short run, sshd included"]["spread"]["median"] > 0
    assert rows["remote echo to readable row, p50 (3 hosts)"]["spread"]["median"] > 0
    assert rows["3 hosts, echo: cold, whole path / clush cold"]["verdict"] == "missing"
    assert found["missing"] == ["ssh", "ansible", "clush", "asyncssh", "parallel-ssh"]
    assert "Not measured, as asked: ssh, ansible" in done.stdout
    assert not list(scratch.iterdir())
    until = time.monotonic() + 30
    while (left := _mentioning(scratch)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def _mentioning(path: Path) -> list[psutil.Process]:
    return [each for each in psutil.process_iter() if str(path) in _command(each)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_ratios_are_of_the_same_round() -> None:
    assert ratios([1.0, None, 9.0], [2.0, 4.0, 3.0]) == Spread.of([0.5, 3.0])
    assert ratios([None], [1.0]) is None


def test_percentile_of_few() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.95) == 1.0


@pytest.mark.parametrize(
    ("goal", "median", "verdict"),
    [(1.0, 1.0, "met"), (0.8, 1.0, "missed by 25 %"), (None, 1.0, "reported")],
)
def test_verdicts(goal: float | None, median: float, verdict: str) -> None:
    assert Row("what", goal, Spread.of([median])).verdict == verdict


def test_what_is_missing_is_in_the_table() -> None:
    assert "missing (clush: no)" in table([Row("what", 1.0, None, note="clush: no")])
