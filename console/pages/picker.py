"""Section 2 of ``/run/``: searching, filtering, paging and selecting instances."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.core.paginator import Page, Paginator
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from commands.models import Instance, InstanceTag, ResourceGroup
from commands.models.instance import ConnectionState, InstanceQuerySet
from commands.rules.content import CommandType
from commands.rules.quotas import Quota
from commands.services import eligibility, quotas
from commands.words import retold
from console import grouping
from console.forms.picker import SEARCH_CHARS, Data, Filters
from console.pages import pasted
from console.resolve import Scope
from console.templatetags.console_ui import day

PAGE_SIZE = 25
TAGS = 50
"""Most tags to filter by that are listed; a search finds instances by all others."""

WORDS = {
    CommandType.SHELL: "Shell",
    CommandType.BAT: "Bat",
    CommandType.POWERSHELL: "PowerShell",
}
_CONNECTIONS = {
    ConnectionState.UNKNOWN: ("idle", "idle"),
    ConnectionState.REACHABLE: ("ok", "ok"),
    ConnectionState.UNREACHABLE: ("idle", "off"),
    ConnectionState.HOST_KEY_CHANGED: ("bad", "bad"),
    ConnectionState.SIGN_IN_REFUSED: ("warn", "warn"),
}
_ACTION = re.compile(r"search|reload|reset|clear|add|select-matching|remove-unfit|page:(\d{1,9})")


class Look(NamedTuple):
    """How a connection is shown: in words, with a state (colour) and an icon (shape)."""

    label: str
    state: str
    icon: str


@dataclass(frozen=True, slots=True)
class Row:
    """An instance in the table; ``reason`` says why it can't be chosen, "" if it can."""

    instance: Instance
    look: Look
    reason: str
    selected: bool


@dataclass(frozen=True, slots=True)
class Picker:
    """Everything that section 2 shows.

    ``total`` is the size of the inventory; ``fit`` is how many of all that match can be chosen,
    and ``left`` how many of them are not yet. ``selected`` counts the selection, of which
    ``unfit`` can't run the command, ``gone`` more are no longer there, and ``elsewhere`` (as
    instance and whether it fits) are not on this page. ``added`` is the digest of the pasted list
    that was added last.
    """

    filters: Filters
    kind: CommandType
    page: Page[Instance]
    rows: list[Row]
    fit: int
    fit_here: int
    left: int
    total: int
    limit: int
    selected: int
    elsewhere: list[tuple[Instance, bool]]
    unfit: int
    gone: int
    tags: list[str]
    groups: list[ResourceGroup]
    group: ResourceGroup | None
    told: str
    paste: str
    added: str
    os_choices: list[tuple[str, str]]
    connection_choices: list[tuple[str, str]]

    search_chars = SEARCH_CHARS

    @property
    def word(self) -> str:
        """What people call the type of the command."""
        return WORDS[self.kind]

    @property
    def system(self) -> str:
        """What the command runs on."""
        return "Linux" if self.kind is CommandType.SHELL else "Windows"

    @property
    def room(self) -> int:
        """How many more may be selected."""
        return max(0, self.limit - self.selected)

    @property
    def more(self) -> bool:
        """Whether there is something to select beyond this page."""
        return self.fit > self.fit_here and self.left > 0 and self.room > 0

    @property
    def too_many(self) -> bool:
        """Whether what matches and what is selected already are more than the limit together."""
        return self.left > self.room


def picker(
    scope: Scope, data: Data, kind: CommandType, selected: Sequence[str], now: datetime
) -> Picker:
    """What section 2 shows for what was sent (``data``) and the ids in ``selected``."""
    filters = Filters.of(data)
    inventory = _inventory(scope)
    chosen = _chosen(inventory, selected)
    groups = grouping.choices(scope.team)
    found = _found(inventory, filters, selected, groups)
    page = Paginator(found.prefetch_related("tags"), PAGE_SIZE).get_page(filters.page)
    rows = [_row(instance, kind, chosen, now) for instance in page.object_list]
    fitting = eligibility.fitting(found, kind)
    here = {row.instance.uid for row in rows}
    fits = {uid: not eligibility.unfit(instance, kind) for uid, instance in chosen.items()}
    return Picker(
        filters=filters,
        kind=kind,
        page=page,
        rows=rows,
        fit=fitting.count(),
        fit_here=sum(not row.reason for row in rows),
        left=fitting.exclude(uid__in=chosen).count(),
        total=inventory.count(),
        limit=_limit(scope),
        selected=len(chosen),
        elsewhere=[(one, fits[uid]) for uid, one in chosen.items() if uid not in here],
        unfit=sum(not fit for fit in fits.values()),
        gone=len(set(selected)) - len(chosen),
        tags=frequent_tags(inventory, filters),
        groups=groups,
        group=grouping.chosen(groups, filters.group),
        told=_told(inventory, data, kind, chosen),
        paste=str(data.get("paste", "")),
        added=_added(data),
        os_choices=Instance.Os.choices,
        connection_choices=[(str(key), str(word)) for key, word in ConnectionState.choices],
    )


