"""The grammar of launchers: the program that runs a script in place of the usual interpreter.

``python3 -u {{ACS::ScriptFileName|Ext(".py")}}`` stores the script under a name that ends in
``.py`` and starts ``python3`` with two arguments. No shell reads a launcher: its words go to
the operating system as they stand, so nothing in it expands or redirects.

Words are separated by white space. A word that begins with a quote ends at the next quote of
its kind and may hold white space; a quote within a word is an ordinary character. There is no
escape character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.grammar import PLACEHOLDER
from commands.words import gettext as _

_SCRIPT = "\0"  # stands for the script's path in stored words; launchers hold no NUL themselves
_SCRIPT_FILE_NAME = re.compile(
    r"""[ \t]*ACS[ \t]*::[ \t]*ScriptFileName[ \t]*
        (?:\|[ \t]*Ext[ \t]*\([ \t]*(?P<quote>["']?)(?P<extension>[\w.-]+)(?P=quote)[ \t]*\)[ \t]*)?
    """,
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_WORD = re.compile(r"""'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<plain>\S+)""")


@dataclass(frozen=True, slots=True)
class Launcher:
    """A launcher that was read: its words and the extension that the script's file must have.

    ``extension`` begins with a dot, or is ``""`` for the usual one of the command's type.
    """

    words: tuple[str, ...]
    extension: str = ""

    def argv(self, script_path: str) -> list[str]:
        """The program and its arguments; the path comes last if the launcher names no place."""
        filled = [word.replace(_SCRIPT, script_path) for word in self.words]
        return filled if any(_SCRIPT in word for word in self.words) else [*filled, script_path]


def parse(text: str) -> Launcher:
    """The launcher that ``text`` describes. Raises Invalid with the field ``launcher``.

    ``text`` is optional on forms: a caller with blank text has no launcher and doesn't ask.
    """
    _check_text(text)
    extensions: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        extensions.append(_extension(match))
        return _SCRIPT

    words = _words(re.sub(PLACEHOLDER, stand_in, text))
    if len(extensions) > 1:
        raise _invalid(
            _("A launcher can name {{ACS::ScriptFileName}} only once."),
            "InvalidEnvironmentParameter",
        )
    return Launcher(_check_program(words), *extensions)


def _check_text(text: str) -> None:
    if not text.strip():
        raise _invalid(_("Enter a launcher."), "MissingParameter")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]", text):
        raise _invalid(
            _("Launcher can't contain line breaks or control characters."),
            "InvalidParameterCharacter.Launcher",
        )
    if len(text.encode()) > limits.LAUNCHER_BYTES:
        raise _invalid(
            _("Launcher must be %(most)s bytes or fewer.") % {"most": f"{limits.LAUNCHER_BYTES:,}"},
            "InvalidLauncher.LengthLimitExceeded",
        )


def _extension(placeholder: re.Match[str]) -> str:
    found = _SCRIPT_FILE_NAME.fullmatch(placeholder[1])
    if not found:
        raise _invalid(
            _(
                "`%(placeholder)s` isn't known in a launcher. "
                'Use {{ACS::ScriptFileName}} or {{ACS::ScriptFileName|Ext(".py")}}.'
            )
            % {"placeholder": placeholder[0]},
            "InvalidEnvironmentParameter",
        )
    name = (found["extension"] or "").lstrip(".")
    extension = f".{name}" if name else ""
    if len(extension) > limits.LAUNCHER_EXTENSION_CHARS:
        raise _invalid(
            _("The extension must be %(most)s characters or fewer.")
            % {"most": limits.LAUNCHER_EXTENSION_CHARS},
            "InvalidEnvironmentParameter",
        )
    return extension


def _words(text: str) -> tuple[str, ...]:
    words = []
    for match in _WORD.finditer(text):
        plain = match["plain"]
        if plain is not None and plain[0] in "'\"":
            raise _invalid(
                _("Launcher has a quote that isn't closed."), "InvalidParameter.Launcher"
            )
        words.append(next(part for part in match.groups() if part is not None))
    return tuple(words)


def _check_program(words: tuple[str, ...]) -> tuple[str, ...]:
    program = words[0]
    if program.startswith("@@"):
        return (program[1:], *words[1:])
    if program.startswith("@"):
        raise _invalid(
            _(
                "There are no plug-ins here, so %(program)s can't be started. "
                "Write @@ for a program whose name begins with @."
            )
            % {"program": program},
            "InvalidParameter.Launcher",
        )
    if not program or _SCRIPT in program:
        raise _invalid(
            _("A launcher begins with a program, not with the script."), "InvalidParameter.Launcher"
        )
    return words


def _invalid(message: str, code: str) -> Invalid:
    return Invalid(message, field="launcher", code=code)
