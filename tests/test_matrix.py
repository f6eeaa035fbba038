"""Who gets what: every address of the console, for everybody who could ask for it.

One table, ``TABLE``. An address that is not in it fails a test, so a new page has to say who may
see it. What services answer stands in ``test_matrix_services.py``, and what the pages of the admin
site do in ``test_matrix_admin.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from commands.models import User
from tests.stage import SECRET_NAMES, WHO, Stage, build

pytestmark = pytest.mark.django_db
STREAM = "events"
"""It ends the connection of its thread to the database, so it is asked outside transactions."""

Answers = dict[str, int]
"""Statuses by who asks."""


def everybody(status: int) -> Answers:
    """The same for all."""
    return dict.fromkeys(("anonymous", *WHO), status)


def people(status: int, *, sent_away: int = 302) -> Answers:
    """For everybody who is signed in: pages about oneself, or one's own team."""
    return everybody(status) | {"anonymous": sent_away}


def only(*who: str, status: int, sent_away: int = 302) -> Answers:
    """For these; for all others it is not there."""
    return people(404, sent_away=sent_away) | dict.fromkeys(who, status)


def members(status: int) -> Answers:
    """For the team's members."""
    return only("viewer", "runner", "operator", "admin", status=status)


SENT_BACK = 303
MEMBERS = ("viewer", "runner", "operator", "admin")
NO_POST = people(405, sent_away=SENT_BACK)
NO_GET = people(405)
OWN_PAGE = people(200), NO_POST
TEAM_PAGE = members(200), NO_POST


def post(*who: str, status: int = 303) -> Answers:
    """A form that these may send."""
    return only(*who, status=status, sent_away=SENT_BACK)


@dataclass(frozen=True)
class Row:
    """One address: where it is, what a form there says, and the answers to GET and to POST."""

    path: Callable[[Stage], str]
    answers: tuple[Answers, Answers]
    form: Callable[[Stage], dict[str, Any]] = lambda _stage: {}


def at(path: str) -> Callable[[Stage], str]:
    """An address with what the stage has in it."""
    return lambda s: path.format(
        task=s.task.uid,
        waiting=s.waiting.uid,
        saved=s.saved.uid,
        ran=s.fleet[0].uid,
        web=s.fleet[1].uid,
        check=s.check.uid,
        origin=s.origin.uid,
        member=s.membership.pk,
        invitation=s.invitation.uid,
        token=s.token,
        request=s.request.pk,
        grant=s.grant.pk,
        refused=s.refused.pk,
        rule=s.notice_rule.uid,
        key=s.access_key.uid,
    )


def new_command(stage: Stage) -> dict[str, Any]:
    return {
        "name": "Say",
        "type": "RunShellScript",
        "content": "echo",
        "instances": [stage.fleet[1].uid],
    }


OPERATORS = ("operator", "admin")
SELF = people(200), people(422, sent_away=SENT_BACK)
ADD = only("outsider", "admin", status=200), post("outsider", "admin", status=422)
# Where an import is not one's own it reads as one that is forgotten, also if there is none.
FORGOTTEN = people(303) | {"admin": 200}

