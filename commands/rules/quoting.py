r"""How a value gets into a script: as typed, or quoted, as a literal that can't be code.

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
from enum import StrEnum
from typing import Final

from commands.errors import Invalid
from commands.rules.content import CommandType
from commands.rules.grammar import PLACEHOLDER, WHITE_SPACE, check_value, line_of
from commands.words import gettext as _

HOLE: Final = "\0"
"""Where a quoted value goes while the rest of the script is read."""


class Insertion(StrEnum):
    """How a value gets into the script."""

    AS_TYPED = "as-typed"
    """As plain text, Cloud Assistant's way; the value can be any code."""
    QUOTED = "quoted"
    """As a literal of the script's language; the value can't be code."""


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
            _(
                "The value of %(name)s can't be quoted for Bat. Use letters, digits, spaces and "
                "_ - . , : \\ / @ + = #, and no \\ at the end."
            )
            % {"name": name},
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


def close(
    open_script: str,
    content: str,
    literals: list[str],
    quoted: frozenset[str],
    command_type: CommandType,
) -> str:
    """``open_script``, which has a ``HOLE`` for each literal, with the literals in place.

    Raises Invalid if one does not stand in the open; ``content`` is for saying where.
    """
    first_line = open_script.partition("\n")[0]
    if literals and command_type is CommandType.SHELL and not _is_for_sh(first_line):
        raise Invalid(
            _("Values can be quoted for sh and bash only. This script starts with %(first_line)s.")
            % {"first_line": first_line},
            field="content",
            code="InvalidParameter.Parameters",
        )
    proved = _holes_in_the_open(open_script, command_type)
    if proved < len(literals):
        _refuse_place(content, proved, quoted)
    texts = open_script.split(HOLE)
    return "".join(text + literal for text, literal in zip(texts, [*literals, ""], strict=True))


def _is_for_sh(first_line: str) -> bool:
    return not first_line.startswith("#!") or _SH_SHEBANG.fullmatch(first_line) is not None


def _holes_in_the_open(script: str, command_type: CommandType) -> int:
    """How many holes, from the first on, are proved to stand where a literal is one."""
    if command_type is CommandType.BAT:
        return script.count(HOLE)  # its literals have no operator in them, wherever they stand
    token = _SH if command_type is CommandType.SHELL else _POWERSHELL
    position, proved, last = 0, 0, script.rfind(HOLE)
    while position <= last:
        match = token.match(script, position)
        if not match:
            return proved
        proved += match[0] == HOLE
        position = match.end()
    return proved


def _refuse_place(content: str, proved: int, quoted: frozenset[str]) -> None:
    uses = [
        match
        for match in re.finditer(PLACEHOLDER, content)
        if match[1].strip(WHITE_SPACE).lower() in quoted
    ]
    use = uses[proved]
    name, line = use[1].strip(WHITE_SPACE), line_of(content, use.start())
    raise Invalid(
        _(
            "`{{%(name)s}}` on line %(line)s is inserted quoted, and can't be proved safe there. "
            "Take away the quotes around it, or assign it to a variable at the top of the script."
        )
        % {"name": name, "line": line},
        field="content",
        code="InvalidParameter.Parameters",
    )
