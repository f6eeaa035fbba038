"""The Django app of everything HTTP; loading it makes the Celery application current."""

from __future__ import annotations

from django.apps import AppConfig

from console import celery


class ConsoleConfig(AppConfig):
    """Gives Django the console's commands and template tags."""

    name = "console"
    celery_app = celery.app
