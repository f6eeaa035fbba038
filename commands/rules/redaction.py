"""Masking of secret values: in output bytes as they stream, and in text that people read.

Output keeps its length: a secret of n bytes becomes n asterisks, so that byte offsets mean the
same before and after. Text shown to people gets a mark of fixed length, so that not even the
length is given away. Masking is a courtesy against accidents, no wall: a script that reverses,
splits or encrypts a secret prints something that nobody can recognise. What is recognised,
besides the exact bytes, is what ``forms`` lists; Base64 is not among it, because its text
depends on what stands before the secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from commands.rules import limits

HIDDEN: Final = "••••••"
"""What people see in place of a secret value, whatever its length."""


def forms(value: str) -> frozenset[bytes]:
    """The byte strings as which output commonly shows ``value``; make ``Secrets`` of them.

    These are its UTF-8 bytes, with and without white space, or quotes of a script, around them;
    what stands between the quotes of its JSON string, ASCII-only or not; its URL encodings; and
    what stands between the quotes of its sh and PowerShell literals. Too short ones are left out.
    """
    spellings = {value, value.strip(), _unquoted(value.strip())}
    for text in tuple(spellings):
        spellings |= {
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            quote(text, safe="", errors="surrogatepass"),
            quote(text, errors="surrogatepass"),
            quote_plus(text, errors="surrogatepass"),
            text.replace("'", "'\\''"),
            text.replace("'", "''"),
        }
    return frozenset(_usable(text.encode(errors="surrogatepass") for text in spellings))


class Secrets:
    """Byte strings to hide, prepared once, to be looked for again and again.

    Those below ``limits.SECRET_BYTES_MIN`` bytes are ignored.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        self._needles = [_Needle(value) for value in sorted(_usable(values))]

    @property
    def longest(self) -> int:
        """Bytes of the longest of them; 0 without any."""
        return max((len(needle.secret) for needle in self._needles), default=0)

    def stretches(self, data: bytes) -> list[tuple[int, int]]:
        """Start and end of what to hide in ``data``, in order; what overlaps is one stretch."""
        return _merged(sorted(found for one in self._needles for found in one.stretches(data)))

    def open_from(self, data: bytes) -> int:
        """Where the longest tail of ``data`` begins that could begin one of them."""
        return min((needle.open_from(data) for needle in self._needles), default=len(data))

    def hide_in(self, text: str) -> str:
        """``text`` with ``HIDDEN`` in place of every stretch that consists of them."""
        data = text.encode(errors="surrogatepass")
        parts, position = [], 0
        for start, end in self.stretches(data):
            parts += [data[position:start], HIDDEN.encode()]
            position = end
        return b"".join([*parts, data[position:]]).decode(errors="surrogatepass")


class Masker:
    """Masks secrets in one stream of bytes that arrives in chunks of any size.

    Every occurrence of every secret is masked, overlapping and nested ones too, wherever the
    chunks are cut. Output has the length of the input; the result does not depend on the
    chunks. One object per stream; a copy of it is independent.

    Another object can go on behind the bytes that one has released: after ``skip`` with the
    ``masked`` of that one, fed with the same stream from there.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._tail = b""
        self._masked = 0

    @property
    def masked(self) -> int:
        """So many bytes after the released ones belong to a secret that was masked up to there.

        As long as the longest secret at most; they may not have been fed yet.
        """
        return self._masked

    @property
    def held(self) -> int:
        """Bytes that were fed and not released, as they could begin a secret.

        Always fewer than the longest secret has.
        """
        return len(self._tail)

    def feed(self, data: bytes) -> bytes:
        """The masked bytes that are safe to release after ``data`` arrived; may be empty."""
        seen = self._tail + data
        return self._release(seen, self._secrets.open_from(seen))

    def skip(self, size: int, masked: int) -> None:
        """Go on behind ``size`` bytes that another object released, which had ``masked`` then.

        They are the next ones: first those held here, then such as were never fed here.
        """
        self._tail, self._masked = self._tail[size:], masked

    def finish(self) -> bytes:
        """The bytes still held, masked where a secret ended among them. Ends the stream."""
        return self._release(self._tail, len(self._tail))

    def cut(self) -> bytes:
        """What is held, all masked: the next bytes of the stream are missing and never come.

        A secret may have begun there, and another may end behind what is missing. So as many of
        the bytes that follow are masked, too, as a secret can have there.
        """
        held, self._tail = len(self._tail), b""
        self._masked = max(0, self._secrets.longest - 1)
        return b"*" * held

    def _release(self, seen: bytes, until: int) -> bytes:
        masked = bytearray(seen)
        covered = min(self._masked, len(seen))
        masked[:covered] = b"*" * covered
        reach = self._masked
        for start, end in self._secrets.stretches(seen):
            if start >= until:
                break
            masked[start:end] = b"*" * (end - start)
            reach = max(reach, end)
        self._tail, self._masked = seen[until:], max(0, reach - until)
        return bytes(masked[:until])


class _Needle:
    """One secret, prepared for finding all its occurrences in linear time.

    An occurrence can overlap the next one only by a shift of at least the secret's period (the
    smallest shift at which it agrees with itself). So a search goes on one period later, and a
    chain of overlaps at exactly that shift, as in a run of equal bytes, is one match.
    """

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.period = _period(secret)
        self.chain = re.compile(b"(?:" + re.escape(secret[-self.period :]) + b")*+")

    def stretches(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Start and end of each occurrence, or chain of overlapping ones, in order."""
        start = data.find(self.secret)
        while start >= 0:
            link = self.chain.match(data, start + len(self.secret))
            end = link.end() if link else start + len(self.secret)
            yield start, end
            start = data.find(self.secret, end - len(self.secret) + self.period)

    def open_from(self, data: bytes) -> int:
        """Where the longest tail of ``data`` begins that could begin the secret."""
        first = self.secret[:1]
        start = data.find(first, max(0, len(data) - len(self.secret) + 1))
        while start >= 0:
            if self.secret.startswith(data[start:]):
                return start
            start = data.find(first, start + 1)
        return len(data)


def _unquoted(value: str) -> str:
    """``value`` as a script prints it if its quotes were typed with it: without them."""
    quoted = len(value) > 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def _usable(secrets: Iterable[bytes]) -> set[bytes]:
    return {secret for secret in secrets if len(secret) >= limits.SECRET_BYTES_MIN}


def _period(secret: bytes) -> int:
    # The failure function of Knuth, Morris and Pratt: the longest border of every prefix.
    borders = [0] * len(secret)
    border = 0
    for index in range(1, len(secret)):
        while border and secret[index] != secret[border]:
            border = borders[border - 1]
        if secret[index] == secret[border]:
            border += 1
        borders[index] = border
    return len(secret) - border


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in stretches:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
