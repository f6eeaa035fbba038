"""Memberships that are narrowed: at creation, at dispatch, and why somebody can't."""

from __future__ import annotations

import pytest
from django.utils import timezone

from commands import access
from commands.errors import Denied, Invalid, InvalidFields
from commands.models import Instance, InstanceTag, Membership, Restriction, Run
from commands.rules.again import Again
from commands.rules.connection import Connection
from commands.services import explaining, invocations, library, restrictions, runs
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

Kind = Restriction.Kind


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


@pytest.fixture
def narrow(cast):
    """Narrow Bob's membership to these pairs of kind and value."""

    def to(*wanted):
        membership = Membership.objects.get(team=cast.team, user=cast.bob)
        return restrictions.set_all(actor=cast.alice, membership=membership, wanted=wanted)

    return to


@pytest.fixture
def saved(cast, place):
    def keep(name="kept", kind="RunShellScript", run_as=""):
        return library.create_command(
            actor=cast.alice,
            **place,
            command=CommandInput(name=name, type=kind, content="echo", run_as=run_as),
            now=timezone.now(),
        )

    return keep


@pytest.fixture
def create(cast, place, fleet):
    def make(instance=None, run_as="", command=None):
        where = {"instance_uids": [(instance or fleet[0]).uid], "now": timezone.now()}
        if command is not None:
            chosen = SavedInput(uid=command.uid)
            return invocations.invoke_command(actor=cast.bob, **place, command=chosen, **where)
        new = CommandInput(name="n", type="RunShellScript", content="echo", run_as=run_as)
        return invocations.run_command(actor=cast.bob, **place, command=new, **where)

    return make


def errors(call) -> dict[str, list[str]]:
    with pytest.raises(InvalidFields) as caught:
        call()
    return caught.value.errors


def tag(instance: Instance, key: str, value: str = "") -> None:
    InstanceTag.objects.create(instance=instance, key=key, value=value)


def test_without_restrictions_nothing_is_narrowed(create):
    assert create().runs.count() == 1


def test_to_instances_with_a_tag(narrow, create, fleet):
    tag(fleet[0], "env", "prod")
    tag(fleet[1], "env", "test")
    narrow((Kind.INSTANCE_TAG, "env=test"))
    assert "can't be found" in errors(lambda: create(fleet[0]))["instances"][0]
    assert create(fleet[1])
    narrow((Kind.INSTANCE_TAG, "env"))
    assert create(fleet[0])
    assert errors(lambda: create(fleet[2]))
    narrow((Kind.INSTANCE_TAG, "env=none"), (Kind.INSTANCE_TAG, "env=prod"))
    assert create(fleet[0])


def test_to_saved_commands(narrow, create, saved):
    mine, other = saved("mine"), saved("other")
    narrow((Kind.COMMAND, mine.uid))
    assert create(command=mine)
    assert "none of them" in errors(lambda: create(command=other))["command"][0]
    assert "none of them" in errors(create)[""][0]


def test_to_users_that_scripts_run_as(narrow, create, fleet):
    signs_in = fleet[0].user
    narrow((Kind.RUN_AS, "deploy"))
    assert create(run_as="deploy")
    assert f"as root on {fleet[0].name}" in errors(lambda: create(run_as="root"))["run_as"][0]
    assert f"as {signs_in}" in errors(create)["run_as"][0]  # who signs in counts, too
    narrow((Kind.NOT_RUN_AS, "root"))
    assert create(run_as="deploy")
    assert errors(lambda: create(run_as="root"))
    narrow((Kind.NOT_RUN_AS, signs_in))
    assert errors(create)


@pytest.mark.parametrize("kind", ["tag", "command", "user"])
def test_what_was_narrowed_after_creation_does_not_start(narrow, create, fleet, saved, kind):
    kept = saved()
    task = create(command=kept)
    narrow(
        {
            "tag": (Kind.INSTANCE_TAG, "env=test"),
            "command": (Kind.COMMAND, saved("another").uid),
            "user": (Kind.NOT_RUN_AS, fleet[0].user),
        }[kind]
    )
    ids = list(task.runs.values_list("pk", flat=True))
    assert runs.claim(run_ids=ids, owner="w", now=timezone.now()) == []
    run = Run.objects.get(pk=ids[0])
    assert (run.status, run.error_code) == ("Aborted", "NoLongerAllowed")
    assert "was narrowed" in run.error_info


