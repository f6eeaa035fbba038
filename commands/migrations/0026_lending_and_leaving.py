"""Loans wait for who borrows; those that there are were in force, so they count as accepted. Who left."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import F


def accept(apps, schema_editor):
    apps.get_model("commands", "Grant").objects.filter(accepted_at=None).update(
        accepted_at=F("created_at")
    )


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0025_access_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name="grant",
            name="accepted_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="grant",
            name="accepted_by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.CreateModel(
            name="Departure",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="departures",
                        to="commands.team",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="departures",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"ordering": ["team", "user"]},
        ),
        migrations.AddConstraint(
            model_name="departure",
            constraint=models.UniqueConstraint(fields=("team", "user"), name="departure_once"),
        ),
        migrations.RunPython(accept, migrations.RunPython.noop, elidable=True),
    ]
