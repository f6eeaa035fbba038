"""Jump hosts: which instance may be the way to another one, and whether it still may."""

from __future__ import annotations

from commands import access
from commands.errors import Denied, Invalid
from commands.models import Instance, Region, Team
from commands.words import gettext as _
from commands.words import gettext_noop, ngettext

# Without a name: whoever borrows an instance reads it, and the jump host may be none of theirs.
_SWITCHED_OFF = gettext_noop("Its jump host is switched off in the console.")
_TAKEN_AWAY = gettext_noop("Its team may no longer use its jump host.")
_CHAIN = gettext_noop(
    "Its jump host is reached through a jump host itself, and only one is passed through."
)


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
        raise Denied(_("That jump host belongs to another team or region."))
    keys = [jump_host.pk] if instance is None else [jump_host.pk, instance.pk]
    rows = Instance.objects.select_for_update(no_key=True).filter(pk__in=keys).order_by("pk")
    found = {row.pk: row for row in rows}
    if instance is not None and instance.pk == jump_host.pk:
        raise _invalid(_("%(name)s can't be its own jump host.") % {"name": instance.name})
    if jump_host.pk not in found:
        raise _invalid(_("The jump host was removed. Choose another one."))
    if found[jump_host.pk].jump_host_id is not None:
        raise _invalid(
            _(
                "%(name)s is reached through a jump host itself, and only one is passed "
                "through. Choose one that is reached directly."
            )
            % {"name": jump_host.name}
        )
    if instance is not None and (names := names_behind(instance)):
        raise _invalid(
            _("%(name)s is the jump host of %(names)s, so it must be reached directly.")
            % {"name": instance.name, "names": names}
        )


def obstacle(instance: Instance) -> str:
    """Why the jump host of ``instance`` may not be used now, as a sentence; "" if it may."""
    jump_host = instance.jump_host
    if jump_host is None:
        return ""
    if not jump_host.enabled:
        return _SWITCHED_OFF
    if jump_host.jump_host_id is not None:  # no service makes this; a database may hold it
        return _CHAIN
    own = jump_host.team_id == instance.team_id
    if not own and not access.may_use(instance.team, jump_host):
        return _TAKEN_AWAY
    return ""


def names_behind(instance: Instance) -> str:
    """The instances whose jump host it is, in words; "" if there are none.

    A few names, and how many more: those of other teams, which it was lent to, are only counted.
    """
    number = instance.behind.count()
    own = instance.behind.filter(team=instance.team_id).order_by("name")
    names = list(own.values_list("name", flat=True)[:_SHOWN])
    if len(names) == number:
        return ", ".join(names)
    if not names:
        text = ngettext("an instance of another team", "%(n)s instances of other teams", number)
        return text % {"n": number}
    more = _("%(names)s and %(n)s more")
    return more % {"names": ", ".join(names), "n": number - len(names)}


_SHOWN = 3


def _invalid(text: str) -> Invalid:
    return Invalid(text, field="jump_host")
