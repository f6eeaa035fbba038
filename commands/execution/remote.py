"""Builds the programs that run on an instance and reads what they answer. No I/O here.

A program is ``runner.sh`` (functions only), the parameters and the script as two more
functions, and one call as its last line; it travels on the standard input of ``/bin/sh -s``,
so that nothing of it stands in an argument list or an environment, and a program that was
cut off does nothing. For another user than the one that signs in, that shell stands behind
``door.sh``; a probe sends the much smaller ``system.sh`` instead, an examination ``probe.sh``,
and a look at what a run waits for ``stall.sh``. Both output streams of the
channel carry *frames* between other bytes::

    RS nonce SP word (SP word)* LF

``nonce`` is random for each channel. Bytes before the first ``flow`` and after an ``end`` are
noise (greetings, what a ``.bashrc`` prints) and are dropped; bytes between the two are output
of the script, exactly. The streams of the channel are the streams of the script.

    ============  ==================================================  =====================
    request       answer on stdout                                    on stderr
    ============  ==================================================  =====================
    (any)         hello
    start         started FRESH BOOT MACHINE HOST BASE | refused CODE WHAT
    follow        flow … end, then result ENDING EXIT LEFT LOST NAMES flow … end
                  | gone | broken (some bytes are missing: ask again)
                  | again (they were dropped just now: ask again)
    acknowledge   acknowledged | refused CODE
    cancel        cancelled LEFT | refused CODE
    (a probe)     system NAME
    (examine)     problem CODE WHAT, for each; examined KILOBYTES BASE
    (a look)      stall PID NAME (a process that waits for input) | stall -
    ============  ==================================================  =====================

``beat`` may come at any time and means nothing; ``gap FROM TO`` between ``flow`` and ``end``
says that these bytes of the stream were dropped to bound what is kept there. After ``start``
(or ``converse``, which does nothing itself) the same channel takes ``follow STDOUT STDERR HOW``
and ``acknowledge HOW`` as lines on its standard input; and ``start LINES``, followed by so many
lines with parameters and script: the next run of the same user costs no shell and no program.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from commands.execution.executor import ACCOUNT_NAME, Handle, Needs, Offsets, RunSpec
from commands.rules import limits
from commands.rules.launcher import Launcher

COMMAND = "exec /bin/sh -s"
"""What is executed on the instance: no quotes, so it means the same in every login shell."""

NO_ACCOUNT, NOT_LET_THROUGH, NO_SUDO = 113, 114, 115
"""Exit codes of ``door.sh`` where the program behind it was never reached."""

_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")
_EXTENSION = re.compile(rf"(\.[A-Za-z0-9_.-]{{1,{limits.LAUNCHER_EXTENSION_CHARS}}})?")
_COUNT = re.compile(r"[0-9]{1,18}")
_CHUNK = 3500
_LONGEST_REQUEST = 8192
_RS = b"\x1e"
# bash reads a program from a pipe byte by byte. Only functions may come to it this way: bash 5.2
# crashes where such a text handles its own standard input.
_IN_ONE_READ = b'[ -z "$BASH_VERSION" ] || eval "$(head -c %d)"\n'
_LONGEST_FRAME = 8192
_LITERAL = frozenset(range(0x20, 0x7F)) - frozenset(b"%\\'")
_ESCAPES = [chr(byte) if byte in _LITERAL else f"\\{byte:03o}" for byte in range(256)]


def command_as(user: str, run_as: str) -> str:
    """What to execute, signed in as ``user``, for the shell of ``run_as`` ("": the same).

    ValueError: ``run_as`` is no name of a user.
    """
    if not run_as:
        return COMMAND
    if not ACCOUNT_NAME.fullmatch(run_as):
        raise ValueError(f"not the name of a user: {run_as!r}")
    # Quoted always: a dollar sign may end a name. Single quotes are the same in every shell.
    return COMMAND if run_as == user else f"exec /bin/sh -c '{_door()}' sh '{run_as}'"


def new_nonce() -> str:
    """A nonce for one channel: 32 hexadecimal digits that no script can guess."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What executes a script: a path, and at most one argument.

    ``program`` is what ``env`` will look for, where the path is that of ``env``.
    """

    path: str
    argument: str = ""
    program: str = ""


def interpreter_of(script: bytes) -> Interpreter:
    """The interpreter that the kernel would choose; ``/bin/sh`` where there is no ``#!``.

    Everything after the path is one argument. A carriage return at the line's end is dropped:
    browsers and Windows editors put it there, and it never belongs to a path.
    """
    if not script.startswith(b"#!"):
        return Interpreter("/bin/sh")
    line = script[2:].split(b"\n", 1)[0].split(b"\0", 1)[0].strip(b" \t\r")
    if not line:
        return Interpreter("/bin/sh")
    path, *rest = re.split(rb"[ \t]+", line, maxsplit=1)
    if b"/" not in path:
        path = b"./" + path
    name, argument = _text(path), _text(rest[0]) if rest else ""
    plain = name.endswith("/env") and argument and not re.search(r"[\s=]|^-", argument)
    return Interpreter(name, argument, argument if plain else "")


def octal(data: bytes) -> Iterator[str]:
    """``data`` as ``printf`` commands of pure ASCII, joined they print exactly ``data``."""
    for start in range(0, max(len(data), 1), _CHUNK):
        text = "".join(_ESCAPES[byte] for byte in data[start : start + _CHUNK])
        if text.startswith("-"):
            text = "\\055" + text[1:]
        yield f"printf '{text}'"


def needs_of(
    script: bytes, launcher: Launcher | None, *, workdir: str = "", run_as: str = ""
) -> Needs:
    """What a run of ``script`` needs on an instance. ValueError: no launcher that could start."""
    found = interpreter_of(script)
    return Needs(
        workdir=workdir,
        run_as=run_as,
        interpreter=found.path,
        program=found.program,
        launcher="" if launcher is None else program_of(launcher),
    )


def start_program(nonce: str, spec: RunSpec) -> bytes:
    """The program that starts ``spec`` once, then takes requests. ValueError: a bad id."""
    return _program("start", nonce, _start(nonce, spec))


def start_request(nonce: str, spec: RunSpec) -> bytes | None:
    """The request for the same on a channel that has served another run; None: not worth it.

    The shell there takes a request byte by byte, and a new program in blocks. ValueError: a bad id.
    """
    text = _start(nonce, spec).encode("utf-8", "surrogateescape")
    if len(text) > _LONGEST_REQUEST:
        return None
    return b"start %d\n%b" % (text.count(b"\n"), text)


def _start(nonce: str, spec: RunSpec) -> str:
    """The functions that say what to start."""
    interpreter = interpreter_of(spec.script)
    parameters = _common(spec.run_id, "") | {
        "workdir": _path(spec.workdir),
        "interpreter": interpreter.path,
        "argument": interpreter.argument,
        "program": interpreter.program,
        "launcher": "",
        # Not the nonce: the script sees its own name.
        "file": f"s.{secrets.token_hex(8)}",
        "single": "" if spec.whole_tree else "1",
        "timeout": str(int(spec.timeout)),
        "grace": str(int(spec.grace)),
        "spool": str(int(spec.spool)),
        "asked": str(int(spec.asked_s)),
    }
    launch = ""
    if spec.launcher is not None:
        parameters["launcher"] = program_of(spec.launcher)
        parameters["file"] += spec.launcher.extension
        launch = _launch(spec.launcher, nonce)
    text = " &&\n".join(octal(spec.script))
    return f"{_assign(parameters)}{launch}cc_text() {{\n{text}\n}}\n"


def _path(workdir: str) -> str:
    """A directory as ``cd`` takes it: never an option, and never the one before ("-")."""
    return f"./{workdir}" if workdir and not workdir.startswith("/") else workdir


def program_of(launcher: Launcher) -> str:
    """What a launcher starts: a path or a name. ValueError: nothing that could be started."""
    if not _EXTENSION.fullmatch(launcher.extension):
        raise ValueError(f"not an extension: {launcher.extension!r}")
    # The one place where the two differ is where the script's path stands.
    here, there = launcher.argv("/a"), launcher.argv("/b")
    if not here[0] or here[0] != there[0]:
        raise ValueError("the launcher does not begin with a program")
    if any("\0" in word for word in here):
        raise ValueError("the launcher holds a NUL byte")
    return here[0]


def _launch(launcher: Launcher, nonce: str) -> str:
    """The function that becomes the launcher. The nonce, which is in no word, marks the path."""
    words = (
        '"$cc_own"'.join(shlex.quote(part) if part else "" for part in word.split(nonce)) or "''"
        for word in launcher.argv(nonce)
    )
    return f"cc_launch() {{\nexec setsid -- {' '.join(words)}\n}}\n"


def system_program(nonce: str) -> bytes:
    """The program that says what the instance's system is called: ``system NAME``."""
    return f"{_source('system.sh')}cc_nonce={nonce}\ncc_system\n".encode()


