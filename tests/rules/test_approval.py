"""Which tasks a team's rule fits, and why; and which rules can't be one."""

from __future__ import annotations

import pytest

from commands.errors import InvalidFields
from commands.rules.approval import Rule, Target, check, reasons

WEB = Target("web-01", "deploy", frozenset({("env", "prod"), ("tier", "web")}))
DB = Target("db-01", "root", frozenset({("prod", "")}))
LAB = Target("lab-01", "deploy", frozenset({("env", "test")}))


@pytest.mark.parametrize(
    ("rule", "targets", "why"),
    [
        (Rule(), [WEB, DB, LAB], []),
        (Rule(tags=["env=prod"]), [WEB, LAB], ["With the tag env=prod: web-01."]),
        (Rule(tags=["env=prod"]), [LAB, DB], []),
        (Rule(tags=["env"]), [WEB, LAB], ["With the tag env: web-01, lab-01."]),
        (Rule(tags=["prod"]), [WEB, DB], ["With the tag prod: db-01."]),
        (Rule(tags=["Env=prod"]), [WEB], []),
        (Rule(tags=["env="]), [WEB], []),
        (Rule(run_as=["root"]), [WEB, DB], ["As the user root: on db-01."]),
        (Rule(run_as=["root"]), [WEB, LAB], []),
        (Rule(more_than=2), [WEB, DB], []),
        (
            Rule(more_than=1),
            [WEB, DB],
            ["Number of instances: 2, which is more than 1."],
        ),
        (Rule(more_than=0), [LAB], ["Number of instances: 1, which is more than 0."]),
        (
            Rule(["tier=web"], ["root"], 1),
            [WEB, DB],
            [
                "With the tag tier=web: web-01.",
                "As the user root: on db-01.",
                "Number of instances: 2, which is more than 1.",
            ],
        ),
    ],
)
def test_any_part_that_fits_is_a_reason(rule, targets, why):
    assert reasons(rule, targets) == why


@pytest.mark.parametrize(
    ("before", "now", "less"),
    [
        (Rule(), Rule(), False),
        (Rule(), Rule(["prod"], ["root"], 3), False),
        (Rule(["prod"], ["root"], 3), Rule(), True),
        (Rule(["env=prod"]), Rule(["env"]), False),
        (Rule(["env"]), Rule(["env=prod"]), True),
        (Rule(run_as=["root", "oracle"]), Rule(run_as=["root"]), True),
        (Rule(more_than=3), Rule(more_than=4), True),
        (Rule(more_than=3), Rule(more_than=2), False),
        (Rule(["prod"], ["root"]), Rule(more_than=0), False),
    ],
)
def test_what_asks_for_less(before, now, less):
    assert now.asks_less_than(before) is less


def test_on_windows_users_are_the_same_in_any_case():
    rule = Rule(run_as=["administrator"])
    assert reasons(rule, [Target("win", "Administrator", windows=True)])
    assert not reasons(rule, [Target("web", "Administrator")])


def test_of_many_instances_some_are_named():
    many = [Target(f"m{number}", "root") for number in range(9)]
    assert reasons(Rule(run_as=["root"]), many) == ["As the user root: on m0, m1, m2, m3, m4, …."]


def test_what_was_typed_becomes_a_rule():
    rule = check(
        tags=[" env=prod ", "", "env=prod", "prod"], run_as=["root"], more_than=" 5 ", hours="48"
    )
    assert rule == Rule(["env=prod", "prod"], ["root"], 5, 48)
    assert check(tags=[], run_as=[], more_than="", hours="1") == Rule([], [], None, 1)
    assert check(tags=[], run_as=[], more_than="0", hours="720").more_than == 0


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InvalidFields) as error:
        check(tags=["=prod"], run_as=["x" * 33], more_than="-1", hours="0")
    assert set(error.value.errors) == {"tags", "run_as", "more_than", "hours"}


@pytest.mark.parametrize("hours", ["", "721", "1.5", "a day", "٣", "9999999"])
def test_hours_are_a_whole_number_in_range(hours):
    with pytest.raises(InvalidFields, match="from 1 to 720"):
        check(tags=[], run_as=[], more_than="", hours=hours)


def test_a_rule_names_so_many_at_most():
    with pytest.raises(InvalidFields, match="20 lines or fewer"):
        check(tags=[f"t{number}" for number in range(21)], run_as=[], more_than="", hours="24")
