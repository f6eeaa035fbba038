"""Who may do what: every service that has an actor, asked by everybody.

A service that is not in ``TABLE`` fails a test. Pages ask the same (``test_matrix.py``), but a
program may call a service without any page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from commands.errors import CommandConsoleError, Denied
from commands.models import AccessKey, Membership, QuotaRequest, User
from commands.rules.again import Again
from commands.rules.quotas import Quota
from commands.services import (
    access_keys,
    accounts,
    administration,
    approval_rules,
    approvals,
    credentials,
    hostkeys,
    importing,
    instances,
    invitations,
    invocations,
    lending,
    library,
    members,
    notice_rules,
    plans,
    preflight,
    quota_requests,
    quotas,
    repeating,
    resource_groups,
    restrictions,
    retention,
    second_factor,
    sessions,
    team_settings,
    teams,
    trying,
)
from commands.services.instances import Place
from commands.services.plans import SavedInput
from tests.conftest import HOST_KEY
from tests.services.test_audit_hooks import Services
from tests.stage import WHO, Stage, build, say, telling

pytestmark = pytest.mark.django_db

VIEWERS = {"viewer", "runner", "operator", "admin"}
RUNNERS = VIEWERS - {"viewer"}
OPERATORS = {"operator", "admin"}
ADMIN = {"admin"}
STAFF = {"staff"}
BORROWER = {"outsider"}
REASON = "Nightly backups of the whole fleet until the end of the year."


@dataclass(frozen=True)
class Case:
    """Who may, and how it is asked for."""

    may: set[str]
    call: Callable[[Stage, Any], object]


def place(stage: Stage) -> dict[str, Any]:
    return {"team": stage.team, "region": stage.region}


def now() -> dict[str, Any]:
    return {"now": timezone.now()}


def uids(stage: Stage) -> dict[str, Any]:
    return {"instance_uids": [stage.fleet[1].uid]}


def where(stage: Stage) -> Place:
    web = stage.fleet[1]
    return Place("web-09", web.host, web.port, web.user, stage.credential, web.os_type)


def request(stage: Stage) -> QuotaRequest:
    """A request of the operator."""
    return quota_requests.ask(
        actor=stage.people["operator"],
        **place(stage),
        key=Quota.SAVED_COMMANDS,
        wanted=200,
        reason=REASON,
        **now(),
    )


def membership(stage: Stage, who: str = "viewer") -> Membership:
    return Membership.objects.get(team=stage.team, user=stage.people[who])


def grant(stage: Stage) -> Any:
    admin, web = stage.people["admin"], stage.fleet[1]
    return lending.lend_instance(actor=admin, instance=web, team=stage.other_team)


def web(stage: Stage) -> dict[str, Any]:
    return {"instance": stage.fleet[1]}


TABLE: dict[str, Case] = {
    "access_keys.create_key": Case(
        VIEWERS,
        lambda s, a: access_keys.create_key(
            actor=a, team=s.team, name="Nightly", days=None, **now()
        ),
    ),
    "access_keys.revoke_key": Case(
        # The operator whose key it is, and who leads the team.
        OPERATORS,
        lambda s, a: access_keys.revoke_key(actor=a, key=s.access_key, **now()),
    ),
    "administration.create_region": Case(
        STAFF, lambda s, a: administration.create_region(actor=a, uid="eu", name="Europe")
    ),
    "administration.create_team": Case(
        STAFF, lambda s, a: administration.create_team(actor=a, name="New", admin=a)
    ),
    "administration.password_replaced": Case(
        STAFF,
        lambda s, a: administration.password_replaced(actor=a, user=s.people["viewer"], **now()),
    ),
    "administration.remove_member": Case(
        STAFF, lambda s, a: administration.remove_member(actor=a, membership=membership(s), **now())
    ),
    "administration.rename_region": Case(
        STAFF, lambda s, a: administration.rename_region(actor=a, region=s.region, name="New")
    ),
    "administration.reset_second_factor": Case(
        STAFF,
        lambda s, a: administration.reset_second_factor(actor=a, user=s.people["viewer"], **now()),
    ),
    "administration.revoke_key": Case(
        STAFF, lambda s, a: administration.revoke_key(actor=a, key=s.access_key, **now())
    ),
    "administration.set_active": Case(
        STAFF,
        lambda s, a: administration.set_active(
            actor=a, user=s.people["viewer"], active=False, **now()
        ),
    ),
    "administration.set_member": Case(
        STAFF,
        lambda s, a: administration.set_member(
            actor=a, team=s.team, user=s.people["viewer"], role="operator", **now()
        ),
    ),
    "approval_rules.set_rule": Case(
        ADMIN, lambda s, a: approval_rules.set_rule(actor=a, team=s.team, hours="24", **now())
    ),
    # The operator created what waits; that nobody decides on their own is said in words.
    "approvals.approve": Case(
        OPERATORS,
        lambda s, a: approvals.approve(
            actor=a, invocation=s.waiting, digest=s.waiting.approval.digest, **now()
        ),
    ),
    "approvals.decline": Case(
        OPERATORS,
        lambda s, a: approvals.decline(actor=a, invocation=s.waiting, comment="No", **now()),
    ),
    "approvals.withdraw": Case(
        {"operator"}, lambda s, a: approvals.withdraw(actor=a, invocation=s.waiting, **now())
    ),
    "credentials.generate_credential": Case(
        ADMIN, lambda s, a: credentials.generate_credential(actor=a, **place(s), name="new")
    ),
    "credentials.replace_secret": Case(
        ADMIN,
        lambda s, a: credentials.replace_secret(actor=a, credential=s.credential, password="x"),
    ),
    "hostkeys.accept_host_key": Case(
        ADMIN,
        lambda s, a: hostkeys.accept_host_key(
            actor=a, **web(s), host_key=HOST_KEY, reason="Rebuilt", **now()
        ),
    ),
    "hostkeys.ask_host_key": Case(
        ADMIN,
        lambda s, a: hostkeys.ask_host_key(actor=a, **place(s), host="127.0.0.1", port=1),
    ),
    "hostkeys.shown_now": Case(ADMIN, lambda s, a: hostkeys.shown_now(actor=a, **web(s))),
    "importing.ask_for_keys": Case(
        ADMIN, lambda s, a: importing.ask_for_keys(actor=a, origin=s.origin)
    ),
    "importing.begin": Case(
        ADMIN,
        lambda s, a: importing.begin(actor=a, **place(s), inventory=EMPTY, known=NO_HOSTS, **now()),
    ),
    "importing.choose": Case(
        ADMIN,
        lambda s, a: importing.choose(
            actor=a, origin=s.origin, row_ids=set(), credential=s.credential
        ),
    ),
    "importing.finish": Case(
        ADMIN,
        lambda s, a: importing.finish(actor=a, origin=s.origin, shown={}, confirmed=True, **now()),
    ),
    "importing.give_up": Case(ADMIN, lambda s, a: importing.give_up(actor=a, origin=s.origin)),
    "instances.add_credential": Case(
        ADMIN,
        lambda s, a: instances.add_credential(actor=a, **place(s), name="new", password="x"),
    ),
    "instances.add_instance": Case(
        ADMIN,
        lambda s, a: instances.add_instance(
            actor=a,
            **place(s),
            name="new",
            host="10.0.0.9",
            user="root",
            credential=s.credential,
            host_key=HOST_KEY,
        ),
    ),
    "instances.check_jump_host": Case(
        ADMIN, lambda s, a: instances.check_jump_host(actor=a, **web(s), jump_host=None)
    ),
    "instances.remove_instance": Case(
        ADMIN, lambda s, a: instances.remove_instance(actor=a, **web(s))
    ),
    "instances.set_enabled": Case(
        ADMIN, lambda s, a: instances.set_enabled(actor=a, **web(s), enabled=False)
    ),
    "instances.set_jump_host": Case(
        ADMIN, lambda s, a: instances.set_jump_host(actor=a, **web(s), jump_host=s.fleet[2])
    ),
    "instances.set_tags": Case(
        ADMIN, lambda s, a: instances.set_tags(actor=a, **web(s), tags=[("a", "b")])
    ),
    "instances.update_instance": Case(
        ADMIN,
        lambda s, a: instances.update_instance(actor=a, **web(s), place=where(s), tags=[], **now()),
    ),
    "invocations.continue_invocation": Case(
        OPERATORS,
        lambda s, a: invocations.continue_invocation(actor=a, invocation=s.task, **now()),
    ),
    "invocations.invoke_command": Case(
        RUNNERS,
        lambda s, a: invocations.invoke_command(
            actor=a, **place(s), command=SavedInput(s.saved.uid), **uids(s), **now()
        ),
    ),
    "plans.outline": Case(
        OPERATORS,
        lambda s, a: plans.outline(actor=a, **place(s), command=say()),
    ),
    "invocations.preview": Case(
        OPERATORS,
        lambda s, a: invocations.preview(actor=a, **place(s), command=say(), **uids(s), mark="?"),
    ),
    "invocations.repeat_invocation": Case(
        OPERATORS,
        lambda s, a: invocations.repeat_invocation(
            actor=a, invocation=s.task, kind=Again.AGAIN, **now()
        ),
    ),
    "invocations.run_command": Case(
        OPERATORS,
        lambda s, a: invocations.run_command(
            actor=a, **place(s), command=say(), **uids(s), **now()
        ),
    ),
    "invocations.stop_by_staff": Case(
        STAFF, lambda s, a: invocations.stop_by_staff(actor=a, invocation=s.task, **now())
    ),
    "invocations.stop_invocation": Case(
        OPERATORS,
        lambda s, a: invocations.stop_invocation(actor=a, invocation=s.task, **now()),
    ),
    "invitations.invite": Case(
        ADMIN,
        lambda s, a: invitations.invite(
            actor=a,
            team=s.team,
            email="other@example.com",
            role="viewer",
            link=lambda _token: "",
            **now(),
        ),
    ),
    "invitations.revoke": Case(
        ADMIN, lambda s, a: invitations.revoke(actor=a, invitation=s.invitation, **now())
    ),
    "lending.accept": Case(BORROWER, lambda s, a: lending.accept(actor=a, grant=grant(s), **now())),
    "lending.decline": Case(BORROWER, lambda s, a: lending.decline(actor=a, grant=grant(s))),
    "lending.give_back": Case(BORROWER, lambda s, a: lending.give_back(actor=a, grant=grant(s))),
    "lending.refuse_lender": Case(
        BORROWER, lambda s, a: lending.refuse_lender(actor=a, grant=grant(s), **now())
    ),
    "lending.allow_lender": Case(
        ADMIN, lambda s, a: lending.allow_lender(actor=a, refused=s.refused)
    ),
    "lending.lend_instance": Case(
        ADMIN, lambda s, a: lending.lend_instance(actor=a, **web(s), team=s.other_team)
    ),
    "lending.take_back": Case(ADMIN, lambda s, a: lending.take_back(actor=a, grant=grant(s))),
    "library.create_command": Case(
        OPERATORS,
        lambda s, a: library.create_command(actor=a, **place(s), command=say(), **now()),
    ),
    "library.delete_commands": Case(
        OPERATORS,
        lambda s, a: library.delete_commands(actor=a, **place(s), uids=[s.saved.uid]),
    ),
    "library.edit_command": Case(
        OPERATORS,
        lambda s, a: library.edit_command(
            actor=a, command=s.saved, definition=say(content="date"), based_on=2, **now()
        ),
    ),
    "library.pin": Case(VIEWERS, lambda s, a: library.pin(actor=a, command=s.saved, pinned=True)),
    "library.restore_version": Case(
        OPERATORS,
        lambda s, a: library.restore_version(
            actor=a, command=s.saved, number=1, based_on=2, **now()
        ),
    ),
    "members.remove": Case(
        # The viewer whose membership it is may leave.
        {"viewer", "admin"},
        lambda s, a: members.remove(actor=a, membership=s.membership, **now()),
    ),
    "members.set_role": Case(
        ADMIN,
        lambda s, a: members.set_role(actor=a, membership=s.membership, role="runner", **now()),
    ),
    "notice_rules.add_rule": Case(
        ADMIN,
        lambda s, a: notice_rules.add_rule(actor=a, team=s.team, rule=telling(), **now()),
    ),
    "notice_rules.change_rule": Case(
        ADMIN,
        lambda s, a: notice_rules.change_rule(
            actor=a, rule=s.notice_rule, changed=telling(), **now()
        ),
    ),
    "notice_rules.delete_rule": Case(
        ADMIN, lambda s, a: notice_rules.delete_rule(actor=a, rule=s.notice_rule, **now())
    ),
    "notice_rules.renew_secret": Case(
        ADMIN, lambda s, a: notice_rules.renew_secret(actor=a, rule=s.notice_rule, **now())
    ),
    "notice_rules.send_test": Case(
        ADMIN, lambda s, a: notice_rules.send_test(actor=a, rule=s.notice_rule, **now())
    ),
    "preflight.begin": Case(
        OPERATORS,
        lambda s, a: preflight.begin(actor=a, **place(s), command=say(), **uids(s), **now()),
    ),
    "quota_requests.approve": Case(
        STAFF,
        lambda s, a: quota_requests.approve(actor=a, request=request(s), granted=150, **now()),
    ),
    "quota_requests.ask": Case(
        OPERATORS,
        lambda s, a: quota_requests.ask(
            actor=a, **place(s), key=Quota.SAVED_COMMANDS, wanted=200, reason=REASON, **now()
        ),
    ),
    "quota_requests.decline": Case(
        STAFF,
        lambda s, a: quota_requests.decline(actor=a, request=request(s), comment="No", **now()),
    ),
    "quota_requests.told": Case(
        {"operator"},
        lambda s, a: quota_requests.told(actor=a, request=request(s), **now()),
    ),
    "quota_requests.withdraw": Case(
        OPERATORS,
        lambda s, a: quota_requests.withdraw(actor=a, request=request(s), **now()),
    ),
    "quotas.set_limit": Case(
        STAFF,
        lambda s, a: quotas.set_limit(actor=a, **place(s), key=Quota.SAVED_COMMANDS, limit=150),
    ),
    "resource_groups.create": Case(
        ADMIN | STAFF, lambda s, a: resource_groups.create(actor=a, team=s.team, name="New")
    ),
    "resource_groups.move_commands": Case(
        OPERATORS,
        lambda s, a: resource_groups.move_commands(actor=a, group=s.group, commands=[s.saved]),
    ),
    "resource_groups.move_instances": Case(
        ADMIN,
        lambda s, a: resource_groups.move_instances(actor=a, group=s.group, instances=s.fleet),
    ),
    "resource_groups.remove": Case(
        ADMIN | STAFF, lambda s, a: resource_groups.remove(actor=a, group=s.group)
    ),
    "resource_groups.rename": Case(
        ADMIN | STAFF, lambda s, a: resource_groups.rename(actor=a, group=s.group, name="New")
    ),
    "restrictions.set_all": Case(
        ADMIN,
        lambda s, a: restrictions.set_all(actor=a, membership=membership(s), wanted=[]),
    ),
    "retention.set_days": Case(
        ADMIN, lambda s, a: retention.set_days(actor=a, team=s.team, days=9)
    ),
    "second_factor.reset": Case(
        STAFF, lambda s, a: second_factor.reset(actor=a, user=s.people["viewer"])
    ),
    "second_factor.set_required": Case(
        ADMIN, lambda s, a: second_factor.set_required(actor=a, team=s.team, required=True)
    ),
    "team_settings.change": Case(
        ADMIN,
        lambda s, a: team_settings.change(
            actor=a, team=s.team, name="New", keep_days=9, second_factor_required=False
        ),
    ),
    "teams.rename": Case(ADMIN, lambda s, a: teams.rename(actor=a, team=s.team, name="New")),
    "trying.check_now": Case(RUNNERS, lambda s, a: trying.check_now(actor=a, **web(s))),
    "trying.test_connection": Case(
        ADMIN,
        lambda s, a: trying.test_connection(actor=a, **place(s), place=where(s), host_key=HOST_KEY),
    ),
}
ASKED_ELSEWHERE = {
    "access_keys.end": "its caller has asked",
    "access_keys.end_all": "its caller has asked",
    "accounts.mark_looked_at": "one's own",
    "accounts.set_preferences": "one's own",
    "approvals.refusal": "answers why not",
    "approvals.stopped": "its caller has asked",
    "idempotency.earlier": "finds the actor's own tasks only",
    "instances.pin": "its caller has asked",
    "invitations.accept": "whoever has the link may",
    "library.add": "its caller has asked",
    "repeating.may_repeat": "answers yes or no",
    "repeating.may_run_latest": "answers yes or no",
    "second_factor.begin": "one's own",
    "second_factor.confirm": "one's own",
    "second_factor.remove": "one's own",
    "second_factor.renew_codes": "one's own",
    "sessions.end_all": "one's own",
    "sessions.password_changed": "its caller has asked",
    "sessions.set_password": "one's own",
    "teams.add_member": "its caller has asked",
    "teams.create_team": "its caller has asked",
}
"""Services with an actor that refuse nobody, and why."""


class EMPTY:
    """A file that lists nothing."""

    entries: tuple[()] = ()
    notes: tuple[()] = ()


class NO_HOSTS:  # noqa: N801 - stands for a value
    """A file of host keys with none in it."""

    notes: tuple[()] = ()

    @staticmethod
    def find(_places: object) -> dict[Any, Any]:
        return {}


@pytest.fixture
def stage(cast, fleet, credential):
    return build(cast, fleet, credential)


@pytest.fixture(autouse=True)
def nobody_is_reached(monkeypatch):
    """What gets as far as the network was allowed."""

    def refused(**_where):
        raise CommandConsoleError("as far as this")

    monkeypatch.setattr(instances, "read_host_key", refused)
    monkeypatch.setattr(trying, "_asked", lambda _endpoint: refused())


def is_denied(call, stage, actor) -> bool:
    """Whether it is refused; what it changed is as before afterwards."""
    try:
        with transaction.atomic():
            call(stage, actor)
            transaction.set_rollback(True)
    except Denied:
        return True
    except CommandConsoleError:
        pass  # allowed, and then something was missing
    return False


def test_every_service_with_an_actor_is_in_the_table():
    assert set(Services().with_actor()) == set(TABLE) | set(ASKED_ELSEWHERE)


@pytest.mark.parametrize("name", TABLE)
def test_who_may(stage, name):
    case = TABLE[name]
    allowed = {who for who in WHO if not is_denied(case.call, stage, stage.people[who])}
    assert allowed == case.may


# Who has read a decision has read it, whatever became of them since.
@pytest.mark.parametrize("name", [name for name in TABLE if name != "quota_requests.told"])
def test_who_was_deactivated_may_nothing(stage, name):
    case = TABLE[name]
    for who in case.may:
        person = stage.people[who]
        User.objects.filter(pk=person.pk).update(is_active=False)
        gone = User.objects.get(pk=person.pk)
        assert is_denied(case.call, stage, gone)
        User.objects.filter(pk=person.pk).update(is_active=True)


STARTS_LATER = {
    "invocations.continue_invocation",
    "invocations.invoke_command",
    "invocations.repeat_invocation",
    "invocations.run_command",
    "invocations.stop_invocation",
    "preflight.begin",
    "trying.check_now",
    "importing.ask_for_keys",
}
"""What a worker asks again before anything begins, and what ends or reads something alone."""
LOSABLE = [
    name
    for name, case in TABLE.items()
    if case.may not in (STAFF, VIEWERS) and name not in STARTS_LATER
]


@pytest.mark.parametrize("name", LOSABLE)
def test_who_loses_the_right_while_they_wait_for_a_row_does_nothing(stage, name, monkeypatch):
    """Whatever locks a row asks again once it has it."""
    case = TABLE[name]
    who = next(who for who in ("admin", "operator", "outsider") if who in case.may)
    person, locks = stage.people[who], []
    monkeypatch.setattr(QuerySet, "select_for_update", demoting(person, locks))
    module, function = name.split(".")
    service = import_module(f"commands.services.{module}")
    true = getattr(service, function)

    def from_here_on(**given):
        locks.clear()
        locks.append("begun")
        return true(**given)

    monkeypatch.setattr(service, function, from_here_on)
    denied = is_denied(case.call, stage, person)
    assert denied is ("demoted" in locks)


def demoting(person, locks):
    """A lock that comes after a transaction which takes all that ``person`` leads from them."""
    lock = QuerySet.select_for_update

    def late(rows, *args, **options):
        if locks == ["begun"]:
            locks.append("demoted")
            Membership.objects.filter(user=person).update(role="viewer")
        return lock(rows, *args, **options)

    return late


def test_who_is_not_signed_in_may_nothing(stage):
    for name in ("instances.remove_instance",):
        assert is_denied(TABLE[name].call, stage, AnonymousUser())


def test_one_s_own_is_one_s_own(stage):
    """Services without a question work on the actor alone."""
    vera, rita = stage.people["viewer"], stage.people["runner"]
    before = User.objects.get(pk=rita.pk).password
    sessions.set_password(actor=vera, password="another one entirely", keys=True, **now())
    second_factor.begin(actor=vera)
    accounts.mark_looked_at(actor=vera, **now())
    sessions.end_all(actor=vera, keys=True, **now())
    assert stage.access_key in AccessKey.objects.live(timezone.now())
    other = User.objects.get(pk=rita.pk)
    assert (other.password, other.session_generation, other.looked_at) == (before, 0, None)
    assert not hasattr(other, "second_factor")
    assert not repeating.may_repeat(vera, stage.task)
    assert teams.first_team() == stage.team
