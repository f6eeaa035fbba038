"""Narrowing what a member may do: to instances with a tag, to commands, to users to run as."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from commands import access
from commands.errors import Invalid
from commands.models import Command, Membership, Restriction, Role, User
from commands.rules import limits
from commands.services import audit, members
from commands.words import gettext as _

Kind = Restriction.Kind
MOST = 100
"""Most restrictions of one membership."""


@transaction.atomic
def set_all(
    *, actor: User, membership: Membership, wanted: Iterable[tuple[str, str]]
) -> list[Restriction]:
    """Narrow ``membership`` to ``wanted``, pairs of kind and value, and nothing else.

    In force at once, also for tasks that were created and have not started. Raises Denied;
    Invalid for a team's admin (who could lift it), a command that the team does not have, or a
    value that can't be one; Conflict if the membership has ended.
    """
    access.require(actor, access.Permission.TEAM_MANAGE, membership.team)
    # Else somebody could get the role of an admin at this moment, and stay narrowed.
    membership = members.locked(membership)
    access.require(actor, access.Permission.TEAM_MANAGE, membership.team)
    pairs = sorted({(kind, value.strip()) for kind, value in wanted})
    if pairs and membership.role == Role.TEAM_ADMIN:
        raise Invalid(_("A team admin can't be narrowed. Give another role first."), field="role")
    if len(pairs) > MOST:
        raise Invalid(
            _("A membership is narrowed by %(most)d things at most.") % {"most": MOST},
            field="restrictions",
        )
    for kind, value in pairs:
        _check(membership, kind, value)
    Restriction.objects.filter(membership=membership).delete()
    made = Restriction.objects.bulk_create(
        Restriction(membership=membership, kind=kind, value=value) for kind, value in pairs
    )
    audit.record(
        actor=actor,
        action="member:narrow",
        team=membership.team,
        target_name=membership.user.username,
        details={"to": [f"{kind} {value}" for kind, value in pairs]},
    )
    return made


def _check(membership: Membership, kind: str, value: str) -> None:
    if kind not in Kind.values:
        raise Invalid(_("Choose what the membership is narrowed by."), field="restrictions")
    longest = limits.RUN_AS_CHARS if kind in (Kind.RUN_AS, Kind.NOT_RUN_AS) else 200
    if not value or len(value) > longest or not value.isprintable():
        raise Invalid(
            _("%(kind)s: enter 1 to %(most)d characters.")
            % {"kind": Kind(kind).label, "most": longest},
            field="restrictions",
        )
    if kind == Kind.COMMAND:
        kept = Command.objects.kept().filter(team=membership.team)
        if not value.isascii() or not kept.filter(uid=value).exists():
            raise Invalid(_("Choose a saved command of the team."), field="restrictions")
