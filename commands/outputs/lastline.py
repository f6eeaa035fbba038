"""The last line that a run has printed, as lists show it beside its name."""

from __future__ import annotations

import re

from commands.rules import limits

_KEEP = 4 * limits.LAST_LINE_CHARS
_ESCAPES = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class LastLine:
    """Fed with output in order of arrival, both streams together; remembers a little of it."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> str:
        """The last line with something on it, as plain text of one line; "" if there is none."""
        tail = self._tail + data
        for line in reversed(_end(tail, 8 * _KEEP).splitlines()):
            text = _plain(line)
            if text:
                break
        else:
            text = ""
        self._tail = _end(tail.rpartition(b"\n")[2], _KEEP)
        return text


def _end(data: bytes, size: int) -> bytes:
    """The last ``size`` bytes of ``data``, without the rest of a character that is cut there."""
    return data if len(data) <= size else data[-size:].lstrip(_CONTINUATIONS)


def _plain(line: bytes) -> str:
    text = _ESCAPES.sub(b"", line[:_KEEP]).decode(errors="backslashreplace")
    return _CONTROLS.sub("", text).strip()[: limits.LAST_LINE_CHARS]
