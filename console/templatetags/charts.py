"""Charts as SVG in the page: no script, and colours of the theme."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from django import template
from django.utils import formats
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

register = template.Library()

STEP, HEIGHT = 10, 48
"""Width of a day with the gap behind it, and the height of the chart, in its own units."""


@register.simple_tag
def day_bars(days: Sequence[tuple[date, int]], limit: int, label: str) -> SafeString:
    """What was used on each of ``days`` as bars, and ``limit`` as a line once it comes near."""
    most = max((used for _, used in days), default=0)
    line = limit <= most * 2
    top = max(most, limit if line else 1, 1)
    bars = [
        (number * STEP, HEIGHT - height, STEP - 2, height, "over" if used >= limit else "")
        for number, (_, used) in enumerate(days)
        if (height := _height(used, top))
    ]
    return format_html(
        '<svg class="days" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}{}</svg>',
        len(days) * STEP - 2,
        HEIGHT,
        f"{label}: {_sentence(days)}",
        format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}" data-level="{}"/>', bars),
        _line(limit, top, len(days) * STEP) if line else "",
    )


def _height(used: int, top: int) -> int:
    """A day with any use is seen."""
    return max(2, round(HEIGHT * used / top)) if used else 0


def _line(limit: int, top: int, width: int) -> SafeString:
    y = max(1, HEIGHT - round(HEIGHT * limit / top))
    return format_html('<path d="M0 {}H{}" vector-effect="non-scaling-stroke"/>', y, width)


def _sentence(days: Sequence[tuple[date, int]]) -> str:
    day, most = max(days, key=lambda each: each[1], default=(None, 0))
    if not most or day is None:
        return gettext("nothing was used in the last %(n)d days.") % {"n": len(days)}
    return gettext("in the last %(n)d days at most %(most)s, on %(day)s.") % {
        "n": len(days),
        "most": formats.number_format(most, force_grouping=True),
        "day": formats.date_format(day),
    }