def present(scope: Scope, uids: Iterable[str]) -> list[str]:
    """Those of ``uids`` that are instances of the inventory, in their order."""
    return list(_chosen(_inventory(scope), list(uids)))


def rows(request: HttpRequest, scope: Scope, kind: CommandType) -> HttpResponse:
    """The rows, and what else of section 2 changes with them, as a fragment of the form.

    ``on`` (repeated) names the instances that a page shows already: only their rows come.
    """
    now = timezone.now()
    action = request.GET.get("action", "")
    data = apply(scope, action, request.GET, kind, now) if knows(action) else request.GET
    shown = picker(scope, data, kind, data.getlist("instances"), now)
    return render(request, "run/_picker_rows.html", {"picker": shown, "fragment": True})


def pressed(data: QueryDict) -> str:
    """What was pressed, "" for creating the task.

    Enter in any field presses the form's first button, which is called ``by``; behind a search
    that was not made yet it means that search.
    """
    if data.get("by") == "enter" and data.get("q", "").strip() != data.get("searched", ""):
        return "search"
    return data.get("action", "")


def knows(action: str) -> bool:
    """Whether a button of section 2 has this value."""
    return _ACTION.fullmatch(action) is not None


def apply(
    scope: Scope, action: str, data: QueryDict, kind: CommandType, now: datetime
) -> QueryDict:
    """What the form holds after a button of section 2 was pressed; ``knows`` tells which."""
    after = data.copy()
    if action.startswith("page:"):
        after["page"] = action.removeprefix("page:")
    elif action == "search":
        after["page"] = "1"
    elif action in {"reset", "clear"}:
        for name in (
            ("q", "os", "connection", "group", "tag", "page")
            if action == "reset"
            else ["instances"]
        ):
            after.setlist(name, [])
        after.setlist("shown", [])
    elif action == "remove-unfit":
        after.setlist("instances", _fitting(scope, data, kind))
    elif action in {"add", "select-matching"}:
        after.setlist("instances", _with_more(scope, action, data, kind))
    return after


def _inventory(scope: Scope) -> InstanceQuerySet:
    usable = scope.only.instances(Instance.objects.usable_by(scope.team))
    return usable.filter(region=scope.region)


def _limit(scope: Scope) -> int:
    return quotas.limit(team=scope.team, region=scope.region, key=Quota.INSTANCES_PER_TASK)


def _possible(uids: Iterable[str]) -> list[str]:
    # Not every database takes every character in a comparison; no id has such characters.
    return [uid for uid in dict.fromkeys(uids) if uid.isascii() and uid.isprintable()]


def _chosen(inventory: InstanceQuerySet, uids: Sequence[str]) -> dict[str, Instance]:
    """The instances called ``uids`` that may be used, by id, in the order they were chosen."""
    found = {one.uid: one for one in inventory.filter(uid__in=_possible(uids))}
    return {uid: found[uid] for uid in dict.fromkeys(uids) if uid in found}


def _found(
    inventory: InstanceQuerySet,
    filters: Filters,
    selected: Sequence[str],
    groups: Sequence[ResourceGroup],
) -> InstanceQuerySet:
    if filters.on:
        return inventory.filter(uid__in=_possible(filters.on))
    if filters.shown:
        inventory = inventory.filter(uid__in=_possible(selected))
    return inventory.search(filters.q).facet(
        os_type=filters.os,
        connection=filters.connection,
        tags=filters.tags,
        group=grouping.chosen(groups, filters.group),
    )