def probe_program(nonce: str, needs: Needs) -> bytes:
    """The program that looks whether a run could start. ValueError: what no shell can hold."""
    parameters = {
        "nonce": nonce,
        # Not the nonce: it is the name of a directory, which others may list.
        "mark": secrets.token_hex(8),
        "workdir": _path(needs.workdir),
        "interpreter": needs.interpreter,
        "program": needs.program,
        "launcher": needs.launcher,
    }
    program = f"{_source('probe.sh')}cc_parameters() {{\n{_assigned(parameters)}\n}}\ncc_probe\n"
    return program.encode("utf-8", "surrogateescape")


def system_name(words: tuple[str, ...]) -> str:
    """The name in an answer of that program, fit to be stored: at most 80 characters."""
    text = " ".join(words)
    with contextlib.suppress(ValueError):
        # In os-release it is quoted as for a shell.
        text = " ".join(shlex.split(text))
    return clean(text, 80)


def stall_program(nonce: str, handle: Handle) -> bytes:
    """The program that says whether a process of a run reads a terminal: ``stall PID NAME``."""
    if not _RUN_ID.fullmatch(handle.run_id):
        raise ValueError(f"not a run id: {handle.run_id!r}")
    source = _source("stall.sh")
    return f"{source}cc_nonce={nonce}\ncc_id={handle.run_id}\ncc_stall\n".encode()


