"""The form of the wizard filled with what a task ran, to be changed and run as a new task.

Where the library still has the command as it ran, that is what the form shows; else a new
command, which is not saved unless somebody says so. Hidden values are typed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from commands.access import Permission
from commands.errors import Invalid
from commands.models import CommandVersion, Invocation, Run
from commands.rules.content import CommandType
from commands.rules.grammar import scan
from commands.rules.rate import CONFIRM
from commands.services import repeating
from commands.services.repeating import Where
from console.forms import definition, parameters
from console.forms.run import EXISTING
from console.pages import filling
from console.pages.answers import listed


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The fields of the form, and sentences about what of the task is not in them."""

    data: QueryDict
    notes: list[str]


def of_task(task: Invocation, runs: Sequence[Run], *, writes: bool) -> Prefilled:
    """The form with what ``task`` ran, on the instances of ``runs``.

    ``writes`` says whether the person may run anything; others get the saved command as it is
    now, with the values that they could have given themselves.
    """
    stands = repeating.as_it_stands(task)
    newest = repeating.newest(task)
    version = stands if writes else newest
    if version is None and writes:
        data = filling.as_new(definition.fields_of_task(task), save=False)
    else:
        blank = filling.blank(CommandType(task.type), save=False)
        data = filling.switched(blank, EXISTING, version)
    if version is not None and stands is not None:
        data["workdir"], data["timeout"] = task.workdir, str(task.timeout)
    unreadable = ""
    try:
        if writes or task.permission == Permission.COMMAND_RUN:
            _fill_values(data, task)
    except Invalid as error:
        unreadable = error.message
    _fill_rate(data, task)
    where = repeating.where(task, runs)
    data.setlist("instances", [instance.uid for instance in where.usable])
    notes = [unreadable, *_about(task, version, stands), *_left_out(where), *_hidden(task)]
    return Prefilled(data, [note for note in notes if note])


def _fill_values(data: QueryDict, task: Invocation) -> None:
    for key, value in repeating.open_values(task).items():
        data[parameters.VALUE + key] = value
        data[parameters.SEEN + key] = "1"
    for key in task.hidden:
        data[parameters.HIDE + key] = "on"
        data[parameters.SEEN + key] = "1"


def _fill_rate(data: QueryDict, task: Invocation) -> None:
    rate = task.rate
    pause = CONFIRM if rate.confirm else str(rate.pause_s or "")
    data["concurrency"], data["canary"] = str(rate.concurrency or ""), str(rate.canary or "")
    data["batch_pause"], data["max_failures"] = pause, rate.max_failures


def _about(
    task: Invocation, version: CommandVersion | None, stands: CommandVersion | None
) -> Iterator[str]:
    """What became of the saved command since."""
    newest = repeating.newest(task)
    if not task.saved or stands is not None:
        return
    if newest is None:
        yield _("The saved command was deleted since. This is what ran, as a new command.")
    elif version is None:
        yield _(
            "The saved command is v%(number)s now. This is what ran then, as a new command."
        ) % {"number": newest.number}
    else:
        yield _("The saved command has changed since: this is v%(number)s.") % {
            "number": version.number
        }


def _left_out(where: Where) -> Iterator[str]:
    names = [f"{one.name} ({one.reason.rstrip('.')})" for one in where.left_out]
    if names:
        text = ngettext(
            "An instance can't be selected now: %(names)s.",
            "%(n)d instances can't be selected now: %(names)s.",
            len(names),
        )
        yield text % {"n": len(names), "names": listed(names)}


def _hidden(task: Invocation) -> Iterator[str]:
    hidden = set(task.hidden)
    found = scan(task.content).parameters if task.use_params else []
    names = [one.name for one in found if one.key in hidden]
    if names:
        text = ngettext(
            "The hidden value of %(names)s has to be typed again.",
            "The hidden values of %(names)s have to be typed again.",
            len(names),
        )
        yield text % {"names": ", ".join(names)}
