"""The self-test for Windows: whether what the console needs works on one real instance.

No test of the console can run PowerShell, so an admin lets an instance do it, once for each
kind of instance (version of Windows and of OpenSSH). It goes through the same executor as runs
do, and touches no row.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from commands.errors import ConnectionLost, ExecutionError, Invalid, RunLost, StartRefused
from commands.execution.executor import (
    Ending,
    Endpoint,
    Executor,
    Finished,
    Gap,
    Handle,
    Language,
    Offsets,
    Output,
    RunSpec,
)
from commands.execution.ssh import SshExecutor
from commands.models import Instance
from commands.rules.content import OsType
from commands.rules.status import ErrorCode
from commands.services import runs

LIMIT_S = 90.0
"""Seconds that one script may take here, with everything around it."""
TIMEOUT_S = 5
"""Seconds after which the script that hangs is ended."""
MISSING = "C:\\No\\Such\\Directory"

SCRIPTS: dict[str, str] = {
    "nothing": "exit 0\n",
    "seven": "exit 7\n",
    "seven.bat": "@echo off\nexit /b 7\n",
    "crash": "exit -1073741819\n",
    "throw": "throw 'this is meant to fail'\n",
    "apart": "[Console]::Out.WriteLine('out')\n[Console]::Error.WriteLine('err')\n",
    "lines.bat": "@echo off\necho one\necho two\n",
    "letters": (
        "$codes = '\u00e9\u4e2d'.ToCharArray() | ForEach-Object { [int]$_ }\n"
        "[Console]::Out.WriteLine($codes -join ',')\n"
    ),
    "tree": (
        "$child = Start-Process powershell.exe '-NoProfile -Command Start-Sleep 600' -PassThru "
        "-WindowStyle Hidden\n"
        "[Console]::Out.WriteLine($child.Id)\n"
        "Start-Sleep 600\n"
    ),
    "alive": "if (Get-Process -Id NUMBER -ErrorAction SilentlyContinue) { exit 1 }\nexit 0\n",
    "sleep": "[Console]::Out.WriteLine('begun')\nStart-Sleep 600\n",
    "slow": (
        "[Console]::Out.WriteLine('one')\nStart-Sleep 4\n[Console]::Out.WriteLine('two')\nexit 3\n"
    ),
}
"""What is run there. Names that end in .bat are Bat, the others PowerShell."""


@dataclass(frozen=True, slots=True)
class Result:
    """One check: what it is called, whether it passed, and if not, what was found and to do."""

    name: str
    passed: bool
    found: str = ""
    advice: str = ""


class _Wrong(Exception):
    """The instance does something else than it should."""


@dataclass(slots=True)
class _Heard:
    """What a script printed; ``first`` is called with the first bytes."""

    first: Callable[[], None] | None = None
    data: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b""})

    def __call__(self, output: Output | Gap) -> None:
        if isinstance(output, Output):
            self.data[output.stream] += output.data
        first, self.first = self.first, None
        if first is not None:
            first()

    @property
    def reached(self) -> Offsets:
        return Offsets(len(self.data["stdout"]), len(self.data["stderr"]))

    def lines(self, stream: str = "stdout") -> list[str]:
        return self.data[stream].decode("ascii", "replace").split()


class _Bench:
    """One instance, and an executor that can be replaced by a fresh one."""

    def __init__(self, endpoint: Endpoint, make: Callable[[], Executor]) -> None:
        self.endpoint = endpoint
        self._make = make
        self.executor = make()

    def reconnect(self) -> None:
        """Go on as another process of the console would, with nothing but ids."""
        self.executor.close()
        self.executor = self._make()

    def spec(self, name: str, *, number: int = 0, workdir: str = "") -> RunSpec:
        language: Language = "bat" if name.endswith(".bat") else "powershell"
        return RunSpec(
            run_id=f"selftest.{secrets.token_hex(8)}",
            script=SCRIPTS[name].replace("NUMBER", str(number)).encode(),
            workdir=workdir,
            timeout=TIMEOUT_S if name == "tree" else 60,
            language=language,
        )

    def start(self, spec: RunSpec) -> Handle:
        return Handle(spec.run_id, self.executor.start(self.endpoint, spec).base)

    def follow(self, handle: Handle, heard: _Heard) -> Finished:
        return self.executor.follow(self.endpoint, handle, heard.reached, heard, limit=LIMIT_S)

    def run(self, name: str, number: int = 0) -> tuple[Finished, _Heard]:
        handle, heard = self.start(self.spec(name, number=number)), _Heard()
        finished = self.follow(handle, heard)
        self.executor.acknowledge(self.endpoint, handle)
        return finished, heard


def windows(instance: Instance, make: Callable[[], Executor] = SshExecutor) -> Iterator[Result]:
    """Check one instance, one result after the other; after one that all need, it ends.

    Raises Invalid where it is no Windows instance, ImproperlyConfigured where its credential
    can't be decrypted.
    """
    if instance.os_type != OsType.WINDOWS:
        raise Invalid(f"{instance.name} is not a Windows instance.", field="instance")
    bench = _Bench(runs.endpoint(instance), make)
    try:
        for name, check, advice, needed in _CHECKS:
            result = _result(bench, name, check, advice)
            yield result
            if needed and not result.passed:
                return
    finally:
        bench.executor.close()


def _result(bench: _Bench, name: str, check: Callable[[_Bench], None], advice: str) -> Result:
    try:
        check(bench)
    except _Wrong as wrong:
        return Result(name, False, str(wrong), advice)
    except ExecutionError as error:
        return Result(name, False, error.message, advice)
    return Result(name, True)


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise _Wrong(f"{what} is {found!r}, not {wanted!r}.")


def _exec_channel(bench: _Bench) -> None:
    bench.executor.probe(bench.endpoint)


def _bootstrap(bench: _Bench) -> None:
    finished, _ = bench.run("nothing")
    _expect("The exit code of an empty script", finished.exit_code, 0)


def _claim(bench: _Bench) -> None:
    spec = bench.spec("nothing")
    answers = [bench.executor.start(bench.endpoint, spec) for _ in range(2)]
    _expect("Fresh, at two starts of one run,", [each.fresh for each in answers], [True, False])
    handle = Handle(spec.run_id, answers[0].base)
    bench.follow(handle, _Heard())
    bench.executor.acknowledge(bench.endpoint, handle)
    again = bench.executor.start(bench.endpoint, spec).fresh
    _expect("Fresh, at a start of a run that was forgotten,", again, False)


def _codes(bench: _Bench) -> None:
    for name, wanted in (("seven", 7), ("seven.bat", 7), ("throw", 1)):
        _expect(f"The exit code of {name}", bench.run(name)[0].exit_code, wanted)


def _crash(bench: _Bench) -> None:
    _expect("The exit code", bench.run("crash")[0].exit_code, 0xC0000005)


def _apart(bench: _Bench) -> None:
    _, heard = bench.run("apart")
    _expect("stdout", heard.lines(), ["out"])
    _expect("stderr", heard.lines("stderr"), ["err"])


def _encoding(bench: _Bench) -> None:
    _expect("What a script sees of its own letters", bench.run("letters")[1].lines(), ["233,20013"])
    _expect("What a Bat script printed", bench.run("lines.bat")[1].lines(), ["one", "two"])


def _directory(bench: _Bench) -> None:
    try:
        bench.start(bench.spec("nothing", workdir=MISSING))
    except StartRefused as error:
        _expect("The code", error.code, ErrorCode.DIRECTORY_NOT_EXISTS.value)
    else:
        raise _Wrong(f"A run was started in {MISSING}.")


def _timeout(bench: _Bench) -> None:
    finished, heard = bench.run("tree")
    _expect("What ended the script", finished.ending, Ending.TIMEOUT)
    _expect("The number of processes left", finished.left, 0)
    if not heard.lines() or not heard.lines()[0].isdecimal():
        raise _Wrong("The script did not say which child it started.")
    alive, _ = bench.run("alive", int(heard.lines()[0]))
    _expect("Whether its child still runs (1) or not (0)", alive.exit_code, 0)


def _cancel(bench: _Bench) -> None:
    handle = bench.start(bench.spec("sleep"))
    answers: list[int | str | None] = []

    def cancel() -> None:
        try:
            answers.append(bench.executor.cancel(bench.endpoint, handle).left)
        except ExecutionError as error:
            answers.append(error.message)

    thread = threading.Thread(target=cancel, daemon=True)
    finished = bench.follow(handle, _Heard(first=thread.start))
    if thread.ident is None:
        raise _Wrong("The script ended before it had printed anything.")
    thread.join(LIMIT_S)
    bench.executor.acknowledge(bench.endpoint, handle)
    _expect("What ended the script", finished.ending, Ending.CANCEL)
    _expect("The number of processes left", (finished.left, answers), (0, [0]))


def _reconnect(bench: _Bench) -> None:
    spec = bench.spec("slow")
    handle, executor = bench.start(spec), bench.executor
    heard = _Heard(first=lambda: executor.abandon(spec.run_id))
    try:
        bench.follow(handle, heard)
    except ConnectionLost:
        bench.reconnect()
    finished = bench.follow(handle, heard)
    bench.executor.acknowledge(bench.endpoint, handle)
    _expect("The output in two parts", heard.lines(), ["one", "two"])
    _expect("The exit code", finished.exit_code, 3)


def _forget(bench: _Bench) -> None:
    handle = bench.start(bench.spec("nothing"))
    bench.follow(handle, _Heard())
    bench.executor.acknowledge(bench.endpoint, handle)
    try:
        bench.follow(handle, _Heard())
    except RunLost:
        return
    raise _Wrong("The run is still there after it was acknowledged.")


_CHECKS: tuple[tuple[str, Callable[[_Bench], None], str, bool], ...] = (
    (
        "The instance answers and lets the console sign in",
        _exec_channel,
        "Check address, port, user and credential, and that the sshd service runs.",
        True,
    ),
    (
        "PowerShell takes a program and runs a script detached",
        _bootstrap,
        (
            "Check that cmd.exe is OpenSSH's default shell, that PowerShell is not in constrained "
            "language mode, and what a security product has stopped."
        ),
        True,
    ),
    (
        "One run is started once, also after it was forgotten",
        _claim,
        "Do not enable Windows: a script could run twice.",
        False,
    ),
    (
        "Exit codes arrive, of PowerShell and Bat",
        _codes,
        (
            "Look whether a policy keeps PowerShell from running script files "
            "(Get-ExecutionPolicy -List)."
        ),
        False,
    ),
    ("Exit codes have 32 bits", _crash, "Codes of crashes can't be trusted there.", False),
    (
        "stdout and stderr arrive apart",
        _apart,
        "Check that cmd.exe is OpenSSH's default shell.",
        False,
    ),
    (
        "Scripts are read in their own encoding",
        _encoding,
        "Write scripts in ASCII there, and report the code page (chcp).",
        False,
    ),
    (
        "A missing execution path is refused",
        _directory,
        "Report it; runs may start in another directory than they name.",
        False,
    ),
    (
        "A timeout ends the script and what it started",
        _timeout,
        "Do not enable Windows: processes would be left behind.",
        False,
    ),
    (
        "Cancelling ends the script",
        _cancel,
        "Do not enable Windows: scripts could not be stopped.",
        False,
    ),
    (
        "A script outlives its connection and is followed again by offset",
        _reconnect,
        "OpenSSH ends what its session started. Update it, or sign in as an administrator.",
        False,
    ),
    (
        "An acknowledged run is forgotten",
        _forget,
        "Look for directories that stay in %ProgramData%\\CommandConsole.<SID>.",
        False,
    ),
)
