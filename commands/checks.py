"""System checks: what would go wrong later is said at start, with a hint what to do."""

from __future__ import annotations

import os
import stat
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning


@register(Tags.security)
def private_data_directory(**_kwargs: Any) -> list[CheckMessage]:
    """The data directory holds keys, so nobody else may look into it."""
    try:
        mode = os.stat(settings.DATA_DIR).st_mode
    except FileNotFoundError:
        return []
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return []
    return [
        CheckWarning(
            f"Other users can look into the data directory {settings.DATA_DIR}.",
            hint=f"Run: chmod 700 {settings.DATA_DIR}",
            id="commands.W001",
        )
    ]


@register(Tags.security, deploy=True)
def production_keys(**_kwargs: Any) -> list[CheckMessage]:
    """Several machines must share their keys, so production takes them from the environment."""
    missing = [
        name
        for name in ("SECRET_KEY", "CONSOLE_ENCRYPTION_KEYS", "CONSOLE_AUDIT_KEY")
        if not os.environ.get(name)
    ]
    return [
        CheckWarning(
            f"{name} is not set; a key from the data directory is used.",
            hint=f"Set {name}, the same for every web and worker process.",
            id="commands.W002",
        )
        for name in missing
    ]


@register(Tags.database, deploy=True)
def production_database(**_kwargs: Any) -> list[CheckMessage]:
    """SQLite serves one machine and few people."""
    if "sqlite" not in settings.DATABASES["default"]["ENGINE"]:
        return []
    return [
        CheckWarning(
            "The database is SQLite.",
            hint="Set DATABASE_URL to a PostgreSQL database for more than one machine.",
            id="commands.W003",
        )
    ]
