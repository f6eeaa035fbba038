r"""The grammar of ``{{name}}`` in commands, what values may be, and how they are inserted.

A placeholder is two opening braces, text without braces, two closing braces: ``PLACEHOLDER``,
one regular expression that Python and JavaScript read alike. So ``{{`` that nothing closes is
plain text, and of ``{{{x}}}`` the innermost pair counts. White space (space, tab and the ASCII
line breaks) around the name is ignored. There is no escape: who needs braces literally turns
parameters off.

Filling is one pass over plain text; what was inserted is never looked at again. A value goes
in *as typed*, so that whoever gives it writes a part of the script, or *quoted*: as a literal
that the script's language reads as one word and never as code.

A literal is one only where the language expects a word. Between quotes, in a comment or in a
here-document the very same characters can be code: with the value ``$(id)``, ``"{{x}}"`` becomes
``"'$(id)'"``, which runs ``id``. So a quoted parameter must stand in the open, which is proved by
reading the script up to it with ``_SH`` or ``_POWERSHELL``. Those know less than the languages
do; where they can't go on, the parameter is refused, with the advice to assign it to a variable
at the top. (bash has surprises: it expands the word after ``>&`` twice, and reads on in the next
line after an error in an array, even if that line is within a literal.) What the script
does with the word afterwards (``eval``, ``ssh host``, bash arithmetic) is the script's business.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from commands.errors import Invalid, InvalidFields
from commands.rules import limits
from commands.rules.content import CommandType
from commands.rules.redaction import HIDDEN

PLACEHOLDER: Final = r"\{\{([^{}]*)\}\}"
"""A placeholder; group 1 is what stands between the braces. Valid in Python and JavaScript."""

WHITE_SPACE: Final = " \t\n\v\f\r"
"""Characters ignored around names; JavaScript's ``trim`` knows more and must not be used."""

NAME: Final = r"[A-Za-z0-9_-]+"
"""A parameter's name, apart from its length. Valid in Python and JavaScript."""

SENSITIVE_NAME: Final = (
    r"token|secret|passw|passphrase|pwd|credential|(^|[_-])pass([_-]|$)|key(?!board|word)"
)
"""Part of names whose values are probably secret, in any case; for Python and JavaScript."""

_HOLE = "\0"  # where a quoted value goes while the rest of the script is read
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


class Insertion(StrEnum):
    """How a value gets into the script."""

    AS_TYPED = "as-typed"
    """As plain text, Cloud Assistant's way; the value can be any code."""
    QUOTED = "quoted"
    """As a literal of the script's language; the value can't be code."""


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
        _raise_all([("content", problem.message, problem.code) for problem in self.problems])
        return self


def scan(content: str) -> Scan:
    """Read the placeholders of ``content``, a script whose parameters are switched on."""
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
        elif wrong := _wrong_name(name, line):
            problems.append(Problem(*wrong, line, column))
        else:
            key = name.lower()
            first = found.get(key) or Parameter(key, name, 0, line, column)
            found[key] = Parameter(key, first.name, first.uses + 1, first.line, first.column)
    return Scan(tuple(found.values()), tuple(builtins), (*problems, *_too_many(found.values())))


def fill(
    content: str,
    values: Mapping[str, str],
    builtins: Mapping[Builtin, str],
    insertions: Mapping[str, Insertion],
    *,
    command_type: CommandType,
) -> str:
    """The script with its values: what runs.

    ``values`` and ``insertions`` go by key in any case; a value that is missing is empty, an
    insertion that is missing is as typed. Every quoted value is proved to stand in the open,
    with the other values in place. What ``scan`` finds wrong stays as it is. Raises Invalid if
    a value can't be made a literal there, or a built-in has no value.
    """
    given, quoted = _by_key(values), _quoted(insertions)
    literals: list[str] = []

    def text(key: str, name: str) -> str:
        value = check_value(given.get(key, ""), name)
        if key not in quoted:
            return value
        literals.append(quote(value, command_type, name=name))
        return _HOLE

    return _close(_replace(content, text, builtins), content, literals, quoted, command_type)


