"""A team's rule on which tasks another member has to approve."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from commands import access
from commands.models import ApprovalRule, Grant, Instance, InstanceTag, Role, Team, User
from commands.rules import approval as rules
from commands.rules.approval import Rule, Target
from commands.rules.content import OsType
from commands.services import audit, mail, members
from commands.words import gettext as _


@transaction.atomic
def set_rule(
    *,
    actor: User,
    team: Team,
    tags: Sequence[str] = (),
    run_as: Sequence[str] = (),
    more_than: str = "",
    hours: str = "",
    now: datetime,
) -> ApprovalRule:
    """Say which tasks need approval from now on; without any part, none does.

    Tasks that wait already go on waiting: each needs its own decision, whatever the rule says
    later. Where it asks for less than before, the team's other admins are told. Raises Denied;
    InvalidFields with a sentence for each that is wrong.
    """
    access.require(actor, access.Permission.TEAM_MANAGE, team)
    rule = rules.check(tags=tags, run_as=run_as, more_than=more_than, hours=hours)
    members.hold(team, actor, access.Permission.TEAM_MANAGE)
    before = of(team)
    columns = {
        "tags": list(rule.tags),
        "run_as": list(rule.run_as),
        "more_than": rule.more_than,
        "expires_hours": rule.hours,
    }
    made, _created = ApprovalRule.objects.update_or_create(team=team, defaults=columns)
    audit.record(actor=actor, action="approval_rule:set", team=team, details=columns, now=now)
    if rule.asks_less_than(before):
        _tell_admins(actor, team)
    return made


def _tell_admins(actor: User, team: Team) -> None:
    """Tell the other admins of a team by e-mail that fewer tasks need approval from now on."""
    names = {"team": team.name, "person": actor.shown_name}
    subject = _("%(team)s: fewer tasks need approval now") % names
    text = _(
        "%(person)s changed the rule of %(team)s on approvals: tasks that needed the approval of "
        "another member may run without it now. The audit trail has the rule."
    )
    admins = team.memberships.filter(role=Role.TEAM_ADMIN, user__is_active=True)
    for admin in admins.exclude(user=actor).select_related("user"):
        mail.send_later(to=admin.user.email, subject=subject, body=f"{text % names}\n")


def of(team: Team) -> Rule:
    """The rule of a team; one that fits nothing if it never set any."""
    row = ApprovalRule.objects.filter(team=team).first()
    if row is None:
        return Rule()
    return Rule(row.tags, row.run_as, row.more_than, row.expires_hours)


def reasons(
    *, team: Team, instances: Sequence[Instance], run_as: str, rule: Rule | None = None
) -> list[str]:
    """Why a task on ``instances`` needs approval, as stored sentences; none if it needs none.

    Of what is borrowed the tags count that it has, and those that it had when it was accepted: its
    owner is none of the team, and takes nothing out of its rule.
    """
    rule = rule or of(team)
    if not rule.asks:
        return []
    tags: dict[int, set[tuple[str, str]]] = {}
    keys = [instance.pk for instance in instances]
    found = InstanceTag.objects.filter(instance__in=keys)
    for key, name, value in found.values_list("instance", "key", "value"):
        tags.setdefault(key, set()).add((name, value))
    borrowed = Grant.objects.accepted().filter(team=team, instance__in=keys)
    for key, accepted in borrowed.values_list("instance", "accepted_tags"):
        tags.setdefault(key, set()).update((name, value) for name, value in accepted)
    targets = [
        Target(
            each.name,
            run_as or each.user,
            frozenset(tags.get(each.pk, ())),
            windows=each.os_type == OsType.WINDOWS,
        )
        for each in instances
    ]
    return rules.reasons(rule, targets)
