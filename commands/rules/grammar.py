r"""The grammar of ``{{name}}`` in commands, and what values may be.

A placeholder is two opening braces, text without braces, two closing braces: ``PLACEHOLDER``,
one regular expression that Python and JavaScript read alike. So ``{{`` that nothing closes is
plain text, and of ``{{{x}}}`` the innermost pair counts. White space (space, tab and the ASCII
line breaks) around the name is ignored. There is no escape: who needs braces literally turns
parameters off.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.problems import raise_all
from commands.words import gettext as _

PLACEHOLDER: Final = r"\{\{([^{}]*)\}\}"
"""A placeholder; group 1 is what stands between the braces. Valid in Python and JavaScript."""

WHITE_SPACE: Final = " \t\n\v\f\r"
"""Characters ignored around names; JavaScript's ``trim`` knows more and must not be used."""

NAME: Final = r"[A-Za-z0-9_-]+"
"""A parameter's name, apart from its length. Valid in Python and JavaScript."""

_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_BUILTIN = re.compile(rf"acs[{WHITE_SPACE}]*::[{WHITE_SPACE}]*(.*)", re.IGNORECASE | re.DOTALL)


class Builtin(StrEnum):
    """Placeholders ``{{ACS::…}}`` that are filled for every run, and by nobody else."""

    REGION_ID = "RegionId"
    ACCOUNT_ID = "AccountId"
    INSTANCE_ID = "InstanceId"
    INSTANCE_NAME = "InstanceName"
    INVOKE_ID = "InvokeId"
    COMMAND_ID = "CommandId"


_BUILTINS = {member.lower(): member for member in Builtin}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A custom parameter of a script. ``line`` and ``column`` of its first use begin at 1.

    ``key`` is its identity (lower case), ``name`` its first spelling. Columns count characters.
    """

    key: str
    name: str
    uses: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a placeholder: a sentence, Cloud Assistant's code, and where."""

    message: str
    code: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a script's placeholders say: parameters and built-ins by first use, all problems."""

    parameters: tuple[Parameter, ...]
    builtins: tuple[Builtin, ...]
    problems: tuple[Problem, ...]

    def check(self) -> Scan:
        """The scan itself. Raises Invalid with every problem; ``code`` is the first one's."""
        raise_all([("content", problem.message, problem.code) for problem in self.problems])
        return self


def scan(content: str) -> Scan:
    """Read the placeholders of ``content``, a script whose parameters are switched on.

    Of its problems, only the first ``limits.PROBLEMS`` are told.
    """
    found: dict[str, Parameter] = {}
    builtins: dict[Builtin, None] = {}
    problems: list[Problem] = []
    starts = _line_starts(content)
    for match in re.finditer(PLACEHOLDER, content):
        line, column = _place(starts, match.start())
        name = match[1].strip(WHITE_SPACE)
        if builtin := _BUILTIN.fullmatch(name):
            if known := _BUILTINS.get(builtin[1].lower()):
                builtins[known] = None
            else:
                problems.append(_unknown_builtin(match[0], builtin[1], line, column))
        elif wrong := _wrong_name(name, line, column):
            problems.append(Problem(*wrong, line, column))
        else:
            key = name.lower()
            first = found.get(key) or Parameter(key, name, 0, line, column)
            found[key] = Parameter(key, first.name, first.uses + 1, first.line, first.column)
    told = [*_too_many(found.values()), *problems[: limits.PROBLEMS]]
    return Scan(tuple(found.values()), tuple(builtins), tuple(told))


def builtin_of(name: str) -> Builtin | None:
    """The built-in placeholder called ``name``; None if there is no such."""
    match = _BUILTIN.fullmatch(name)
    return _BUILTINS.get(match[1].lower()) if match else None


def is_parameter(name: str) -> bool:
    """Whether ``name``, without white space around it, is that of a custom parameter."""
    return _BUILTIN.fullmatch(name) is None and _wrong_name(name, 0, 0) is None


def check_value(value: str, name: str) -> str:
    """``value``, which has no NUL and no lone surrogate; nothing could carry those."""
    if _UNUSABLE.search(value):
        raise Invalid(
            _("The value of %(name)s has a character that isn't valid text. Remove it.")
            % {"name": name},
            field=f"param-{name.lower()}",
            code="InvalidParameterCharset.Parameters",
        )
    return value


def _line_starts(content: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", content))]


def _place(line_starts: list[int], offset: int) -> tuple[int, int]:
    line = bisect_right(line_starts, offset)
    return line, offset - line_starts[line - 1] + 1


def line_of(content: str, offset: int) -> int:
    """The number, from 1, of the line that the character at ``offset`` is on."""
    return content.count("\n", 0, offset) + 1


def _wrong_name(name: str, line: int, column: int) -> tuple[str, str] | None:
    at = {"name": shortened(name), "line": line, "column": column}
    if not name:
        text = _(
            "`{{%(name)s}}` on line %(line)s, column %(column)s, has no name. Write a name between "
            "the braces, or turn off Use parameters."
        )
        return text % at, "CmdParam.EmptyKey"
    if not re.fullmatch(NAME, name):
        if name[0].isalnum() or name[0] in "_-":
            text = _(
                "`{{%(name)s}}` on line %(line)s, column %(column)s, isn't a valid name. Use "
                "letters, digits, - and _."
            )
        else:
            text = _(
                "`{{%(name)s}}` on line %(line)s, column %(column)s, isn't a parameter name. If "
                "the script needs it literally, turn off Use parameters."
            )
        return text % at, "CmdParam.InvalidParamName"
    if len(name) > limits.PARAMETER_NAME_BYTES:
        text = _(
            "`{{%(name)s}}` on line %(line)s, column %(column)s, is longer than %(most)s "
            "characters."
        )
        return text % {**at, "most": limits.PARAMETER_NAME_BYTES}, "CmdParamName.ExceedLimit"
    return None


def readable(text: str) -> str:
    """``text`` as any page and log can show it, shortened."""
    return shortened(_UNUSABLE.sub("\N{REPLACEMENT CHARACTER}", text))


def shortened(name: str) -> str:
    """``name`` on one line, at most 40 characters of it."""
    text = " ".join(name.split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _unknown_builtin(placeholder: str, name: str, line: int, column: int) -> Problem:
    if re.match(r"ScriptFileName\b", name, re.IGNORECASE):
        text = _(
            "`{{%(name)s}}` on line %(line)s, column %(column)s, belongs into a launcher, not into "
            "the command."
        )
    else:
        text = _(
            "`{{%(name)s}}` on line %(line)s, column %(column)s, isn't known. Known are %(known)s."
        )
    known = ", ".join(Builtin)
    at = {"name": shortened(placeholder[2:-2]), "line": line, "column": column, "known": known}
    return Problem(text % at, "CmdParam.InvalidParamName", line, column)


def _too_many(parameters: Collection[Parameter]) -> Iterable[Problem]:
    if len(parameters) > limits.PARAMETERS:
        first_too_many = list(parameters)[limits.PARAMETERS]
        yield Problem(
            _("A command can have %(most)s parameters. This one has %(number)s.")
            % {"most": limits.PARAMETERS, "number": len(parameters)},
            "CmdParamCount.ExceedLimit",
            first_too_many.line,
            first_too_many.column,
        )