def stall_of(words: tuple[str, ...]) -> str:
    """The process in an answer of that program, as ``read (4711)``; "" if none waits."""
    if not words or count_of(words[0]) is None:
        return ""
    name = clean(" ".join(words[1:]), 60) or "?"
    return f"{name} ({words[0]})"


def converse_program(nonce: str, handle: Handle) -> bytes:
    """The program that takes requests about a run that was started before."""
    return _program("converse", nonce, _assign(_common(handle.run_id, handle.base)))


def cancel_program(nonce: str, handle: Handle) -> bytes:
    """The program that ends a run, or keeps it from ever starting."""
    return _program("cancel", nonce, _assign(_common(handle.run_id, handle.base)))


def follow_request(offsets: Offsets, *, poll: bool = False) -> bytes:
    """The request for all bytes from ``offsets`` on; ``poll`` where tail cannot wait."""
    how = "poll" if poll else "tail"
    return f"follow {int(offsets.stdout)} {int(offsets.stderr)} {how}\n".encode()


def acknowledge_request(*, sweep: bool = False) -> bytes:
    """The request to forget the run; ``sweep`` also drops what is 60 days old.

    That are tombstones, and runs that are over and were never acknowledged. A list of what was
    started (``@since``) that is longer than 128 KiB is begun anew then.
    """
    return f"acknowledge {'sweep' if sweep else 'only'}\n".encode()


def _common(run_id: str, base: str) -> dict[str, str]:
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"not a run id: {run_id!r}")
    # The grace is the watchdog's; this one serves whoever must end a run in its place.
    return {"id": run_id, "base": base, "grace": "3"}