TABLE: dict[str, Row] = {
    "home": Row(at("/"), OWN_PAGE),
    "run": Row(
        at("/run/"),
        # What is not the outsider's, or anybody's without a team, can't be selected.
        (
            people(200),
            post(*OPERATORS) | {"outsider": 422, "staff": 422},
        ),
        new_command,
    ),
    "run-instances": Row(at("/run/instances/"), (people(200) | {"staff": 204}, NO_POST)),
    "run-check": Row(at("/run/check/{check}/"), OWN_PAGE),
    "run-approval": Row(at("/run/approval/"), (people(200) | {"staff": 204}, NO_POST)),
    "name-note": Row(at("/run/name/"), OWN_PAGE),
    "tasks": Row(at("/tasks/"), OWN_PAGE),
    "task": Row(at("/tasks/{task}/"), TEAM_PAGE),
    "task-stop": Row(at("/tasks/{task}/stop/"), (only(*OPERATORS, status=200), post(*OPERATORS))),
    "task-continue": Row(
        at("/tasks/{task}/continue/"), (only(*OPERATORS, status=200), post(*OPERATORS))
    ),
    # The operator created it, and nobody decides on their own.
    "task-approve": Row(
        at("/tasks/{waiting}/approve/"),
        (only(*OPERATORS, status=200), post("admin") | {"operator": 409}),
        lambda s: {"digest": s.waiting.approval.digest},
    ),
    "task-decline": Row(
        at("/tasks/{waiting}/decline/"),
        (only(*OPERATORS, status=200), post("admin") | {"operator": 409}),
        lambda _s: {"comment": "Not now"},
    ),
    "task-withdraw": Row(
        at("/tasks/{waiting}/withdraw/"), (only("operator", status=200), post("operator"))
    ),
    # There are no two groups of outputs to compare.
    "task-compare": Row(at("/tasks/{task}/compare/"), (people(404), NO_POST)),
    "events": Row(
        at("/tasks/{task}/events"),
        (members(200) | {"anonymous": 401}, everybody(405)),
    ),
    "status": Row(at("/tasks/{task}/status.json"), TEAM_PAGE),
    "task-again": Row(at("/tasks/{task}/again/"), (only(*OPERATORS, status=200), post(*OPERATORS))),
    "task-zip": Row(at("/tasks/{task}/output.zip"), TEAM_PAGE),
    "task-csv": Row(at("/tasks/{task}/results.csv"), TEAM_PAGE),
    "log": Row(at("/tasks/{task}/i/{ran}/log.txt"), TEAM_PAGE),
    "commands": Row(at("/commands/"), OWN_PAGE),
    "command-new": Row(
        at("/commands/new/"),
        (only("outsider", *OPERATORS, status=200), post("outsider", *OPERATORS)),
        new_command,
    ),
    "commands-delete": Row(
        at("/commands/delete/?uid={saved}"),
        (only(*OPERATORS, status=200), post(*OPERATORS)),
        lambda s: {"uid": s.saved.uid},
    ),
    "command": Row(at("/commands/{saved}/"), TEAM_PAGE),
    "command-edit": Row(
        at("/commands/{saved}/edit/"),
        (only(*OPERATORS, status=200), post(*OPERATORS)),
        lambda s: new_command(s) | {"based_on": 2},
    ),
    "command-history": Row(at("/commands/{saved}/history/"), TEAM_PAGE),
    "command-restore": Row(
        at("/commands/{saved}/restore/"),
        (NO_GET, post(*OPERATORS)),
        lambda _s: {"number": 1, "based_on": 2},
    ),
    "command-pin": Row(at("/commands/{saved}/pin/"), (NO_GET, post(*MEMBERS))),
    "instances": Row(at("/instances/"), OWN_PAGE),
    "instance-add": Row(at("/instances/add/"), ADD),
    "instance-import": Row(at("/instances/import/"), ADD),
    "instance-import-review": Row(
        at("/instances/import/{origin}/"),
        (
            FORGOTTEN | {"anonymous": 302},
            people(303, sent_away=SENT_BACK) | {"admin": 422},
        ),
    ),
    "instance-import-reading": Row(
        at("/instances/import/{origin}/keys/"), (people(204) | {"admin": 200}, NO_POST)
    ),
    "instance": Row(at("/instances/{web}/"), TEAM_PAGE),
    "instance-edit": Row(
        at("/instances/{web}/edit/"), (only("admin", status=200), post("admin", status=422))
    ),
    "instance-tags": Row(
        at("/instances/{web}/tags/"),
        (only("admin", status=200), post("admin")),
        lambda _s: {"tags": "a=b"},
    ),
    "instance-check": Row(
        at("/instances/{web}/check/"), (NO_GET, post("runner", "operator", "admin"))
    ),
    "instance-enabled": Row(at("/instances/{web}/enabled/"), (NO_GET, post("admin"))),
    "instance-remove": Row(
        at("/instances/{web}/remove/"), (only("admin", status=200), post("admin"))
    ),
    "instance-host-key": Row(
        at("/instances/{web}/host-key/"), (members(200), post("admin", status=422))
    ),
    "team": Row(at("/team/"), (people(303), NO_POST)),
    "team-members": Row(at("/team/members/"), OWN_PAGE),
    "team-members-invite": Row(
        at("/team/members/invite/"), (NO_GET, post("outsider", "admin", status=422))
    ),
    "team-members-role": Row(
        at("/team/members/{member}/role/"), (NO_GET, post("admin")), lambda _s: {"role": "runner"}
    ),
    "team-members-remove": Row(
        # The viewer whose membership it is may leave.
        at("/team/members/{member}/remove/"),
        (only("viewer", "admin", status=200), post("viewer", "admin")),
    ),
    "team-members-narrowing": Row(
        at("/team/members/{member}/narrowing/"), (only("admin", status=200), post("admin"))
    ),
    "team-members-revoke": Row(
        at("/team/invitations/{invitation}/revoke/"), (NO_GET, post("admin"))
    ),
    "team-why": Row(at("/team/why/"), OWN_PAGE),
    "team-quotas": Row(at("/team/quotas/"), OWN_PAGE),
    "team-quotas-request": Row(
        at("/team/quotas/request/"),
        (only("outsider", *OPERATORS, status=200), post("outsider", *OPERATORS, status=422)),
    ),
    "team-quotas-withdraw": Row(at("/team/quotas/{request}/withdraw/"), (NO_GET, post(*OPERATORS))),
    "team-quotas-told": Row(at("/team/quotas/{request}/told/"), (NO_GET, post("operator"))),
    "team-lending": Row(at("/team/lending/"), (people(200), ADD[1])),
    "team-lending-take-back": Row(at("/team/lending/{grant}/take-back/"), (NO_GET, post("admin"))),
    "team-lending-accept": Row(at("/team/lending/{grant}/accept/"), (NO_GET, post("outsider"))),
    "team-lending-decline": Row(at("/team/lending/{grant}/decline/"), (NO_GET, post("outsider"))),
    "team-lending-refuse": Row(at("/team/lending/{grant}/refuse/"), (NO_GET, post("outsider"))),
    "team-lending-allow": Row(at("/team/lending/refused/{refused}/"), (NO_GET, post("admin"))),
    "team-lending-give-back": Row(
        at("/team/lending/{grant}/give-back/"), (NO_GET, post("outsider"))
    ),
    # Whoever is in a team may have keys there, and is asked for the password; staff are in none.
    "team-keys": Row(at("/team/keys/"), (people(200), post("outsider", *MEMBERS, status=422))),
    "team-keys-revoke": Row(
        # The operator whose key it is may revoke it.
        at("/team/keys/{key}/revoke/"),
        (only(*OPERATORS, status=200), post(*OPERATORS)),
    ),
    "team-approvals": Row(at("/team/approvals/"), ADD),
    "team-audit": Row(at("/team/audit/"), (only("outsider", "admin", status=200), NO_POST)),
    "team-audit-csv": Row(
        at("/team/audit/events.csv"), (only("outsider", "admin", status=200), NO_POST)
    ),
    "team-notices": Row(at("/team/notices/"), (only("outsider", "admin", status=200), NO_POST)),
    "team-notice-add": Row(at("/team/notices/add/"), ADD),
    "team-notice": Row(
        at("/team/notices/{rule}/"), (only("admin", status=200), post("admin", status=422))
    ),
    "team-notice-test": Row(at("/team/notices/{rule}/test/"), (NO_GET, post("admin"))),
    "team-notice-secret": Row(
        at("/team/notices/{rule}/secret/"), (NO_GET, post("admin", status=200))
    ),
    "team-notice-delete": Row(at("/team/notices/{rule}/delete/"), (NO_GET, post("admin"))),
    "team-settings": Row(at("/team/settings/"), ADD),
    # Whoever has the link may look at it.
    "invitation": Row(
        at("/invitation/{token}/"),
        # Members are in the team already; who is not signed in has to say who they are.
        (
            everybody(200),
            people(409, sent_away=422) | {"outsider": 303, "staff": 303},
        ),
    ),
    "find": Row(at("/find/?q=web"), OWN_PAGE),
    "account": Row(at("/account/"), SELF),
    # Somebody who is not signed in chooses colours, too: the choice is in a cookie.
    "look": Row(at("/look/"), (everybody(405), everybody(303))),
    "looked-at": Row(at("/looked-at/"), (NO_GET, people(303, sent_away=SENT_BACK))),
    "scope": Row(
        at("/scope/"),
        (NO_GET, post(*MEMBERS)),
        lambda s: {"team": s.team.pk, "region": s.region.pk, "scope": f"{s.team.pk} {s.region.pk}"},
    ),
    "sign-in": Row(
        at("/sign-in/"),
        (people(302, sent_away=200), people(302, sent_away=422)),
    ),
    "sign-in-code": Row(at("/sign-in/code/"), (everybody(303), everybody(303))),
    "security": Row(at("/account/security/"), OWN_PAGE),
    "second-factor": Row(at("/account/security/second-factor/"), SELF),
    "second-factor-codes": Row(at("/account/security/codes/"), SELF),
    "second-factor-remove": Row(at("/account/security/turn-off/"), SELF),
    "end-sessions": Row(
        at("/account/security/end-sessions/"), (NO_GET, people(303, sent_away=SENT_BACK))
    ),
    "password": Row(at("/account/password/"), SELF, lambda _s: {"old_password": "x"}),
    "sign-out": Row(at("/sign-out/"), (everybody(405), everybody(302))),
    "healthz": Row(at("/healthz"), (everybody(200), everybody(405))),
    "admin/login/": Row(
        at("/admin/login/"), (people(404, sent_away=303), people(404, sent_away=303))
    ),
    "admin/password_change/": Row(at("/admin/password_change/"), (everybody(303), everybody(303))),
}


