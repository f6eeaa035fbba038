"""Builds what runs on a Windows instance and reads what it answers. No I/O here.

The counterpart of ``remote`` for OpenSSH for Windows: the same frames, other programs. One
command line holds ``bootstrap.ps1``, encoded, so that it means the same in cmd.exe and in
PowerShell. It is the same for every run. The rest comes on standard input, its length first::

    CC1 SP nonce SP length LF program

``program`` is ``windows.ps1`` (functions only) and one more function with the parameters and
the script, each in Base64: nothing of them can be read as code, and nothing stands in an
argument list or an environment. The bootstrap calls it once it has read every byte.

Differences in the answers: ``result`` also holds how many bytes of each stream were sent, since
shells of Windows have been seen to change bytes; codes of exit are unsigned numbers of 32 bits;
``left`` is counted by Windows in the job of the script.

Nothing of it was ever run on Windows: see docs/windows.md.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from commands.errors import ConnectFailed, ConnectionLost, RunLost
from commands.execution import remote
from commands.execution.executor import (
    ACCOUNT_NAME,
    Ending,
    Finished,
    Handle,
    Offsets,
    RunSpec,
)
from commands.execution.remote import Frame
from commands.rules.status import ErrorCode

COMMAND_LINE = 8191
"""The longest command line that cmd.exe takes."""
DEAF = "command-console: no program on standard input"
"""What the bootstrap says where standard input holds something else, or nothing."""

NO_RUN_AS = (
    "On Windows, commands run as the user that the console signs in as. Leave the user empty, or "
    "add the instance once more with another user to sign in as."
)
REFUSALS = {
    "NoInterpreter": (
        ErrorCode.INTERPRETER_NOT_FOUND,
        "The program that runs the script (cmd.exe or powershell.exe) is not there.",
    ),
    "CodePage": (
        ErrorCode.EXECUTION_EXCEPTION,
        (
            "The script has characters that the instance's OEM code page has not, so cmd.exe "
            "would read others. Use the ones it has, or PowerShell."
        ),
    ),
    "ProgramDataUnusable": (
        ErrorCode.STATE_DIRECTORY_UNUSABLE,
        (
            "The directory CommandConsole.<SID of the user> in %ProgramData% can't be used "
            "there, or is open to others. Check its owner, its permissions and free space, or "
            "remove it."
        ),
    ),
    "AddTypeFailed": (
        ErrorCode.EXECUTION_EXCEPTION,
        (
            "PowerShell there may not compile what ends a script's processes (Add-Type). Is it "
            "in constrained language mode, or stopped by a security product?"
        ),
    ),
    "NotDetached": (
        ErrorCode.EXECUTION_EXCEPTION,
        (
            "The script can't be detached from the SSH session there: OpenSSH for Windows lets "
            "no process leave its job, and WMI starts none. Update OpenSSH, or sign in as an "
            "administrator."
        ),
    ),
    "NoSupervisor": (
        ErrorCode.EXECUTION_EXCEPTION,
        (
            "What watches over the script ended there before the script began. Is it stopped by "
            "a security product?"
        ),
    ),
}
"""What a Windows instance refuses, beside what every instance does."""

_BASE = re.compile(r"[A-Za-z]:\\[A-Za-z0-9 ._\\-]{1,200}", re.ASCII)
_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}", re.ASCII)
_LONGEST_PROGRAM = 99_999_999
_LARGEST_CODE = 0xFFFF_FFFF
_OPTIONS = "-NoProfile -NonInteractive -InputFormat None -OutputFormat Text -ExecutionPolicy Bypass"


def command_as(user: str, run_as: str) -> str:
    """What to execute, signed in as ``user``, for ``run_as`` ("": the same).

    ValueError: it is another user, or none.
    """
    if run_as and (run_as != user or not ACCOUNT_NAME.fullmatch(run_as)):
        raise ValueError(NO_RUN_AS)
    return command()


@cache
def command() -> str:
    """The command line: letters, digits and ``+ / = -`` only, shorter than ``COMMAND_LINE``."""
    encoded = base64.b64encode(_source("bootstrap.ps1").encode("utf-16-le")).decode()
    return f"powershell.exe {_OPTIONS} -EncodedCommand {encoded}"


def start_program(nonce: str, spec: RunSpec) -> bytes:
    """What starts ``spec`` once, then takes requests. ValueError: it can't run on Windows."""
    if spec.language not in ("bat", "powershell"):
        raise ValueError("only Bat and PowerShell run on Windows")
    if spec.launcher is not None:
        raise ValueError("launchers are not supported on Windows; leave the launcher empty")
    texts = {
        "Workdir": spec.workdir,
        "Language": spec.language,
        "Script": _script(spec),
    }
    numbers = {"Timeout": str(int(spec.timeout)), "Single": _truth(not spec.whole_tree)}
    return _program(nonce, "start", spec.run_id, "", texts, numbers)


def start_request(nonce: str, spec: RunSpec) -> bytes | None:
    """None, always: the program there serves one run."""
    del nonce, spec
    return None


