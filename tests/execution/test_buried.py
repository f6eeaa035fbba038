"""A run is acknowledged while somebody else is about to start or to end it: nothing is left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from commands.execution import remote

SHELLS = ("dash", "bash", "busybox sh")


def carried_out(shell: str, base: Path, steps: str) -> str:
    """What ``steps`` print in ``shell``, where the run ``t-1`` is at home in ``base``."""
    program = remote._source("runner.sh") + (
        f"cc_id=t-1 cc_nonce=0 cc_grace=0 cc_spare_base={base} cc_home_base={base}\n"
        f"cc_at {base}\n{steps}\n"
    )
    done = subprocess.run(
        shell.split(), input=program.encode(), stdout=subprocess.PIPE, timeout=60, check=False
    )
    return done.stdout.decode()


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory for runs, with one run whose claim is made."""
    (tmp_path / ".done").mkdir()
    (tmp_path / "t-1").mkdir()
    (tmp_path / "t-1" / "state").touch()
    return tmp_path


def test_a_file_made_while_the_directory_goes(shell: str, base: Path) -> None:
    """``rm`` finds the directory not empty then, and is asked again."""
    first = 'rm() { rm() { command rm "$@"; }; command rm "$cc_dir/state"; return 1; }\n'
    (base / "t-1" / "s.late").touch()
    carried_out(shell, base, f"{first}cc_bury")
    assert not (base / "t-1").exists()
    assert (base / ".done" / "t-1").exists()


def test_who_prepared_it_again_removes_that(shell: str, base: Path) -> None:
    """The claim of the run that is gone may still be there, or be gone: a tombstone counts."""
    steps = "{ : | cc_supervisor | :; } 8>" + f"{base}/told"
    for claimed in (True, False):
        (base / ".done" / "t-1").touch()
        (base / "t-1").mkdir(exist_ok=True)
        (base / "t-1" / "s.late").touch()
        if not claimed:
            (base / "t-1" / "state").unlink(missing_ok=True)
        carried_out(shell, base, steps)
        assert (base / "told").read_text() == "t-1 fresh 0\n"
        assert not (base / "t-1").exists()
    assert not (base / "@since").exists()


def test_who_ends_it_makes_no_directory_anew(shell: str, base: Path) -> None:
    """Between the look at the tombstone and the claim of the directory it has been buried."""
    buried = 'mkdir() { cc_bury; command mkdir "$@"; }\n'
    said = carried_out(shell, base, f"{buried}cc_find() {{ :; }}\ncc_cancel 2>/dev/null")
    assert said == "\x1e0 cancelled 0\n"
    assert not (base / "t-1").exists()
    assert (base / ".done" / "t-1").exists()


def test_nothing_starts_that_cannot_be_listed(shell: str, base: Path) -> None:
    """Where the disk is full, as where no claim can be written."""
    (base / "t-1" / "state").unlink()
    (base / "@since").mkdir()
    carried_out(shell, base, "{ : | cc_supervisor | :; } 2>/dev/null 8>" + f"{base}/told")
    assert (base / "told").read_text() == "t-1 fresh x\n"
    assert not (base / "t-1").exists()


def test_a_long_list_is_begun_anew(shell: str, base: Path) -> None:
    """And whoever asked before that is told that nobody knows."""
    since = base / "@since"
    short, long = "b 7\nt-0\n", "b 7\n" + "t-0\n" * 40_000
    for text, kept in ((short, True), (long, False)):
        since.write_text(text)
        said = carried_out(
            shell,
            base,
            "cc_boot=b\ncc_sweep\ncc_since && echo $cc_second\n"
            "cc_id=t-0\ncc_listed && echo listed\ncc_id=t-\ncc_listed && echo other",
        )
        assert (since.read_text() == text) is kept
        assert said.endswith("listed\n") is kept
        assert said.startswith("7\n") is kept
        assert "other" not in said
