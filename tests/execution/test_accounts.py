"""Runs of another user than the one who signs in: through runuser, su and sudo."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands.errors import ConnectFailed, StartRefused
from commands.execution.executor import Ending, Endpoint, Handle, Offsets
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.conftest import missing
from tests.execution.conftest import Account, assert_clean, processes_as
from tests.execution.contract import Heard, Rig
from tests.sshd import Sshd


@contextlib.contextmanager
def allowed(caller: Account, target: Account) -> Iterator[None]:
    """Let sudo do for ``caller`` what the console's sentence asks for."""
    if shutil.which("sudo") is None:
        missing("sudo")
    rule = Path("/etc/sudoers.d") / caller.name
    # Where HOME is kept, only -H changes it.
    keep = f"Defaults:{caller.name} env_keep+=HOME"
    rule.write_text(f"{keep}\n{caller.name} ALL=({target.name}) NOPASSWD: /bin/sh\n")
    rule.chmod(0o440)
    try:
        yield
    finally:
        rule.unlink()


@contextlib.contextmanager
def signed_in(tmp_path: Path, caller: Account, **env: str) -> Iterator[Endpoint]:
    """A server that ``caller`` signs in to, and how."""
    keys = caller.home / "authorized_keys"
    shell_env = {"HOME": str(caller.home), **env}
    with Sshd.started(tmp_path, shell_env=shell_env, AuthorizedKeysFile=keys) as [server]:
        shutil.copyfile(server.directory / "authorized_keys", keys)
        os.chown(keys, caller.uid, -1)
        yield dataclasses.replace(server.endpoint, user=caller.name)


@contextlib.contextmanager
def closing(endpoint: Endpoint) -> Iterator[Rig]:
    executor = SshExecutor()
    yield Rig(executor, endpoint)
    executor.close()


@dataclass
class Stage:
    """A rig, and the user that its runs belong to."""

    rig: Rig
    target: Account


