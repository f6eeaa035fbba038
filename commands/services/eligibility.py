"""Which instances a command can run on, and why not on others."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from commands.access import EVERYTHING, Narrowing
from commands.errors import Invalid
from commands.models import Instance, Region, Team
from commands.models.instance import InstanceQuerySet
from commands.rules import content as rules
from commands.rules.connection import Connection
from commands.services import quotas
from commands.words import gettext as _
from commands.words import gettext_noop

WINDOWS_OFF = gettext_noop(
    "Running commands on Windows is experimental and switched off. An admin can enable it with "
    "the setting CONSOLE_WINDOWS."
)
_UNFIT_CONNECTION = {
    Connection.UNREACHABLE: gettext_noop("It didn't answer when it was checked last."),
    Connection.HOST_KEY_CHANGED: gettext_noop("Its host key is not the one that was confirmed."),
    Connection.SIGN_IN_REFUSED: gettext_noop("It refuses the console's sign-in."),
}


def unfit(instance: Instance, kind: rules.CommandType) -> str:
    """Why a command of this kind can't run on ``instance``, as a sentence; "" if it can."""
    if not instance.enabled:
        return _("The instance is switched off in the console.")
    return mismatch(instance, kind) or out_of_reach(instance)


def mismatch(instance: Instance, kind: rules.CommandType) -> str:
    """Why no command of this kind is created for ``instance``, whatever its state; "" if any is."""
    if rules.RUNS_ON[kind].value != instance.os_type:
        return (
            _("Shell runs on Linux; choose Bat or PowerShell.")
            if kind is rules.CommandType.SHELL
            else _("Bat and PowerShell run on Windows; choose Shell.")
        )
    return _(WINDOWS_OFF) if _is_off(kind) else ""


def out_of_reach(instance: Instance) -> str:
    """Why ``instance`` can't be reached as far as its last check says; "" if it can."""
    reason = _UNFIT_CONNECTION.get(Connection(instance.connection))
    return _(reason) if reason else ""


def fitting(instances: InstanceQuerySet, kind: rules.CommandType) -> InstanceQuerySet:
    """Those of ``instances`` that ``unfit`` says nothing about."""
    if _is_off(kind):
        return instances.none()
    return instances.running().filter(os_type=rules.RUNS_ON[kind].value)


def never(instance: Instance, kind: rules.CommandType) -> str:
    """Why a task that was created can't run on ``instance`` any more, whatever its state is."""
    if rules.RUNS_ON[kind].value != instance.os_type:
        return gettext_noop("The instance runs another operating system than the command is for.")
    return WINDOWS_OFF if _is_off(kind) else ""


def _is_off(kind: rules.CommandType) -> bool:
    return rules.RUNS_ON[kind] is rules.OsType.WINDOWS and not settings.CONSOLE_WINDOWS


def choose(
    *,
    team: Team,
    region: Region,
    kind: rules.CommandType,
    uids: Sequence[str],
    only: Narrowing = EVERYTHING,
) -> list[Instance]:
    """The instances called ``uids``, each once, in that order.

    Raises Invalid with the field ``instances`` if there are none or one is not the team's in
    ``region``, is not among ``only`` what the person may use, or can't run the command;
    QuotaExceeded if they are too many.
    """
    instances = find(team=team, region=region, uids=uids, only=only)
    for instance in instances:
        if reason := unfit(instance, kind):
            raise Invalid(
                _("%(name)s: %(reason)s Clear it and create again.")
                % {"name": instance.name, "reason": reason},
                field="instances",
                code="InvalidInstance.NotMatch",
            )
    return instances


def find(
    *, team: Team, region: Region, uids: Sequence[str], only: Narrowing = EVERYTHING
) -> list[Instance]:
    """The same, whether or not they can run anything."""
    chosen = list(dict.fromkeys(uids))
    if not chosen:
        raise Invalid(_("Select at least one instance."), field="instances")
    quotas.check_instances(team=team, region=region, number=len(chosen))
    # Not every database takes every character in a comparison; no id has such characters.
    possible = [uid for uid in chosen if uid.isascii() and uid.isprintable()]
    usable = only.instances(Instance.objects.usable_by(team))
    usable = usable.filter(region=region, uid__in=possible)
    instances = sorted(usable, key=lambda instance: chosen.index(instance.uid))
    if missing := len(chosen) - len(instances):
        # The same words whether it never existed or belongs to somebody else.
        raise Invalid(
            _(
                "%(missing)s of the selected instances can't be found in this team and region. "
                "Select again."
            )
            % {"missing": missing},
            field="instances",
            code="InvalidInstance.NotFound",
        )
    return instances
