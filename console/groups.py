"""What pages and streams show of groups of instances that printed the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from commands.models import Invocation, Run
from commands.outputs import store
from commands.rules.names import Range, ranges
from commands.rules.status import FAILURES, STOPS, RunStatus
from commands.services import sameness
from commands.services.sameness import Group, Summary
from console.lines import Assembler
from console.templatetags.console_ui import status_label, status_state

PREVIEW_LINES = 4
PREVIEW_BYTES = 4_096
PREVIEW_CHARS = 300
NAMED = 6
"""Names and ranges of names that a group shows."""
LISTED_IN_ADDRESS = 20
"""Most instances that an address names one by one."""


@dataclass(frozen=True, slots=True)
class Told:
    """How far the instances of a task agree, in a sentence; ``compared`` counts those it is of."""

    sentence: str
    groups: int
    compared: int


@dataclass(frozen=True, slots=True)
class Preview:
    """One of the first lines of an output."""

    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as pages show it."""

    key: str
    count: int
    status: str
    state: str
    label: str
    lines: list[Preview]
    silence: str
    """What is said in place of output where there is none."""
    names: str
    first_uid: str
    first_name: str
    largest: bool
    retry: str
    """The part of an address behind ``?`` that names these runs; "" if they need no retry."""


def told(runs: Sequence[Run]) -> Told:
    """How far ``runs``, all those of a task, agree."""
    found = sameness.summary(sameness.groups_of(runs))
    return Told(", ".join(_parts(found)), found.groups, found.compared)


def _parts(found: Summary) -> Iterator[str]:
    if found.same:
        yield _number(ngettext("%(n)s same", "%(n)s same", found.same), found.same)
    if found.differ:
        yield _number(ngettext("%(n)s differs", "%(n)s differ", found.differ), found.differ)
    if found.failed:
        yield _number(ngettext("%(n)s failed", "%(n)s failed", found.failed), found.failed)
    if found.stopped:
        yield _number(ngettext("%(n)s stopped", "%(n)s stopped", found.stopped), found.stopped)


def group_views(
    invocation: Invocation, groups: Sequence[Group], largest: str, *, loose: bool
) -> list[GroupView]:
    """``groups`` as pages show them; ``largest`` is the key of what others are compared with."""
    return [_view(invocation, group, largest=group.key == largest, loose=loose) for group in groups]


def _view(invocation: Invocation, group: Group, *, largest: bool, loose: bool) -> GroupView:
    run = group.first
    lines = _preview(run)
    return GroupView(
        key=group.key,
        count=group.count,
        status=run.status,
        state=status_state(run.status),
        label=ending(invocation, run),
        lines=lines,
        silence="" if lines else _silence(run),
        names=names_sentence([each.instance_name for each in group.runs]),
        first_uid=run.instance_uid,
        first_name=run.instance_name,
        largest=largest,
        retry=_retry(group, loose=loose),
    )


def ending(invocation: Invocation, run: Run) -> str:
    """How a run ended: "Failed, exit 2", "Timed out, 60 s"."""
    words = {"status": status_label(run.status)}
    if run.status in (RunStatus.SUCCESS, RunStatus.FAILED):
        return _("%(status)s, exit %(code)s") % {**words, "code": run.exit_code}
    if run.status == RunStatus.TIMEOUT:
        return _("%(status)s, %(n)s s") % {**words, "n": _grouped(invocation.timeout)}
    return words["status"]


def _preview(run: Run) -> list[Preview]:
    """The first lines of its output."""
    assembler = Assembler()
    shown: dict[int, Preview] = {}
    for chunk in store.read(run.pk, limit=2):
        for line in assembler.feed(replace(chunk, data=chunk.data[:PREVIEW_BYTES])):
            if line.number <= PREVIEW_LINES:
                shown[line.number] = Preview(line.stream, line.text[:PREVIEW_CHARS])
        if len(chunk.data) > PREVIEW_BYTES:
            break
    return [shown[number] for number in sorted(shown)]


def _silence(run: Run) -> str:
    if run.status == RunStatus.TIMEOUT:
        return _("no output before the timeout")
    if run.status in (RunStatus.SUCCESS, RunStatus.FAILED):
        return _("no output")
    return run.error_info or _("no output")


def names_sentence(names: Sequence[str]) -> str:
    """``names`` in few words: "build-01 to build-24, db-004 and 23 more"."""
    found = ranges(names)
    shown = found[:NAMED]
    text = ", ".join(_range(each) for each in shown)
    rest = len(names) - sum(each.count for each in shown)
    if not rest:
        return text
    more = _("%(names)s and %(n)s more")
    return more % {"names": text, "n": _grouped(rest)}


def _range(each: Range) -> str:
    if each.count == 1:
        return each.first
    return _("%(first)s to %(last)s") % {"first": each.first, "last": each.last}


def _retry(group: Group, *, loose: bool) -> str:
    if group.first.status not in FAILURES | STOPS:
        return ""
    if group.count <= LISTED_IN_ADDRESS:
        return "&".join(f"instance={run.instance_uid}" for run in group.runs)
    return f"group={group.key}" + ("&loose=1" if loose else "")


def _number(text: str, count: int) -> str:
    return text % {"n": _grouped(count)}


def _grouped(count: int) -> str:
    return number_format(count, force_grouping=True)
