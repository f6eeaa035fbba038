"""Audit events carry a mark that only the console can make, and are listed by their number."""

import hashlib
import hmac
import json
import secrets
from datetime import UTC

from django.conf import settings
from django.db import migrations, models

COLUMNS = (
    "actor_id",
    "actor_name",
    "origin",
    "action",
    "outcome",
    "team_uid",
    "team_name",
    "target_uid",
    "target_name",
    "details",
)
PLACE = models.Func(
    "number",
    template="COALESCE(%(expressions)s, 9223372036854775807)",
    output_field=models.BigIntegerField(),
)


def mark_what_waits(apps, schema_editor):
    """Events that are not sealed yet get a mark; what is sealed needs none.

    Not in a trail of a version that makes marks itself: who takes the columns away to have this run
    again gets nothing signed.
    """
    events = apps.get_model("commands", "AuditEvent").objects
    if events.filter(action="audit:begin").exists():
        return
    for event in events.filter(number=None).iterator(chunk_size=500):
        event.nonce = secrets.token_hex(16)
        columns = {name: getattr(event, name) for name in (*COLUMNS, "nonce")}
        columns["at"] = event.at.astimezone(UTC).isoformat()
        text = json.dumps(columns, sort_keys=True, separators=(",", ":"))
        key = settings.CONSOLE_AUDIT_KEY.encode()
        mark = hmac.new(key, f"mark {text}".encode(), hashlib.sha256).hexdigest()
        events.filter(pk=event.pk).update(nonce=event.nonce, mark=mark)
    if not events.exclude(number=None).exists():
        # A chain that was never begun begins with an event of its own.
        apps.get_model("commands", "AuditHead").objects.filter(number=0).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0028_lenders"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="auditevent",
            options={
                "ordering": [PLACE.desc(), "-pk"],
                "verbose_name": "event",
                "verbose_name_plural": "audit trail",
            },
        ),
        migrations.RemoveIndex(
            model_name="auditevent",
            name="audit_of_team",
        ),
        migrations.AddField(
            model_name="auditevent",
            name="nonce",
            field=models.CharField(blank=True, default="", max_length=32),
        ),
        migrations.AddField(
            model_name="auditevent",
            name="mark",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(
                models.F("team_uid"), PLACE.desc(), models.F("id").desc(), name="audit_of_a_team"
            ),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(PLACE.desc(), models.F("id").desc(), name="audit_in_order"),
        ),
        migrations.AddConstraint(
            model_name="auditevent",
            constraint=models.UniqueConstraint(
                condition=~models.Q(nonce=""), fields=("nonce",), name="audit_nonce_once"
            ),
        ),
        migrations.RunPython(mark_what_waits, migrations.RunPython.noop),
    ]
