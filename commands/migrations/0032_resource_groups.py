"""Resource groups: each team gets a default one, and all that it has is in there."""

import django.db.models.deletion
from django.db import migrations, models

import commands.models.ids

SORTED = {"command": "commands", "instance": "instances", "invocation": "invocations"}
"""Models that get a group, and what a group calls those in it."""


def sort_into_defaults(apps, schema_editor):
    groups = apps.get_model("commands", "ResourceGroup").objects
    for team in apps.get_model("commands", "Team").objects.order_by("pk"):
        group = groups.create(team=team, name="Default", is_default=True)
        for model in SORTED:
            rows = apps.get_model("commands", model).objects.filter(team=team)
            rows.update(resource_group=group)


def link(model, **options):
    return models.ForeignKey(
        on_delete=django.db.models.deletion.PROTECT,
        related_name=SORTED[model],
        to="commands.resourcegroup",
        **options,
    )


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0031_taken_over"),
    ]

    operations = [
        migrations.CreateModel(
            name="ResourceGroup",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "uid",
                    models.CharField(
                        default=commands.models.ids.new_resource_group_uid,
                        editable=False,
                        max_length=32,
                        unique=True,
                    ),
                ),
                ("name", models.CharField(max_length=50)),
                ("is_default", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "team",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="resource_groups",
                        to="commands.team",
                    ),
                ),
            ],
            options={
                "verbose_name": "resource group",
                "verbose_name_plural": "resource groups",
                "ordering": ["team", "-is_default", "name"],
            },
        ),
        migrations.AddConstraint(
            model_name="resourcegroup",
            constraint=models.CheckConstraint(
                condition=models.Q(("uid__startswith", "rg-")), name="resource_group_uid"
            ),
        ),
        migrations.AddConstraint(
            model_name="resourcegroup",
            constraint=models.CheckConstraint(
                condition=models.Q(("name", ""), _negated=True), name="resource_group_has_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="resourcegroup",
            constraint=models.UniqueConstraint(
                fields=("team", "name"), name="resource_group_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="resourcegroup",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_default", True)),
                fields=("team",),
                name="resource_group_one_default",
            ),
        ),
        *(
            migrations.AddField(model, "resource_group", link(model, null=True))
            for model in SORTED
        ),
        migrations.RunPython(sort_into_defaults, migrations.RunPython.noop),
        *(migrations.AlterField(model, "resource_group", link(model)) for model in SORTED),
    ]