def converse_program(nonce: str, handle: Handle) -> bytes:
    """What takes requests about a run that was started before."""
    return _program(nonce, "converse", handle.run_id, handle.base)


def cancel_program(nonce: str, handle: Handle) -> bytes:
    """What ends a run, or keeps it from ever starting."""
    return _program(nonce, "cancel", handle.run_id, handle.base)


def system_program(nonce: str) -> bytes:
    """What says what the instance's system is called."""
    return _program(nonce, "system", "none", "")


def is_base(text: str) -> bool:
    """Whether ``text`` is the directory of a user's runs on a Windows instance."""
    return _BASE.fullmatch(text) is not None


def finished(frame: Frame, reached: Offsets) -> Finished:
    """How a following ended, where output was handed over up to ``reached``.

    Raises RunLost; ConnectionLost where other bytes arrived than were sent.
    """
    if frame.word == "gone":
        raise RunLost(
            "The directory of the run is gone from the instance, and with it how the run ended. "
            "Look there for its effects before running it again."
        )
    if len(frame.rest) != 5:
        raise ConnectionLost("The instance answered in an unknown way.")
    ending, code_word, left, *sizes = frame.rest
    if [remote.count_of(size) for size in sizes] != [reached.stdout, reached.stderr]:
        raise ConnectionLost(
            "Not all bytes of the output arrived as they were sent. Is a shell other than "
            "cmd.exe the default of OpenSSH there?"
        )
    if ending not in set(Ending):
        raise _lost(ending, code_word)
    code = remote.count_of(code_word) if ending == Ending.EXIT else None
    if ending == Ending.EXIT and (code is None or code > _LARGEST_CODE):
        raise RunLost("The result of the run is damaged on the instance; exit code unknown.")
    return Finished(Ending(ending), code, reached.stdout, reached.stderr, remote.count_of(left))


def no_shell(said: str) -> ConnectFailed:
    """Why the bootstrap did not begin, where the instance ``said`` that."""
    if DEAF in said:
        text = (
            "Standard input does not reach PowerShell there, so nothing ran. Make cmd.exe the "
            "default shell of OpenSSH: remove DefaultShell from HKLM\\SOFTWARE\\OpenSSH."
        )
    else:
        text = (
            "Windows PowerShell did not start the console's program there. Is it a Windows "
            "instance, and is powershell.exe (5.1) in its PATH?"
        ) + (f" It said: {said}" if said else "")
    return ConnectFailed(text, code=ErrorCode.PROTOCOL_ERROR)


def _lost(ending: str, code: str) -> RunLost:
    if ending == "unstarted":
        text = (
            f"Windows did not start the script (error {remote.count_of(code) or 0}). Nothing of "
            "it ran. May the user enter the execution path?"
        )
        return RunLost(text, code=ErrorCode.EXECUTION_EXCEPTION)
    if ending == "rebooted":
        text = "The instance was restarted during the run; how far the script came is unknown."
        return RunLost(text)
    return RunLost(
        "What watched over the script was ended on the instance, and Windows ended the script "
        "with it; exit code unknown."
    )


def _script(spec: RunSpec) -> str:
    """The script as text: PowerShell's as it is, Bat's with lines that end in CRLF."""
    try:
        text = spec.script.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        raise ValueError("the script is not UTF-8") from None
    return re.sub(r"\r?\n", "\r\n", text) if spec.language == "bat" else text


def _name(run_id: str) -> str:
    """The name of a run's directory. Windows takes A for a, and has reserved names."""
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"not a run id: {run_id!r}")
    return f"r-{run_id.lower()}-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}"


def _truth(value: bool) -> str:
    return "$true" if value else "$false"


def _program(
    nonce: str,
    operation: str,
    run_id: str,
    base: str,
    texts: Mapping[str, str] | None = None,
    numbers: Mapping[str, str] | None = None,
) -> bytes:
    if base and not is_base(base):
        raise ValueError(f"not a directory of runs: {base!r}")
    all_texts = {
        "Operation": operation,
        "Id": run_id,
        "Name": _name(run_id),
        "Base": base,
        **(texts or {}),
    }
    if any("\0" in value for value in all_texts.values()):
        raise ValueError("a parameter holds a NUL byte")
    lines = [f"$global:cc{key}=CcDecode '{_encoded(value)}'" for key, value in all_texts.items()]
    lines += [f"$global:cc{key}={value}" for key, value in (numbers or {}).items()]
    inner = "\n".join(lines)
    program = f"{_source('windows.ps1')}function CcParameters {{\n{inner}\n}}\n".encode("ascii")
    if len(program) > _LONGEST_PROGRAM:
        raise ValueError("the script is too long")
    return b"CC1 %s %08d\n%s" % (nonce.encode(), len(program), program)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@cache
def _source(name: str) -> str:
    """A program without comments and indentation: fewer bytes to send each time."""
    source = Path(__file__).with_name(name).read_text(encoding="ascii")
    lines = (line.strip() for line in source.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith(("#", "//")))