def test_what_is_left_starts(narrow, create, fleet, saved):
    kept = saved()
    tag(fleet[0], "env", "prod")
    narrow((Kind.INSTANCE_TAG, "env=prod"), (Kind.COMMAND, kept.uid), (Kind.RUN_AS, fleet[0].user))
    task = create(command=kept)
    ids = list(task.runs.values_list("pk", flat=True))
    assert len(runs.claim(run_ids=ids, owner="w", now=timezone.now())) == 1


def test_running_again_what_somebody_else_ran_is_narrowed_too(cast, narrow, fleet, create):
    tag(fleet[0], "env", "prod")
    old = create(fleet[0])

    def again():
        return invocations.repeat_invocation(
            actor=cast.bob, invocation=old, kind=Again.AGAIN, now=timezone.now()
        )

    assert again().runs.count() == 1
    narrow((Kind.INSTANCE_TAG, "env=test"))
    assert "can't be found" in errors(again)["instances"][0]
    narrow((Kind.NOT_RUN_AS, fleet[0].user))
    assert "run_as" in errors(again)
    narrow((Kind.RUN_AS, fleet[0].user))
    assert again()


def test_only_the_team_s_admin_narrows_and_nobody_narrows_an_admin(cast, narrow):
    bobs = Membership.objects.get(team=cast.team, user=cast.bob)
    for nobody in (cast.bob, cast.vera, cast.charlie):
        with pytest.raises(Denied):
            restrictions.set_all(actor=nobody, membership=bobs, wanted=[])
    alices = Membership.objects.get(team=cast.team, user=cast.alice)
    with pytest.raises(Invalid, match="can't be narrowed"):
        restrictions.set_all(actor=cast.alice, membership=alices, wanted=[(Kind.RUN_AS, "deploy")])
    assert len(narrow((Kind.RUN_AS, "a"), (Kind.RUN_AS, " a "), (Kind.RUN_AS, "b"))) == 2
    assert narrow() == []


@pytest.mark.parametrize(
    "pair",
    [
        ("sudo", "x"),
        (Kind.RUN_AS, ""),
        (Kind.RUN_AS, "x" * 33),
        (Kind.RUN_AS, "a\0b"),
        (Kind.INSTANCE_TAG, "x" * 201),
        (Kind.COMMAND, "c-made-up"),
        (Kind.COMMAND, "ü"),
    ],
)
def test_what_can_not_be_a_restriction_is_refused(narrow, pair):
    with pytest.raises(Invalid):
        narrow(pair)


# --- why can't I? -----------------------------------------------------------------------


def last(cast, **case):
    steps = access.explain(member=cast.bob, team=cast.team, **case)
    assert all(step.passes for step in steps[:-1])
    return steps[-1]


def test_the_rule_that_decides_is_named(cast, fleet, narrow, saved):
    kept = saved()
    case = {"command": kept, "instance": fleet[0]}
    assert last(cast, **case).passes
    narrow((Kind.INSTANCE_TAG, "env=prod"))
    decides = last(cast, **case)
    assert not decides.passes
    assert "env=prod" in decides.rule
    assert "gets the tag" in decides.remedy
    narrow((Kind.COMMAND, kept.uid))
    assert "other commands" in last(cast, command=None, instance=fleet[0]).rule
    narrow((Kind.NOT_RUN_AS, "root"))
    assert last(cast, **case, run_as="root").rule == "Scripts may run as root."
    narrow()
    Instance.objects.filter(pk=fleet[0].pk).update(enabled=False)
    fleet[0].refresh_from_db()
    assert "enabled" in last(cast, **case).rule


def test_roles_and_people(cast, fleet):
    case = {"team": cast.team, "command": None, "instance": fleet[0]}
    decides = access.explain(member=cast.vera, **case)[-1]
    assert "Viewer may run new commands" in decides.rule
    assert "Operator, Team admin" in decides.remedy
    assert "is a member" in access.explain(member=cast.charlie, **case)[-1].rule
    cast.bob.is_active = False
    assert "may sign in" in access.explain(member=cast.bob, **case)[-1].rule
    others = access.explain(
        member=cast.charlie, team=cast.other_team, command=None, instance=fleet[0]
    )
    assert "belongs to" in others[-1].rule
    assert not others[-1].passes


