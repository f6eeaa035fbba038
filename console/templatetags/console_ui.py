"""What people read for what the product knows: icons, words for states, times, bars.

``STATUSES`` is the single table of how a status is shown; pages and streams use it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from django import template
from django.forms import BaseForm
from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.translation import gettext, gettext_lazy, ngettext_lazy

from commands import words
from commands.rules import quotas

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise

register = template.Library()


class Look(NamedTuple):
    """How one status is shown: its word, its state (colour) and its icon (shape)."""

    label: StrPromise
    state: str
    icon: str


_STOPPED = Look(gettext_lazy("Stopped"), "stop", "stop")
_NOT_DELIVERED = Look(gettext_lazy("Couldn't be delivered"), "bad", "bad")

STATUSES: Mapping[str, Look] = {
    "Pending": Look(gettext_lazy("Pending"), "idle", "idle"),
    "Running": Look(gettext_lazy("Running"), "run", "run"),
    "Stopping": Look(gettext_lazy("Stopping"), "run", "run"),
    "Success": Look(gettext_lazy("Succeeded"), "ok", "ok"),
    "Failed": Look(gettext_lazy("Failed"), "bad", "bad"),
    "PartialFailed": Look(gettext_lazy("Partly failed"), "warn", "warn"),
    "Timeout": Look(gettext_lazy("Timed out"), "warn", "time"),
    "Stopped": _STOPPED,
    "Cancelled": _STOPPED,
    "Terminated": _STOPPED,
    "Error": Look(gettext_lazy("Error"), "bad", "bad"),
    "Invalid": _NOT_DELIVERED,
    "Aborted": _NOT_DELIVERED,
}

STATUS_LABELS: Mapping[str, StrPromise] = {word: look.label for word, look in STATUSES.items()}

STATUS_WORDS: Mapping[str, str] = {
    "bad": "failed",
    "warn": "timeout",
    "run": "running",
    "idle": "pending",
    "ok": "succeeded",
    "stop": "stopped",
}
"""Words for states in addresses."""

SQUARES: Mapping[str, str] = {
    "ok": "o",
    "bad": "f",
    "warn": "t",
    "run": "r",
    "idle": "p",
    "stop": "s",
}
"""One letter for each state, where many are told at once."""

# States in the order of a bar: what has ended first, so that the bar also reads as progress.
_BAR_SENTENCES: Mapping[str, StrPromise] = {
    "ok": ngettext_lazy("%(count)d succeeded", "%(count)d succeeded", "count"),
    "bad": ngettext_lazy("%(count)d failed", "%(count)d failed", "count"),
    "warn": ngettext_lazy("%(count)d timed out", "%(count)d timed out", "count"),
    "stop": ngettext_lazy("%(count)d stopped", "%(count)d stopped", "count"),
    "run": ngettext_lazy("%(count)d running", "%(count)d running", "count"),
    "idle": ngettext_lazy("%(count)d pending", "%(count)d pending", "count"),
}

# Rows of a task: problems first.
_RANKS = ("bad", "warn", "run", "idle", "ok", "stop")


class Count(Protocol):
    """How many runs are in one state; ``key`` is a state of ``STATUSES``."""

    @property
    def key(self) -> str:
        """The state's key."""

    @property
    def count(self) -> int:
        """How many runs are in it."""


def status_label(status: str) -> str:
    """The word people read for ``status``."""
    return str(STATUSES[status].label)


@register.filter
def status_state(status: str) -> str:
    """The state of ``status``: ok, bad, warn, run, idle or stop."""
    return STATUSES[status].state


@register.filter
def status_icon(status: str) -> str:
    """The icon of ``status``: its shape differs where its colour does not."""
    return STATUSES[status].icon


@register.filter
def count_icon(key: str) -> str:
    """The icon of a count of runs: a run that warns is one that timed out."""
    return "time" if key == "warn" else key


@register.filter
def status_word(state: str) -> str:
    """The word for a state in addresses: ``?status=failed``."""
    return STATUS_WORDS[state]


@register.filter
def square(state: str) -> str:
    """The letter for a state, which is the class of a square in the grid."""
    return SQUARES[state]


@register.filter
def rank(state: str) -> str:
    """Where a row in ``state`` stands among the others: problems first."""
    return str(_RANKS.index(state))


