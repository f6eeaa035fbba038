"""Windows instances, at the level of bytes: what is sent, and how answers are taken.

PowerShell does not run here. ``windows_host`` plays its part; the programs themselves are only
read, by a small tokenizer, for what can be told without running them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from commands.errors import ConnectFailed, ConnectionLost, RunLost, StartRefused
from commands.execution import ssh, windows
from commands.execution.executor import (
    Cancelled,
    Ending,
    Finished,
    Handle,
    Needs,
    Offsets,
    RunSpec,
)
from commands.execution.pool import Call
from commands.execution.remote import Frame
from commands.execution.ssh import SshExecutor
from commands.rules.launcher import Launcher
from commands.rules.status import ErrorCode
from tests.execution.contract import ExecutorContract, Heard, Rig, new_id, together
from tests.execution.windows_host import (
    BASE,
    USER,
    WindowsHost,
    argv,
    encoded_command,
    parameters,
    windows_host,
)

NONCE = "0123456789abcdef" * 2
HERE = Path(windows.__file__).parent


class WindowsRig(Rig):
    """Scripts are PowerShell's unless something else is said."""

    def spec(self, script: str | bytes = "", run_id: str = "", **values: object) -> RunSpec:
        return super().spec(script, run_id, **{"language": "powershell", **values})


@pytest.fixture
def host() -> Iterator[WindowsHost]:
    with windows_host() as host:
        yield host


@pytest.fixture
def rig(host: WindowsHost) -> Iterator[Rig]:
    executor = SshExecutor()
    yield WindowsRig(executor, host.endpoint)
    executor.close()


class TestContract(ExecutorContract):
    """Every promise of an Executor, through the frames of a Windows instance."""

    # What is refused on Windows has tests of its own below.
    test_an_examination_tells_what_a_start_would_refuse = None
    test_a_launcher_runs_the_script_in_place_of_its_interpreter = None
    test_a_missing_launcher_refuses = None
    test_a_run_of_another_user = None
    test_ending_a_run_of_another_user = None
    test_who_is_no_user_refuses = None
    test_what_a_bounded_spool_dropped_is_told_to_who_comes_late = None

    def test_an_examination_looks_at_the_connection_only(self, rig):
        found = rig.executor.examine(rig.endpoint, Needs(workdir="C:\\no\\such"))
        assert (found.problems, found.whole) == ((), False)


# --- the command line ----------------------------------------------------------------------------


def test_the_command_line_means_the_same_in_every_shell() -> None:
    command = windows.command()
    assert re.fullmatch(r"[A-Za-z0-9 .+/=-]+", command)
    assert len(command) < windows.COMMAND_LINE / 2
    assert argv(command)[:-2] == [
        "powershell.exe",
        "-NoProfile",
        "-NonInteractive",
        "-InputFormat",
        "None",
        "-OutputFormat",
        "Text",
        "-ExecutionPolicy",
        "Bypass",
    ]


def test_the_command_line_holds_the_bootstrap_and_nothing_else() -> None:
    text = encoded_command(windows.command())
    source = (HERE / "bootstrap.ps1").read_text()
    wanted = [line.strip() for line in source.splitlines() if not line.startswith("#")]
    assert text.splitlines() == [line for line in wanted if line]
    # In this order: read the length, read as much, and only then run it.
    steps = ["CcTake 46", "CcTake ([int]$Matches[2])", "[ScriptBlock]::Create($ccText)", "CcMain"]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)


def test_one_command_line_serves_every_run(rig: Rig, host: WindowsHost) -> None:
    spec = rig.spec("say top-secret", workdir=r"C:\hidden")
    handle = rig.start(spec)
    rig.follow(handle)
    rig.executor.cancel(rig.endpoint, handle)
    rig.executor.probe(rig.endpoint)
    assert set(host.commands) == {windows.command()}
    source = encoded_command(windows.command())
    for secret in ("top-secret", "hidden", spec.run_id):
        assert secret not in source


# --- programs ------------------------------------------------------------------------------------


def split(message: bytes) -> tuple[bytes, bytes]:
    return message[:46], message[46:]


