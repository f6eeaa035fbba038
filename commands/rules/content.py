"""Rules about what a command consists of: its text, name, path and timeout.

Each function takes what a person typed and returns what is kept, or raises ``errors.Invalid``
with the form field and a sentence. Sizes are counted as Cloud Assistant counts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.text import REORDERING, UNSEEN
from commands.words import gettext as _
from commands.words import gettext_noop


class CommandType(StrEnum):
    """Kinds of script, in Cloud Assistant's words."""

    SHELL = "RunShellScript"
    BAT = "RunBatScript"
    POWERSHELL = "RunPowerShellScript"


class OsType(StrEnum):
    """Operating systems an instance can have."""

    LINUX = "linux"
    WINDOWS = "windows"


class Termination(StrEnum):
    """What a timeout or a stop ends, in Cloud Assistant's words."""

    PROCESS = "Process"
    """The script's own process; what it started may go on."""
    PROCESS_TREE = "ProcessTree"
    """The script and everything it started."""


RUNS_ON = {
    CommandType.SHELL: OsType.LINUX,
    CommandType.BAT: OsType.WINDOWS,
    CommandType.POWERSHELL: OsType.WINDOWS,
}
"""Which operating system each kind of script needs."""

TEMPLATES: Final[Mapping[CommandType, str]] = {
    CommandType.SHELL: "#!/bin/bash\n",
    CommandType.BAT: "@echo off\n",
    CommandType.POWERSHELL: "",
}
"""What a new command of each type begins with; alone it is no command yet."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NOTHING = re.compile(r"(#![^\n]*|@echo off)?", re.IGNORECASE)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,4000}")


def is_beginning(content: str) -> bool:
    """Whether this is only what a command of some type begins with."""
    return content.strip() in {template.strip() for template in TEMPLATES.values()}


def begun(content: str, kind: CommandType) -> str:
    """``content``, or what a command of ``kind`` begins with where it is only a beginning."""
    return TEMPLATES[kind] if is_beginning(content) else content


def encoded_size(content: str) -> int:
    """Bytes that ``content`` has after UTF-8 and Base64 encoding."""
    return base64_size(len(content.encode()))


def base64_size(size: int) -> int:
    """How many bytes ``size`` bytes have after Base64 encoding."""
    return (size + 2) // 3 * 4


def check_type(value: str) -> CommandType:
    """The kind of script called ``value``."""
    try:
        return CommandType(value)
    except ValueError:
        raise Invalid(_("Choose a command type."), field="type", code="InvalidCmdType") from None


def check_content(content: str) -> str:
    """The script as it is kept: line ends are LF, and it is not empty. Its size is a quota."""
    _refuse_undecodable(content, field="content", what=gettext_noop("Command"))
    text = content.replace("\r\n", "\n").replace("\r", "\n")
    if _NOTHING.fullmatch(text.strip()):
        raise Invalid(_("Enter a command."), field="content", code="MissingParameter")
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise Invalid(
            _("Command has a NUL character on line %(line)s. Remove it.") % {"line": line},
            field="content",
            code="CmdContent.IllegalCharacter",
        )
    if found := REORDERING.search(text):
        line = text[: found.start()].count("\n") + 1
        raise Invalid(
            _(
                "Command has an invisible character on line %(line)s (U+%(code)s), which "
                "makes it read differently from what runs. Remove it."
            )
            % {"line": line, "code": f"{ord(found[0]):04X}"},
            field="content",
            code="CmdContent.IllegalCharacter",
        )
    return text


def check_name(name: str) -> str:
    """The name without white space around it; not empty, one line, not too long."""
    return check_line(name, field="name", what=gettext_noop("Command name"), most=limits.NAME_CHARS)


def check_description(description: str) -> str:
    """The description without white space around it; may be empty and have several lines."""
    _refuse_undecodable(description, field="description", what=gettext_noop("Description"))
    text = description.replace("\r\n", "\n").strip()
    if _CONTROL.search(text) or REORDERING.search(text):
        raise Invalid(
            _("Description can't contain control characters or ones that change how it reads."),
            field="description",
            code="InvalidParameterCharacter.description",
        )
    if len(text) > limits.DESCRIPTION_CHARS:
        raise Invalid(
            _("Description must be %(most)s characters or fewer.")
            % {"most": limits.DESCRIPTION_CHARS},
            field="description",
            code="ExceedLimit",
        )
    return text


def check_termination(value: str) -> Termination:
    """What a timeout or a stop ends."""
    try:
        return Termination(value)
    except ValueError:
        raise Invalid(
            _("Choose what a stop ends."),
            field="termination",
            code="InvalidParameter.TerminationMode",
        ) from None


def check_run_as(user: str, command_type: CommandType) -> str:
    """The user that the script runs as; "" for the one the console signs in as."""
    if not user.strip():
        return ""
    name = check_line(user, field="run_as", what=gettext_noop("User"), most=limits.RUN_AS_CHARS)
    if RUNS_ON[command_type] is OsType.WINDOWS:
        raise Invalid(
            _("Bat and PowerShell run as the user that the console signs in as. Leave this empty."),
            field="run_as",
            code="InvalidParameter.Username",
        )
    if not _USER.fullmatch(name):
        raise Invalid(
            _("A user's name begins with a letter or _ and has letters, digits, and . _ - only."),
            field="run_as",
            code="InvalidParameter.Username",
        )
    return name


def check_workdir(workdir: str, command_type: CommandType) -> str:
    """The execution path, ``""`` for the default; absolute in the way of the type's system."""
    if not workdir.strip():
        return ""
    path = check_line(
        workdir, field="workdir", what=gettext_noop("Execution path"), most=limits.WORKDIR_CHARS
    )
    if RUNS_ON[command_type] is OsType.LINUX and not path.startswith("/"):
        raise Invalid(
            _("Execution path must start with /."),
            field="workdir",
            code="InvalidParameter.WorkingDir",
        )
    if RUNS_ON[command_type] is OsType.WINDOWS and not re.match(r"[A-Za-z]:[\\/]", path):
        raise Invalid(
            _("Execution path must start with a drive letter, such as C:\\."),
            field="workdir",
            code="InvalidParameter.WorkingDir",
        )
    return path


