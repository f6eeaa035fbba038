"""What the rows of an import mean: new, changed, already there or wrong, and why."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from django.conf import settings
from django.db.models import Q
from django.utils.crypto import salted_hmac

from commands.models import Credential, Import, ImportRow, Instance
from commands.models.instance import InstanceQuerySet, fingerprint
from commands.rules import reachable
from commands.rules.content import OsType
from commands.words import gettext as _
from commands.words import gettext_noop

_LABELS: Mapping[str, str] = {
    "host": gettext_noop("Host"),
    "port": gettext_noop("Port"),
    "user": gettext_noop("User"),
    "os": gettext_noop("Os"),
    "host key": gettext_noop("Host key"),
    "credential": gettext_noop("Credential"),
    "tags": gettext_noop("Tags"),
    "jump host": gettext_noop("Jump host"),
}
"""Names of what a row can change."""


_MARK = 32
"""Hexadecimal digits of a mark. A page holds thousands of them."""


class State(StrEnum):
    """What an import would make of a row."""

    WRONG = "wrong"
    CHANGED = "changed"
    NEW = "new"
    SAME = "same"


@dataclass(slots=True)
class Line:
    """What a row means. ``reasons`` are sentences: why it is wrong, what changes, what to mind.

    ``jump_row`` is the row of its jump host, if that is in the same file; else ``jump_host`` is an
    instance, if there is one. ``careful`` is whether nobody should import it without a thought,
    and ``moves`` whether it is another place, or another key, than before.
    """

    row: ImportRow
    state: State = State.NEW
    reasons: list[str] = field(default_factory=list)
    existing: Instance | None = None
    user: str = ""
    os_type: str = OsType.LINUX.value
    host_key: str = ""
    jump_row: ImportRow | None = None
    jump_host: Instance | None = None
    careful: bool = False
    moves: bool = False
    _credential: Credential | None = None

    @property
    def credential(self) -> Credential:
        """What it is signed in with; only for those that are importable."""
        if self._credential is None:
            raise LookupError(self.row.name)
        return self._credential

    @property
    def signs_in_with(self) -> str:
        """The name of the credential, "" if there is none."""
        return self._credential.name if self._credential else ""

    @property
    def importable(self) -> bool:
        """Whether there is something to import."""
        return self.state in {State.NEW, State.CHANGED}

    @property
    def keyless(self) -> bool:
        """Whether it could be imported if its host key were known."""
        return self.importable and not self.host_key

    @property
    def fingerprint(self) -> str:
        """The host key as people compare it."""
        return fingerprint(self.host_key)

    @property
    def mark(self) -> str:
        """A keyed digest of what people are shown: whoever chooses a row chooses this of it."""
        row = self.row
        shown = [row.pk, self.state.value, row.host, row.port, self.host_key, self.reasons]
        text = json.dumps(shown)
        return salted_hmac("row of an import", text, algorithm="sha256").hexdigest()[:_MARK]

    def sign_in_with(self, credential: Credential | None) -> None:
        """Say what it is signed in with."""
        self._credential = credential

    def wrong(self, text: str) -> None:
        """Say why it can't be imported."""
        self.state = State.WRONG
        self.reasons.append(text)


@dataclass(frozen=True, slots=True)
class Review:
    """All rows of an import, those to be looked at first."""

    lines: list[Line]

    def count(self, state: State) -> int:
        """How many rows are in a state."""
        return sum(line.state is state for line in self.lines)


def judge(origin: Import) -> Review:
    """What every row of ``origin`` means now."""
    judgement = _Judgement(origin)
    lines = [judgement.line(row) for row in judgement.rows]
    order = list(State)
    return Review(sorted(lines, key=lambda line: (order.index(line.state), line.row.line)))


def known_jump_host(row: ImportRow) -> Instance | None:
    """The instance through which a row is reached, if it is there already."""
    place = _Place.of(row.jump_host)
    named = Q(name=place.text) | Q(uid=place.text) | Q(host__iexact=place.host)
    return place.find(_usable(row.origin).filter(named))


def existing(row: ImportRow) -> Instance | None:
    """The instance that a row is about, if it is there already."""
    return _own(row.origin).filter(name=row.name).first()


def _own(origin: Import) -> InstanceQuerySet:
    return Instance.objects.filter(team=origin.team_id, region=origin.region_id)