@pytest.mark.parametrize("script", ["", "echo hi\n", "é中😀", "x" * 20_000, "'; exit 9; '\n`\"$x"])
def test_the_header_counts_every_byte(script: str) -> None:
    spec = RunSpec("t-1", script.encode(), language="powershell")
    header, program = split(windows.start_program(NONCE, spec))
    assert header == b"CC1 %s %08d\n" % (NONCE.encode(), len(program))
    assert program.isascii()
    assert parameters(program)["Script"] == script


def test_what_starts_a_run() -> None:
    spec = RunSpec(
        "t-1.i-2", b"dir", workdir=r"D:\a 'b'", timeout=7, whole_tree=False, language="bat"
    )
    given = parameters(split(windows.start_program(NONCE, spec))[1])
    assert given.pop("Name").startswith("r-t-1.i-2-")
    assert given == {
        "Operation": "start",
        "Id": "t-1.i-2",
        "Base": "",
        "Workdir": r"D:\a 'b'",
        "Language": "bat",
        "Script": "dir",
        "Timeout": "7",
        "Single": "$true",
    }


@pytest.mark.parametrize(
    ("language", "script", "text"),
    [
        ("bat", b"a\nb\r\nc", "a\r\nb\r\nc"),
        ("bat", b"\xef\xbb\xbf@echo off\n", "@echo off\r\n"),
        ("powershell", b"a\nb\r\n", "a\nb\r\n"),
        ("powershell", b"\xef\xbb\xbfa", "a"),
    ],
)
def test_the_script_as_its_interpreter_wants_it(language: str, script: bytes, text: str) -> None:
    spec = RunSpec("t-1", script, language=language)  # type: ignore[arg-type]
    assert parameters(split(windows.start_program(NONCE, spec))[1])["Script"] == text


def test_names_of_runs_differ_where_windows_would_take_them_for_the_same() -> None:
    ids = ["t-1", "T-1", "t-1.", "t-1..", "con", "-"]
    names = [
        parameters(split(windows.cancel_program(NONCE, Handle(one, BASE)))[1])["Name"]
        for one in ids
    ]
    assert len({name.lower() for name in names}) == len(ids)
    assert all(re.fullmatch(r"r-[a-z0-9._-]*[a-z0-9]", name) for name in names)


@pytest.mark.parametrize(
    "spec",
    [
        RunSpec("t-1", b"echo hi"),
        RunSpec("t-1", b"\xff", language="powershell"),
        RunSpec("t-1", b"a\0b", language="powershell"),
        RunSpec("t-1", b"", launcher=Launcher(("sh",)), language="powershell"),
        RunSpec("../x", b"", language="powershell"),
        RunSpec("a" * 81, b"", language="powershell"),
        RunSpec("t-1", b"", workdir="C:\\\udcff", language="powershell"),
        RunSpec("t-1", b"a" * 80_000_000, language="powershell"),
    ],
    ids=["shell", "bytes", "nul", "launcher", "dots", "long", "surrogate", "huge"],
)
def test_what_can_not_run_on_windows_is_refused(rig: Rig, spec: RunSpec) -> None:
    with pytest.raises(StartRefused):
        rig.executor.start(rig.endpoint, spec)


@pytest.mark.parametrize(
    ("text", "is_base"),
    [
        (BASE, True),
        ("D:\\Program Data\\CommandConsole.S-1-5", True),
        ("/home/a", False),
        ("C:\\a'b", False),
        ("C:\\a\nb", False),
        ("C:\\" + "a" * 201, False),
        ("\\\\server\\share", False),
    ],
)
def test_bases(text: str, is_base: bool) -> None:
    assert windows.is_base(text) is is_base


# --- half a program ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.001, 0.25, 0.5, 0.75, 0.9999])
def test_of_half_a_program_nothing_runs(rig: Rig, host: WindowsHost, part: float) -> None:
    spec = rig.say("say once\nexit 3")
    host.cut = int(len(windows.start_program(NONCE, spec)) * part)
    with pytest.raises(ConnectionLost):
        rig.executor.start(rig.endpoint, spec)
    assert (host.fake.started, host.programs) == ([], [])
    host.cut = None
    assert rig.run(spec)[0].exit_code == 3
    assert len(host.fake.started) == 1