def test_what_is_explained_is_what_happens(cast, fleet, narrow, create, saved):
    """The explanation and the service agree, over all combinations."""
    kept = saved()
    tag(fleet[0], "env", "prod")
    for wanted in (
        [],
        [(Kind.INSTANCE_TAG, "env=prod")],
        [(Kind.COMMAND, kept.uid)],
        [(Kind.RUN_AS, fleet[0].user)],
        [(Kind.NOT_RUN_AS, fleet[0].user)],
        [(Kind.INSTANCE_TAG, "env"), (Kind.COMMAND, kept.uid)],
    ):
        narrow(*wanted)
        for command in (None, kept):
            for instance in fleet[:2]:
                assert explained(cast, command, instance) is happens(create, command, instance), (
                    wanted,
                    command,
                    instance,
                )


def explained(cast, command, instance) -> bool:
    steps = explaining.explain(member=cast.bob, team=cast.team, command=command, instance=instance)
    assert all(step.passes for step in steps[:-1])
    return steps[-1].passes


def happens(create, command, instance) -> bool:
    """Whether the task can be created, and a worker may begin it."""
    try:
        task = create(instance, command=command)
    except InvalidFields:
        return False
    ids = list(task.runs.values_list("pk", flat=True))
    return len(runs.claim(run_ids=ids, owner="w", now=timezone.now())) == 1


def change(instance, **columns):
    Instance.objects.filter(pk=instance.pk).update(**columns)


@pytest.fixture
def places(cast, make_instance):
    """An instance in each state that decides on what may run there."""
    web = make_instance("as it should be")
    off = make_instance("off")
    change(off, enabled=False)
    for connection in Connection:
        change(make_instance(f"found {connection}"), connection=connection.value)
    for name, columns in {
        "direct": {"enabled": True},
        "disabled": {"enabled": False},
        "withdrawn": {"team": cast.other_team},
    }.items():
        way = make_instance(f"way {name}")
        change(way, **columns)
        change(make_instance(f"behind a {name} host"), jump_host=way)
    change(make_instance("windows"), os_type="windows")
    assert web.enabled
    return Instance.objects.filter(team=cast.team).select_related("jump_host").order_by("name")


@pytest.mark.parametrize("windows", [False, True])
def test_what_is_explained_of_a_place_is_what_happens_there(
    settings, cast, create, saved, places, windows
):
    """Type, system, switches, the last check, and the way there: what creation and dispatch ask."""
    settings.CONSOLE_WINDOWS = True
    kept = [saved(), saved("power", "RunPowerShellScript"), saved("bat", "RunBatScript")]
    settings.CONSOLE_WINDOWS = windows
    seen = set()
    for instance in places:
        for command in kept:
            happened = happens(create, command, instance)
            assert explained(cast, command, instance) is happened, (command.name, instance.name)
            seen.add((command.name, instance.name, happened))
        if instance.os_type == "linux":
            happened = happens(create, None, instance)
            assert explained(cast, None, instance) is happened, instance.name
    assert ("kept", "as it should be", True) in seen
    assert ("kept", "behind a direct host", True) in seen
    assert ("power", "windows", windows) in seen
    for refused in ("off", "found host_key_changed", "behind a disabled host", "windows"):
        assert ("kept", refused, False) in seen


def test_a_saved_command_is_explained_as_the_user_that_it_runs_as(
    cast, fleet, narrow, create, saved
):
    kept = saved(run_as="deploy")
    narrow((Kind.NOT_RUN_AS, "deploy"))
    assert not happens(create, kept, fleet[0])
    assert not explained(cast, kept, fleet[0])
    narrow((Kind.NOT_RUN_AS, fleet[0].user))
    assert happens(create, kept, fleet[0])
    assert explained(cast, kept, fleet[0])


def test_what_is_in_the_way_is_said(cast, make_instance, settings):
    settings.CONSOLE_WINDOWS = False
    bastion, web = make_instance("bastion"), make_instance("web-01")
    case = {"member": cast.bob, "team": cast.team, "command": None, "instance": web}
    web.os_type = "windows"
    assert "CONSOLE_WINDOWS" in explaining.explain(**case)[-1].remedy
    web.os_type, web.connection = "linux", Connection.HOST_KEY_CHANGED.value
    assert "not the one that was confirmed" in explaining.explain(**case)[-1].why
    web.connection, web.jump_host, bastion.enabled = Connection.REACHABLE.value, bastion, False
    decides = explaining.explain(**case)[-1]
    assert decides.why == "Its jump host is switched off in the console."
    assert "another jump host" in decides.remedy
