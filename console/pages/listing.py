"""The left half of a task's page: which of its instances are listed, and how, at any size.

Few instances are all in the page, and those that a filter leaves out are hidden there; of many,
a part of them is asked for. Both understand the same filters, which stand in the address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.paginator import Page, Paginator
from django.http import QueryDict

from commands.models import Invocation, Run
from commands.services import sameness
from console import groups, presentation
from console.presentation import RunView, Size
from console.templatetags.console_ui import STATUS_WORDS, status_state

ROWS_PER_PAGE = 100
GROUPS_PER_PAGE = 50
SEARCH_CHARS = 200

_STATES = {word: state for state, word in STATUS_WORDS.items()}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which instances are asked for, and how they are to be shown."""

    status: str = ""
    """The state of ``console_ui.STATUSES`` that is shown; "" for all."""
    words: tuple[str, ...] = ()
    q: str = ""
    same: bool = False
    loose: bool = False
    page: str = ""

    @classmethod
    def of(cls, query: QueryDict, size: Size) -> Filters:
        """Those of an address. What makes no sense there counts as not said."""
        q = query.get("q", "")[:SEARCH_CHARS].replace("\x00", "").strip()
        view = query.get("view", "")
        return cls(
            status=_STATES.get(query.get("status", ""), ""),
            words=tuple(q.casefold().split()),
            q=q,
            same=view == "same" or (size is Size.MANY and view != "instances"),
            loose=query.get("loose") == "1",
            page=query.get("page", ""),
        )

    @property
    def any(self) -> bool:
        """Whether some instances may be left out."""
        return bool(self.status or self.words)

    def show(self, run: Run) -> bool:
        """Whether ``run`` is one of those that are asked for."""
        if self.status and status_state(run.status) != self.status:
            return False
        return all(_says(run, word) for word in self.words)


def _says(run: Run, word: str) -> bool:
    name, colon, code = word.partition(":")
    if name == "exit" and colon and code.lstrip("-").isdecimal():
        return str(run.exit_code) == code
    told = (run.instance_name, run.instance_uid, run.address, run.last_line, run.error_info)
    return any(word in text.casefold() for text in told)


@dataclass(frozen=True, slots=True)
class Listing:
    """The left half, for its templates."""

    size: Size
    filters: Filters
    query: QueryDict
    """What of the address stays when another state, view or page is chosen."""
    links: QueryDict
    """The same for another instance."""
    rows: list[RunView]
    hidden: frozenset[int]
    """Rows that are in the page and do not show."""
    none: bool
    page: Page[Any] | None
    same: groups.Told
    """How far the instances agree, filters aside."""
    groups: list[groups.GroupView]
    distinct: int
    compared: int
    left: int
    """Runs that have ended and were not compared yet."""
    total: int

    @property
    def one(self) -> bool:
        """Whether there is nothing to list."""
        return self.size is Size.ONE

    @property
    def many(self) -> bool:
        """Whether there are so many instances that a part of them is shown."""
        return self.size is Size.MANY


def listing(
    invocation: Invocation,
    runs: Sequence[Run],
    query: QueryDict,
    now: datetime,
    *,
    current: int | None,
) -> Listing:
    """The instances of a task as an address asks for them; ``current`` is the one that shows."""
    size = Size.of(len(runs))
    filters = Filters.of(query, size)
    if filters.same and size is not Size.ONE and sameness.uncompared(runs):
        sameness.compare(invocation)
        runs = list(invocation.runs.all())
    wanted = [run for run in runs if filters.show(run)]
    listed, page, hidden = _rows(wanted, runs, filters, size)
    shown, group_page, found = _groups(invocation, wanted, runs, filters, size)
    kept = _kept(query)
    links = _without_instance(kept)
    return Listing(
        size=size,
        filters=filters,
        query=kept,
        links=links,
        rows=presentation.run_views(invocation, listed, now, current=current, query=links),
        hidden=hidden,
        none=not (found if filters.same else wanted),
        page=group_page if filters.same else page,
        same=groups.told(runs),
        groups=shown,
        distinct=found,
        compared=sum(map(sameness.is_compared, wanted)),
        left=sameness.uncompared(runs),
        total=len(runs),
    )


def _rows(
    wanted: Sequence[Run], runs: Sequence[Run], filters: Filters, size: Size
) -> tuple[list[Run], Page[Any] | None, frozenset[int]]:
    """The runs that get a row, their page if there are many, and which of them are hidden."""
    if size is not Size.MANY:
        return list(runs), None, frozenset({run.pk for run in runs} - {run.pk for run in wanted})
    if filters.same:
        return [], None, frozenset()
    ordered = sorted(wanted, key=presentation.problems_first)
    page = Paginator(ordered, ROWS_PER_PAGE).get_page(filters.page)
    return list(page.object_list), page, frozenset()


def _groups(
    invocation: Invocation,
    wanted: Iterable[Run],
    runs: Sequence[Run],
    filters: Filters,
    size: Size,
) -> tuple[list[groups.GroupView], Page[Any] | None, int]:
    """The groups that show, their page, and how many there are."""
    if not filters.same or size is Size.ONE:
        return [], None, 0
    largest = largest_of(sameness.groups_of(runs, loose=filters.loose))
    found = sameness.groups_of(wanted, loose=filters.loose)
    page = Paginator(found, GROUPS_PER_PAGE).get_page(filters.page)
    views = groups.group_views(
        invocation, list(page.object_list), largest.key if largest else "", loose=filters.loose
    )
    return views, page, len(found)


def largest_of(found: Sequence[sameness.Group]) -> sameness.Group | None:
    """The group that others are compared with."""
    return max(found, key=lambda group: group.count, default=None)


def _kept(query: QueryDict) -> QueryDict:
    """What of an address stays when another state, view or page is chosen."""
    kept = query.copy()
    for name in set(kept) - {"status", "q", "view", "loose", "instance"}:
        del kept[name]
    return kept


def _without_instance(query: QueryDict) -> QueryDict:
    kept = query.copy()
    kept.pop("instance", None)
    return kept
