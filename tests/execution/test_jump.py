"""Through a jump host: one that works, refuses, hangs, dies, or is somebody else."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from commands.errors import ConnectFailed, ConnectionLost
from commands.execution import forwarding, pool, ssh
from commands.execution.executor import Ending, Endpoint, Offsets, Output
from commands.execution.pool import Call, Pool, Timing
from commands.execution.ssh import SshExecutor
from commands.rules.status import ErrorCode
from tests.execution.conftest import assert_clean
from tests.execution.contract import Heard, Rig, together
from tests.execution.test_pool import eventually, outcome
from tests.sshd import Sshd, ssh_keygen


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd.started(tmp_path_factory.mktemp("bastion")) as [server]:
        yield server


@pytest.fixture
def behind(sshd: Sshd, bastion: Sshd) -> Endpoint:
    return through(bastion, sshd)


@pytest.fixture
def rig(executor: SshExecutor, sshd: Sshd, behind: Endpoint) -> Iterator[Rig]:
    yield Rig(executor, behind)
    executor.close()
    assert_clean(sshd.home)


def through(bastion: Sshd, server: Sshd, **changes: object) -> Endpoint:
    return dataclasses.replace(server.endpoint, jump=bastion.endpoint, **changes)


def failure(executor: SshExecutor, endpoint: Endpoint) -> tuple[str, str]:
    with pytest.raises(ConnectFailed) as caught:
        executor.probe(endpoint)
    return caught.value.code, caught.value.message


def places(of: Pool, endpoint: Endpoint) -> int:
    site = of._sites.get(endpoint)
    return 0 if site is None else sum(each.users for each in site.connections)


def test_a_run_through_a_jump_host(rig: Rig, bastion: Sshd, sshd: Sshd) -> None:
    rig.executor.probe(rig.endpoint)
    assert len(bastion.sessions()) > 0
    finished, heard = rig.run(rig.spec("echo out; echo err >&2; exit 3"))
    assert (finished.exit_code, heard.stdout, heard.stderr) == (3, b"out\n", b"err\n")
    assert rig.executor.pool.connections(bastion.endpoint) == 1
    assert rig.executor.pool.connections(sshd.endpoint) == 0, "the direct way was taken"
    assert not (bastion.home / ".command-console").exists()


def test_much_output_through_a_jump_host(rig: Rig) -> None:
    heard = rig.run(rig.spec("head -c 5000000 /dev/zero"))[1]
    assert heard.stdout == bytes(5_000_000)


def test_cancel_through_a_jump_host(rig: Rig) -> None:
    handle = rig.start(rig.spec("sleep 60 & sleep 60"))
    assert rig.executor.cancel(rig.endpoint, handle).left == 0
    assert rig.follow(handle)[0].ending is Ending.CANCEL
    rig.executor.acknowledge(rig.endpoint, handle)


def test_many_instances_share_connections_to_their_jump_host(
    executor: SshExecutor, bastion: Sshd, tmp_path: Path
) -> None:
    with Sshd.started(tmp_path, count=12) as servers:
        rigs = [Rig(executor, through(bastion, each)) for each in servers]
        runs = together(12, lambda i: rigs[i].run(rigs[i].spec(f"echo {i}"))[1].stdout)
        assert runs == [f"{i}\n".encode() for i in range(12)]
        assert executor.pool.connections(bastion.endpoint) == 2
        assert places(executor.pool, bastion.endpoint) == 12
        executor.close()


def test_a_jump_host_is_an_instance_too(rig: Rig, bastion: Sshd) -> None:
    rig.executor.probe(rig.endpoint)
    direct = Rig(rig.executor, bastion.endpoint)
    assert direct.run(direct.spec("echo x"))[1].stdout == b"x\n"
    assert rig.executor.pool.connections(bastion.endpoint) == 1
    rig.executor.close()
    assert_clean(bastion.home)


def test_a_jump_host_that_dies_during_a_run(rig: Rig, bastion: Sshd, tmp_path: Path) -> None:
    lines = 300
    # After every seventy-fifth line it waits for the next broken connection, however slow that is.
    handle = rig.start(
        rig.spec(
            f"i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.01;"
            f" case $i in 75|150|225) until [ -e '{tmp_path}'/$i ]; do sleep 0.02; done;; esac;"
            " done"
        )
    )
    heard, killed = Heard(), []

    def kill(_: Output) -> None:
        broken = len(list(tmp_path.iterdir()))
        if broken == len(killed) < 3 and heard.stdout.count(b"\n") > 60 + 75 * broken:
            killed.append(bastion.kill_sessions())

    heard.on_output = kill
    for number in range(1, 5):
        with contextlib.suppress(ConnectionLost):
            finished = rig.executor.follow(rig.endpoint, handle, heard.reached, heard)
            break
        (tmp_path / str(75 * number)).touch()
    assert len(killed) == 3
    assert all(killed)
    assert finished.exit_code == 0
    assert heard.stdout == b"".join(b"line %d\n" % number for number in range(1, lines + 1))
    rig.executor.acknowledge(rig.endpoint, handle)


def test_what_goes_through_a_connection_ends_with_it(
    executor: SshExecutor, bastion: Sshd, tmp_path: Path
) -> None:
    with Sshd.started(tmp_path, count=3) as servers:
        ways = [through(bastion, each) for each in servers]
        sessions = [executor.pool.open(each) for each in ways]
        bastion.kill_sessions()
        assert eventually(lambda: not any(each.connected for each in sessions))
        for each in sessions:
            each.close()
        assert eventually(lambda: not executor.pool.connections(ways[0]))
        assert eventually(lambda: places(executor.pool, bastion.endpoint) == 0)
        assert executor.probe(ways[0])
        executor.close()


def test_a_tunnel_gives_its_place_back(executor: SshExecutor, bastion: Sshd, sshd: Sshd) -> None:
    way = through(bastion, sshd)
    executor.probe(way)
    assert places(executor.pool, bastion.endpoint) == 1
    sshd.kill_sessions()
    assert eventually(lambda: places(executor.pool, bastion.endpoint) == 0)
    stranger = ssh_keygen(bastion.directory / f"other-{time.monotonic_ns()}")
    failure(executor, dataclasses.replace(way, host_key=stranger))
    assert eventually(lambda: places(executor.pool, bastion.endpoint) == 0)
    assert executor.pool.connections(bastion.endpoint) == 1


def test_a_jump_host_in_use_is_not_idle(bastion: Sshd, behind: Endpoint) -> None:
    pool = Pool(Timing(idle=0.5))
    session = pool.open(behind)
    time.sleep(2.5)
    assert session.connected
    assert pool.connections(bastion.endpoint) == 1
    session.close()
    assert eventually(lambda: not pool._sites)
    pool.close()


def test_forwarding_that_is_not_allowed(executor: SshExecutor, sshd: Sshd, tmp_path: Path) -> None:
    with Sshd.started(tmp_path, AllowTcpForwarding="no") as [bastion]:
        code, text = failure(executor, through(bastion, sshd))
        assert code == ErrorCode.JUMP_HOST_REFUSED
        assert text.startswith("The jump host refused to forward")
        assert "AllowTcpForwarding" in text
        assert places(executor.pool, bastion.endpoint) == 0
        executor.close()


def test_a_jump_host_that_permits_other_addresses_only(
    executor: SshExecutor, sshd: Sshd, tmp_path: Path
) -> None:
    with Sshd.started(tmp_path, PermitOpen="127.0.0.1:1") as [bastion]:
        code, text = failure(executor, through(bastion, sshd))
        assert (code, "PermitOpen" in text) == (ErrorCode.JUMP_HOST_REFUSED, True)
        executor.close()


def test_forwarding_takes_no_session_of_the_jump_host(
    executor: SshExecutor, tmp_path: Path
) -> None:
    with (
        Sshd.started(tmp_path, MaxSessions=0) as [bastion],
        Sshd.started(tmp_path / "more", count=3) as servers,
    ):
        rigs = [Rig(executor, through(bastion, each)) for each in servers]
        assert together(3, lambda i: rigs[i].run(rigs[i].spec("echo x"))[1].stdout) == [b"x\n"] * 3
        executor.close()


def test_another_host_key_of_either(
    executor: SshExecutor, bastion: Sshd, sshd: Sshd, tmp_path: Path
) -> None:
    other = ssh_keygen(tmp_path / "other")
    way = through(bastion, sshd, host_key=other)
    code, text = failure(executor, way)
    assert code == ErrorCode.HOST_KEY_CHANGED
    assert "jump host" not in text
    wrong = dataclasses.replace(bastion.endpoint, host_key=other)
    code, text = failure(executor, dataclasses.replace(sshd.endpoint, jump=wrong))
    assert code == ErrorCode.HOST_KEY_CHANGED
    assert text.startswith("The jump host cannot be used. The host key of")


def test_a_jump_host_that_is_out_of_reach(executor: SshExecutor, bastion: Sshd, sshd: Sshd) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()[1]
    jump = dataclasses.replace(bastion.endpoint, port=closed)
    code, text = failure(executor, dataclasses.replace(sshd.endpoint, jump=jump))
    assert code == ErrorCode.CONNECTION_REFUSED
    assert text.startswith("The jump host cannot be used. ")
    stranger = dataclasses.replace(bastion.endpoint, user="nobody-at-all")
    code, text = failure(executor, dataclasses.replace(sshd.endpoint, jump=stranger))
    assert code == ErrorCode.SIGN_IN_REFUSED
    assert text.startswith("The jump host cannot be used. ")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("10.0.0.1 port 22 did not answer in 5 s.", "It did not answer in 5 s."),
        ("The host key of 10.0.0.1 is another.", "The host key of it is another."),
        ("10.0.0.1 did not let u sign in.", "It did not let u sign in."),
    ],
)
def test_a_jump_host_is_not_named(said: str, told: str) -> None:
    jump = Endpoint("10.0.0.1", 22, "u", "key", password="p")
    failed = forwarding.of_jump_host(jump, ConnectFailed(said, code=ErrorCode.HOST_KEY_CHANGED))
    assert failed.message == f"The jump host cannot be used. {told}"


def test_an_instance_that_the_jump_host_does_not_reach(
    executor: SshExecutor, bastion: Sshd, sshd: Sshd
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()[1]
    code, text = failure(executor, through(bastion, sshd, port=closed))
    assert code == ErrorCode.CONNECTION_REFUSED
    assert f"port {closed} refused the connection of the jump host." in text
    code, text = failure(executor, through(bastion, sshd, host="no-such-host.invalid"))
    assert code == ErrorCode.INSTANCE_UNREACHABLE
    assert "no-such-host.invalid port" in text
    assert "from the jump host" in text
    assert places(executor.pool, bastion.endpoint) == 0


def test_failures_at_the_same_time_are_not_mixed_up(
    executor: SshExecutor, bastion: Sshd, sshd: Sshd
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = sock.getsockname()[1]
    executor.probe(bastion.endpoint)
    ways = [
        through(bastion, sshd, host="no-such-host.invalid"),
        through(bastion, sshd, port=closed),
        through(bastion, sshd),
    ]
    for _ in range(5):
        codes = together(9, lambda i: outcome(lambda: executor.probe(ways[i % 3])))
        assert set(codes[0::3]) == {ErrorCode.INSTANCE_UNREACHABLE}
        assert set(codes[1::3]) == {ErrorCode.CONNECTION_REFUSED}
        assert set(codes[2::3]) == {""}
    [connection] = executor.pool._sites[bastion.endpoint].connections
    assert connection.transport._refusals == {}


def test_an_instance_that_says_nothing_behind_a_jump_host(bastion: Sshd, sshd: Sshd) -> None:
    executor = SshExecutor(Timing(handshake=4))
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = through(bastion, sshd, port=server.getsockname()[1])
        code, _ = failure(executor, silent)
    assert code == ErrorCode.BANNER_TIMEOUT
    assert eventually(lambda: places(executor.pool, bastion.endpoint) == 0)
    executor.close()


class Hang:
    """Stops what a server has open, and lets it go on."""

    def __init__(self, server: Sshd) -> None:
        self._server = server
        self._stopped: list[psutil.Process] = []

    def begin(self) -> None:
        self._stopped = self._server.sessions()
        for each in self._stopped:
            each.suspend()

    def end(self) -> None:
        for each in self._stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()


@pytest.fixture
def hang(bastion: Sshd) -> Iterator[Hang]:
    hang = Hang(bastion)
    yield hang
    hang.end()


def test_a_jump_host_that_hangs_is_noticed(
    sshd: Sshd, bastion: Sshd, behind: Endpoint, hang: Hang
) -> None:
    with contextlib.closing(SshExecutor()) as patient:
        rig = Rig(patient, behind)
        handle = rig.start(rig.spec("echo a; sleep 6; echo b"))
    heard = Heard(on_output=lambda _: hang.begin())
    with (
        contextlib.closing(SshExecutor(Timing(beat=0.3, dead=3))) as executor,
        pytest.raises(ConnectionLost),
    ):
        executor.follow(behind, handle, Offsets(), heard)
    assert heard.stdout == b"a\n"
    heard.on_output = None
    with contextlib.closing(SshExecutor()) as patient:
        finished = patient.follow(behind, handle, heard.reached, heard)
        assert (finished.exit_code, heard.stdout) == (0, b"a\nb\n")
        patient.acknowledge(behind, handle)
    hang.end()  # else what is behind it waits for it
    assert_clean(sshd.home)


def test_a_new_way_through_a_jump_host_that_hangs(sshd: Sshd, bastion: Sshd, hang: Hang) -> None:
    executor = SshExecutor(Timing(connect=5, beat=60, dead=60))
    executor.probe(bastion.endpoint)
    hang.begin()
    code, text = failure(executor, through(bastion, sshd))
    assert code == ErrorCode.CONNECTION_TIMEOUT
    assert text.startswith("The jump host cannot be used. It has stopped answering")
    assert executor.pool.connections(bastion.endpoint) == 0
    assert executor.probe(through(bastion, sshd))
    executor.close()


@pytest.mark.parametrize("state", ["open", "opening", "connecting"])
def test_close_and_abandon_do_not_wait_for_a_jump_host(
    sshd: Sshd, bastion: Sshd, hang: Hang, state: str
) -> None:
    before, pool = threading.active_count(), Pool(Timing())
    way = through(bastion, sshd)
    if state == "open":
        pool.open(way)
    elif state == "opening":
        pool.open(bastion.endpoint)
    with contextlib.ExitStack() as stack:
        if state == "connecting":
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            jump = dataclasses.replace(bastion.endpoint, port=server.getsockname()[1])
            way = dataclasses.replace(way, jump=jump)
        else:
            hang.begin()
        answers: list[str] = []
        calls = [Call(f"r{number}") for number in range(2)]

        def wait(call: Call) -> None:
            answers.append(outcome(lambda: pool.open(way, call)))

        callers = [threading.Thread(target=wait, args=(call,)) for call in calls]
        for each in callers:
            each.start()
        time.sleep(0.4)
        if state != "open":
            calls[0].abandon()
            callers[0].join(10)
            assert answers == ["ConnectionLost"]
        pool.close()
        # A channel that hangs is closed for the lack of a connection: what `open` waited for.
        for each in callers:
            each.join(10)
        assert not any(each.is_alive() for each in callers)
        assert eventually(lambda: threading.active_count() <= before)


def test_closing_does_not_wait_for_a_jump_host_that_takes_no_bytes(
    bastion: Sshd, behind: Endpoint
) -> None:
    pool = Pool()
    pool.open(behind).close()
    [of_jump] = pool._sites[bastion.endpoint].connections
    [connection] = pool._sites[behind].connections

    def stuck(_: object) -> None:
        while of_jump.alive:
            time.sleep(0.02)

    of_jump.transport._send_user_message = stuck  # type: ignore[method-assign]
    closing = threading.Thread(target=connection.close)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    assert of_jump.alive
    pool.close()


def test_one_address_behind_two_jump_hosts_is_two_places(bastion: Sshd, behind: Endpoint) -> None:
    other = dataclasses.replace(behind, jump=dataclasses.replace(bastion.endpoint, port=1))
    direct = dataclasses.replace(behind, jump=None)
    assert len({ssh._place(each, "") for each in (behind, other, direct)}) == 3


def test_no_room_on_a_jump_host(
    executor: SshExecutor, bastion: Sshd, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object) -> None:
        raise forwarding.Refused(4, "open failed")

    monkeypatch.setattr(forwarding.Transport, "forward", forward)
    monkeypatch.setattr(pool, "CONNECTIONS", 2)
    code, text = failure(executor, through(bastion, sshd))
    assert code == ErrorCode.JUMP_HOST_BUSY
    assert text.startswith("The jump host cannot be used. It forwards no further")
    assert executor.pool.connections(bastion.endpoint) == 2
    assert places(executor.pool, bastion.endpoint) == 0


def test_a_jump_host_behind_a_jump_host(executor: SshExecutor, bastion: Sshd, sshd: Sshd) -> None:
    chain = dataclasses.replace(bastion.endpoint, jump=bastion.endpoint)
    code, text = failure(executor, dataclasses.replace(sshd.endpoint, jump=chain))
    assert code == ErrorCode.JUMP_HOST_REFUSED
    assert "only one" in text
    assert executor.pool.connections(bastion.endpoint) == 0