def show(
    content: str,
    values: Mapping[str, str],
    builtins: Mapping[Builtin, str],
    insertions: Mapping[str, Insertion],
    *,
    command_type: CommandType,
    hidden: Collection[str],
) -> str:
    """The script as ``fill`` makes it, for people: ``HIDDEN`` for the values of ``hidden`` keys.

    Values are left out rather than searched, so even a secret of one character doesn't show.
    """
    given, quoted = _by_key(values), _quoted(insertions)
    unseen = {key.lower() for key in hidden}

    def text(key: str, name: str) -> str:
        if key in unseen:
            return HIDDEN
        value = check_value(given.get(key, ""), name)
        return quote(value, command_type, name=name) if key in quoted else value

    return _replace(content, text, builtins)


def check_insertions(
    content: str, insertions: Mapping[str, Insertion], command_type: CommandType
) -> None:
    """Whether quoted parameters stand in the open, before there are any values.

    To be asked when a command is saved; raises Invalid with the field ``content``. A command
    with a launcher must not have quoted parameters at all: its language is unknown.
    """
    quoted = _quoted(insertions)
    holes = _replace(content, lambda key, _: _HOLE if key in quoted else "x", None)
    _close(holes, content, ["x"] * holes.count(_HOLE), quoted, command_type)


def check_value(value: str, name: str) -> str:
    """``value``, which has no NUL and no lone surrogate; nothing could carry those."""
    if _UNUSABLE.search(value):
        raise Invalid(
            f"The value of {name} has a character that isn't valid text. Remove it.",
            field=f"param-{name.lower()}",
            code="InvalidParameterCharset.Parameters",
        )
    return value


