"""How a quota is used, as the admin site shows it: in numbers, as a bar, and day by day."""

from __future__ import annotations

from datetime import date, datetime

from django.utils import formats
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from commands.models import Region, Team
from commands.rules.quotas import Quota, Usage
from commands.services import quotas
from console.templatetags.charts import day_bars

DAYS = 30


def bar(usage: Usage) -> SafeString:
    """How much is used: percent and words, and a bar of the same."""
    if not usage.metered:
        return format_html('<span class="quiet">{}</span>', _("Nothing is used up"))
    level = "over" if usage.full else "warn" if usage.near else ""
    percent = usage.used * 100 // usage.limit
    return format_html(
        '<span class="quota-bar" data-level="{level}"><svg viewBox="0 0 100 6" '
        'preserveAspectRatio="none" aria-hidden="true"><rect width="100" height="6"/>'
        '<rect class="used" width="{width}" height="6"/></svg>'
        "<span>{percent} %, {words}</span></span>",
        level=level,
        width=min(100, percent),
        percent=number(percent),
        words=left(usage),
    )


def left(usage: Usage) -> str:
    """How much room there is, in words."""
    if not usage.used_up:
        return _("the largest")
    if usage.used > usage.limit:
        return _("%(n)s over the limit") % {"n": number(usage.used - usage.limit)}
    if usage.full:
        return _("full")
    return ngettext("%(n)s left", "%(n)s left", usage.left) % {"n": number(usage.left)}


def past(*, team: Team, region: Region, key: Quota, usage: Usage, now: datetime) -> SafeString:
    """The last 30 days as bars, and the same as a table for who can't see them."""
    days = quotas.past_use(team=team, region=region, key=key, days=DAYS, now=now)
    if not usage.used_up:
        return format_html("<p>{}</p>", _("Nothing of this quota is used up."))
    return format_html(
        '<figure class="past">{}<figcaption><span>{}</span><span>{}</span></figcaption></figure>',
        day_bars(days, usage.limit, usage.label),
        _day(days[0][0]),
        _day(days[-1][0]),
    )


def number(value: int) -> str:
    """A number as people read it."""
    return formats.number_format(value, force_grouping=True)


def _day(day: date) -> str:
    return formats.date_format(day, "SHORT_DATE_FORMAT")
