"""Tags as they were when an instance was borrowed, as far as that is known; lenders that are refused."""

import django.db.models.deletion
from django.db import migrations, models


def remember_tags(apps, schema_editor):
    tags = apps.get_model("commands", "InstanceTag").objects
    for grant in apps.get_model("commands", "Grant").objects.exclude(accepted_at=None):
        found = tags.filter(instance=grant.instance_id).order_by("key")
        grant.accepted_tags = [list(pair) for pair in found.values_list("key", "value")]
        grant.save(update_fields=["accepted_tags"])


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0027_approved_parts"),
    ]

    operations = [
        migrations.AddField(
            model_name="grant",
            name="accepted_tags",
            field=models.JSONField(blank=True, default=list),
        ),
        migrations.CreateModel(
            name="RefusedLender",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                (
                    "lender",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="commands.team",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="refused_lenders",
                        to="commands.team",
                    ),
                ),
            ],
            options={"ordering": ["team", "lender"]},
        ),
        migrations.AddConstraint(
            model_name="refusedlender",
            constraint=models.UniqueConstraint(
                fields=("team", "lender"), name="refused_lender_once"
            ),
        ),
        migrations.RunPython(remember_tags, migrations.RunPython.noop),
    ]
