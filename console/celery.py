"""The Celery application. Its tasks are in ``commands.tasks``."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
try:
    settings.INSTALLED_APPS  # noqa: B018 - reads the settings, now
except ImproperlyConfigured as error:
    raise SystemExit(str(error)) from None

app = Celery("console")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["commands"])


@setup_logging.connect
def leave_logging_alone(**_given: object) -> None:
    """Logs are what the settings say: without this, Celery sets a level of its own."""
