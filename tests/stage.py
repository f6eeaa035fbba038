"""Everybody who could ask for something, and one of everything that there is to ask for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from commands.models import (
    AccessKey,
    Command,
    Credential,
    Grant,
    Import,
    Instance,
    Invitation,
    Invocation,
    Membership,
    NoticeRule,
    Preflight,
    QuotaRequest,
    RefusedLender,
    Region,
    ResourceGroup,
    Role,
    Team,
    User,
)
from commands.rules.quotas import Quota
from commands.services import (
    access_keys,
    approval_rules,
    invitations,
    invocations,
    lending,
    library,
    notice_rules,
    preflight,
    quota_requests,
    resource_groups,
    teams,
)
from commands.services.definitions import CommandInput
from commands.services.notice_rules import RuleInput

WHO = ("outsider", "viewer", "runner", "operator", "admin", "staff")
"""The outsider leads another team. Staff are in no team and have no permission of Django's."""
SECRET_NAMES = ("planted-command", "planted-task", "planted-key", "planted-group", "web-02")
"""Names of the team's things, which nobody else is to read anywhere."""


@dataclass(frozen=True)
class Stage:
    """The team's things; ``people`` by what they are to the team."""

    team: Team
    other_team: Team
    region: Region
    people: dict[str, User]
    saved: Command
    task: Invocation
    waiting: Invocation
    check: Preflight
    origin: Import
    fleet: list[Instance]
    credential: Credential
    membership: Membership
    invitation: Invitation
    token: str
    request: QuotaRequest
    grant: Grant
    refused: RefusedLender
    notice_rule: NoticeRule
    access_key: AccessKey
    group: ResourceGroup


def say(name: str = "planted-command", content: str = "true") -> CommandInput:
    """A command."""
    return CommandInput(name=name, type="RunShellScript", content=content)


def telling(target: str = "https://hooks.example.com/x") -> RuleInput:
    """A rule of whom to tell that a task has ended."""
    return RuleInput("webhook", target)


def build(cast, fleet, credential) -> Stage:
    """The stage; the saved command has two versions, and the operator asked for more tasks.

    A task of the operator's waits for approval, though the rule is off again.
    """
    tokens: list[str] = []
    invited = invitations.invite(
        actor=cast.alice,
        team=cast.team,
        email="new@example.com",
        role=Role.VIEWER,
        link=lambda token: tokens.append(token) or "",
        now=timezone.now(),
    )
    rita = User.objects.create_user("rita")
    teams.add_member(team=cast.team, user=rita, role=Role.RUNNER)
    place = {"team": cast.team, "region": cast.region}
    here = {"actor": cast.bob, "now": timezone.now()}
    uids = [fleet[0].uid]
    saved = library.create_command(**here, **place, command=say())
    library.edit_command(**here, command=saved, definition=say(content="false"), based_on=1)
    rule = {"actor": cast.alice, "team": cast.team, "hours": "24", "now": timezone.now()}
    approval_rules.set_rule(**rule, more_than="0")
    waiting = invocations.run_command(
        **here, **place, command=say("planted-task"), instance_uids=uids
    )
    approval_rules.set_rule(**rule)
    return Stage(
        **place,
        other_team=cast.other_team,
        people={
            "outsider": cast.charlie,
            "viewer": cast.vera,
            "runner": rita,
            "operator": cast.bob,
            "admin": cast.alice,
            "staff": User.objects.create_user("stan", is_staff=True),
        },
        saved=Command.objects.get(pk=saved.pk),
        task=invocations.run_command(
            **here, **place, command=say("planted-task"), instance_uids=uids
        ),
        waiting=waiting,
        check=preflight.begin(**here, **place, command=say("x"), instance_uids=uids),
        origin=Import.objects.create(
            **place,
            created_by=cast.alice,
            created_at=timezone.now(),
            expires_at=timezone.now() + timedelta(hours=1),
        ),
        membership=Membership.objects.get(team=cast.team, user=cast.vera),
        invitation=invited.invitation,
        token=tokens[0],
        request=quota_requests.ask(
            **here,
            **place,
            key=Quota.TASKS_PER_DAY,
            wanted=9_000,
            reason="Nightly backups of the whole fleet until the end of the year.",
        ),
        # Another instance than the one of the task: nobody else is to read its name.
        grant=lending.lend_instance(actor=cast.alice, instance=fleet[2], team=cast.other_team),
        refused=RefusedLender.objects.create(
            team=cast.team, lender=cast.other_team, at=timezone.now()
        ),
        fleet=fleet,
        credential=credential,
        notice_rule=notice_rules.add_rule(
            actor=cast.alice, team=cast.team, rule=telling(), now=timezone.now()
        ),
        access_key=access_keys.create_key(**here, team=cast.team, name="planted-key", days=None),
        group=resource_groups.create(actor=cast.alice, team=cast.team, name="planted-group"),
    )
