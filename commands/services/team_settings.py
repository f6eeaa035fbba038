"""A team's settings, changed together: all of them, or none where one is wrong."""

from __future__ import annotations

from django.db import transaction

from commands import access
from commands.errors import Invalid, InvalidFields
from commands.models import Team, User
from commands.services import retention, second_factor, teams


@transaction.atomic
def change(
    *, actor: User, team: Team, name: str, keep_days: int | None, second_factor_required: bool
) -> Team:
    """Change what differs. Raises Denied; InvalidFields with a sentence for each that is wrong.

    ``keep_days`` is None where no number was given.
    """
    access.require(actor, access.Permission.TEAM_MANAGE, team)
    errors: dict[str, list[str]] = {}
    try:
        if name != team.name:
            teams.rename(actor=actor, team=team, name=name)
    except Invalid as error:
        errors["name"] = [error.message]
    try:
        if keep_days != team.keep_days:
            retention.set_days(actor=actor, team=team, days=keep_days or 0)
    except Invalid as error:
        errors["keep_days"] = [error.message]
    if errors:
        raise InvalidFields(errors)
    if second_factor_required != team.second_factor_required:
        second_factor.set_required(actor=actor, team=team, required=second_factor_required)
    return team
