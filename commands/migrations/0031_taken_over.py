"""When a run was taken over, and the way to its instance when it was first taken."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0030_lost_unknown"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="taken_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="run",
            name="way",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
    ]
