"""Resource groups on pages. A team with its default one alone sees nothing of them."""

from __future__ import annotations

from collections.abc import Iterable

from commands.models import Command, Instance, ResourceGroup, Team


def choices(team: Team) -> list[ResourceGroup]:
    """The groups of a team, the default one first; none while there is nothing to choose."""
    groups = list(team.resource_groups.all())
    return groups if len(groups) > 1 else []


def chosen(groups: Iterable[ResourceGroup], uid: str) -> ResourceGroup | None:
    """That of ``groups`` which is called ``uid``; None for nonsense."""
    return next((one for one in groups if one.uid == uid), None)


def shown(row: Instance | Command) -> ResourceGroup | None:
    """The group of ``row``, where its team has more than one."""
    return chosen(choices(row.team), row.resource_group.uid)
