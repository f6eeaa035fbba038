"""OpenSSH's known_hosts: which host key is whose, names in the open, as patterns, or hashed."""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from commands.errors import Invalid
from commands.rules import limits
from commands.rules.globbing import Patterns, is_pattern
from commands.words import gettext as _

PREFERRED: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
"""Types of host keys that can be pinned, the best one first."""
_REVOKED, _AUTHORITY = "@revoked", "@cert-authority"


def check_key(text: str) -> str:
    """A public key as ``"type base64"``, without a comment. Raises Invalid."""
    if text.startswith("SHA256:"):
        raise Invalid(_("The host key is a fingerprint. Give the key itself: ssh-ed25519 AAAA…"))
    kind, data = (*text.split()[:2], "", "")[:2]
    if kind not in PREFERRED:
        raise Invalid(_("A host key reads like ssh-ed25519 AAAA…; get it with ssh-keyscan."))
    if _kind_of(data) != kind:
        sentence = _("The host key is damaged: what comes after %(kind)s is no such key.")
        raise Invalid(sentence % {"kind": kind})
    return f"{kind} {data}"


def _kind_of(data: str) -> str:
    """The type that a key itself names; "" where it is none."""
    try:
        blob = base64.b64decode(data, validate=True)
        [size] = struct.unpack_from(">I", blob)
        return blob[4 : 4 + size].decode("ascii") if size < len(blob) - 4 else ""
    except (binascii.Error, struct.error, UnicodeDecodeError):
        return ""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one host: its keys, the best one first, and those never to be used."""

    keys: tuple[str, ...] = ()
    revoked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A name of which only an HMAC was kept."""

    salt: bytes
    digest: bytes

    def is_of(self, name: str) -> bool:
        return hmac.compare_digest(hmac.digest(self.salt, name.encode(), "sha1"), self.digest)


@dataclass(slots=True)
class KnownHosts:
    """A known_hosts file that was read. ``notes`` tell of lines that say nothing here."""

    notes: list[tuple[int, str]] = field(default_factory=list)
    _plain: dict[str, list[str]] = field(default_factory=dict)
    _plain_revoked: dict[str, list[str]] = field(default_factory=dict)
    _others: list[tuple[_Hashed | Patterns, str, bool]] = field(default_factory=list)

    def find(self, places: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], Found]:
        """What is known of each host and port. Raises Invalid where that would take too long."""
        wanted = set(places)
        if len(wanted) * len(self._others) > limits.IMPORT_COMPARISONS:
            raise Invalid(
                _(
                    "%(hosts)s hosts would have to be compared with %(names)s hashed names and "
                    "patterns. Import fewer at a time, or give known_hosts in parts."
                )
                % {"hosts": f"{len(wanted):,}", "names": f"{len(self._others):,}"},
                field="known_hosts",
            )
        return {place: self._find(name_of(*place)) for place in wanted}

    def _find(self, name: str) -> Found:
        keys = list(self._plain.get(name, ()))
        revoked = list(self._plain_revoked.get(name, ()))
        for names, key, is_revoked in self._others:
            if names.is_of(name):
                (revoked if is_revoked else keys).append(key)
        usable = [key for key in dict.fromkeys(keys) if key not in revoked]
        usable.sort(key=lambda key: PREFERRED.index(key.split()[0]))
        return Found(tuple(usable), frozenset(revoked))

    def add(self, number: int, line: str) -> None:
        """Take in one line."""
        marker = ""
        words = line.split()
        if words[0].startswith("@"):
            marker, words = words[0], words[1:]
        if len(words) < 3:
            self.notes.append((number, _("It is no line of known_hosts: names, type and key.")))
        elif marker == _AUTHORITY:
            text = _(
                "Certificates are not used here, so that the authority of %(names)s stands for no "
                "key: its hosts' keys are needed."
            )
            self.notes.append((number, text % {"names": words[0][:60]}))
        elif marker not in {"", _REVOKED}:
            text = _("The marker %(marker)s is not known.")
            self.notes.append((number, text % {"marker": marker[:60]}))
        else:
            self._add(number, words, revoked=marker == _REVOKED)

    def _add(self, number: int, words: list[str], *, revoked: bool) -> None:
        try:
            key = check_key(" ".join(words[1:3]))
        except Invalid as error:
            self.notes.append((number, error.message))
            return
        if not words[0].startswith("|"):
            self._add_names(words[0].lower(), key, revoked=revoked)
        elif hashed := _hashed(words[0]):
            self._others.append((hashed, key, revoked))
        else:
            self.notes.append((number, _("The hashed name is damaged.")))

    def _add_names(self, names: str, key: str, *, revoked: bool) -> None:
        parts = [name for name in names.split(",") if name]
        if any(map(is_pattern, parts)):
            # One that is not meant counts for all the others.
            self._others.append((Patterns.of(parts), key, revoked))
            return
        place = self._plain_revoked if revoked else self._plain
        for part in parts:
            place.setdefault(part, []).append(key)


def read(text: str) -> KnownHosts:
    """What a known_hosts file says; ``text`` has line ends LF."""
    found = KnownHosts()
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.add(number, line)
    return found


def name_of(host: str, port: int) -> str:
    """The name of a host in known_hosts: with its port, unless that is the usual one."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def _hashed(word: str) -> _Hashed | None:
    try:
        _empty, version, salt, digest = word.split("|")
        found = _Hashed(
            base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
        )
    except (ValueError, binascii.Error):
        return None
    return found if version == "1" and len(found.digest) == 20 else None
