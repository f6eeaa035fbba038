"""Inventories that people bring along: what a file says of servers, and what is wrong with it.

Every reader makes ``Entry`` values, one for a server, and never raises for one of them: what is
wrong with it is written in it. Invalid is for the file as a whole, with the line.
"""

from __future__ import annotations

import csv
import io
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from commands.errors import Invalid
from commands.rules import known_hosts, limits
from commands.rules.content import OsType
from commands.rules.problems import Problems
from commands.rules.tags import check_tags
from commands.rules.text import UNSEEN
from commands.words import gettext as _

NAME: Final = re.compile(rf"[\w .:@-]{{1,{limits.INSTANCE_NAME_CHARS}}}")
"""Names of instances. Scripts may contain them, so they must not be able to become code there."""

COLUMNS: Final = (
    "name",
    "host",
    "port",
    "user",
    "credential",
    "tags",
    "jump host",
    "os",
    "host key",
)
"""Columns of a CSV file, in any order. Only ``host`` is needed."""
_ALIASES: Mapping[str, str] = {
    "hostname": "host",
    "address": "host",
    "ip": "host",
    "username": "user",
    "tag": "tags",
    "jump": "jumphost",
    "proxyjump": "jumphost",
    "ostype": "os",
    "system": "os",
}
_BOMS = (b"\xff\xfe", b"\xfe\xff")
_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd\ud800-\udfff]")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_USER = re.compile(r"[^\s:/@-][^\s:/]*")
_SHOWN = 60
"""Characters of a wrong value that are shown."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One server, as line ``line`` and those behind it say. Empty is what they don't say.

    ``credential_guessed`` is whether the credential is a hint that may be wrong. ``tags`` is None
    where nothing is said of any. ``problems`` are sentences; with one, nothing else is sure.
    """

    line: int
    name: str
    host: str
    port: int = 22
    user: str = ""
    credential: str = ""
    credential_guessed: bool = False
    tags: Mapping[str, str] | None = None
    jump_host: str = ""
    os_type: str = ""
    host_key: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """Something in a file that became no entry, and why."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was read."""

    entries: tuple[Entry, ...]
    notes: tuple[Note, ...] = ()


