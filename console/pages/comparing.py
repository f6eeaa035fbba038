"""``/tasks/<id>/compare/``: what a group of instances printed otherwise than the largest group."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from commands.rules import limits
from commands.rules.differences import Line, differences
from commands.services import sameness
from commands.services.sameness import Text
from console import groups, resolve
from console.pages.listing import largest_of


@dataclass(frozen=True, slots=True)
class Section:
    """What differs in one stream."""

    heading: str
    lines: list[Line]


@resolve.signed_in
@require_safe
@cache_control(private=True)
def compare(request: HttpRequest, uid: str) -> HttpResponse:
    """What the first run of ``?group=`` printed, beside the first run of the largest group."""
    invocation = resolve.task(request, uid)
    loose = request.GET.get("loose") == "1"
    found = sameness.groups_of(invocation.runs.all(), loose=loose)
    largest = largest_of(found)
    group = next((each for each in found if each.key == request.GET.get("group")), None)
    if group is None or largest is None:
        raise Http404
    before, after = sameness.text_of(largest.first), sameness.text_of(group.first)
    context = {
        "task": invocation,
        "back": reverse("task", args=[uid]) + "?view=same" + ("&loose=1" if loose else ""),
        "sides": groups.group_views(invocation, [largest, group], largest.key, loose=loose),
        "sections": _sections(before, after),
        "cut": before.cut or after.cut,
        "most_lines": limits.COMPARED_LINES,
    }
    return render(request, "tasks/compare.html", context)


def _sections(before: Text, after: Text) -> list[Section]:
    headings = {"stdout": _("Output"), "stderr": _("stderr")}
    sections = [
        Section(heading, differences(before.streams[stream], after.streams[stream]))
        for stream, heading in headings.items()
    ]
    return [section for section in sections if section.lines]