def test_a_client_that_stops_half_way_starts_nothing(rig: Rig, host: WindowsHost) -> None:
    executor = rig.executor
    assert isinstance(executor, SshExecutor)
    message = windows.start_program(NONCE, rig.say("say never"))
    session = executor.pool.open(rig.endpoint, Call())
    session.channel.exec_command(windows.command())
    session.channel.sendall(message[:-1])
    session.channel.shutdown_write()
    assert session.exit_code(60) == 114
    assert host.fake.started == []
    session.close()


# --- at most once, and again by offset -----------------------------------------------------------


def test_eight_executors_start_one_run_once(rig: Rig, host: WindowsHost) -> None:
    spec = rig.say("say once")

    def start(_number: int) -> bool:
        other = SshExecutor()
        fresh = other.start(rig.endpoint, spec).fresh
        other.close()
        return fresh

    assert sum(together(8, start)) == 1
    assert len(host.fake.started) == 1


def test_following_again_begins_where_the_stored_bytes_end(rig: Rig, host: WindowsHost) -> None:
    handle = rig.start(rig.say("say 0123456789\nerr abc\nsleep 4\nsay end\nexit 3221225477"))
    heard = Heard()
    heard.on_output = lambda _: host.drop() if len(heard.stdout + heard.stderr) == 15 else None
    with pytest.raises(ConnectionLost):
        rig.follow(handle, heard)
    again = Heard(heard.reached)
    finished, _ = rig.follow(handle, again)
    assert (heard.stdout + again.stdout, heard.stderr + again.stderr) == (
        b"0123456789\nend\n",
        b"abc\n",
    )
    assert (finished.ending, finished.exit_code) == (Ending.EXIT, 0xC0000005)
    assert host.requests[-1].split()[:3] == ["follow", "11", "4"]
    assert parameters(host.programs[-1])["Base"] == BASE


@pytest.mark.parametrize("code", [0, 255, 256, 259, 0x7FFFFFFF, 0xC0000005, 0xFFFFFFFF])
def test_codes_of_exit_have_32_bits(rig: Rig, code: int) -> None:
    assert rig.run(rig.say(f"exit {code}"))[0].exit_code == code


def test_bat(rig: Rig, host: WindowsHost) -> None:
    finished, heard = rig.run(rig.spec("say hi\nexit 7\n", language="bat"))
    assert (finished.exit_code, heard.stdout) == (7, b"hi\n")
    assert parameters(host.programs[0])["Script"] == "say hi\r\nexit 7\r\n"


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "finished"),
    [
        (("exit", "7", "-", "3", "2"), Finished(Ending.EXIT, 7, 3, 2, None)),
        (("exit", "4294967295", "-", "3", "2"), Finished(Ending.EXIT, 0xFFFFFFFF, 3, 2, None)),
        (("timeout", "-", "0", "3", "2"), Finished(Ending.TIMEOUT, None, 3, 2, 0)),
        (("cancel", "-", "-", "3", "2"), Finished(Ending.CANCEL, None, 3, 2, None)),
    ],
)
def test_how_a_run_ended(rest: tuple[str, ...], finished: Finished) -> None:
    assert windows.finished(Frame("result", rest), Offsets(3, 2)) == finished


@pytest.mark.parametrize(
    ("rest", "sentence", "code"),
    [
        (("exit", "4294967296", "-", "0", "0"), "damaged", "OutcomeUnknown"),
        (("exit", "-1", "-", "0", "0"), "damaged", "OutcomeUnknown"),
        (("exit", "-", "-", "0", "0"), "damaged", "OutcomeUnknown"),
        (("lost", "-", "-", "0", "0"), "Windows ended the script", "OutcomeUnknown"),
        (("rebooted", "-", "-", "0", "0"), "restarted", "OutcomeUnknown"),
        (("unstarted", "267", "0", "0", "0"), r"error 267\). Nothing", "ExecutionException"),
    ],
)
def test_an_end_that_is_not_known(rest: tuple[str, ...], sentence: str, code: str) -> None:
    with pytest.raises(RunLost, match=sentence) as caught:
        windows.finished(Frame("result", rest), Offsets())
    assert caught.value.code == code


@pytest.mark.parametrize("rest", [("exit", "0", "-"), ("exit", "0", "-", "1", "0"), ()])
def test_an_answer_that_does_not_fit(rest: tuple[str, ...]) -> None:
    with pytest.raises(ConnectionLost):
        windows.finished(Frame("result", rest), Offsets())