def text_of(data: bytes) -> str:
    """A file as text with line ends LF. Raises Invalid: too large, or no text."""
    if len(data) > limits.IMPORT_BYTES:
        raise Invalid(
            _("The file is larger than %(most)s bytes. Import it in parts.")
            % {"most": f"{limits.IMPORT_BYTES:,}"},
            field="file",
        )
    encoding = "utf-16" if data.startswith(_BOMS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Invalid(
            _("Line %(line)s is no UTF-8 text. Save the file as UTF-8, then import it again.")
            % {"line": line},
            field="file",
        ) from None
    return checked_text(text)


def checked_text(text: str) -> str:
    """Text that was pasted, or came in a file, with line ends LF. Raises Invalid."""
    if len(text.encode(errors="replace")) > limits.IMPORT_BYTES:
        raise Invalid(
            _("The text is larger than %(most)s bytes. Import it in parts.")
            % {"most": f"{limits.IMPORT_BYTES:,}"},
            field="file",
        )
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if found := _UNREADABLE.search(text):
        line = text[: found.start()].count("\n") + 1
        raise Invalid(
            _(
                "Line %(line)s has a character that is no text (U+%(code)s). Is it a text file in "
                "UTF-8?"
            )
            % {"line": line, "code": f"{ord(found[0]):04X}"},
            field="file",
        )
    return text


def read_csv(text: str) -> Inventory:
    """The servers in a CSV file with a header row; comma, semicolon or tab between values.

    Raises Invalid: no usable header, quotes that don't match, too many rows.
    """
    skipped = int(text.startswith("sep="))  # what Excel puts first
    body = text.split("\n", 1)[1] if skipped and "\n" in text else text
    rows = _rows(body, skipped)
    number, header = next(rows, (1, []))
    columns = _columns(header, number)
    entries = once(_entry(line, columns, cells) for line, cells in rows)
    if not entries:
        raise _wrong(_("There is a header, and no server below it."))
    return Inventory(entries)


def check_user(text: str) -> str:
    """The name of a user to sign in as, or "" for none. Raises Invalid."""
    return _user(text)


def _rows(text: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, each with the line at which it begins."""
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = skipped + reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error:
            raise _wrong(
                _(
                    "The quotes in the row that begins on line %(line)s don't match. A quote "
                    "within a quoted value is written twice."
                )
                % {"line": line}
            ) from None
        if row is None:
            return
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield line, cells


def _columns(header: Sequence[str], line: int) -> list[str]:
    """The columns, "" for one without a name. Raises Invalid."""
    known = {_folded(name): _folded(name) for name in COLUMNS} | dict(_ALIASES)
    columns = []
    for cell in header:
        name = known.get(_folded(cell), "")
        if _folded(cell) and not name:
            raise _wrong(
                _(
                    "Line %(line)s: there is no column %(name)s. Name the columns in the first "
                    "row: %(columns)s. Only host is needed."
                )
                % {"line": line, "name": _cut(cell), "columns": ", ".join(COLUMNS)}
            )
        if name and name in columns:
            sentence = _("Line %(line)s: the column %(name)s is there twice. Remove one.")
            raise _wrong(sentence % {"line": line, "name": _cut(cell)})
        columns.append(name)
    if "host" not in columns:
        raise _wrong(
            _(
                "Line %(line)s: the first row must name the columns, and one must be host. They "
                "are: %(columns)s."
            )
            % {"line": line, "columns": ", ".join(COLUMNS)}
        )
    return columns


def _entry(line: int, columns: Sequence[str], cells: Sequence[str]) -> Entry:
    pairs = zip(columns, cells, strict=False)
    said = {name: cell for name, cell in pairs if name}
    extra = [
        cell
        for place, cell in enumerate(cells)
        if cell and (place >= len(columns) or not columns[place])
    ]
    values = Values(
        line,
        name=said.get("name", ""),
        host=said.get("host", ""),
        port=said.get("port", ""),
        user=said.get("user", ""),
        credential=said.get("credential", ""),
        tags=said.get("tags"),
        jump_host=said.get("jumphost", ""),
        os_type=said.get("os", ""),
        host_key=said.get("hostkey", ""),
    )
    if extra:
        sentence = _("The value %(value)s stands in a column without a name.")
        values.problems.append(sentence % {"value": _cut(extra[0])})
    return values.entry()


@dataclass(slots=True)
class Values:
    """What a file says of one server, as text; ``entry`` makes the most of it."""

    line: int
    name: str = ""
    host: str = ""
    port: str = ""
    user: str = ""
    credential: str = ""
    credential_guessed: bool = False
    tags: str | None = None
    jump_host: str = ""
    os_type: str = ""
    host_key: str = ""
    problems: list[str] = field(default_factory=list)

    def entry(self) -> Entry:
        """The same, checked."""
        problems = Problems()
        host = problems.collect(lambda: _host(self.host), "")
        name = self.name or host
        entry = Entry(
            line=self.line,
            name=problems.collect(lambda: _name(name), _cut(name)) if name else "",
            host=host or _cut(self.host),
            port=problems.collect(lambda: _port(self.port), 22),
            user=problems.collect(lambda: _user(self.user), ""),
            credential=problems.collect(lambda: _line(self.credential, _("credential"), 100), ""),
            credential_guessed=self.credential_guessed,
            tags=problems.collect(lambda: _tags(self.tags), None),
            jump_host=problems.collect(lambda: _line(self.jump_host, _("jump host"), 320), ""),
            os_type=problems.collect(lambda: _os_type(self.os_type), ""),
            host_key=problems.collect(lambda: _host_key(self.host_key), ""),
        )
        return replace(entry, problems=(*self.problems, *problems.sentences()))


def once(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries; a name that was there before is wrong. Raises Invalid: too many."""
    lines: dict[str, int] = {}
    found = []
    for entry in entries:
        before = lines.setdefault(entry.name, entry.line) if entry.name else entry.line
        problems = entry.problems
        if before != entry.line:
            problems += (_("The name is on line %(line)s already.") % {"line": before},)
        found.append(replace(entry, problems=problems))
    if len(found) > limits.IMPORT_ROWS:
        sentence = _("There are more than %(most)s servers. Import them in parts.")
        raise _wrong(sentence % {"most": f"{limits.IMPORT_ROWS:,}"})
    return tuple(found)


def _wrong(text: str) -> Invalid:
    return Invalid(text, field="file")


def _cut(text: str) -> str:
    """A wrong value, fit to be shown and stored."""
    clean = UNSEEN.sub("", " ".join(text.split()))
    return clean if len(clean) <= _SHOWN else f"{clean[:_SHOWN]}…"


def _folded(text: str) -> str:
    return re.sub(r"[\s_-]+", "", text).lower()


def _line(text: str, what: str, most: int) -> str:
    if len(text) > most:
        sentence = _("The %(what)s must be %(most)s characters or fewer.")
        raise Invalid(sentence % {"what": what, "most": most})
    if "\n" in text or UNSEEN.search(text):
        sentence = _("The %(what)s has a line break or an invisible character.")
        raise Invalid(sentence % {"what": what})
    return text


def _name(text: str) -> str:
    if len(text) > limits.INSTANCE_NAME_CHARS:
        sentence = _("The name must be %(most)s characters or fewer.")
        raise Invalid(sentence % {"most": limits.INSTANCE_NAME_CHARS})
    if not NAME.fullmatch(text):
        raise Invalid(_("A name has letters, digits, spaces and . _ - : @ only."))
    return text


def _host(text: str) -> str:
    if not text:
        raise Invalid(_("There is no host."))
    if len(text) > limits.INSTANCE_HOST_CHARS:
        sentence = _("The host must be %(most)s characters or fewer.")
        raise Invalid(sentence % {"most": limits.INSTANCE_HOST_CHARS})
    inner = text[1:-1] if text[0] + text[-1] == "[]" else text
    if _HOST.fullmatch(inner) or _is_address(inner):
        return inner
    sentence = _(
        "%(value)s is no host name or IP address. A port and a user have columns of their own."
    )
    raise Invalid(sentence % {"value": _cut(text)})


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text.isascii() and text.isprintable() and " " not in text


def _port(text: str) -> int:
    if not text:
        return 22
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= 65_535):
        sentence = _("The port %(value)s is no number between 1 and 65,535.")
        raise Invalid(sentence % {"value": _cut(text)})
    return int(text)


def _user(text: str) -> str:
    if not text:
        return ""
    if len(text) > limits.INSTANCE_USER_CHARS or not _USER.fullmatch(text) or UNSEEN.search(text):
        raise Invalid(_("%(value)s is no name of a user.") % {"value": _cut(text)})
    return text


def _tags(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [part.partition("=") for part in re.split(r"[;,]", text) if part.strip()]
    return dict(check_tags((key, value) for key, _equals, value in pairs))


def _os_type(text: str) -> str:
    if not text:
        return ""
    if text.lower() not in set(OsType):
        sentence = _("The os is %(value)s; write linux or windows.")
        raise Invalid(sentence % {"value": _cut(text)})
    return OsType(text.lower()).value


def _host_key(text: str) -> str:
    return known_hosts.check_key(text) if text else ""