def _line_starts(content: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", content))]


def _place(line_starts: list[int], offset: int) -> tuple[int, int]:
    line = bisect_right(line_starts, offset)
    return line, offset - line_starts[line - 1] + 1


def _wrong_name(name: str, line: int) -> tuple[str, str] | None:
    shown = f"`{{{{{_short(name)}}}}}` on line {line}"
    if not name:
        return (
            f"{shown} has no name. Write a name between the braces, or turn off Use parameters.",
            "CmdParam.EmptyKey",
        )
    if not re.fullmatch(NAME, name):
        advice = (
            "isn't a valid name. Use letters, digits, - and _."
            if name[0].isalnum() or name[0] in "_-"
            else "isn't a parameter name. "
            "If the script needs it literally, turn off Use parameters."
        )
        return f"{shown} {advice}", "CmdParam.InvalidParamName"
    if len(name) > limits.PARAMETER_NAME_BYTES:
        most = limits.PARAMETER_NAME_BYTES
        return f"{shown} is longer than {most} characters.", "CmdParamName.ExceedLimit"
    return None


def _short(name: str) -> str:
    text = " ".join(name.split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _unknown_builtin(placeholder: str, name: str, line: int, column: int) -> Problem:
    if re.match(r"ScriptFileName\b", name, re.IGNORECASE):
        advice = "belongs into a launcher, not into the command."
    else:
        advice = f"isn't known. Known are {', '.join(Builtin)}."
    shown = f"`{{{{{_short(placeholder[2:-2])}}}}}` on line {line}"
    return Problem(f"{shown} {advice}", "CmdParam.InvalidParamName", line, column)


def _too_many(parameters: Collection[Parameter]) -> Iterable[Problem]:
    if len(parameters) > limits.PARAMETERS:
        first_too_many = list(parameters)[limits.PARAMETERS]
        yield Problem(
            f"A command can have {limits.PARAMETERS} parameters. This one has {len(parameters)}.",
            "CmdParamCount.ExceedLimit",
            first_too_many.line,
            first_too_many.column,
        )


def _replace(
    content: str, text: Callable[[str, str], str], builtins: Mapping[Builtin, str] | None
) -> str:
    def replacement(match: re.Match[str]) -> str:
        name = match[1].strip(WHITE_SPACE)
        if builtin := _BUILTIN.fullmatch(name):
            known = _BUILTINS.get(builtin[1].lower())
            return _builtin(known, builtins) if known else match[0]
        return match[0] if _wrong_name(name, 0) else text(name.lower(), name)

    if _HOLE in content:
        raise Invalid(
            "Command has a NUL character. Remove it.",
            field="content",
            code="CmdContent.IllegalCharacter",
        )
    return re.sub(PLACEHOLDER, replacement, content)


def _builtin(builtin: Builtin, values: Mapping[Builtin, str] | None) -> str:
    if values is None:
        return "x"
    if builtin not in values:
        raise Invalid(
            f"`{{{{ACS::{builtin}}}}}` has no value here.",
            field="content",
            code="InvalidSystemBuiltInParameter",
        )
    return check_value(values[builtin], builtin)


def _by_key(values: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in values.items()}


def _quoted(insertions: Mapping[str, Insertion]) -> frozenset[str]:
    return frozenset(key.lower() for key, how in insertions.items() if how is Insertion.QUOTED)


def _raise_all(problems: list[tuple[str, str, str]]) -> None:
    # (field, sentence, code): one is an Invalid, several are an InvalidFields with the first code.
    if len(problems) == 1:
        field, message, code = problems[0]
        raise Invalid(message, field=field, code=code)
    if problems:
        errors: dict[str, list[str]] = {}
        for field, message, _ in problems:
            errors.setdefault(field, []).append(message)
        error = InvalidFields(errors)
        error.code = problems[0][2]
        raise error


# --- Literals, and where they are ones ---------------------------------------------------------


_BAT_PLAIN = r"(?:[A-Za-z0-9 _.,:\\/@+=#-]*[A-Za-z0-9 _.,:/@+=#-])?"


def quote(value: str, command_type: CommandType, *, name: str = "the parameter") -> str:
    r"""``value`` as a literal of the language. Raises Invalid if there is none.

    sh: single quotes; each single quote within leaves them for ``\'``. Takes all text.

    PowerShell: single quotes, doubled within. Beyond ASCII, characters are written by number,
    as ``('caf'+[char]233+'')``: Windows PowerShell guesses a script's encoding, and half of a
    character read wrongly can be a curved quote, which PowerShell takes for a quote.

    cmd: double quotes around ASCII letters, digits, spaces and ``_ - . , : \ / @ + = #``. The
    rest is refused: ``%`` and ``!`` expand even between quotes; a quote or a line break ends
    them; ``& | < > ( ) ^`` become operators if the script has put quotes around the parameter
    itself; control characters and those beyond ASCII depend on the code page. So is a final
    backslash, which would make a program take the closing quote for text.
    """
    check_value(value, name)
    if command_type is CommandType.SHELL:
        return "'" + value.replace("'", "'\\''") + "'"
    if command_type is CommandType.POWERSHELL:
        return _powershell_literal(value)
    if not re.fullmatch(_BAT_PLAIN, value):
        raise Invalid(
            f"The value of {name} can't be quoted for Bat. Use letters, digits, spaces and "
            r"_ - . , : \ / @ + = #, and no \ at the end.",
            field=f"param-{name.lower()}",
            code="InvalidParameter.Parameters",
        )
    return f'"{value}"'


def _powershell_literal(value: str) -> str:
    parts = re.split(r"([^\x00-\x7f])", value)
    texts = [f"'{part}'" for part in (text.replace("'", "''") for text in parts[::2])]
    if len(texts) == 1:
        return texts[0]
    for index, character in enumerate(parts[1::2]):
        units = character.encode("utf-16-be")
        numbers = [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
        texts[index] += "".join(f"+[char]{number}" for number in numbers)
    return f"({'+'.join(texts)})"


_SH_SHEBANG = re.compile(
    r"#![ \t]*(?:/\S*/)?(?:env[ \t]+)?(?:/\S*/)?(?:busybox[ \t]+)?(?:sh|bash|dash|ash)(?:[ \t].*)?"
)
_SH_BRACED = r"""\$\{[^\s|'"`\\(){}<>\0][^'"`\\(){}<>\0]*\}"""
_SH_ARITHMETIC = r"""\$\(\([^'"`\\(){}#<\0]*\)\)"""
_SH_DOLLAR = rf"(?:\$[A-Za-z0-9_@*\#?!-]|{_SH_BRACED}|{_SH_ARITHMETIC})"


def _sh_double_quotes(depth: int) -> str:
    # "…" with "$( … )" nested up to ``depth``. ``case`` has closing brackets of its own.
    nested = rf"|\$\((?!\()(?:{_sh_substituted(depth - 1)})*+\)" if depth else ""
    return rf"""(?:"(?:[^"\\`$\0]|\\[^\0]|{_SH_DOLLAR}|\$(?=["\s/.,:;%)]){nested})*+")"""


def _sh_substituted(depth: int) -> str:
    nested = rf"|\$\((?!\()(?:{_sh_substituted(depth - 1)})*+\)" if depth else ""
    return (
        rf"""(?!case)[^'"`\\$()<#\0]|<(?![<(])|\\[^\0\#\n]|'[^'\0]*'|{_SH_DOLLAR}"""
        rf"""|{_sh_double_quotes(depth)}{nested}"""
    )


_SH_ITEM = rf"""[A-Za-z0-9_\s./:,%+@*-]|'[^'\0]*'|{_sh_double_quotes(1)}|{_SH_DOLLAR}"""
_SH_ARRAY = rf"=\((?:{_SH_ITEM})*+\)"
_SH = re.compile(
    rf"""
    \0                                             # the open place for a literal
    | (?<![^ \t\n;])\#[^\n\0]*+(?!\0)              # a comment
    | (?<=[A-Za-z0-9_/.:=,+%@'"}}-])\#             # no comment: within a word
    | {_SH_ARRAY}                                  # bash goes on after an error in others
    | (?:(?!(?<=\s)=~)[^'"`\\$()<\#\[;&|>\0])      # characters without a meaning here
    | (?<![\w}}\]])\[(?!\[) | \[\[(?=[^\0]*\]\])   # test, but no subscript: bash evaluates those
    | [<>]&(?:[0-9]+|-)(?=[\s;|&)]|\Z)             # bash expands other words here twice
    | [;|>] | (?<![<>])& | <(?!<)                  # operators, no here-document
    | (?<!=)\((?!\() | \)                          # groups, no arithmetic
    | \\[^\0](?!\#)
    | '[^'\0]*'
    | {_sh_double_quotes(2)}
    | {_SH_DOLLAR} | \$(?=[\s/.,:;%]) | \$(?=\((?!\())
    """,
    re.VERBOSE,
)

_SQ, _DQ = "'‘’‚‛", '"“”„'  # PowerShell takes the curved ones for straight ones
_POWERSHELL_BRACED = r"\$\{[\w:]+\}"
_POWERSHELL = re.compile(
    rf"""
    (?<![^ \t\r\n=(,;{{\[+])\0(?![^ \t\r\n),;}}\].+|])   # the open place: no quote, no word beside
    | (?<![^ \t\r\n;])\#[^\r\n\0]*+(?!\0) | <\#(?:(?!\#>)[^\0])*+\#>
    | (?:(?![-–—―]{{2}}%)[^\0{_SQ}{_DQ}`\#@$<])    # --% would end all quoting
    | <(?!\#) | @(?=[({{\w]) | `[^\0](?!\#)
    | (?<![\w$@`)}}\]{_SQ}{_DQ}])[{_SQ}](?:[^{_SQ}\0]|[{_SQ}]{{2}})*+[{_SQ}]
    | (?<![\w$@`)}}\]{_SQ}{_DQ}])[{_DQ}](?:[^{_DQ}`$\0]|`[^\0]|[{_DQ}]{{2}}|\$(?![({{\0])
        |{_POWERSHELL_BRACED}|\$\([^{_SQ}{_DQ}`(){{}}\#@\0]*\))*+[{_DQ}]
    | \$(?=[\w(?^:]) | {_POWERSHELL_BRACED}
    """,
    re.VERBOSE,
)


def _close(
    open_script: str,
    content: str,
    literals: list[str],
    quoted: frozenset[str],
    command_type: CommandType,
) -> str:
    # ``open_script`` has a hole for each literal; ``content`` is for saying where.
    first_line = open_script.partition("\n")[0]
    if literals and command_type is CommandType.SHELL and not _is_for_sh(first_line):
        raise Invalid(
            f"Values can be quoted for sh and bash only. This script starts with {first_line}.",
            field="content",
            code="InvalidParameter.Parameters",
        )
    proved = _holes_in_the_open(open_script, command_type)
    if proved < len(literals):
        _refuse_place(content, proved, quoted)
    texts = open_script.split(_HOLE)
    return "".join(text + literal for text, literal in zip(texts, [*literals, ""], strict=True))


def _is_for_sh(first_line: str) -> bool:
    return not first_line.startswith("#!") or _SH_SHEBANG.fullmatch(first_line) is not None


def _holes_in_the_open(script: str, command_type: CommandType) -> int:
    """How many holes, from the first on, are proved to stand where a literal is one."""
    if command_type is CommandType.BAT:
        return script.count(_HOLE)  # its literals have no operator in them, wherever they stand
    token = _SH if command_type is CommandType.SHELL else _POWERSHELL
    position, proved, last = 0, 0, script.rfind(_HOLE)
    while position <= last:
        match = token.match(script, position)
        if not match:
            return proved
        proved += match[0] == _HOLE
        position = match.end()
    return proved


def _refuse_place(content: str, proved: int, quoted: frozenset[str]) -> None:
    uses = [
        match
        for match in re.finditer(PLACEHOLDER, content)
        if match[1].strip(WHITE_SPACE).lower() in quoted
    ]
    use = uses[proved]
    name, line = use[1].strip(WHITE_SPACE), _place(_line_starts(content), use.start())[0]
    raise Invalid(
        f"`{{{{{name}}}}}` on line {line} is inserted quoted, and can't be proved safe there. "
        "Take away the quotes around it, or assign it to a variable at the top of the script.",
        field="content",
        code="InvalidParameter.Parameters",
    )


# --- What a command says of its parameters, and the values of one run --------------------------


@dataclass(frozen=True, slots=True)
class ParameterSchema:
    """What a saved command says of one parameter. Make it with ``from_dict``, which checks.

    ``default`` is for a value that is not given at all; a value given as ``""`` stays empty.
    ``choices`` and ``pattern`` (the whole value must match it) are not asked of an empty value
    of an optional parameter. A ``secret`` has no default: it would be kept in the open.
    """

    description: str = ""
    default: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    secret: bool = False
    insertion: Insertion = Insertion.AS_TYPED

    @classmethod
    def from_dict(cls, data: object, *, field: str = "parameters") -> ParameterSchema:
        """The schema that ``to_dict`` made, or a person wrote. Raises Invalid with ``field``."""
        try:
            schema = cls(**_members(data))
            _check_schema(schema)
        except Invalid as error:
            raise Invalid(
                error.message, field=field, code="InvalidParameter.ParameterDefinitions"
            ) from None
        return schema

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; members that are as usual are left out."""
        plain: dict[str, Any] = {}
        for name, usual in _USUAL.items():
            value = getattr(self, name)
            if value != usual:
                plain[name] = list(value) if isinstance(value, tuple) else value
        if "insertion" in plain:
            plain["insertion"] = str(self.insertion)
        return plain


_USUAL: Final[Mapping[str, Any]] = {
    member.name: member.default for member in fields(ParameterSchema)
}


def check_values(
    parameters: Iterable[Parameter],
    given: Mapping[str, object],
    schema: Mapping[str, ParameterSchema],
) -> dict[str, str]:
    """The value of every parameter by key, defaults included, in the order of ``parameters``.

    ``given`` goes by name in any case; ``schema`` by key. Raises Invalid with everything that
    is wrong; the field of a wrong value is ``param-<key>``. No sentence repeats a value, which
    may be secret.
    """
    known = {parameter.key: parameter for parameter in parameters}
    values = _check_keys(known, given)
    problems: list[tuple[str, str, str]] = []
    for key, parameter in known.items():
        rules = schema.get(key, ParameterSchema())
        values.setdefault(key, rules.default)
        try:
            _check_against(rules, values[key], parameter.name)
        except Invalid as error:
            problems.append((f"param-{key}", error.message, error.code))
    _raise_all(problems)
    return {key: values[key] for key in known}


def looks_secret(name: str) -> bool:
    """Whether hiding the value should be proposed for a parameter of this name."""
    return re.search(SENSITIVE_NAME, name, re.IGNORECASE) is not None


def _check_keys(known: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, str]:
    def refuse(message: str, code: str) -> Invalid:
        return Invalid(message, field="parameters", code=code)

    if len(given) > limits.PARAMETERS:
        raise refuse(
            f"A command can have {limits.PARAMETERS} parameters. You gave {len(given)} values.",
            "ParameterCount.ExceedLimit",
        )
    values: dict[str, str] = {}
    for name, value in given.items():
        key, shown = name.lower(), _short(_UNUSABLE.sub("\N{REPLACEMENT CHARACTER}", name))
        if not 0 < len(name) <= limits.PARAMETER_NAME_BYTES:
            raise refuse(
                f"A parameter's name has 1 to {limits.PARAMETER_NAME_BYTES} characters.",
                "ParameterKey.ExceedLimit",
            )
        if key in values:
            raise refuse(f"There are two values for {shown}.", "ParameterKey.Duplicate")
        if key not in known:
            raise refuse(f"The command has no parameter {shown}.", "Parameter.NotMatched")
        if not isinstance(value, str):
            raise refuse(f"The value of {shown} must be text.", "ParameterType.NotSupported")
        values[key] = value
    return values


def _check_against(rules: ParameterSchema, value: str, name: str) -> None:
    code = "InvalidParameter.Parameters"
    check_value(value, name)
    if not value:
        if rules.required:
            raise Invalid(f"Enter a value for {name}.", code="Parameter.MissingValue")
    elif rules.choices and value not in rules.choices:
        raise Invalid(f"Choose a value for {name} from its list.", code=code)
    elif rules.pattern and len(value) > limits.PARAMETER_PATTERN_VALUE_CHARS:
        most = limits.PARAMETER_PATTERN_VALUE_CHARS
        raise Invalid(f"The value of {name} must be {most} characters or fewer.", code=code)
    elif rules.pattern and not re.fullmatch(rules.pattern, value):
        raise Invalid(f"The value of {name} must match {rules.pattern}.", code=code)


def _members(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise Invalid("A parameter is described by names and values.")
    members: dict[str, Any] = {}
    for name, value in data.items():
        if name not in _USUAL:
            raise Invalid(f"A parameter has no property {_short(str(name))}.")
        members[name] = _member(name, value)
    return members


def _member(name: str, value: object) -> object:
    if name == "choices":
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise Invalid("The choices of a parameter must be a list of texts.")
    if name == "insertion":
        if value in tuple(Insertion):
            return Insertion(str(value))
        raise Invalid(f"A value is inserted {' or '.join(Insertion)}.")
    if type(value) is not type(_USUAL[name]):
        kind = "true or false" if isinstance(_USUAL[name], bool) else "text"
        raise Invalid(f"The property {name} of a parameter must be {kind}.")
    return value


def _check_schema(schema: ParameterSchema) -> None:
    if len(schema.description) > limits.DESCRIPTION_CHARS:
        raise Invalid(f"Description must be {limits.DESCRIPTION_CHARS} characters or fewer.")
    for text in (schema.description, schema.default, schema.pattern, *schema.choices):
        check_value(text, "a parameter's property")
    if len(schema.choices) > limits.PARAMETER_CHOICES:
        raise Invalid(f"Give {limits.PARAMETER_CHOICES} choices or fewer.")
    if "" in schema.choices or len(set(schema.choices)) < len(schema.choices):
        raise Invalid("Choices can't be empty, and each can be there only once.")
    if schema.pattern:
        _check_pattern(schema.pattern)
    if schema.default:
        if schema.secret:
            raise Invalid("A hidden parameter can't have a default value.")
        _check_against(schema, schema.default, "the default")


_PATTERN_PART = re.compile(
    r"""(?P<back>\\[1-9])|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<extension>\(\?(?!:))
    |(?P<repeated>\)(?:[*+]|\{\d*,?\d*\}))
    |\{(?P<from>\d*)(?P<comma>,?)(?P<to>\d*)\}|(?P<many>[*+])|(?P<maybe>\?)|(?P<or>\|)|.
    """,
    re.VERBOSE | re.DOTALL,
)


def _check_pattern(pattern: str) -> None:
    """Refuse patterns that don't compile or could take long.

    Python's engine tries one way to match after the other. Without repeated groups, back
    references and extensions, the ways are at most the product of what each quantifier and
    alternative allows, values being short; the bound keeps a check below a second.
    """
    if len(pattern) > limits.PARAMETER_PATTERN_CHARS:
        raise Invalid(f"Pattern must be {limits.PARAMETER_PATTERN_CHARS} characters or fewer.")
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        raise Invalid("The pattern isn't a regular expression.") from None
    ways = 1
    for part in _PATTERN_PART.finditer(pattern):
        if part["back"] or part["extension"] or part["repeated"]:
            raise Invalid(
                "The pattern can't have repeated groups, back references or (?…) extensions."
            )
        ways *= _ways(part)
    if ways > limits.PARAMETER_PATTERN_WAYS:
        raise Invalid(
            "The pattern could take too long to check. Use fewer repeats and alternatives."
        )


def _ways(part: re.Match[str]) -> int:
    most = limits.PARAMETER_PATTERN_VALUE_CHARS
    if part["maybe"] or part["or"]:
        return 2
    if part["many"] or (part["comma"] and not part["to"]):
        return most + 1
    if part["comma"]:
        return min(int(part["to"]), most) - min(int(part["from"] or 0), most) + 1
    return 1