@register.simple_tag
def icon(name: str, classes: str = "", label: str = "") -> SafeString:
    """The icon ``name`` of the sprite; silent for screen readers unless it has a ``label``."""
    spin = " spin" if name == "run" else ""
    css = f"i {classes}".rstrip() + spin
    if label:
        return format_html(
            '<svg class="{}" role="img" aria-label="{}"><use href="#i-{}"/></svg>', css, label, name
        )
    return format_html('<svg class="{}" aria-hidden="true"><use href="#i-{}"/></svg>', css, name)


@register.filter
def elapsed(seconds: float | None) -> str:
    """``seconds`` as a clock: ``00:38``, ``1:02:03``; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


@register.simple_tag
def ticking(seconds: float | None, active: bool = False) -> SafeString:
    """``seconds`` as a clock that goes on in the browser while ``active``.

    The browser counts from when it saw the element, so that its own clock may be wrong.
    """
    if active and seconds is not None:
        return format_html(
            '<span class="num" data-elapsed="{}">{}</span>', f"{seconds:.1f}", elapsed(seconds)
        )
    return format_html('<span class="num">{}</span>', elapsed(seconds))


def _local(moment: datetime) -> datetime:
    """``moment`` in the reader's time zone."""
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


@register.filter
def clock(moment: datetime | None) -> str:
    """The local time of day with seconds: ``12:06:02``."""
    return _local(moment).strftime("%H:%M:%S") if moment else ""


@register.filter
def day(moment: datetime | None) -> str:
    """The local day in a word where there is one: today, yesterday, or the date."""
    if moment is None:
        return ""
    date, today = _local(moment).date(), timezone.localdate()
    if date == today:
        return gettext("today")
    if date == today - timedelta(days=1):
        return gettext("yesterday")
    return formats.date_format(date)


@register.filter
def moment(at: datetime | None) -> str:
    """Day, time and the name of the reader's time zone: ``today 12:06:02 UTC+8``."""
    return f"{day(at)} {quotas.clock(_local(at), seconds=True)}" if at else ""


@register.filter
def ago(moment: datetime | None) -> str:
    """How long ago ``moment`` was, in its largest unit: ``4 minutes ago``."""
    if moment is None:
        return ""
    if timezone.now() - moment < timedelta(minutes=1):
        return gettext("just now")
    return gettext("%(time)s ago") % {"time": timesince(moment, depth=1)}


@register.filter
def reset_clock(moment: datetime) -> str:
    """The wall clock of a quota's reset, in the site's time zone: ``00:00 UTC+8``."""
    return quotas.clock(moment)


@register.filter
def initials(name: str) -> str:
    """Up to two initials of a person's name or user name."""
    words = name.replace(".", " ").replace("_", " ").replace("-", " ").split()
    return "".join(word[0] for word in words[:2]).upper()


@register.filter
def grouped(number: int | None) -> str:
    """``number`` with the thousands separators of the reader's language."""
    return "" if number is None else formats.number_format(number, force_grouping=True)


@register.filter
def plain(number: int | None) -> str:
    """``number`` without separators, for attributes and identifiers."""
    return "" if number is None else str(number)


@register.filter
def retold(text: str) -> str:
    """A sentence that was stored, in the reader's language."""
    return words.retold(text)


@register.filter
def base64_bytes(text: str | None) -> int:
    """How many bytes ``text`` takes after Base64, with one byte per line end."""
    size = len((text or "").replace("\r\n", "\n").encode())
    return -(-size // 3) * 4


@register.filter
def error_count(form: BaseForm) -> int:
    """How many problems ``form`` has."""
    return sum(len(errors) for errors in form.errors.values())


@register.simple_tag
def stackbar(counts: Iterable[Count]) -> SafeString:
    """``counts`` as one bar of textured parts, with a sentence that says the same."""
    number = {count.key: count.count for count in counts}
    present = [(key, number[key]) for key in _BAR_SENTENCES if number.get(key)]
    total = sum(count for _, count in present)
    parts: list[tuple[str, str, str]] = []
    left = 0.0
    for key, count in present:
        width = 100 * count / total
        parts.append((key, f"{left:.3f}", f"{width:.3f}"))
        left += width
    sentence = ", ".join(str(_BAR_SENTENCES[key] % {"count": count}) for key, count in present)
    return format_html(
        '<svg class="stackbar" role="img" aria-label="{}">{}</svg>',
        sentence or gettext("No instances"),
        format_html_join(
            "", '<rect class="bar-{}" x="{}%" y="-2" width="{}%" height="14"/>', parts
        ),
    )
