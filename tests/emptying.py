"""What makes the database empty again after a test that committed.

Django's ``flush`` rebuilds every table on PostgreSQL and looks up all permissions anew on each
database; a test has written to a few tables only.
"""

from __future__ import annotations

from functools import cache

from django.db import connection, transaction
from django.test import TransactionTestCase

# As migrating left them: no test changes these.
LASTING = {"django_content_type", "auth_permission"}


def install() -> None:
    """Let tests of their own transactions end this way."""
    TransactionTestCase._fixture_teardown = lambda _test: empty()


def empty() -> None:
    """Delete all rows that are there, once whoever still writes has finished."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"LOCK TABLE {', '.join(_tables())} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(" UNION ALL ".join(map(_name_if_filled, _tables())))
        for (table,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {table}")


@cache
def _tables() -> list[str]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return [connection.ops.quote_name(name) for name in sorted(set(names) - LASTING)]


def _name_if_filled(table: str) -> str:
    text = table.replace('"', "")
    return f"SELECT '{text}' WHERE EXISTS (SELECT 1 FROM {table})"
