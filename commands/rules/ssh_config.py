"""OpenSSH's client configuration: the servers that somebody reaches by their names.

Each name in a ``Host`` line that is no pattern is a server. As for ssh, the first value that is
found for a name counts, and patterns add to it. What ssh decides while it connects (``Match``)
or reads elsewhere (``Include``) is left out, and said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.globbing import Patterns, is_pattern
from commands.rules.inventory_files import Inventory, Note, Values, once
from commands.words import gettext as _

_USED: Final = ("hostname", "port", "user", "identityfile", "proxyjump", "proxycommand")
_WORD = re.compile(r'"([^"]*)"|([^\s"]+)')
_TOKEN = re.compile(r"%(.)")


@dataclass(slots=True)
class _Block:
    """Settings below a Host line; ``names`` are its words, none before the first such line."""

    line: int
    names: list[str]
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Reading:
    """What was read so far; ``block`` is None within what is left out."""

    block: _Block | None
    blocks: list[_Block]
    notes: list[Note] = field(default_factory=list)

    def take(self, line: int, keyword: str, words: list[str]) -> None:
        if keyword == "host":
            self.block = _Block(line, words)
            self.blocks.append(self.block)
        elif keyword == "match":
            self.block = None
            text = _("Match is decided while ssh connects; what is below it is left out.")
            self.notes.append(Note(line, text))
        elif keyword == "include":
            text = _("Include is not followed. Import that file, too.")
            self.notes.append(Note(line, text))
        elif self.block is not None and keyword in _USED and words:
            self.block.settings.setdefault(keyword, words[0])


def read(text: str) -> Inventory:
    """The servers in a client configuration; ``text`` has line ends LF. Raises Invalid."""
    first = _Block(0, ["*"])
    reading = _Reading(first, [first])
    for line, keyword, words in _lines(text):
        reading.take(line, keyword, words)
    general = [block for block in reading.blocks if any(map(is_pattern, block.names))]
    _check_patterns(general)
    reading.notes.extend(_pattern_notes(general))
    # A second Host line with the same name adds to the first one.
    named: dict[str, list[_Block]] = {}
    for block in reading.blocks:
        for name in block.names:
            if not is_pattern(name):
                named.setdefault(name, []).append(block)
    patterns = [(block, Patterns.of([name.lower() for name in block.names])) for block in general]
    entries = once(_values(name, blocks, patterns).entry() for name, blocks in named.items())
    if not entries:
        raise Invalid(_("No Host line in it names a server."), field="file")
    return Inventory(entries, tuple(sorted(reading.notes, key=lambda note: note.line)))


def _lines(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Lines that say something: number, keyword in lower case, and words without quotes."""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        keyword, rest = (*re.split(r"\s*=\s*|\s+", line, maxsplit=1), "")[:2]
        if rest.count('"') % 2:
            sentence = _("Line %(line)s: a quote isn't closed.")
            raise Invalid(sentence % {"line": number}, field="file")
        yield number, keyword.lower(), _words(rest)


def _words(text: str) -> list[str]:
    words = []
    for quoted, plain in _WORD.findall(text):
        if plain.startswith("#"):
            break
        words.append(quoted or plain)
    return words


def _check_patterns(blocks: list[_Block]) -> None:
    number = sum(len(block.names) for block in blocks)
    if number > limits.SSH_CONFIG_PATTERNS:
        raise Invalid(
            _(
                "There are %(n)s patterns in Host lines; %(most)s are the most. Import the file "
                "in parts."
            )
            % {"n": f"{number:,}", "most": limits.SSH_CONFIG_PATTERNS},
            field="file",
        )


def _pattern_notes(blocks: list[_Block]) -> Iterator[Note]:
    for block in blocks:
        if block.line:
            names = " ".join(name for name in block.names if is_pattern(name))[:60]
            text = _("%(names)s is a pattern, no server. What is below it counts where it fits.")
            yield Note(block.line, text % {"names": names})
        elif block.settings:
            yield Note(1, _("What stands before the first Host line counts for all servers."))


def _values(name: str, own: list[_Block], patterns: list[tuple[_Block, Patterns]]) -> Values:
    """What the blocks say of a name, in the order in which they stand."""
    fitting = [block for block, names in patterns if block in own or names.is_of(name.lower())]
    blocks = sorted({id(block): block for block in [*own, *fitting]}.values(), key=_line_of)
    settings: dict[str, str] = {}
    for block in blocks:
        for keyword, value in block.settings.items():
            settings.setdefault(keyword, value)
    values = Values(own[0].line, name=name, port=settings.get("port", ""))
    values.host = _filled(settings.get("hostname", name), name, values)
    values.user = settings.get("user", "")
    values.credential = _file_name(settings)
    values.credential_guessed = bool(values.credential)
    _jump(settings, values)
    return values


def _line_of(block: _Block) -> int:
    return block.line


def _filled(host: str, name: str, values: Values) -> str:
    """The host with ``%h`` filled in; other tokens are wrong here."""

    def fill(token: re.Match[str]) -> str:
        if token[1] not in "%h":
            sentence = _("HostName has %(token)s, which only ssh can fill in.")
            values.problems.append(sentence % {"token": token[0]})
        return {"%": "%", "h": name}.get(token[1], "")

    return _TOKEN.sub(fill, host)


def _file_name(settings: Mapping[str, str]) -> str:
    path = settings.get("identityfile", "")
    return "" if path.lower() == "none" else PurePosixPath(path).name[:100]


def _jump(settings: Mapping[str, str], values: Values) -> None:
    """The jump host by name or address; ssh takes whichever of the two settings comes first."""
    order = [key for key in settings if key in {"proxyjump", "proxycommand"}]
    way = settings[order[0]] if order else "none"
    if way.lower() == "none":
        return
    if order[0] == "proxycommand":
        values.problems.append(
            _("It is reached by a ProxyCommand; only a ProxyJump can be imported.")
        )
    elif "," in way:
        hops = way.count(",") + 1
        sentence = _("It is reached through %(n)s hosts; only one is passed through.")
        values.problems.append(sentence % {"n": hops})
    else:
        values.jump_host = way.removeprefix("ssh://")
