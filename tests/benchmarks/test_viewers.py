"""The benchmark of many viewers runs: it is not timed here, only kept from rotting."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("viewers.py")


def test_quick_run(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--seconds", "1", "--json", str(numbers)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "Everybody got every line once." in done.stdout
    one, many = json.loads(numbers.read_text())
    assert (one["viewers"], one["tasks"]) == (50, 1)
    assert (many["viewers"], many["tasks"]) == (20, 5)
    for case in (one, many):
        assert case["figures"]["lines delivered"][0] == case["viewers"] * 5
        most, goal, _ = case["figures"]["PostgreSQL connections of the web process, most"]
        assert 1 <= most <= goal
