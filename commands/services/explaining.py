"""Why somebody can or can't run something somewhere: all that creation and dispatch ask."""

from __future__ import annotations

from collections.abc import Iterator

from commands import access
from commands.access import Step
from commands.models import Command, CommandVersion, Instance, Team, User
from commands.rules.content import RUNS_ON, CommandType
from commands.services import eligibility, jumps
from commands.words import gettext as _


def explain(
    *,
    member: User,
    team: Team,
    command: Command | None,
    instance: Instance | None,
    run_as: str = "",
) -> list[Step]:
    """The rules for ``member`` and ``command`` (None for a new one) in the order they are asked.

    First those of people (``access.explain``), then those of the instance and the way to it, from
    the functions that creation and dispatch ask. The first that does not pass decides, and the
    list ends there. A saved command runs as the user that it names, unless ``run_as`` is given.
    """
    steps = access.explain(
        member=member,
        team=team,
        command=command,
        instance=instance,
        run_as=run_as or _named_by(command),
    )
    if instance is None or not steps[-1].passes:
        return steps
    for step in _of_the_place(command, instance):
        steps.append(step)
        if not step.passes:
            break
    return steps


def _named_by(command: Command | None) -> str:
    """The user that the newest version of a saved command runs as; "" for who signs in."""
    if command is None:
        return ""
    newest = CommandVersion.objects.newest().filter(command=command)
    return newest.values_list("run_as", flat=True).first() or ""


def _of_the_place(command: Command | None, instance: Instance) -> Iterator[Step]:
    names = {"instance": instance.name}
    reasons = [eligibility.mismatch(instance, kind) for kind in _kinds(command, instance)]
    yield Step(
        _("%(instance)s runs commands of this type.") % names,
        "" in reasons,
        # Each of these sentences says what to do, too.
        reasons[0],
    )
    reason = eligibility.out_of_reach(instance)
    yield Step(
        _("%(instance)s could be reached when it was checked last.") % names,
        not reason,
        _("Its page says what to do about it, and checks it again."),
        reason,
    )
    if instance.jump_host is None:
        return
    reason = jumps.obstacle(instance)
    yield Step(
        _("The jump host of %(instance)s may be used.") % names,
        not reason,
        _("Somebody who manages instances puts that right, or chooses another jump host."),
        _(reason),
    )


def _kinds(command: Command | None, instance: Instance) -> list[CommandType]:
    """What the command is; for one that is still to be written, all that it could be there."""
    if command is not None:
        return [CommandType(command.type)]
    return [kind for kind, system in RUNS_ON.items() if system.value == instance.os_type]
