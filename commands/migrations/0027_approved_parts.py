"""What is approved, for each instance; tasks that somebody else stopped; an old worker's notices."""

from django.db import migrations, models
from django.db.models import Q

import commands.models.notice


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0026_lending_and_leaving"),
    ]

    operations = [
        migrations.AddField(
            model_name="approval",
            name="parts",
            field=models.JSONField(default=list),
        ),
        migrations.RemoveConstraint(
            model_name="approval",
            name="approval_state",
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=Q(state="waiting", decided_at=None)
                | Q(
                    state__in=[
                        "approved",
                        "declined",
                        "withdrawn",
                        "stopped",
                        "expired",
                        "outdated",
                    ],
                    decided_at__isnull=False,
                ),
                name="approval_state",
            ),
        ),
        migrations.AlterField(
            model_name="notice",
            name="about",
            field=models.CharField(
                choices=commands.models.notice.about_choices,
                db_default="ended",
                default="ended",
                max_length=8,
            ),
        ),
    ]
