"""Which instances a command can run on, and why not on others."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from commands.errors import Invalid
from commands.models import Instance, Region, Team
from commands.models.instance import InstanceQuerySet
from commands.rules import content as rules
from commands.rules.connection import Connection
from commands.services import quotas

WINDOWS_OFF = (
    "Running commands on Windows is experimental and switched off. An admin can enable it with "
    "the setting CONSOLE_WINDOWS."
)
_UNFIT_CONNECTION = {
    Connection.UNREACHABLE: "It didn't answer when it was checked last.",
    Connection.HOST_KEY_CHANGED: "Its host key is not the one that was confirmed.",
    Connection.SIGN_IN_REFUSED: "It refuses the console's sign-in.",
}


def unfit(instance: Instance, kind: rules.CommandType) -> str:
    """Why a command of this kind can't run on ``instance``, as a sentence; "" if it can."""
    if not instance.enabled:
        return "The instance is switched off in the console."
    if rules.RUNS_ON[kind].value != instance.os_type:
        return (
            "Shell runs on Linux; choose Bat or PowerShell."
            if kind is rules.CommandType.SHELL
            else "Bat and PowerShell run on Windows; choose Shell."
        )
    if _is_off(kind):
        return WINDOWS_OFF
    return _UNFIT_CONNECTION.get(Connection(instance.connection), "")


def fitting(instances: InstanceQuerySet, kind: rules.CommandType) -> InstanceQuerySet:
    """Those of ``instances`` that ``unfit`` says nothing about."""
    if _is_off(kind):
        return instances.none()
    return instances.running().filter(os_type=rules.RUNS_ON[kind].value)


def never(instance: Instance, kind: rules.CommandType) -> str:
    """Why a task that was created can't run on ``instance`` any more, whatever its state is."""
    if rules.RUNS_ON[kind].value != instance.os_type:
        return "The instance runs another operating system than the command is for."
    return WINDOWS_OFF if _is_off(kind) else ""


def _is_off(kind: rules.CommandType) -> bool:
    return rules.RUNS_ON[kind] is rules.OsType.WINDOWS and not settings.CONSOLE_WINDOWS


def choose(
    *, team: Team, region: Region, kind: rules.CommandType, uids: Sequence[str]
) -> list[Instance]:
    """The instances called ``uids``, each once, in that order.

    Raises Invalid with the field ``instances`` if there are none or one is not the team's in
    ``region`` or can't run the command; QuotaExceeded if they are too many.
    """
    chosen = list(dict.fromkeys(uids))
    if not chosen:
        raise Invalid("Select at least one instance.", field="instances")
    quotas.check_instances(team=team, region=region, number=len(chosen))
    # Not every database takes every character in a comparison; no id has such characters.
    possible = [uid for uid in chosen if uid.isascii() and uid.isprintable()]
    usable = Instance.objects.usable_by(team).filter(region=region, uid__in=possible)
    instances = sorted(usable, key=lambda instance: chosen.index(instance.uid))
    if missing := len(chosen) - len(instances):
        # The same words whether it never existed or belongs to somebody else.
        raise Invalid(
            f"{missing} of the selected instances can't be found in this team and region. "
            "Select again.",
            field="instances",
            code="InvalidInstance.NotFound",
        )
    for instance in instances:
        if reason := unfit(instance, kind):
            raise Invalid(
                f"{instance.name}: {reason} Clear it and create again.",
                field="instances",
                code="InvalidInstance.NotMatch",
            )
    return instances
