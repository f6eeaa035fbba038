"""Lists of instances that people paste: what is meant by each entry, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from commands.models import Instance
from commands.models.instance import InstanceQuerySet
from commands.rules.content import CommandType
from commands.services import eligibility
from console.forms.picker import PASTED_ENTRIES, pasted_entries
from console.templatetags.console_ui import grouped

NAMED = 5
"""Most names in a part of the sentence; the others are counted."""
NAME_CHARS = 40
DIGEST_CHARS = 16


@dataclass(slots=True)
class Pasted:
    """A list as it was understood; every instance and every entry is there once.

    ``entries`` counts what the list has. If it has too many, nothing is looked up.
    """

    entries: int
    found: list[Instance] = field(default_factory=list)
    several: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read(inventory: InstanceQuerySet, text: str) -> Pasted:
    """What the entries of ``text`` mean: names, ids and addresses, in any case."""
    entries = pasted_entries(text)
    pasted = Pasted(sum(max(1, len(entry) - 1) for entry in entries))
    if not entries or pasted.entries > PASTED_ENTRIES:
        return pasted
    called = _by_what_it_is_called(inventory)
    words = dict.fromkeys(
        word
        for entry in entries
        for word in (entry[:1] if len(entry) == 1 or entry[0].casefold() in called else entry[1:])
    )
    found: dict[int, Instance] = {}
    for word in words:
        meant = called.get(word.casefold(), {})
        if len(meant) == 1:
            found.update(meant)
        else:
            (pasted.several if meant else pasted.missing).append(word)
    pasted.found = list(found.values())
    return pasted


def digest(text: str) -> str:
    """What stands in a page for a list that was added: lists may be long. "" for no list."""
    entries = repr(pasted_entries(text)).encode()
    return hashlib.sha256(entries).hexdigest()[:DIGEST_CHARS] if entries != b"[]" else ""


def waiting(pasted: Pasted, chosen: Collection[str]) -> str:
    """A sentence if entries of a list that was not added are not selected either, else ""."""
    number = pasted.entries
    if number <= PASTED_ENTRIES:
        left = sum(one.uid not in chosen for one in pasted.found)
        number = left + len(pasted.several) + len(pasted.missing)
    if not number:
        return ""
    return ngettext(
        "%(n)s pasted name hasn't been added. Add it or clear the list.",
        "%(n)s pasted names haven't been added. Add them or clear the list.",
        number,
    ) % {"n": grouped(number)}


def _by_what_it_is_called(inventory: InstanceQuerySet) -> dict[str, dict[int, Instance]]:
    called: dict[str, dict[int, Instance]] = {}
    for one in inventory.defer("host_key", "connection_info", "system"):
        for word in (one.uid, one.name, one.host, one.address):
            called.setdefault(word.casefold(), {})[one.pk] = one
    return called


def sentence(pasted: Pasted, kind: CommandType, chosen: Collection[str]) -> str:
    """What became of the list: ``12 found, 1 offline (web-04), 2 not found (wbe-03, x9)``."""
    if not pasted.entries:
        return _("Paste at least one name, ID or address.")
    if pasted.entries > PASTED_ENTRIES:
        return _("The list has %(n)s entries. Paste %(most)s or fewer at a time.") % {
            "n": grouped(pasted.entries),
            "most": grouped(PASTED_ENTRIES),
        }
    fit, offline, others = _sorted(pasted.found, kind)
    left_out = sum(one.uid not in chosen for one in fit)
    parts = [
        ngettext("%(n)s found", "%(n)s found", len(fit)) % {"n": grouped(len(fit))},
        _part(_("%(n)s offline (%(names)s)"), offline),
        _part(_("%(n)s can't be selected (%(names)s)"), others),
        _part(_("%(n)s match several instances, use the ID (%(names)s)"), pasted.several),
        _part(_("%(n)s not found (%(names)s)"), pasted.missing),
        _("%(n)s left out at the limit") % {"n": grouped(left_out)} if left_out else "",
    ]
    return ", ".join(part for part in parts if part)


def _sorted(
    found: Iterable[Instance], kind: CommandType
) -> tuple[list[Instance], list[str], list[str]]:
    """Those that fit, and the names of those offline, and of those that don't fit otherwise."""
    fit: list[Instance] = []
    offline: list[str] = []
    others: list[str] = []
    for one in found:
        if not eligibility.unfit(one, kind):
            fit.append(one)
        elif one.connection == Instance.Connection.UNREACHABLE:
            offline.append(one.name)
        else:
            others.append(one.name)
    return fit, offline, others


def _part(words: str, names: Sequence[str]) -> str:
    return words % {"n": grouped(len(names)), "names": _few(names)} if names else ""


def _few(names: Sequence[str]) -> str:
    few = ", ".join(_short(names[:NAMED]))
    if len(names) <= NAMED:
        return few
    return _("%(names)s and %(n)s more") % {"names": few, "n": grouped(len(names) - NAMED)}


def _short(names: Iterable[str]) -> list[str]:
    return [name if len(name) <= NAME_CHARS else f"{name[:NAME_CHARS]}…" for name in names]
