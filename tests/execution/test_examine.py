"""Examinations: each thing that would keep a run from starting, told as the run would tell it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands.errors import ConnectFailed, StartRefused
from commands.execution import remote
from commands.execution.executor import Needs
from commands.execution.ssh import SshExecutor
from commands.rules import launcher as launchers
from commands.rules.status import ErrorCode
from tests.conftest import missing
from tests.execution.conftest import Account
from tests.execution.contract import Rig, new_id
from tests.execution.test_accounts import allowed, closing, signed_in
from tests.execution.test_capture import full_instance
from tests.sshd import Sshd, ssh_keygen


@pytest.fixture
def each(sshd_of_each_shell: Sshd) -> Iterator[Rig]:
    with closing(sshd_of_each_shell.endpoint) as rig:
        yield rig


def codes(rig: Rig, needs: Needs) -> list[str]:
    return [problem.code for problem in rig.executor.examine(rig.endpoint, needs).problems]


def refusal(rig: Rig, script: str = "", launcher: str = "", **values: str) -> tuple[str, str]:
    """The code and the sentence with which a run of the same is refused."""
    read = launchers.parse(launcher) if launcher else None
    with pytest.raises(StartRefused) as caught:
        rig.executor.start(rig.endpoint, rig.spec(script, new_id(), launcher=read, **values))
    return caught.value.code, caught.value.message


def needs(script: str = "", launcher: str = "", **values: str) -> Needs:
    read = launchers.parse(launcher) if launcher else None
    return remote.needs_of(script.encode(), read, **values)


def test_a_place_where_all_is_well_and_stays_as_it_was(each: Rig, sshd_of_each_shell: Sshd) -> None:
    shutil.rmtree(sshd_of_each_shell.base, ignore_errors=True)
    found = each.executor.examine(each.endpoint, needs("#!/usr/bin/env sh\n", workdir="/tmp"))
    assert (found.problems, found.whole) == ((), True)
    assert found.base == str(sshd_of_each_shell.base)
    assert found.free is not None
    assert 0 < found.free <= shutil.disk_usage(sshd_of_each_shell.home).total
    assert not sshd_of_each_shell.base.exists()
    sshd_of_each_shell.base.mkdir(mode=0o700)
    each.executor.examine(each.endpoint, Needs())
    assert list(sshd_of_each_shell.base.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"workdir": "/no/such place"}, ErrorCode.DIRECTORY_NOT_EXISTS),
        ({"workdir": "/etc/passwd"}, ErrorCode.DIRECTORY_NOT_EXISTS),
        ({"workdir": "-"}, ErrorCode.DIRECTORY_NOT_EXISTS),
        ({"workdir": "/tmp/'; exit 0; '"}, ErrorCode.DIRECTORY_NOT_EXISTS),
        ({"script": "#!/no/such/python3\n"}, ErrorCode.INTERPRETER_NOT_FOUND),
        ({"script": "#!/etc\n"}, ErrorCode.INTERPRETER_NOT_FOUND),
        ({"script": "#!/usr/bin/env no-such-python\n"}, ErrorCode.INTERPRETER_NOT_FOUND),
        ({"script": "#!/bin/sh\n", "launcher": "no-such-tool -x"}, ErrorCode.LAUNCHER_NOT_FOUND),
        ({"launcher": "/etc/passwd"}, ErrorCode.LAUNCHER_NOT_FOUND),
    ],
    ids=str,
)
def test_what_a_run_would_be_refused_for(each: Rig, asked: dict[str, str], code: str) -> None:
    [problem] = each.executor.examine(each.endpoint, needs(**asked)).problems
    assert problem.code == code
    assert (problem.code, problem.message) == refusal(each, **asked)


def test_all_that_is_wrong_is_told_and_first_what_a_run_would_tell(each: Rig) -> None:
    asked = {"script": "#!/no/such/python3\n", "workdir": "/no/such"}
    both = [ErrorCode.DIRECTORY_NOT_EXISTS, ErrorCode.INTERPRETER_NOT_FOUND]
    assert codes(each, needs(**asked)) == both
    assert refusal(each, **asked)[0] == both[0]


def test_missing_tools(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("mkdir", "rmdir", "rm", "ls", "head", "tee", "mkfifo"):
        (tools / name).symlink_to(shutil.which(name) or name)
    with (
        Sshd.started(tmp_path, shell_env={"PATH": str(tools)}) as [server],
        closing(server.endpoint) as rig,
    ):
        found = rig.executor.examine(rig.endpoint, Needs())
        assert [(one.code, one.message) for one in found.problems] == [refusal(rig)]
        assert "setsid" in found.problems[0].message
        assert found.free is None  # there is no df
        assert not server.base.exists()


def test_a_full_disk(tmp_path: Path) -> None:
    with full_instance(tmp_path, "256k") as (rig, server):
        filler = server.home / "filler"
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        found = rig.executor.examine(rig.endpoint, Needs())
        assert [one.code for one in found.problems] == [ErrorCode.DISK_FULL]
        assert refusal(rig)[0] == ErrorCode.DISK_FULL
        filler.unlink()
        found = rig.executor.examine(rig.endpoint, Needs())
        assert found.problems == ()
        assert found.free is not None
        assert 0 < found.free <= 256 * 1024


def test_no_place_for_the_run(tmp_path: Path, caller: Account) -> None:
    spare = Path(f"/var/tmp/.command-console-{caller.uid}")
    if caller.base.is_dir():  # of a run in another test
        shutil.rmtree(caller.base)
    spare.touch()
    caller.base.touch()
    try:
        with signed_in(tmp_path, caller) as endpoint, closing(endpoint) as rig:
            [problem] = rig.executor.examine(rig.endpoint, Needs()).problems
            assert (problem.code, problem.message) == refusal(rig)
            assert problem.code == ErrorCode.STATE_DIRECTORY_UNUSABLE
            spare.unlink()
            found = rig.executor.examine(rig.endpoint, Needs())
            assert (found.problems, found.base) == ((), str(spare))
            assert not spare.exists()
    finally:
        caller.base.unlink()
        spare.unlink(missing_ok=True)


def test_a_directory_that_the_other_user_may_not_enter(tmp_path: Path, target: Account) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with Sshd.started(tmp_path) as [server], closing(server.endpoint) as rig:
        mine = Needs(workdir=str(closed))
        assert codes(rig, mine) == []
        theirs = dataclasses.replace(mine, run_as=target.name)
        assert codes(rig, theirs) == [ErrorCode.DIRECTORY_NOT_EXISTS]
        found = rig.executor.examine(rig.endpoint, Needs(run_as=target.name))
        assert (found.problems, found.base) == ((), str(target.base))
    target.assert_clean()


def failure(rig: Rig, needs: Needs) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        rig.executor.examine(rig.endpoint, needs)
    return caught.value


@pytest.mark.parametrize("name", ["cc-nobody", "-x", "0", "a b"])
def test_no_such_user(each: Rig, name: str) -> None:
    error = failure(each, Needs(run_as=name))
    assert error.code == ErrorCode.ACCOUNT_NOT_EXISTS
    assert refusal(each, run_as=name) == (error.code, error.message)


def test_sudo_wants_a_password(tmp_path: Path, caller: Account, target: Account) -> None:
    if shutil.which("sudo") is None:
        missing("sudo")
    asked = Needs(run_as=target.name)
    with signed_in(tmp_path, caller) as endpoint, closing(endpoint) as rig:
        error = failure(rig, asked)
        assert error.code == ErrorCode.RUN_AS_REFUSED
        assert f"{caller.name} ALL=({target.name}) NOPASSWD: /bin/sh" in error.message
        with allowed(caller, target):
            assert rig.executor.examine(endpoint, asked).base == str(target.base)
    target.assert_clean()


def test_who_can_not_be_reached(executor: SshExecutor, sshd: Sshd, tmp_path: Path) -> None:
    change = dataclasses.replace
    key = ssh_keygen(tmp_path / "key")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = change(sshd.endpoint, port=sock.getsockname()[1])
        for endpoint, code in (
            (closed, ErrorCode.CONNECTION_REFUSED),
            (change(sshd.endpoint, host_key=key), ErrorCode.HOST_KEY_CHANGED),
            (
                change(sshd.endpoint, private_key=(tmp_path / "key").read_text()),
                ErrorCode.SIGN_IN_REFUSED,
            ),
        ):
            assert failure(Rig(executor, endpoint), Needs()).code == code


def test_an_account_without_a_usable_shell(tmp_path: Path) -> None:
    with (
        Sshd.started(tmp_path, ForceCommand="echo This account is not available.") as [server],
        closing(server.endpoint) as rig,
    ):
        assert failure(rig, Needs()).code == ErrorCode.PROTOCOL_ERROR


def test_a_windows_instance_is_asked_for_nothing_but_a_connection(
    executor: SshExecutor, sshd: Sshd
) -> None:
    endpoint = dataclasses.replace(sshd.endpoint, system="windows")
    found = executor.examine(endpoint, Needs(workdir="C:\\no"))
    assert (found.problems, found.whole) == ((), False)


def test_a_connection_that_ends_in_between_leaves_nothing(
    each: Rig, sshd_of_each_shell: Sshd
) -> None:
    program = remote.probe_program("0" * 32, Needs(workdir="/tmp"))
    assert program.isascii()
    for cut in (0, len(program) // 2, len(program) - 2):
        assert isinstance(each.executor, SshExecutor)
        session = each.executor.pool.open(each.endpoint)
        session.channel.exec_command(remote.COMMAND)
        session.channel.sendall(program[:cut])
        session.close()
    assert not list(sshd_of_each_shell.base.glob(".probe*"))
