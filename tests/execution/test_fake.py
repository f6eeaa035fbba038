"""The fake keeps the contract, so that tests which use it prove something."""

import pytest

from commands.errors import ConnectFailed, ConnectionLost, RunLost, StartRefused
from commands.execution.executor import Endpoint, Executor, Output
from commands.execution.fake import FakeExecutor
from commands.rules.status import ErrorCode
from tests.execution.contract import ExecutorContract, Heard, Rig


@pytest.fixture
def rig() -> Rig:
    executor: Executor = FakeExecutor()
    return Rig(executor, Endpoint("fake-1", 22, "root", "ssh-ed25519 AAAA"))


class TestFake(ExecutorContract):
    @pytest.fixture
    def account(self) -> str:
        return "someone"


def test_unreachable(rig: Rig) -> None:
    code = ErrorCode.CONNECTION_REFUSED
    rig.executor = FakeExecutor(unreachable={rig.endpoint: code})
    for act in (
        lambda: rig.executor.start(rig.endpoint, rig.say("")),
        lambda: rig.executor.probe(rig.endpoint),
    ):
        with pytest.raises(ConnectFailed) as caught:
            act()
        assert caught.value.code == code


def test_a_user_that_the_console_may_not_become(rig: Rig) -> None:
    rig.executor = FakeExecutor(forbidden=["admin"])
    with pytest.raises(StartRefused) as caught:
        rig.start(rig.say("", run_as="admin"))
    assert caught.value.code == ErrorCode.RUN_AS_REFUSED


def test_broken_connections_and_lost_runs(rig: Rig) -> None:
    fake = rig.executor = FakeExecutor()
    spec = rig.say("say a\nsleep 0.2\nsay b", run_as="someone")
    handle = rig.start(spec)

    def drop(_: Output) -> None:
        fake.break_connections()

    heard = Heard(on_output=drop)
    with pytest.raises(ConnectionLost):
        rig.follow(handle, heard)
    assert rig.follow(handle, Heard(heard.reached))[1].stdout == b"b\n"
    fake.lose(rig.endpoint, handle.run_id)
    with pytest.raises(RunLost):
        rig.follow(handle)
    assert fake.started == [handle.run_id]
    assert fake.specs == {handle.run_id: spec}
