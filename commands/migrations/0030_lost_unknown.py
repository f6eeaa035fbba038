"""How much of an output found no room may be unknown."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0029_audit_marks"),
    ]

    operations = [
        migrations.AlterField(
            model_name="run",
            name="lost_bytes",
            field=models.PositiveBigIntegerField(default=0, null=True),
        ),
    ]
