"""The first team, and who is in one."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from commands import access
from commands.models import CommandVersion, Membership, Role, Run, Team
from commands.services import teams

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


def test_the_first_team_is_made_once():
    team = teams.create_first_team(username="admin", password="long enough", now=timezone.now())
    assert team is not None
    admin = team.members.get()
    assert admin.is_superuser
    assert admin.check_password("long enough")
    assert access.allows(admin, access.Permission.INVOCATION_CREATE, team)
    assert teams.create_first_team(username="other", password="x" * 9, now=timezone.now()) is None
    assert teams.first_team() == team


def test_a_team_has_a_numeric_uid():
    team = teams.create_first_team(username="admin", password="long enough", now=timezone.now())
    assert team is not None
    assert team.uid.isdecimal()
    assert len(team.uid) == 16


def test_roles_are_changed_not_doubled(cast):
    teams.add_member(team=cast.team, user=cast.bob, role=Role.VIEWER)
    assert Membership.objects.filter(user=cast.bob).count() == 1
    assert not access.allows(cast.bob, access.Permission.INVOCATION_CREATE, cast.team)


def test_permissions_of_roles(cast):
    create, read = access.Permission.INVOCATION_CREATE, access.Permission.INVOCATION_READ
    expected = {
        Role.VIEWER: (True, False),
        Role.RUNNER: (True, False),
        Role.OPERATOR: (True, True),
        Role.TEAM_ADMIN: (True, True),
    }
    for role, (may_read, may_create) in expected.items():
        teams.add_member(team=cast.team, user=cast.bob, role=role)
        assert access.allows(cast.bob, read, cast.team) is may_read
        assert access.allows(cast.bob, create, cast.team) is may_create
    assert not access.allows(None, read, cast.team)


def test_impossible_rows_are_refused_by_the_database(cast):
    for values in (
        {"status": "Success"},
        {"status": "Success", "exit_code": 3, "finished_at": timezone.now()},
        {"status": "Failed", "exit_code": 0, "finished_at": timezone.now()},
        {"status": "Bored"},
    ):
        invocation = cast.team.invocations.create(
            region=cast.region,
            resource_group=cast.team.resource_groups.get(),
            name="n",
            type="RunShellScript",
            content="c",
            timeout=60,
            timeout_asked=60,
            created_at=timezone.now(),
            created_by_name="x",
        )
        with pytest.raises(IntegrityError), transaction.atomic():
            Run.objects.create(invocation=invocation, instance_uid="i-1", **values)
    with pytest.raises(IntegrityError), transaction.atomic():
        Team.objects.create(name="")


def test_versions_never_change(cast):
    now = timezone.now()
    command = cast.team.commands.create(
        region=cast.region,
        resource_group=cast.team.resource_groups.get(),
        name="n",
        type="RunShellScript",
        created_at=now,
        updated_at=now,
    )
    version = CommandVersion.objects.create(command=command, number=1, content="a", created_at=now)
    version.content = "b"
    with pytest.raises(TypeError, match="immutable"):
        version.save()
