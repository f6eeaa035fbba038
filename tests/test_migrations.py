"""What migrations lead to, and what they make of rows that are there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from commands.models import Command, Instance, Invocation, Team

SQUASHED = ("commands", "0001_squashed_0027_approved_parts")


def test_one_migration_does_what_all_that_it_replaces_do() -> None:
    steps = MigrationLoader(None, replace_migrations=False)
    at_once = MigrationLoader(None)
    replaced = at_once.disk_migrations[SQUASHED].replaces
    assert replaced == sorted(key for key in steps.graph.nodes if key in set(replaced))
    old = steps.project_state([replaced[-1]])
    new = at_once.project_state([SQUASHED])
    assert MigrationAutodetector(old, new).changes(at_once.graph) == {}
    assert MigrationAutodetector(new, old).changes(at_once.graph) == {}


def before(name: str) -> tuple[str, str]:
    """The migration that the one called ``name``, whatever its number is, follows."""
    loader = MigrationLoader(None)
    [key] = [one for one in loader.disk_migrations if one[0] == "commands" and one[1][5:] == name]
    [parent] = loader.disk_migrations[key].dependencies
    return parent


@pytest.fixture
def newest() -> Iterator[None]:
    """The database ends as it began, with all migrations."""
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@pytest.mark.django_db(transaction=True)
@pytest.mark.data_layer
def test_what_teams_have_is_sorted_into_their_default_groups(newest: None) -> None:
    executor = MigrationExecutor(connection)
    old = executor.migrate([before("resource_groups")]).apps.get_model
    region = old("commands", "Region").objects.create(uid="here", name="Here")
    now = timezone.now()
    for number in range(2):
        team = old("commands", "Team").objects.create(name=f"team-{number}")
        place = {"team": team, "region": region}
        key = old("commands", "Credential").objects.create(
            **place, name="k", kind="password", secret="x"
        )
        old("commands", "Instance").objects.create(
            **place, credential=key, name="i", host="h", user="u", host_key="k"
        )
        old("commands", "Command").objects.create(
            **place, name="c", type="RunShellScript", created_at=now, updated_at=now
        )
        old("commands", "Invocation").objects.create(
            **place, name="t", type="RunShellScript", timeout=60, timeout_asked=60, created_at=now
        )
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    assert Team.objects.count() == 2
    for team in Team.objects.all():
        group = team.resource_groups.get()
        assert (group.name, group.is_default, group.uid[:3]) == ("Default", True, "rg-")
        for model in (Command, Instance, Invocation):
            assert model.objects.get(team=team).resource_group == group
