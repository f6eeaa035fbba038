"""Who gets what from the API: every action, with the key of everybody who could have one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from django.test import Client
from django.utils import timezone

from commands.errors import Denied
from commands.services import access_keys
from console.api.actions import ACTIONS
from tests.signing import Program
from tests.stage import SECRET_NAMES, WHO, Stage, build

pytestmark = pytest.mark.django_db

WITH_KEYS = tuple(who for who in WHO if who != "staff")
FORBIDDEN = 403, "Forbidden.RAM"
FINE = 200, ""
Answers = dict[str, tuple[int, str]]


def only(*who: str, outsider: tuple[int, str], others: tuple[int, str] = FORBIDDEN) -> Answers:
    """Fine for these; the outsider reads that there is no such thing."""
    found = dict.fromkeys(WITH_KEYS, others) | dict.fromkeys(who, FINE)
    return found | {"outsider": outsider}


@dataclass(frozen=True)
class Row:
    """One action: what is given to it, and what everybody is answered."""

    given: Callable[[Stage], dict[str, str]]
    answers: Answers


OPERATORS = ("operator", "admin")
SHELL = {"Type": "RunShellScript", "CommandContent": "bHM="}
EVERYBODY = only(*WITH_KEYS, outsider=FINE)
NO_COMMAND = 404, "InvalidCmdId.NotFound"
NO_INSTANCE = 404, "InvalidInstance.NotFound"

TABLE: dict[str, Row] = {
    "CreateCommand": Row(lambda _s: {"Name": "x", **SHELL}, only(*OPERATORS, outsider=FINE)),
    "ModifyCommand": Row(
        lambda s: {"CommandId": s.saved.uid, "Name": "x"}, only(*OPERATORS, outsider=NO_COMMAND)
    ),
    "DeleteCommand": Row(
        lambda s: {"CommandId": s.saved.uid}, only(*OPERATORS, outsider=NO_COMMAND)
    ),
    "RunCommand": Row(
        lambda s: {"InstanceId.1": s.fleet[1].uid, **SHELL},
        only(*OPERATORS, outsider=NO_INSTANCE),
    ),
    "InvokeCommand": Row(
        lambda s: {"InstanceId.1": s.fleet[1].uid, "CommandId": s.saved.uid},
        only("runner", *OPERATORS, outsider=NO_COMMAND),
    ),
    "StopInvocation": Row(
        lambda s: {"InvokeId": s.task.uid},
        only(*OPERATORS, outsider=(404, "InvalidInvokeId.NotFound")),
    ),
    # What is asked for is a filter: of others nothing is found.
    "DescribeCommands": Row(lambda s: {"CommandId": s.saved.uid}, EVERYBODY),
    "DescribeInvocations": Row(lambda s: {"InvokeId": s.task.uid}, EVERYBODY),
    "DescribeInvocationResults": Row(lambda s: {"InvokeId": s.task.uid}, EVERYBODY),
    "DescribeInstances": Row(lambda s: {"InstanceIds": json.dumps([s.fleet[1].uid])}, EVERYBODY),
    "DescribeCloudAssistantStatus": Row(
        lambda s: {"InstanceId.1": s.fleet[1].uid}, only(*WITH_KEYS, outsider=NO_INSTANCE)
    ),
    # Everybody's own team's: what another one may use is not told.
    "DescribeAccountAttributes": Row(lambda _s: {}, EVERYBODY),
}


@pytest.fixture
def stage(cast, fleet, credential):
    return build(cast, fleet, credential)


def program_of(stage: Stage, who: str) -> Program:
    team = stage.other_team if who == "outsider" else stage.team
    key = access_keys.create_key(
        actor=stage.people[who], team=team, name=who, days=None, now=timezone.now()
    )
    return Program(key, stage.region.uid)


def test_every_action_is_in_the_table():
    assert TABLE.keys() == ACTIONS.keys()


@pytest.mark.parametrize("action", TABLE)
@pytest.mark.parametrize("who", WITH_KEYS)
def test_everybody_s_key_gets_what_the_table_says(stage, who, action):
    row = TABLE[action]
    status, body = program_of(stage, who).call(action, **row.given(stage))
    assert (status, body.get("Code", "")) == row.answers[who]
    if who == "outsider":
        assert [name for name in SECRET_NAMES if name in json.dumps(body)] == []
        assert body.get("TotalCount", body.get("Invocation", {}).get("TotalCount", 0)) == 0


@pytest.mark.parametrize("who", ["anonymous", *WHO])
def test_who_signs_nothing_gets_nothing(stage, who):
    client = Client()
    if who != "anonymous":
        client.force_login(stage.people[who])
    for action, row in TABLE.items():
        given = {"RegionId": stage.region.uid, **row.given(stage)}
        for method in (client.get, client.post):
            answer = method("/", given, headers={"x-acs-action": action})
            assert (answer.status_code, answer.json()["Code"]) == (400, "IncompleteSignature")


@pytest.mark.parametrize("action", [name for name in ACTIONS if name.startswith("Describe")])
def test_an_outsider_who_asks_for_all_reads_of_nothing(stage, action):
    _status, body = program_of(stage, "outsider").call(action)
    assert [name for name in SECRET_NAMES if name in json.dumps(body)] == []


@pytest.mark.parametrize("who", ["staff", "outsider"])
def test_who_is_not_in_the_team_makes_no_key_of_it(stage, who):
    with pytest.raises(Denied):
        access_keys.create_key(
            actor=stage.people[who], team=stage.team, name="x", days=None, now=timezone.now()
        )


def test_a_member_of_two_teams_has_a_key_of_one(stage):
    stage.other_team.memberships.create(user=stage.people["admin"], role="viewer")
    key = access_keys.create_key(
        actor=stage.people["admin"],
        team=stage.other_team,
        name="x",
        days=None,
        now=timezone.now(),
    )
    program = Program(key, stage.region.uid)
    assert program.call("StopInvocation", InvokeId=stage.task.uid)[0] == 404
    assert program.call("DescribeInvocations")[1]["TotalCount"] == 0
    status, body = program.call("CreateCommand", Name="x", **SHELL)
    assert (status, body["Code"]) == FORBIDDEN