@pytest.fixture(params=["runuser", "su", "sudo"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, target: Account) -> Iterator[Stage]:
    with contextlib.ExitStack() as all_:
        if request.param == "sudo":
            caller = request.getfixturevalue("caller")
            all_.enter_context(allowed(caller, target))
            endpoint = all_.enter_context(signed_in(tmp_path, caller))
        else:
            if os.getuid() != 0:
                missing("a root shell")
            # runuser is in /usr/sbin.
            path = "/usr/sbin:/usr/bin:/bin" if request.param == "runuser" else "/usr/bin:/bin"
            found = shutil.which("runuser", path=path)
            assert (found is not None) == (request.param == "runuser")
            servers = all_.enter_context(Sshd.started(tmp_path, shell_env={"PATH": path}))
            endpoint = servers[0].endpoint
            all_.callback(lambda: assert_clean(servers[0].home))
        yield Stage(all_.enter_context(closing(endpoint)), target)
    target.assert_clean()


def test_who_where_and_with_what(stage: Stage) -> None:
    script = 'id -un; echo "$HOME"; pwd; echo "$USER $LOGNAME"; id -Gn; stat -c %U "$0"'
    spec = stage.rig.spec(script, run_as=stage.target.name)
    handle = stage.rig.start(spec)
    assert handle.base == str(stage.target.base)
    assert stage.target.base.stat().st_uid == stage.target.uid
    finished, heard = stage.rig.follow(handle)
    name, home = stage.target.name, str(stage.target.home)
    lines = [name, home, home, f"{name} {name}", name, name]
    assert heard.stdout.decode().splitlines() == lines
    assert finished.exit_code == 0
    stage.rig.executor.acknowledge(stage.rig.endpoint, handle)


def test_every_byte_and_both_streams(stage: Stage) -> None:
    data = bytes(range(256)) * 400
    script = b'#!/bin/sh\ntail -n +4 "$0"\ntail -n +4 "$0" >&2; exit 7\n' + data
    finished, heard = stage.rig.run(stage.rig.spec(script, run_as=stage.target.name))
    assert heard.stdout == data == heard.stderr
    assert finished.exit_code == 7


def test_the_timeout_ends_the_whole_tree(stage: Stage) -> None:
    script = "trap '' TERM; (setsid env -i sleep 60 &); sleep 60 & while :; do sleep 1; done"
    handle = stage.rig.start(stage.rig.spec(script, run_as=stage.target.name, timeout=1, grace=1))
    finished, _ = stage.rig.follow(handle)
    assert (finished.ending, finished.left) == (Ending.TIMEOUT, 0)
    stage.rig.executor.acknowledge(stage.rig.endpoint, handle)


def test_another_process_follows_cancels_and_forgets(stage: Stage) -> None:
    handle = stage.rig.start(
        stage.rig.spec("echo begun; sleep 60; echo never", run_as=stage.target.name)
    )
    with closing(stage.rig.endpoint) as other:
        heard = Heard(on_output=lambda _: other.executor.abandon(handle.run_id))
        with contextlib.suppress(Exception):
            other.follow(handle, heard)
        assert heard.stdout == b"begun\n"
        assert other.executor.cancel(other.endpoint, handle).left == 0
        assert other.follow(handle)[0].ending is Ending.CANCEL
        other.executor.acknowledge(other.endpoint, handle)
    assert not stage.rig.executor.start(
        stage.rig.endpoint, stage.rig.spec("", handle.run_id, run_as=stage.target.name)
    ).fresh


def test_old_tombstones_go(stage: Stage) -> None:
    spec = stage.rig.spec("exit 0", run_as=stage.target.name)
    stage.rig.run(spec)
    tombstone = stage.target.base / ".done" / spec.run_id
    long_ago = time.time() - 62 * 24 * 3600
    os.utime(tombstone, (long_ago, long_ago))
    with closing(stage.rig.endpoint) as other:
        handle = Handle("another-run", str(stage.target.base), stage.target.name)
        other.executor.acknowledge(other.endpoint, handle)
    assert not tombstone.exists()


def test_one_connection_for_all_users(stage: Stage) -> None:
    executor, endpoint = stage.rig.executor, stage.rig.endpoint
    assert isinstance(executor, SshExecutor)
    names = [
        stage.rig.run(stage.rig.spec("id -un", run_as=run_as))[1].stdout.decode().strip()
        for run_as in ("", stage.target.name, endpoint.user)
    ]
    assert names == [endpoint.user, stage.target.name, endpoint.user]
    assert executor.pool.connections(endpoint) == 1


def test_a_user_who_does_not_exist(stage: Stage) -> None:
    with pytest.raises(StartRefused, match="cc-nobody") as caught:
        stage.rig.start(stage.rig.spec("", run_as="cc-nobody"))
    assert caught.value.code == ErrorCode.ACCOUNT_NOT_EXISTS


def test_no_secret_stands_in_an_argument_list(stage: Stage) -> None:
    script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; : top-secret"
    spec = stage.rig.spec(script, run_as=stage.target.name)
    text = stage.rig.run(spec)[1].stdout.decode(errors="replace")
    assert f"/{spec.run_id}/s." in text
    assert "top-secret" not in text
    assert not re.search(r"\b[0-9a-f]{32}\b", text), "a nonce"


def test_one_process_of_another_user(stage: Stage) -> None:
    script = "sleep 60 & echo $!; trap '' TERM; while :; do sleep 0.1; done"
    spec = stage.rig.spec(script, run_as=stage.target.name, timeout=4, grace=1, whole_tree=False)
    handle = stage.rig.start(spec)
    finished, heard = stage.rig.follow(handle)
    child = int(heard.stdout)
    assert (finished.ending, finished.left) == (Ending.TIMEOUT, None)
    assert child in [each.pid for each in processes_as(stage.target.uid)]
    os.kill(child, signal.SIGKILL)
    stage.rig.executor.acknowledge(stage.rig.endpoint, handle)


def test_a_home_that_does_not_exist(stage: Stage) -> None:
    moved = stage.target.home.with_name(f"{stage.target.home.name}-moved")
    stage.target.home.rename(moved)
    spare = Path(f"/var/tmp/.command-console-{stage.target.uid}")
    try:
        handle = stage.rig.start(stage.rig.spec("pwd", run_as=stage.target.name))
        assert handle.base == str(spare)
        assert stage.rig.follow(handle)[1].stdout == b"/\n"
        stage.rig.executor.acknowledge(stage.rig.endpoint, handle)
    finally:
        moved.rename(stage.target.home)
        shutil.rmtree(spare)


def test_sudo_refuses(tmp_path: Path, caller: Account, target: Account) -> None:
    if shutil.which("sudo") is None:
        missing("sudo")
    with signed_in(tmp_path, caller) as endpoint, closing(endpoint) as rig:
        spec = rig.spec("echo now it does", run_as=target.name)
        with pytest.raises(StartRefused) as caught:
            rig.start(spec)
        assert caught.value.code == ErrorCode.RUN_AS_REFUSED
        assert f"{caller.name} ALL=({target.name}) NOPASSWD: /bin/sh" in caught.value.message
        assert "sudo:" in caught.value.message
        handle = Handle(spec.run_id, "", target.name)
        for act in (
            lambda: rig.executor.follow(endpoint, handle, Offsets(), print),
            lambda: rig.executor.cancel(endpoint, handle),
            lambda: rig.executor.acknowledge(endpoint, handle),
        ):
            with pytest.raises(ConnectFailed) as failed:
                act()
            assert failed.value.code == ErrorCode.RUN_AS_REFUSED
        # The sentence is right: this line is all it takes.
        with allowed(caller, target):
            assert rig.run(spec)[1].stdout == b"now it does\n"
    target.assert_clean()


def test_no_sudo(tmp_path: Path, caller: Account, target: Account) -> None:
    tools = caller.home / "tools"
    tools.mkdir()
    (tools / "id").symlink_to(shutil.which("id") or "id")
    with signed_in(tmp_path, caller, PATH=str(tools)) as endpoint, closing(endpoint) as rig:
        with pytest.raises(StartRefused, match="sudo is not installed") as caught:
            rig.start(rig.spec("", run_as=target.name))
        assert caught.value.code == ErrorCode.RUN_AS_REFUSED
    shutil.rmtree(tools)


def test_the_same_user_needs_no_sudo(tmp_path: Path, caller: Account) -> None:
    with signed_in(tmp_path, caller) as endpoint, closing(endpoint) as rig:
        spec = rig.spec("id -un", run_as=caller.name)
        assert rig.run(spec)[1].stdout.decode() == f"{caller.name}\n"
    caller.assert_clean()


def test_an_account_that_cannot_run_anything_is_no_question_of_sudo(
    tmp_path: Path, target: Account
) -> None:
    with (
        Sshd.started(tmp_path, ForceCommand="echo This account is not available.") as [server],
        closing(server.endpoint) as rig,
    ):
        with pytest.raises(ConnectFailed, match="account is not available") as caught:
            rig.start(rig.spec("", run_as=target.name))
        assert caught.value.code == ErrorCode.PROTOCOL_ERROR
