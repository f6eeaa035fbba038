"""The console's command means the same in every login shell that a user may have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands.execution.executor import Ending
from tests.conftest import missing
from tests.execution.conftest import _account
from tests.execution.test_accounts import closing, signed_in


@pytest.mark.parametrize("shell", ["bash", "fish", "mksh", "tcsh", "zsh"])
def test_a_run_behind_a_login_shell(tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell) or missing(shell)
    with _account("shell", program) as account:
        with signed_in(tmp_path, account) as endpoint, closing(endpoint) as rig:
            finished, heard = rig.run(rig.spec("echo out; echo err >&2; exit 7"))
            assert (finished.ending, finished.exit_code) == (Ending.EXIT, 7)
            assert (heard.stdout, heard.stderr) == (b"out\n", b"err\n")
            ended = rig.run(rig.spec("sleep 60", timeout=1, grace=1))[0]
            assert (ended.ending, ended.left) == (Ending.TIMEOUT, 0)
        account.assert_clean()
