r"""A line of output as a terminal would leave it: what it shows, in which colours.

Of what a terminal obeys these are obeyed: SGR (16, 256 and 24-bit colours, the latter as the
nearest of the 256; bold, underline, reverse), ``\r`` and ``\b``, which let what follows overwrite
what is there, and EL, which erases in the line. Every other escape sequence is left out: CSI,
OSC, DCS and their like, choices of character sets. One that is not whole ends with its line.

Other control characters are shown as symbols (``␀``), and those that would turn the direction of
text, or break a line, as ``\u202e``. What is no UTF-8 is shown byte by byte, as ``\xe9``. So what
stands in a page is what was printed, in its order.

A line costs what its bytes cost, whatever is in them, and becomes at most ``MOST_SPANS`` spans.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from commands.rules.cells import Row
from console import palette

MOST_SPANS: Final = 200
"""Parts of a line that may differ in colour; what comes after them is shown without any."""
MOST_CARRIED: Final = 256
"""Bytes of a sequence that may go on in the next line, where a line is cut for its length."""

_CONTROL = re.compile(
    rb"\x1b\[([0-?]*)([ -/]*)([@-~]?)"  # CSI
    rb"|\x1b[\]PX^_][^\x07\x18\x1a\x1b]*(\x07|\x1b\\|)"  # OSC, DCS, SOS, PM, APC
    rb"|\x1b[ -/]*([0-~]?)"
    rb"|[\r\x08]"
)
_SYMBOLS: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)},
    0x7F: 0x2421,
    **{
        code: f"\\u{code:04x}"
        for code in (
            *range(0x80, 0xA0),
            0x061C,
            0x200E,
            0x200F,
            *range(0x2028, 0x202F),
            *range(0x2066, 0x206A),
        )
    },
}


class Style(NamedTuple):
    """How text is printed. Colours are numbers of the 256; None is the terminal's own."""

    text: int | None = None
    ground: int | None = None
    bold: bool = False
    underline: bool = False
    reverse: bool = False


PLAIN: Final = Style()


class Pen(NamedTuple):
    """What one line of a stream leaves to the next: a style, and the start of a sequence."""

    style: Style = PLAIN
    begun: bytes = b""


class Span(NamedTuple):
    """Text that looks the same throughout, with its CSS classes; "" for none."""

    text: str
    classes: str = ""


def spans(data: bytes, style: Style = PLAIN, *, ended: bool = True) -> tuple[Span, ...]:
    """What is shown of the line ``data`` that begins in ``style``.

    Unless it has ``ended``, a character of which the end has not come is not shown yet.
    """
    data = data.rstrip(b"\r")
    row = _Shown()
    at = 0
    for found in _CONTROL.finditer(data):
        if found.start() > at:
            row.write(_decode(data[at : found.start()], ended=True), style)
        at = found.end()
        style = _styled(style, found)
        row.obey(found)
    row.write(_decode(data[at:], ended=ended), style)
    return tuple(_merged(row.parts()))


def after(data: bytes, style: Style, *, cut: bool) -> Pen:
    """What the line ``data`` that begins in ``style`` leaves to the next one of its stream.

    Where it is ``cut`` for its length, a sequence may go on; a line feed ends it.
    """
    if b"\x1b" not in data:
        return Pen(style)
    for found in _CONTROL.finditer(data):
        style = _styled(style, found)
    begun = data[_unfinished(data) :] if cut else b""
    return Pen(style, begun if len(begun) <= MOST_CARRIED else b"")


def whole(data: bytes) -> bytes:
    """``data`` without a sequence, or a character, that is cut at its end."""
    data = data[: _unfinished(data)]
    _text, size = codecs.utf_8_decode(data, "backslashreplace", False)
    return data[:size]


def text_of(parts: Iterable[Span]) -> str:
    """The text of ``parts``, without colours."""
    return "".join(part.text for part in parts)


def markup(parts: tuple[Span, ...]) -> SafeString:
    """``parts`` as HTML: one node, in which only text with classes has an element."""
    if len(parts) == 1 and not parts[0].classes:
        return escape(parts[0].text)
    inner = "".join(
        f'<span class="{part.classes}">{escape(part.text)}</span>'
        if part.classes
        else escape(part.text)
        for part in parts
    )
    return mark_safe(f"<span>{inner}</span>" if inner else "")  # noqa: S308 - escaped above