def _assign(parameters: Mapping[str, str]) -> str:
    """The function that sets the parameters."""
    return f"cc_parameters() {{\n{_assigned(parameters)}\n}}\n"


def _program(operation: str, nonce: str, functions: str) -> bytes:
    text = (_source("runner.sh") + functions).encode("utf-8", "surrogateescape")
    call = f"cc_nonce={nonce}\ncc_main {operation}\n".encode()
    return _IN_ONE_READ % len(text) + text + call


def _assigned(parameters: Mapping[str, str]) -> str:
    for value in parameters.values():
        if "\0" in value:
            raise ValueError("a parameter holds a NUL byte")
    return "\n".join(f"cc_{key}={shlex.quote(value)}" for key, value in parameters.items())


@cache
def _source(name: str) -> str:
    """A program without comments and indentation: half the bytes to send each time."""
    source = Path(__file__).with_name(name).read_text(encoding="ascii")
    lines = (line.strip() for line in source.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))


@cache
def _door() -> str:
    """``door.sh`` as one line: not every shell takes a quoted word of several."""
    return " ".join(_source("door.sh").split("\n")).strip()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its first word, and the others."""

    word: str
    rest: tuple[str, ...] = ()


@dataclass(slots=True)
class Reader:
    """Takes one stream of a channel apart. Feed it bytes in any pieces.

    ``noise`` keeps the beginning of what is neither frame nor output, for error messages.
    """

    nonce: str
    noise: bytearray = field(default_factory=bytearray)
    _buffer: bytes = b""
    _flowing: bool = False

    def feed(self, data: bytes) -> list[Frame | bytes]:
        """The frames and the pieces of output that ``data`` completes, in order."""
        found: list[Frame | bytes] = []
        mark = _RS + self.nonce.encode() + b" "
        self._buffer += data
        while self._buffer:
            at = self._buffer.find(mark)
            if at < 0:
                at = len(self._buffer) - _overlap(self._buffer, mark)
                self._pass_on(at, found)
                break
            self._pass_on(at, found)
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > _LONGEST_FRAME:
                    raise ValueError("a frame without end")
                break
            words = self._buffer[len(mark) : end].decode("utf-8", "surrogateescape").split(" ")
            self._buffer = self._buffer[end + 1 :]
            self._take(Frame(words[0], tuple(words[1:])), found)
        return found

    def _pass_on(self, count: int, found: list[Frame | bytes]) -> None:
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        if self._flowing:
            if data:
                found.append(data)
        elif len(self.noise) < 2000:
            self.noise += data

    def _take(self, frame: Frame, found: list[Frame | bytes]) -> None:
        if frame.word == "beat":
            return
        if frame.word != "gap":
            self._flowing = frame.word == "flow"
        found.append(frame)


def _overlap(data: bytes, mark: bytes) -> int:
    """How many bytes at the end of ``data`` may be the beginning of ``mark``."""
    at = data.find(_RS, max(0, len(data) - len(mark) + 1))
    while at >= 0:
        if mark.startswith(data[at:]):
            return len(data) - at
        at = data.find(_RS, at + 1)
    return 0


def count_of(word: str) -> int | None:
    """A number in a frame; None where the instance did not verify it (``-``)."""
    return int(word) if _COUNT.fullmatch(word) else None


def clean(text: str, limit: int) -> str:
    """What an instance said, fit to be stored and shown: no controls, no surrogates, cut.

    What separates words or lines becomes a space, all other control characters go.
    """
    spaced = re.sub(r"[\t-\r\x1c-\x1f\x85]+", " ", text)
    kept = (each for each in spaced if unicodedata.category(each) not in {"Cc", "Cs"})
    return "".join(kept).strip()[:limit].rstrip()


def is_clean(text: str, limit: int) -> bool:
    """Whether ``text`` can be stored and given back exactly as it is."""
    return text == clean(text, limit)