def _fitting(scope: Scope, data: QueryDict, kind: CommandType) -> list[str]:
    chosen = _chosen(_inventory(scope), data.getlist("instances"))
    return [uid for uid, one in chosen.items() if not eligibility.unfit(one, kind)]


def _with_more(scope: Scope, action: str, data: QueryDict, kind: CommandType) -> list[str]:
    """The selection with what was pasted, or with all that match, up to the limit."""
    inventory, selected = _inventory(scope), data.getlist("instances")
    chosen = list(_chosen(inventory, selected))
    if action == "add":
        found = pasted.read(inventory, data.get("paste", "")).found
        uids = [one.uid for one in found if not eligibility.unfit(one, kind)]
    else:
        # What others lent is picked one by one: they chose its name and tags.
        groups = grouping.choices(scope.team)
        matching = _found(inventory, Filters.of(data), selected, groups).filter(team=scope.team)
        uids = list(eligibility.fitting(matching, kind).values_list("uid", flat=True))
    news = [uid for uid in uids if uid not in set(chosen)]
    return chosen + news[: max(0, _limit(scope) - len(chosen))]


def waiting(scope: Scope, data: Data, selected: Sequence[str]) -> str:
    """A sentence if a list was pasted and never added, else ""."""
    text = str(data.get("paste", ""))
    if pasted.digest(text) in {"", data.get("added", "")}:
        return ""
    return pasted.waiting(pasted.read(_inventory(scope), text), set(selected))


def _added(data: Data) -> str:
    if data.get("action") == "add":
        return pasted.digest(str(data.get("paste", "")))
    return str(data.get("added", ""))[: pasted.DIGEST_CHARS]


def _told(
    inventory: InstanceQuerySet, data: Data, kind: CommandType, chosen: dict[str, Instance]
) -> str:
    """What became of a pasted list, if one was added just now."""
    if data.get("action") != "add":
        return ""
    return pasted.sentence(pasted.read(inventory, str(data.get("paste", ""))), kind, chosen)


def frequent_tags(inventory: InstanceQuerySet, filters: Filters) -> list[str]:
    """Tags to filter by: the most frequent ones by name, and those that are filtered by."""
    counts = InstanceTag.objects.filter(instance__in=inventory).values("key", "value")
    often = counts.annotate(number=Count("pk")).order_by("-number", "key", "value")[:TAGS]
    tags = {str(InstanceTag(key=row["key"], value=row["value"])) for row in often}
    return sorted(tags | set(filters.tags), key=str.casefold)


def _row(instance: Instance, kind: CommandType, chosen: dict[str, Instance], now: datetime) -> Row:
    reason = eligibility.unfit(instance, kind)
    if reason and instance.connection_info and instance.connection != "reachable":
        reason = f"{reason} {retold(instance.connection_info)}"
    return Row(instance, connection_look(instance, now), reason, instance.uid in chosen)


def connection_look(instance: Instance, now: datetime) -> Look:
    """How an instance's connection is shown: ``Reachable, 4 s ago``, its colour and shape."""
    if not instance.enabled:
        return Look(_("Switched off"), "idle", "off")
    connection = ConnectionState(instance.connection)
    state, icon = _CONNECTIONS[connection]
    return Look(_connection_words(instance, connection, now), state, icon)


def _connection_words(instance: Instance, connection: ConnectionState, now: datetime) -> str:
    since, checked = instance.connection_since, instance.checked_at
    if connection == ConnectionState.REACHABLE and checked:
        return _("Reachable, %(age)s ago") % {
            "age": _age(max(0, int((now - checked).total_seconds())))
        }
    if connection == ConnectionState.UNREACHABLE and since:
        clock = timezone.localtime(since).strftime("%H:%M")
        return _("Unreachable since %(clock)s %(day)s") % {"clock": clock, "day": day(since)}
    return str(connection.label)


def _age(seconds: int) -> str:
    for size, words in (
        (86_400, pgettext("age", "%(n)d d")),
        (3_600, pgettext("age", "%(n)d h")),
        (60, pgettext("age", "%(n)d min")),
    ):
        if seconds >= size:
            return words % {"n": seconds // size}
    return pgettext("age", "%(n)d s") % {"n": seconds}