class _Shown:
    """What one line shows.

    Nearly all lines are only ever added to: places are made when the cursor first goes back.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[str, Style]] = []
        self._cells: Row[Style] | None = None

    def parts(self) -> Iterable[tuple[str, Style]]:
        """Its text, in pieces that look the same throughout."""
        if self._cells is None:
            return self._parts
        return zip(self._cells.letters, self._cells.styles, strict=True)

    def write(self, text: str, style: Style) -> None:
        """Print ``text`` where the cursor is."""
        if self._cells is None:
            self._parts.append((text, style))
        else:
            self._cells.write(text, style)

    def obey(self, found: re.Match[bytes]) -> None:
        """Move the cursor, or erase, if that is what was ``found``."""
        sequence = found[0]
        if sequence == b"\r":
            self._opened().home()
        elif sequence == b"\b":
            self._opened().back()
        elif found[3] == b"K" and not found[2] and found[1] in {b"", b"0", b"1", b"2"}:
            if self._cells is None and found[1] in {b"", b"0"}:
                return  # the cursor is at the end
            self._opened().erase(found[1])

    def _opened(self) -> Row[Style]:
        if self._cells is None:
            self._cells = Row(PLAIN)
            for text, style in self._parts:
                self._cells.write(text, style)
        return self._cells


def _decode(data: bytes, *, ended: bool) -> str:
    text, _size = codecs.utf_8_decode(data, "backslashreplace", ended)
    return text.translate(_SYMBOLS)


def _merged(parts: Iterable[tuple[str, Style]]) -> Iterator[Span]:
    """``parts`` with neighbours joined that look the same; of too many, the last are plain."""
    given = iter(parts)
    texts: list[str] = []
    looks = ""
    made = 0
    for text, style in given:
        if not text:
            continue
        if texts and (other := _classes(style)) != looks:
            yield Span("".join(texts), looks)
            made += 1
            texts, looks = [], other
            if made == MOST_SPANS - 1:
                yield Span(text + "".join(rest for rest, _style in given))
                return
        elif not texts:
            looks = _classes(style)
        texts.append(text)
    if texts:
        yield Span("".join(texts), looks)


@lru_cache(maxsize=4096)
def _classes(style: Style) -> str:
    colours = palette.classes(style.text, style.ground, reverse=style.reverse)
    more = [name for name, on in (("a-b", style.bold), ("a-u", style.underline)) if on]
    return " ".join((*more, *colours))


def _unfinished(data: bytes) -> int:
    """Where a sequence begins that goes on behind ``data``; its end if none does."""
    start = data.rfind(b"\x1b")
    found = _CONTROL.match(data, start) if start >= 0 else None
    if found and found.end() == len(data) and not (found[3] or found[4] or found[5]):
        return start
    return len(data)


def _styled(style: Style, found: re.Match[bytes]) -> Style:
    """``style`` after the sequence that was ``found``."""
    if found[3] != b"m" or found[2]:
        return style
    codes = found[1]
    if not codes:
        return PLAIN
    return (_remembered if len(codes) <= 32 else _selected)(style, codes)


def _selected(style: Style, codes: bytes) -> Style:
    """``style`` after SGR with ``codes``."""
    given = iter(codes.split(b";"))
    for code in given:
        first, *more = [_number(part) for part in code.split(b":")]
        if first in {38, 48}:
            colour = _extended(more[:1] + more[1:][-3:]) if more else _extended(_following(given))
            if colour is not None:
                style = (
                    style._replace(text=colour) if first == 38 else style._replace(ground=colour)
                )
        else:
            style = style._replace(**_change(first, more))
    return style


_remembered = lru_cache(maxsize=4096)(_selected)


def _number(digits: bytes) -> int:
    """``digits`` as a number; nothing is 0, and anything strange is none that means something."""
    if not digits:
        return 0
    return int(digits) if len(digits) <= 5 and digits.isdigit() else -1


def _following(given: Iterator[bytes]) -> list[int]:
    """What belongs to a colour that is given in codes of its own."""
    kind = _number(next(given, b"-"))
    count = {5: 1, 2: 3}.get(kind, 0)
    return [kind, *(_number(next(given, b"-")) for _ in range(count))]


def _extended(given: list[int]) -> int | None:
    """The number of the colour ``5;n`` or ``2;r;g;b``; None for anything else."""
    kind, *values = given
    if any(not 0 <= value <= 255 for value in values):
        return None
    if kind == 5 and values:
        return values[-1]
    if kind == 2 and len(values) == 3:
        return palette.nearest(*values)
    return None


_CHANGES: dict[int, dict[str, Any]] = {
    0: PLAIN._asdict(),
    1: {"bold": True},
    4: {"underline": True},
    7: {"reverse": True},
    21: {"underline": True},
    22: {"bold": False},
    24: {"underline": False},
    27: {"reverse": False},
    39: {"text": None},
    49: {"ground": None},
    **{30 + n: {"text": n} for n in range(8)},
    **{40 + n: {"ground": n} for n in range(8)},
    **{90 + n: {"text": 8 + n} for n in range(8)},
    **{100 + n: {"ground": 8 + n} for n in range(8)},
}


def _change(code: int, more: list[int]) -> dict[str, Any]:
    if code == 4 and more:  # a kind of underline; 0 is none
        return {"underline": more[0] != 0}
    return _CHANGES.get(code, {})
