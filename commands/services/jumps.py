"""Jump hosts: which instance may be the way to another one, and whether it still may."""

from __future__ import annotations

from commands import access
from commands.errors import Denied, Invalid
from commands.models import Instance, Region, Team


def check(
    *, team: Team, region: Region, jump_host: Instance | None, instance: Instance | None = None
) -> None:
    """Whether instances of ``team`` in ``region`` may be reached through ``jump_host``.

    ``instance`` is the one it is about, if there is one already. Within a transaction: both
    stay as they are until it ends, so that two changes at a time can't make a chain. Raises
    Denied, Invalid.
    """
    if jump_host is None:
        return
    if jump_host.region_id != region.pk or not access.may_use(team, jump_host):
        raise Denied("That jump host belongs to another team or region.")
    keys = [jump_host.pk] if instance is None else [jump_host.pk, instance.pk]
    rows = Instance.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk")
    found = {row.pk: row for row in rows}
    if instance is not None and instance.pk == jump_host.pk:
        raise _invalid(f"{instance.name} can't be its own jump host.")
    if jump_host.pk not in found:
        raise _invalid("The jump host was removed. Choose another one.")
    if found[jump_host.pk].jump_host_id is not None:
        raise _invalid(
            f"{jump_host.name} is reached through a jump host itself, and only one is passed "
            "through. Choose one that is reached directly."
        )
    if instance is not None and (names := names_behind(instance)):
        raise _invalid(
            f"{instance.name} is the jump host of {names}, so it must be reached directly."
        )


def obstacle(instance: Instance) -> str:
    """Why the jump host of ``instance`` may not be used now, as a sentence; "" if it may."""
    jump_host = instance.jump_host
    if jump_host is None:
        return ""
    if not jump_host.enabled:
        return f"Its jump host {jump_host.name} is switched off in the console."
    own = jump_host.team_id == instance.team_id
    if not own and not access.may_use(instance.team, jump_host):
        return f"Its team may no longer use the jump host {jump_host.name}."
    return ""


def names_behind(instance: Instance) -> str:
    """Names of the instances whose jump host it is, a few of them; "" if there are none."""
    names = list(instance.behind.order_by("name").values_list("name", flat=True))
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"


_SHOWN = 3


def _invalid(text: str) -> Invalid:
    return Invalid(text, field="jump_host")