def test_bytes_that_were_changed_on_the_way_are_noticed(rig: Rig, host: WindowsHost) -> None:
    host.mangle = lambda data: data.replace(b"\n", b"\r\n")
    handle = rig.start(rig.say("say a"))
    with pytest.raises(ConnectionLost, match=r"cmd\.exe"):
        rig.follow(handle)


def test_what_a_start_tells(rig: Rig) -> None:
    started = rig.executor.start(rig.endpoint, rig.say("say a"))
    assert (started.base, started.hostname, started.machine_id) == (BASE, "WIN-1", "guid")


def test_the_system_is_named(rig: Rig) -> None:
    assert rig.executor.probe(rig.endpoint) == "Windows Server 2022 Datacenter"


@pytest.mark.parametrize("word", sorted(windows.REFUSALS))
def test_refusals(rig: Rig, host: WindowsHost, word: str) -> None:
    host.refuse = word
    spec = rig.say("say never")
    with pytest.raises(StartRefused) as caught:
        rig.executor.start(rig.endpoint, spec)
    assert (caught.value.code, caught.value.message) == windows.REFUSALS[word]
    assert host.fake.started == []


def test_a_state_directory_that_can_not_be_used(rig: Rig, host: WindowsHost) -> None:
    host.refuse = "ProgramDataUnusable"
    with pytest.raises(ConnectFailed, match="ProgramData") as caught:
        rig.executor.cancel(rig.endpoint, Handle(new_id(), ""))
    assert caught.value.code == ErrorCode.STATE_DIRECTORY_UNUSABLE


# --- what is in the way --------------------------------------------------------------------------


def test_no_powershell(rig: Rig, host: WindowsHost) -> None:
    host.says = "'powershell.exe' is not recognized as an internal or external command"
    with pytest.raises(ConnectFailed, match=r"PowerShell did not start.*not recognized") as caught:
        rig.start(rig.say(""))
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("hangs", [False, True])
def test_standard_input_that_does_not_arrive(
    rig: Rig, host: WindowsHost, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "ANSWER", 5.0 if hangs else 60.0)
    host.says, host.hangs = windows.DEAF, hangs
    with pytest.raises(ConnectFailed, match=r"Make cmd\.exe the default shell"):
        rig.start(rig.say(""))


def test_a_shell_that_changes_what_arrives(rig: Rig, host: WindowsHost) -> None:
    executor = rig.executor
    assert isinstance(executor, SshExecutor)
    session = executor.pool.open(rig.endpoint, Call())
    session.channel.exec_command(windows.command())
    session.channel.sendall(b"\xef\xbb\xbf" + windows.system_program(NONCE))
    assert session.exit_code(60) == 113
    assert host.programs == []
    session.close()


@pytest.mark.parametrize("name", ["alice", "root"])
def test_another_user_is_refused(rig: Rig, host: WindowsHost, name: str) -> None:
    with pytest.raises(StartRefused, match="signs in as") as caught:
        rig.executor.start(rig.endpoint, rig.say("say never", run_as=name))
    assert caught.value.code == ErrorCode.RUN_AS_REFUSED
    handle = Handle(new_id(), "", name)
    for act in (rig.follow, lambda it: rig.executor.cancel(rig.endpoint, it)):
        with pytest.raises(ConnectFailed):
            act(handle)
    with pytest.raises(ValueError, match="signs in as"):
        windows.command_as(USER, name)
    assert host.commands == []


def test_a_run_cancelled_before_it_was_started(rig: Rig, host: WindowsHost) -> None:
    spec = rig.say("say never")
    assert rig.executor.cancel(rig.endpoint, Handle(spec.run_id, "")) == Cancelled(0)
    assert not rig.executor.start(rig.endpoint, spec).fresh
    assert host.fake.started == []


def test_the_server_takes_no_other_key(host: WindowsHost) -> None:
    """The host of these tests is a real server: a wrong key must not get in."""
    transport = paramiko.Transport(("127.0.0.1", host.endpoint.port))
    transport.start_client(timeout=60)
    with pytest.raises(paramiko.AuthenticationException):
        transport.auth_publickey(USER, paramiko.RSAKey.generate(2048))
    transport.close()
