r"""What is left of a line of output in which the cursor went back, as the output panel shows it.

``\r``, ``\b`` and EL (``\x1b[K``) are obeyed, other escapes that move the cursor are left out, and
colours stay with the text that was printed in them.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from commands.rules.cells import Row

MOVES: Final = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-ln-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\-_])"
)
"""Escapes that move the cursor, or do anything else but change colours."""

_BACK = re.compile(rb"[\r\x08]|\x1b\[[12]K")
_TOKEN = re.compile(
    rb"(?P<erase>\x1b\[[012]?K)|(?P<style>\x1b\[[0-9;:]*m)|(?P<move>" + MOVES.pattern + rb")"
    rb"|[\r\x08]"
)
_RESET = b"\x1b[0m"
_AS_BEFORE = b"\x1b[:m"  # as the line began: no escape says that
_STYLE_BYTES = 64


def has_gone_back(line: bytes) -> bool:
    """Whether the cursor goes back in ``line``, if only to its beginning before it ends."""
    return _BACK.search(line) is not None


def left_of(line: bytes) -> bytes:
    """What shows of ``line``."""
    row: Row[bytes] = Row(b"")
    style, at = b"", 0
    for found in _TOKEN.finditer(line):
        row.write(line[at : found.start()].decode(errors="backslashreplace"), style)
        at = found.end()
        if found["style"]:
            style = _restyled(style, found["style"])
        elif found["erase"]:
            row.erase(found["erase"][2:-1])
        elif found[0] == b"\r":
            row.home()
        elif found[0] == b"\b":
            row.back()
    row.write(line[at:].decode(errors="backslashreplace"), style)
    return _printed(row, style)


def _printed(row: Row[bytes], last: bytes) -> bytes:
    """All of ``row``, with escapes where the looks change, and at its end to ``last``."""
    pieces: list[str] = []
    before = b""
    for letter, style in zip(row.letters, row.styles, strict=True):
        if style is not before:
            pieces.append(_change(before, style))
            before = style
        pieces.append(letter)
    pieces.append(_change(before, last))
    return "".join(pieces).encode()


def _restyled(style: bytes, change: bytes) -> bytes:
    """``style`` after one more escape; of many, a digest in the form of one."""
    if change in {b"\x1b[m", _RESET}:
        return _RESET
    style += change
    if len(style) <= _STYLE_BYTES:
        return style
    return b"\x1b[%dm" % int.from_bytes(sha256(style).digest()[:16])


def _change(before: bytes, style: bytes) -> str:
    """What has to be printed so that ``style`` follows ``before``."""
    if style.startswith(before):
        change = style[len(before) :]
    else:
        change = style if style.startswith(_RESET) else _AS_BEFORE + style
    return change.decode()
