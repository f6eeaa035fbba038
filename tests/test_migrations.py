"""The one migration of new databases leads to just what the steps of older ones lead to."""

from __future__ import annotations

from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader

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