def patterns(resolver: URLResolver) -> Iterator[URLPattern]:
    """The console's own addresses; those of the admin site are in a table of their own."""
    for each in resolver.url_patterns:
        if isinstance(each, URLPattern):
            yield each


@pytest.fixture
def stage(cast, fleet, credential):
    return build(cast, fleet, credential)


def client_of(stage: Stage, who: str) -> Client:
    client = Client()
    if who != "anonymous":
        client.force_login(stage.people[who])
    return client


def asked(client: Client, method: str, path: str, form: dict[str, Any] | None = None) -> Any:
    """The answer; what it changed is as before afterwards."""
    cookies = deepcopy(client.cookies)
    with transaction.atomic():
        answer = client.get(path) if method == "GET" else client.post(path, form)
        transaction.set_rollback(True)
    client.cookies = cookies
    return answer


def test_every_address_is_in_the_table():
    names = {each.name or str(each.pattern) for each in patterns(get_resolver())}
    assert names == set(TABLE)


def test_there_is_one_tree_of_addresses_besides_and_it_is_the_admin_site():
    trees = [each for each in get_resolver().url_patterns if isinstance(each, URLResolver)]
    assert [str(tree.pattern) for tree in trees] == ["admin/"]


@pytest.mark.parametrize("who", ["anonymous", *WHO])
def test_everybody_gets_what_the_table_says(stage, who):
    client, wrong = client_of(stage, who), {}
    for name, row in TABLE.items():
        if name == STREAM:
            continue
        for method, answers in zip(("GET", "POST"), row.answers, strict=True):
            found = asked(client, method, row.path(stage), row.form(stage)).status_code
            if found != answers[who]:
                wrong[name, method] = f"{found}, and not {answers[who]}"
    assert wrong == {}


@pytest.mark.django_db(transaction=True)
def test_everybody_gets_from_a_stream_what_the_table_says(stage):
    path, (get, post) = TABLE[STREAM].path(stage), TABLE[STREAM].answers
    for who in ("anonymous", *WHO):
        client = client_of(stage, who)
        assert client.get(path).status_code == get[who], who
        assert client.post(path).status_code == post[who], who


@pytest.mark.parametrize("who", ["anonymous", "outsider", "staff"])
def test_who_is_not_in_the_team_reads_no_name_of_its_things(stage, who):
    client = client_of(stage, who)
    for name, row in TABLE.items():
        if name == STREAM:
            continue
        answer = asked(client, "GET", row.path(stage))
        if not answer.streaming:
            told = [secret for secret in SECRET_NAMES if secret in answer.text]
            assert told == [], name


def test_a_superuser_on_the_admin_site_is_still_no_member(stage):
    root = User.objects.create_superuser("root")
    client = Client()
    client.force_login(root)
    assert client.get("/admin/commands/team/").status_code == 200
    assert client.get(f"/tasks/{stage.task.uid}/").status_code == 404
