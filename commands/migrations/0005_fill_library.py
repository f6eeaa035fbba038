import re

from django.db import migrations
from django.db.models import F, OuterRef, Subquery


NAME = re.compile(r"\{\{\s*([A-Za-z0-9_-]+)\s*\}\}")


def fill(apps, schema_editor):
    """Old rows get what new ones have: names of versions, ids of commands, dates of change."""
    Command = apps.get_model("commands", "Command")
    Command.objects.update(updated_at=F("created_at"), updated_by=F("created_by"))
    command = Command.objects.filter(pk=OuterRef("command"))
    apps.get_model("commands", "CommandVersion").objects.update(
        name=Subquery(command.values("name")), description=Subquery(command.values("description"))
    )
    apps.get_model("commands", "Invocation").objects.filter(command__isnull=False).update(
        command_uid=Subquery(command.values("uid"))
    )
    hide_values(apps.get_model("commands", "Invocation"))


def hide_values(Invocation):
    """Values were shown to nobody so far, and whoever typed them relied on that."""
    found = Invocation.objects.filter(use_params=True).only("content")
    for invocation in found.iterator(chunk_size=500):
        keys = {name.lower() for name in NAME.findall(invocation.content)}
        Invocation.objects.filter(pk=invocation.pk).update(hidden=sorted(keys))


class Migration(migrations.Migration):

    dependencies = [
        ("commands", "0004_library_and_bindings"),
    ]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