def _usable(origin: Import) -> InstanceQuerySet:
    return Instance.objects.usable_by(origin.team).filter(region=origin.region_id)


_PLACE = re.compile(r"(?:[^@]*@)?(\[[^\]]+\]|[^:\[\]@]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class _Place:
    """A jump host as people write it: a name or an id, ``user@host``, ``host:port``."""

    text: str
    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> _Place:
        """Take it apart."""
        found = _PLACE.fullmatch(text)
        if found is None:
            return cls(text, text, None)
        return cls(text, found[1].strip("[]"), int(found[2]) if found[2] else None)

    def find(self, instances: Iterable[Instance]) -> Instance | None:
        """The instance with that name or id, else with that address; None unless it is one."""
        rows = list(instances)
        for fits in (
            [one for one in rows if self.text in {one.name, one.uid}],
            [one for one in rows if self._leads_to(one)],
        ):
            if len(fits) == 1:
                return fits[0]
        return None

    def _leads_to(self, instance: Instance) -> bool:
        same_host = instance.host.lower() == self.host.lower()
        return same_host and self.port in {None, instance.port}


_At = tuple[str, int, str]
"""A server's address and port, and who signs in there."""


def _place_of(one: ImportRow | Instance, user: str) -> _At:
    return one.host.lower(), one.port, user


class _Judgement:
    """Everything that rows are compared with, read once."""

    def __init__(self, origin: Import) -> None:
        self.origin = origin
        self.rows = list(origin.rows.all())
        self._rows = {row.name: row for row in self.rows if not row.problems}
        self._first: dict[_At, ImportRow] = {}
        for row in self._rows.values():
            self._first.setdefault(_place_of(row, row.user or origin.user), row)
        own = _own(origin).select_related("jump_host").prefetch_related("tags", "behind")
        self._own: dict[str, list[Instance]] = defaultdict(list)
        for instance in own:
            self._own[instance.name].append(instance)
        self._usable = list(_usable(origin).select_related("jump_host"))
        # Instances, and those rows of the file that were looked at.
        self._at: dict[_At, list[str]] = defaultdict(list)
        for instance in self._usable:
            self._at[_place_of(instance, instance.user)].append(instance.name)
        # Without their secrets: a list needs none, and one of them may be unreadable.
        found = Credential.objects.filter(team=origin.team_id, region=origin.region_id)
        credentials = list(found.defer("secret", "passphrase"))
        self._credentials = {one.name: one for one in credentials}
        self._by_key = {one.pk: one for one in credentials}
        self._jumps: dict[str, Instance | None] = {}

    def line(self, row: ImportRow) -> Line:
        """What ``row`` means."""
        line = Line(row, reasons=list(row.problems))
        if row.problems:
            line.state = State.WRONG
            return line
        namesakes = self._own.get(row.name, [])
        if len(namesakes) > 1:
            sentence = _("There are %(n)s instances with this name already.")
            line.wrong(sentence % {"n": len(namesakes)})
            return line
        line.existing = namesakes[0] if namesakes else None
        self._place(line)
        self._key(line)
        self._jump(line)
        if line.state is not State.WRONG:
            self._compare(line)
        return line

    def _place(self, line: Line) -> None:
        """Who signs in, with what, on which system."""
        row, old = line.row, line.existing
        line.user = row.user or (old.user if old else self.origin.user)
        if not line.user:
            line.wrong(_("Nobody is named to sign in as. Name a user for the rows without one."))
        if reason := reachable.refusal(row.host, settings.CONSOLE_ALLOWED_NETWORKS):
            line.wrong(reason)
        line.os_type = row.os_type or (old.os_type if old else OsType.LINUX.value)
        line.sign_in_with(self._credential(line))

    def _credential(self, line: Line) -> Credential | None:
        row, old = line.row, line.existing
        names = [row.credential, *([f"Key {row.credential}"] if row.credential_guessed else [])]
        for name in names:
            if row.credential and name in self._credentials:
                return self._credentials[name]
        if row.credential and not row.credential_guessed:
            sentence = _("There is no credential called %(name)s here.")
            line.wrong(sentence % {"name": row.credential})
            return None
        key = old.credential_id if old else self.origin.credential_id
        found = self._by_key.get(key) if key is not None else None
        if found is None:
            sentence = _("It has no credential. Choose one for the rows without.")
            if row.credential:
                sentence = _(
                    "It has no credential. Choose one for the rows without. Its file names the "
                    "key %(name)s."
                ) % {"name": row.credential}
            line.wrong(sentence)
        return found

    def _key(self, line: Line) -> None:
        line.host_key = line.row.host_key or (line.existing.host_key if line.existing else "")
        if line.host_key and line.host_key in line.row.revoked:
            line.wrong(
                _("Its host key is revoked in known_hosts. It must not be trusted any more.")
            )

    def _jump(self, line: Line) -> None:
        text = line.row.jump_host
        if not text:
            return
        jump_row, jump_host = self._way(text)
        if jump_row is None and jump_host is None:
            sentence = _("Its jump host %(name)s is neither in this file nor an instance here.")
            line.wrong(sentence % {"name": text})
        elif jump_row == line.row or (jump_host and jump_host == line.existing):
            line.wrong(_("It can't be its own jump host."))
        elif (jump_row and self._is_behind(jump_row)) or (jump_host and jump_host.jump_host_id):
            line.wrong(
                _(
                    "Its jump host %(name)s is reached through a jump host itself, and only one "
                    "is passed through."
                )
                % {"name": text}
            )
        elif line.existing and line.existing.behind.all():
            line.wrong(_("It is the jump host of others, so it must be reached directly."))
        line.jump_row, line.jump_host = jump_row, jump_host

    def _way(self, text: str) -> tuple[ImportRow | None, Instance | None]:
        """What ``text`` names: a row, also where it finds the instance of one; or an instance.

        Of several names for one server it is the first one, the others are not chosen at first.
        """
        named = self._rows.get(text) or self._rows.get(_Place.of(text).host)
        if named and named.name not in self._own:
            named = self._first[_place_of(named, named.user or self.origin.user)]
        found = None if named else self._jump_host(text)
        if found and found.team_id == self.origin.team_id and found.name in self._rows:
            return self._rows[found.name], None
        return named, found

    def _is_behind(self, row: ImportRow) -> bool:
        """Whether a row is reached through a jump host, or the instance that it stands for is."""
        return bool(row.jump_host) or any(one.jump_host_id for one in self._own.get(row.name, ()))

    def _jump_host(self, text: str) -> Instance | None:
        if text not in self._jumps:
            self._jumps[text] = _Place.of(text).find(self._usable)
        return self._jumps[text]

    def _compare(self, line: Line) -> None:
        """Whether it is there already, and what is different."""
        row, old = line.row, line.existing
        place = _place_of(row, line.user)
        others = self._at[place]
        self._at[place] = [*others, row.name]
        if old is None:
            if others:
                line.careful = True
                sentence = _("%(name)s has the same address and user.")
                line.reasons.append(sentence % {"name": others[0]})
            return
        changes = _changes(line, old)
        jump_name = line.jump_row.name if line.jump_row else line.jump_host and line.jump_host.name
        old_jump = old.jump_host.name if old.jump_host else ""
        if jump_name and jump_name != old_jump:
            changes["jump host"] = (old_jump or _("none"), jump_name)
        line.moves = bool(changes.keys() - {"tags"})
        line.careful = "host key" in changes
        line.state = State.CHANGED if changes else State.SAME
        line.reasons.extend(
            _("%(what)s: %(before)s → %(after)s.")
            % {"what": _(_LABELS[what]), "before": before, "after": after}
            for what, (before, after) in changes.items()
        )


def _changes(line: Line, old: Instance) -> dict[str, tuple[str, str]]:
    """What a row says differently of an instance, jump host aside: before and after, by what."""
    row = line.row
    pairs = {
        "host": (old.host, row.host),
        "port": (str(old.port), str(row.port)),
        "user": (old.user, line.user),
        "os": (old.os_type, line.os_type),
        "host key": (fingerprint(old.host_key), fingerprint(line.host_key)),
    }
    if old.credential_id != line.credential.pk:
        pairs["credential"] = (_("another one"), line.credential.name)
    if row.tags is not None:
        pairs["tags"] = (
            _listed({tag.key: tag.value for tag in old.tags.all()}),
            _listed(row.tags),
        )
    return {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}


def _listed(tags: Mapping[str, str]) -> str:
    words = (f"{key}={value}" if value else key for key, value in sorted(tags.items()))
    return ", ".join(words) or _("none")
