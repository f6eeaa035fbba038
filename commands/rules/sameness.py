r"""When two instances printed the same: their output without what is their own, as a digest.

What a reader does not see is no difference: spaces at the end of a line, blank lines at the end
of all, text that was overwritten, escapes that move the cursor. An instance's own name, id, address
and host name are replaced by one placeholder. The streams are compared one by one, as only chance
decides which of two lines of different streams arrives first; what was dropped of an output stands
in both.

The looser key leaves out numbers, times and hexadecimal ids, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

from commands.rules import overwriting

STREAMS: Final = ("stdout", "stderr")
PLACEHOLDER: Final = "‹instance›"
"""What stands for an instance's own name, id, address and host name."""
VERSION: Final = "2:"
"""What exact keys begin with. Keys that were made by other rules are no keys any more: whenever
the same output gets another key than before, this changes."""
_KEY_CHARS = 64

_PLACEHOLDER = PLACEHOLDER.encode()
_NAME_CHARS_MIN = 2  # a single letter is in every text
_COLOURS = re.compile(rb"\x1b\[[0-9;:]*m")
_HEX = re.compile(
    rb"(?i)(?<![0-9a-z])(?:0x[0-9a-f]+"
    rb"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    rb"|(?=[a-f]*[0-9])[0-9a-f]{6,})(?![0-9a-z])"
)
_DAYS = re.compile(
    rb"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b"
)
_NUMBER = re.compile(rb"[0-9#](?:[0-9#.,:/T-]*[0-9#])?")
_SPACES = re.compile(rb"[ \t]+")


@dataclass(frozen=True, slots=True)
class Keys:
    """Digests of an output: outputs that are the same have the same ones."""

    exact: str
    loose: str


def is_key(exact: str) -> bool:
    """Whether that is an exact key as these rules make them."""
    return exact.startswith(VERSION)


class _Hash:
    """A digest of lines; blank ones at the end do not count."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._blank = b""

    def take(self, block: bytes) -> None:
        """Go on with whole lines, the last one without its end."""
        text = self._blank + block + b"\n"
        body = text.rstrip(b"\n")
        self._blank = text[len(body) :]
        self._hash.update(body)

    def digest(self) -> bytes:
        """The digest of all that was taken."""
        return self._hash.digest()


class Names:
    """The words by which one instance calls itself."""

    def __init__(self, names: Iterable[str]) -> None:
        found = {name for given in names for name in _forms(given) if len(name) >= _NAME_CHARS_MIN}
        self._names = [name.encode() for name in sorted(found, key=lambda each: (-len(each), each))]

    def hide_in(self, block: bytes) -> bytes:
        """``block`` with the placeholder in place of each of them that stands alone."""
        if not any(name in block for name in self._names):
            return block
        return self._pattern.sub(_PLACEHOLDER, block)

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        # Most instances never print a name of theirs, and to compile it costs more than the rest.
        words = b"|".join(re.escape(name) for name in self._names)
        return re.compile(rb"(?<![0-9A-Za-z])(?:" + words + rb")(?![0-9A-Za-z])")


class Sameness:
    """Takes the output of one run in, in order of arrival, and tells its keys."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._lines = {stream: Lines() for stream in STREAMS}
        self._exact = {stream: _Hash() for stream in STREAMS}
        self._loose = {stream: _Hash() for stream in STREAMS}

    def feed(self, stream: str, data: bytes) -> None:
        """Go on with bytes of ``stream``, however they are cut."""
        for block in self._lines[stream].feed(data):
            self._take(stream, block)

    def gap(self, dropped: int) -> None:
        """Go on behind ``dropped`` bytes that are not kept."""
        for stream in STREAMS:
            for block in self._lines[stream].finish():
                self._take(stream, block)
            self._exact[stream].take(b"\x00gap %d" % dropped)
            self._loose[stream].take(b"\x00gap")

    def keys(self) -> Keys:
        """The keys, once all was fed."""
        for stream in STREAMS:
            for block in self._lines[stream].finish():
                self._take(stream, block)
        exact = f"{VERSION}{_joined(self._exact)}"[:_KEY_CHARS]
        return Keys(exact, _joined(self._loose))

    def _take(self, stream: str, block: bytes) -> None:
        text = normalised(block, self._names)
        self._exact[stream].take(text)
        self._loose[stream].take(loosened(text))


class Lines:
    """Cuts bytes where lines end, so that no line is in two blocks."""

    def __init__(self) -> None:
        self._open: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that have ended, as one block without its last line end."""
        head, newline, rest = data.rpartition(b"\n")
        if newline:
            yield b"".join([*self._open, head])
            self._open = []
        self._open.append(rest)

    def finish(self) -> Iterator[bytes]:
        """The line that has not ended, if any of it came."""
        rest = b"".join(self._open)
        self._open = []
        if rest:
            yield rest


def normalised(block: bytes, names: Names) -> bytes:
    """Whole lines as all instances would have printed them that printed the same."""
    lines = block.split(b"\n")
    if overwriting.has_gone_back(block):
        lines = [_shown(line.rstrip(b"\r")) for line in lines]
    if b"\x1b" in block:
        lines = [overwriting.MOVES.sub(b"", line) for line in lines]
    return names.hide_in(b"\n".join(line.rstrip(b" \t") for line in lines))


def _shown(line: bytes) -> bytes:
    return overwriting.left_of(line) if overwriting.has_gone_back(line) else line


def loosened(text: bytes) -> bytes:
    """Normalised lines without numbers, times, hexadecimal ids, colours and widths of columns."""
    if b"\x1b" in text:
        text = _COLOURS.sub(b"", text)
    text = _HEX.sub(b"#", text)
    text = _DAYS.sub(b"#", text)
    text = _NUMBER.sub(b"#", text)
    text = _SPACES.sub(b" ", text)
    return b"\n".join(line.strip(b" ") for line in text.split(b"\n"))


def _forms(name: str) -> tuple[str, ...]:
    """``name``, and without port or domain if it is an address or a host name."""
    host, colon, port = name.rpartition(":")
    bare = host.strip("[]") if colon and port.isdecimal() else name
    label = bare.partition(".")[0]
    return (name, bare) if label.isdecimal() or ":" in bare else (name, bare, label)


def _joined(hashes: dict[str, _Hash]) -> str:
    return sha256(b"".join(hashes[stream].digest() for stream in STREAMS)).hexdigest()
