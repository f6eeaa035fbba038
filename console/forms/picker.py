"""What the instance picker is asked: its filters, its page, and lists that people paste."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from commands.models import Instance
from commands.rules import limits

SEARCH_CHARS = 200
PASTED_ENTRIES = 10_000
"""Most names in a pasted list; a longer one is refused, so that an answer takes no long time."""

Data = QueryDict | MultiValueDict[str, str]
"""What the browser sent, by name of a field."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What is looked for, and which page of it; ``shown`` is "only what is selected".

    ``group`` is what was sent as the id of a resource group, which the team may not have.

    ``on`` are the ids that a page shows already, whatever is looked for.
    """

    q: str = ""
    os: str = ""
    connection: str = ""
    tags: tuple[str, ...] = ()
    group: str = ""
    page: str = "1"
    shown: bool = False
    on: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Data) -> Self:
        """The filters in ``data``; values that mean nothing are left out."""
        tags = data.getlist("tag")[: limits.TAG_FILTERS]
        return cls(
            q=_text(data, "q")[:SEARCH_CHARS].strip(),
            os=_one_of(Instance.Os.values, _text(data, "os")),
            connection=_one_of(Instance.Connection.values, _text(data, "connection")),
            tags=tuple(dict.fromkeys(filter(None, map(_readable, tags)))),
            group=_text(data, "group"),
            page=_text(data, "page") or "1",
            shown=bool(_text(data, "shown")),
            on=tuple(data.getlist("on")),
        )


def _readable(text: str) -> str:
    """``text`` without what can be put neither into a page nor into a database."""
    return text.encode(errors="replace").decode().replace("\0", " ")


def _text(data: Data, name: str) -> str:
    return _readable(str(data.get(name) or ""))


def _one_of(values: list[str], value: str) -> str:
    return value if value in values else ""


def pasted_entries(text: str) -> list[list[str]]:
    """Entries of a pasted list: its words, and before them the whole if they are several.

    Entries end with a line, a comma or a semicolon. Words may be entries too, but names may
    also have spaces: that is for the caller to find out.
    """
    entries = (entry.split() for entry in re.split(r"[\r\n,;]+", _readable(text)))
    return [[" ".join(words), *words] if len(words) > 1 else words for words in entries if words]