def check_timeout(value: str | int) -> tuple[int, int]:
    """``(timeout, asked)`` in seconds: numbers below the minimum are raised, not refused.

    ``asked`` is at least ``TIMEOUT_ASKED_MIN``, so that it can be stored.
    """
    text = str(value).strip() or str(limits.TIMEOUT_DEFAULT)
    if not _WHOLE_NUMBER.fullmatch(text):
        raise Invalid(
            _("Enter a whole number of seconds."), field="timeout", code="InvalidTimeout.Malformed"
        )
    asked = int(text)
    if asked > limits.TIMEOUT_MAX:
        raise Invalid(
            _("Timeout can't be longer than %(most)s seconds.")
            % {"most": f"{limits.TIMEOUT_MAX:,}"},
            field="timeout",
            code="InvalidTimeout.ExceedLimit",
        )
    return max(asked, limits.TIMEOUT_MIN), max(asked, limits.TIMEOUT_ASKED_MIN)


def check_client_token(token: str) -> str:
    """The client token: printable ASCII, at most 64 characters; ``""`` for none."""
    if len(token) > limits.CLIENT_TOKEN_CHARS or not (token.isascii() and token.isprintable()):
        raise Invalid(
            _("A client token has at most %(most)s printable ASCII characters.")
            % {"most": limits.CLIENT_TOKEN_CHARS},
            field="client_token",
            code="InvalidClientToken.Malformed",
        )
    return token


def check_line(value: str, *, field: str, what: str, most: int) -> str:
    """One line of text without white space around it; not empty, not too long."""
    _refuse_undecodable(value, field=field, what=what)
    text = value.strip()
    if not text:
        raise Invalid(
            _("Enter a %(what)s.") % {"what": _(what).lower()}, field=field, code="MissingParameter"
        )
    if _CONTROL.search(text) or "\n" in text or "\t" in text:
        raise Invalid(
            _("%(what)s can't contain line breaks or control characters.") % {"what": _(what)},
            field=field,
            code=f"InvalidParameterCharacter.{field}",
        )
    if UNSEEN.search(text):
        raise Invalid(
            _("%(what)s has an invisible character that changes how it reads. Remove it.")
            % {"what": _(what)},
            field=field,
            code=f"InvalidParameterCharacter.{field}",
        )
    if len(text) > most:
        raise Invalid(
            _("%(what)s must be %(most)s characters or fewer.") % {"what": _(what), "most": most},
            field=field,
            code="ExceedLimit",
        )
    return text


def _refuse_undecodable(value: str, *, field: str, what: str) -> None:
    # A lone surrogate can't be encoded, so it could neither be stored nor sent. U+FFFD stands
    # where bytes were not UTF-8: the script would not be the one that was written.
    if "\ufffd" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise Invalid(
            _("%(what)s has a character that isn't valid text. Remove it.") % {"what": _(what)},
            field=field,
            code=f"InvalidParameterCharacter.{field}",
        )
