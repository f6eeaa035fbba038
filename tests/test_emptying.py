"""Whether nothing of a test stays in the database for the next one."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from commands.models import Region, Team, User
from tests import emptying

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]


def filled() -> set[str]:
    """The tables that have rows."""
    names = set(connection.introspection.django_table_names(only_existing=True))
    with connection.cursor() as cursor:
        for name in sorted(names):
            cursor.execute(f"SELECT 1 FROM {connection.ops.quote_name(name)} LIMIT 1")
            if cursor.fetchone() is None:
                names.remove(name)
    return names


def test_only_what_migrating_made_is_left(fleet, cast, sign_in):
    sign_in(cast.alice)
    made = filled()
    assert {User._meta.db_table, Team._meta.db_table, "django_session"} <= made
    lasting = ContentType.objects.count(), Permission.objects.count()
    emptying.empty()
    assert filled() == emptying.LASTING
    assert (ContentType.objects.count(), Permission.objects.count()) == lasting


def test_rows_of_a_transaction_that_is_still_open_go_too():
    begun, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            Region.objects.create(uid="late", name="Late")
            begun.set()
            go_on.wait(30)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(30)
    threading.Timer(0.1, go_on.set).start()
    emptying.empty()
    writer.join(30)
    assert not Region.objects.exists()
