"""What every Executor promises, as tests: ``test_fake`` and ``test_ssh`` run the same class.

Scripts are written in the fake's tiny language; ``PRELUDE`` makes them shell scripts too.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from commands.errors import ConnectFailed, ConnectionLost, RunLost, StartRefused
from commands.execution.executor import (
    FOLLOW_LIMIT,
    Ending,
    Endpoint,
    Executor,
    Finished,
    Gap,
    Handle,
    Needs,
    Offsets,
    Output,
    RunSpec,
)
from commands.execution.fake import PRELUDE
from commands.models.instance import fingerprint
from commands.rules import launcher as launchers
from commands.rules.launcher import Launcher
from commands.rules.status import ErrorCode

T = TypeVar("T")


@dataclass
class Heard:
    """A ``receive`` that checks offsets and keeps the bytes."""

    offsets: Offsets = field(default_factory=Offsets)
    stdout: bytes = b""
    stderr: bytes = b""
    times: list[float] = field(default_factory=list)
    on_output: Callable[[Output], None] | None = None

    def __call__(self, output: Output) -> None:
        before = getattr(self.offsets, output.stream) + len(getattr(self, output.stream))
        assert output.offset == before, "a gap or an overlap"
        assert output.data
        setattr(self, output.stream, getattr(self, output.stream) + output.data)
        self.times.append(time.time())
        if self.on_output is not None:
            self.on_output(output)

    @property
    def reached(self) -> Offsets:
        return Offsets(
            self.offsets.stdout + len(self.stdout), self.offsets.stderr + len(self.stderr)
        )


@dataclass
class Rig:
    """One executor and one endpoint, with short words for what tests do with them."""

    executor: Executor
    endpoint: Endpoint

    def spec(self, script: str | bytes = "", run_id: str = "", **values: object) -> RunSpec:
        text = script.encode() if isinstance(script, str) else script
        return RunSpec(run_id or new_id(), text, **values)  # type: ignore[arg-type]

    def say(self, script: str, **values: object) -> RunSpec:
        return self.spec(PRELUDE + script.encode() + b"\n", **values)  # type: ignore[arg-type]

    def start(self, spec: RunSpec) -> Handle:
        started = self.executor.start(self.endpoint, spec)
        assert started.fresh
        key = self.endpoint.host_key
        assert started.host_key_fingerprint == fingerprint(key), "not the key that is pinned"
        return Handle(spec.run_id, started.base, spec.run_as)

    def follow(self, handle: Handle, heard: Heard | None = None) -> tuple[Finished, Heard]:
        heard = heard or Heard()
        finished = self.executor.follow(self.endpoint, handle, heard.offsets, heard)
        assert finished.stdout_size == heard.reached.stdout
        assert finished.stderr_size == heard.reached.stderr
        return finished, heard

    def follow_to_the_end(self, handle: Handle) -> None:
        """Wait until it has ended, whatever it printed."""
        self.executor.follow(self.endpoint, handle, Offsets(), lambda _: None)

    def run(self, spec: RunSpec) -> tuple[Finished, Heard]:
        """Start, follow, acknowledge."""
        handle = self.start(spec)
        finished, heard = self.follow(handle)
        self.executor.acknowledge(self.endpoint, handle)
        return finished, heard


def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:16]}"


def together(count: int, act: Callable[[int], T]) -> list[T]:
    """Call ``act`` in ``count`` threads, released by one gate; what each returned."""
    gate = threading.Barrier(count)

    def one(number: int) -> T:
        gate.wait(30)
        return act(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


class ExecutorContract:
    """Subclass it and provide the fixtures ``rig`` and ``account`` (another user there)."""

    def test_a_probe_names_the_system(self, rig: Rig) -> None:
        names = {rig.executor.probe(rig.endpoint) for _ in range(2)}
        names |= set(together(6, lambda _: rig.executor.probe(rig.endpoint)))
        [name] = names
        assert 0 < len(name) <= 80
        assert name.isprintable()

    def test_an_examination_tells_what_a_start_would_refuse(self, rig: Rig) -> None:
        fine = rig.executor.examine(rig.endpoint, Needs())
        assert (fine.problems, fine.whole) == ((), True)
        handle = rig.start(rig.say("exit 0"))
        assert fine.base == handle.base
        rig.follow_to_the_end(handle)
        rig.executor.acknowledge(rig.endpoint, handle)
        bad = Needs(workdir="/no/such/directory", interpreter="/no/such/interpreter")
        codes = [one.code for one in rig.executor.examine(rig.endpoint, bad).problems]
        assert codes == [ErrorCode.DIRECTORY_NOT_EXISTS, ErrorCode.INTERPRETER_NOT_FOUND]
        with pytest.raises(ConnectFailed) as caught:
            rig.executor.examine(rig.endpoint, Needs(run_as="no-such-user"))
        assert caught.value.code == ErrorCode.ACCOUNT_NOT_EXISTS

    def test_probes_beside_a_run(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say a\nsleep 0.4\nexit 3"))
        probe = threading.Timer(0.1, rig.executor.probe, [rig.endpoint])
        probe.start()
        finished, heard = rig.follow(handle)
        probe.join()
        assert (finished.exit_code, heard.stdout) == (3, b"a\n")
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_a_launcher_runs_the_script_in_place_of_its_interpreter(self, rig: Rig) -> None:
        script = b"#!/no/such/interpreter\n" + PRELUDE + b"say launched\nexit 6\n"
        launcher = launchers.parse('sh {{ACS::ScriptFileName|Ext(".sh")}}')
        finished, heard = rig.run(rig.spec(script, launcher=launcher))
        assert (finished.exit_code, heard.stdout) == (6, b"launched\n")

    def test_a_missing_launcher_refuses(self, rig: Rig) -> None:
        spec = rig.say("say never", launcher=launchers.parse("no-such-program -x"))
        with pytest.raises(StartRefused, match="no-such-program") as caught:
            rig.executor.start(rig.endpoint, spec)
        assert caught.value.code == ErrorCode.LAUNCHER_NOT_FOUND
        with pytest.raises(RunLost):
            rig.follow(Handle(spec.run_id, ""))

    @pytest.mark.parametrize(
        "launcher",
        [
            Launcher(()),
            Launcher(("",)),
            Launcher(("sh", "\0"), "/../x"),
            Launcher(("\0",)),
        ],
        ids=str,
    )
    def test_what_is_no_launcher_refuses(self, rig: Rig, launcher: Launcher) -> None:
        with pytest.raises(StartRefused):
            rig.executor.start(rig.endpoint, rig.say("say never", launcher=launcher))

    def test_a_run_of_another_user(self, rig: Rig, account: str) -> None:
        spec = rig.say("say once\nexit 4", run_as=account)
        handle = rig.start(spec)
        assert not rig.executor.start(rig.endpoint, spec).fresh
        finished, heard = rig.follow(handle)
        assert (finished.exit_code, heard.stdout) == (4, b"once\n")
        with pytest.raises(RunLost):
            rig.follow(Handle(spec.run_id, ""))
        assert rig.executor.cancel(rig.endpoint, handle).left is None
        rig.executor.acknowledge(rig.endpoint, handle)
        assert not rig.executor.start(rig.endpoint, spec).fresh

    def test_ending_a_run_of_another_user(self, rig: Rig, account: str) -> None:
        handle = rig.start(rig.say("say begun\nsleep 30", run_as=account))
        assert rig.executor.cancel(rig.endpoint, handle).left == 0
        finished, _ = rig.follow(handle)
        assert (finished.ending, finished.left) == (Ending.CANCEL, 0)
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_to_run_as_the_user_who_signs_in_changes_nothing(self, rig: Rig) -> None:
        spec = rig.say("say a", run_as=rig.endpoint.user)
        handle = rig.start(spec)
        same = Handle(spec.run_id, handle.base)
        assert rig.follow(same)[1].stdout == b"a\n"
        rig.executor.acknowledge(rig.endpoint, same)

    @pytest.mark.parametrize(
        "name",
        ["no-such-user", "#0", "-u", "--", "0", "a b", "a;b", "a\nb", "é", "$", "x" * 40, "a'b"],
    )
    def test_who_is_no_user_refuses(self, rig: Rig, name: str) -> None:
        spec = rig.say("say never", run_as=name)
        with pytest.raises(StartRefused) as caught:
            rig.executor.start(rig.endpoint, spec)
        assert caught.value.code == ErrorCode.ACCOUNT_NOT_EXISTS
        assert caught.value.message.isprintable()
        handle = Handle(spec.run_id, "", name)
        for act in (rig.follow, lambda it: rig.executor.cancel(rig.endpoint, it)):
            with pytest.raises(ConnectFailed) as failed:
                act(handle)
            assert failed.value.code == ErrorCode.ACCOUNT_NOT_EXISTS

    def test_the_timeout_of_one_process(self, rig: Rig) -> None:
        script = "say begun\nsleep 9\nsay never"
        handle = rig.start(rig.say(script, timeout=2, grace=1, whole_tree=False))
        finished, heard = rig.follow(handle)
        assert (finished.ending, finished.left) == (Ending.TIMEOUT, None)
        assert heard.stdout == b"begun\n"
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_cancelling_one_process(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say begun\nsleep 9\nsay never", whole_tree=False))
        assert rig.executor.cancel(rig.endpoint, handle).left is None
        finished, _ = rig.follow(handle)
        assert (finished.ending, finished.left) == (Ending.CANCEL, None)
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_both_streams_and_the_exit_code(self, rig: Rig) -> None:
        finished, heard = rig.run(rig.say("say one\nerr two\nsay three\nexit 7"))
        assert (heard.stdout, heard.stderr) == (b"one\nthree\n", b"two\n")
        assert (finished.ending, finished.exit_code) == (Ending.EXIT, 7)

    @pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
    def test_exit_codes(self, rig: Rig, code: int) -> None:
        assert rig.run(rig.say(f"exit {code}"))[0].exit_code == code

    def test_an_empty_script_succeeds(self, rig: Rig) -> None:
        finished, heard = rig.run(rig.spec(b""))
        assert (finished.exit_code, heard.reached) == (0, Offsets(0, 0))

    def test_output_arrives_while_the_script_runs(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say early\nsleep 5\nsay late"))
        heard = rig.follow(handle)[1]
        rig.executor.acknowledge(rig.endpoint, handle)
        assert heard.stdout == b"early\nlate\n"
        assert heard.times[-1] - heard.times[0] > 0.3

    def test_follow_goes_on_from_offsets(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say 0123456789\nerr abcdef"))
        rig.follow(handle)
        heard = rig.follow(handle, Heard(Offsets(4, 3)))[1]
        assert (heard.stdout, heard.stderr) == (b"456789\n", b"def\n")
        heard = rig.follow(handle, Heard(Offsets(11, 7)))[1]
        assert (heard.stdout, heard.stderr) == (b"", b"")
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_what_a_bounded_spool_dropped_is_told_to_who_comes_late(self, rig: Rig) -> None:
        text = "".join(f"say {i:07d}\n" for i in range(1000))
        handle = rig.start(rig.say(f"{text}sleep 7\nsay end", spool=2000))
        rig.follow_to_the_end(handle)
        pieces: list[Output | Gap] = []
        finished = rig.executor.follow(rig.endpoint, handle, Offsets(100, 0), pieces.append)
        whole = b"".join(b"%07d\n" % i for i in range(1000)) + b"end\n"
        assert finished.stdout_size == len(whole)
        [gap] = [piece for piece in pieces if isinstance(piece, Gap)]
        assert (gap.stream, gap.start) == ("stdout", 500)
        assert gap.end <= len(whole) - 500
        at, got = 100, b""
        for piece in pieces:
            assert at == (piece.start if isinstance(piece, Gap) else piece.offset)
            at = piece.end if isinstance(piece, Gap) else at + len(piece.data)
            got += b"" if isinstance(piece, Gap) else piece.data
        assert got == whole[100:500] + whole[gap.end :]
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_two_follow_the_same_run(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say a\nsleep 0.3\nsay b\nexit 4"))
        for finished, heard in together(2, lambda _: rig.follow(handle)):
            assert (finished.exit_code, heard.stdout) == (4, b"a\nb\n")
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_a_second_start_starts_nothing(self, rig: Rig) -> None:
        spec = rig.say("say once")
        handle = rig.start(spec)
        assert not rig.executor.start(rig.endpoint, spec).fresh
        assert rig.follow(handle)[1].stdout == b"once\n"
        assert not rig.executor.start(rig.endpoint, spec).fresh
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_a_start_after_acknowledge_starts_nothing(self, rig: Rig) -> None:
        spec = rig.say("say once")
        rig.run(spec)
        assert not rig.executor.start(rig.endpoint, spec).fresh
        with pytest.raises(RunLost):
            rig.follow(Handle(spec.run_id, ""))

    def test_acknowledge_is_idempotent(self, rig: Rig) -> None:
        spec = rig.say("say x")
        rig.run(spec)
        rig.executor.acknowledge(rig.endpoint, Handle(spec.run_id, ""))
        unknown = Handle(new_id(), "")
        rig.executor.acknowledge(rig.endpoint, unknown)
        assert not rig.executor.start(rig.endpoint, rig.spec(b"", unknown.run_id)).fresh

    def test_eight_starters_one_execution(self, rig: Rig) -> None:
        spec = rig.say("say once")
        answers = together(8, lambda _: rig.executor.start(rig.endpoint, spec))
        assert [each.fresh for each in answers].count(True) == 1
        handle = Handle(spec.run_id, answers[0].base)
        assert rig.follow(handle)[1].stdout == b"once\n"
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_timeout(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say begun\nsleep 30\nsay never", timeout=1, grace=1))
        finished, heard = rig.follow(handle)
        assert (finished.ending, finished.exit_code) == (Ending.TIMEOUT, None)
        assert (finished.left, heard.stdout) == (0, b"begun\n")
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_cancel_during_the_run(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say begun\nsleep 30\nsay never"))
        answers = []

        def cancel() -> None:
            answers.append(rig.executor.cancel(rig.endpoint, handle))

        canceller = threading.Thread(target=cancel)
        heard = Heard(on_output=lambda _: canceller.start())
        finished, _ = rig.follow(handle, heard)
        canceller.join()
        assert (finished.ending, finished.exit_code, finished.left) == (Ending.CANCEL, None, 0)
        assert heard.stdout == b"begun\n"
        assert [each.left for each in answers] == [0]
        assert rig.executor.cancel(rig.endpoint, handle).left == 0
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_cancel_before_the_start(self, rig: Rig) -> None:
        spec = rig.say("say never")
        assert rig.executor.cancel(rig.endpoint, Handle(spec.run_id, "")).left == 0
        started = rig.executor.start(rig.endpoint, spec)
        assert not started.fresh
        handle = Handle(spec.run_id, started.base)
        finished, heard = rig.follow(handle)
        assert (finished.ending, heard.stdout) == (Ending.CANCEL, b"")
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_cancel_after_the_end_keeps_the_result(self, rig: Rig) -> None:
        handle = rig.start(rig.say("exit 5"))
        rig.follow(handle)
        assert rig.executor.cancel(rig.endpoint, handle).left is None
        finished = rig.follow(handle)[0]
        assert (finished.ending, finished.exit_code) == (Ending.EXIT, 5)
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_missing_directory_refuses(self, rig: Rig) -> None:
        spec = rig.say("say never", workdir="/no/such/directory")
        with pytest.raises(StartRefused) as caught:
            rig.executor.start(rig.endpoint, spec)
        assert caught.value.code == ErrorCode.DIRECTORY_NOT_EXISTS
        with pytest.raises(RunLost):
            rig.follow(Handle(spec.run_id, ""))

    def test_missing_interpreter_refuses(self, rig: Rig) -> None:
        with pytest.raises(StartRefused) as caught:
            rig.executor.start(rig.endpoint, rig.spec(b"#!/no/such/interpreter -x\n"))
        assert caught.value.code == ErrorCode.INTERPRETER_NOT_FOUND

    def test_an_unknown_run_is_lost(self, rig: Rig) -> None:
        with pytest.raises(RunLost) as caught:
            rig.follow(Handle(new_id(), ""))
        assert caught.value.code == ErrorCode.OUTCOME_UNKNOWN

    def test_an_exception_of_the_receiver_is_passed_on(self, rig: Rig) -> None:
        def full(_: Output) -> None:
            raise MemoryError

        handle = rig.start(rig.say("say a\nsleep 0.2\nsay b"))
        with pytest.raises(MemoryError):
            rig.executor.follow(rig.endpoint, handle, Offsets(), full)
        assert rig.follow(handle)[1].stdout == b"a\nb\n"
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_fourteen_runs_at_once(self, rig: Rig) -> None:
        def one(number: int) -> bytes:
            return rig.run(rig.say(f"say {number}\nsleep 0.5\nsay end"))[1].stdout

        expected = [f"{number}\nend\n".encode() for number in range(14)]
        assert together(14, one) == expected

    def test_a_follow_may_be_limited(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say begun\nsleep 30\nsay never"))
        heard, began = Heard(), time.monotonic()
        with pytest.raises(ConnectionLost) as caught:
            rig.executor.follow(rig.endpoint, handle, heard.offsets, heard, limit=4)
        assert caught.value.code == FOLLOW_LIMIT
        assert 3.9 < time.monotonic() - began < 25
        assert heard.stdout == b"begun\n"
        rig.executor.cancel(rig.endpoint, handle)
        finished, rest = rig.follow(handle, Heard(heard.reached))
        assert (finished.ending, rest.reached) == (Ending.CANCEL, heard.reached)
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_a_limit_that_is_not_reached(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say a\nsleep 0.2\nexit 3"))
        heard = Heard()
        follow = rig.executor.follow
        assert follow(rig.endpoint, handle, Offsets(), heard, limit=90).exit_code == 3
        assert heard.stdout == b"a\n"
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_abandon_ends_the_following_and_not_the_run(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say begun\nsleep 5\nsay end\nexit 4"))
        other = rig.start(rig.say("say x\nsleep 5\nexit 5"))
        following = threading.Barrier(
            3, lambda: threading.Timer(0.2, rig.executor.abandon, [handle.run_id]).start()
        )

        def follow(number: int) -> int | None:
            heard = Heard(on_output=lambda _: following.wait(30))
            if number == 2:
                return rig.follow(other, heard)[0].exit_code
            with pytest.raises(ConnectionLost) as caught:
                rig.follow(handle, heard)
            assert caught.value.code == "ConnectionLost"
            assert heard.stdout == b"begun\n"
            return None

        assert together(3, follow) == [None, None, 5]
        finished, heard = rig.follow(handle)
        assert (finished.exit_code, heard.stdout) == (4, b"begun\nend\n")
        for each in (handle, other):
            rig.executor.acknowledge(rig.endpoint, each)

    def test_abandon_from_the_receiver(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say a\nsleep 3\nsay b"))
        heard = Heard(on_output=lambda _: rig.executor.abandon(handle.run_id))
        with pytest.raises(ConnectionLost):
            rig.follow(handle, heard)
        assert heard.stdout == b"a\n"
        assert rig.follow(handle)[1].stdout == b"a\nb\n"
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_abandon_where_nothing_is_in_progress(self, rig: Rig) -> None:
        spec = rig.say("say a")
        rig.executor.abandon(spec.run_id)
        handle = rig.start(spec)
        rig.executor.abandon(spec.run_id)
        assert rig.follow(handle)[1].stdout == b"a\n"
        rig.executor.acknowledge(rig.endpoint, handle)

    def test_close_wakes_who_follows(self, rig: Rig) -> None:
        handle = rig.start(rig.say("say begun\nsleep 30", timeout=7, grace=0))
        heard = Heard(on_output=lambda _: threading.Timer(0.2, rig.executor.close).start())
        began = time.monotonic()
        with pytest.raises(ConnectionLost):
            rig.follow(handle, heard)
        assert time.monotonic() - began < 6
        with pytest.raises(ConnectionLost):
            rig.executor.start(rig.endpoint, rig.say(""))
        with pytest.raises(ConnectionLost):
            rig.executor.probe(rig.endpoint)
