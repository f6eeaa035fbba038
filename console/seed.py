"""What a new console begins with: an administrator in a first team, and demo instances."""

from __future__ import annotations

import json
import secrets

from django.utils import timezone

from commands.services import instances, teams
from console.datadir import DataDir

USERNAME = "admin"
"""The first user."""

PASSWORD = "CONSOLE_ADMIN_PASSWORD"  # noqa: S105 - the name of a variable
"""The environment variable with the first user's password; a random one is made without it."""


def first_user(given: str) -> str | None:
    """Make the first user. Returns a sentence on how to sign in, or None if there is one.

    ``given`` is the password, or "" for a random one, which stands in that sentence and
    nowhere else.
    """
    password = given or secrets.token_urlsafe(12)
    team = teams.create_first_team(username=USERNAME, password=password, now=timezone.now())
    if team is None:
        return None
    if given:
        return f"Sign in as {USERNAME} with the password in {PASSWORD}."
    return f"Sign in as {USERNAME} with the password {password} (it is shown only this once)."


def demo_instances(data: DataDir) -> None:
    """Make the demo instances known to the first team, as ``demo.json`` describes them now."""
    team = teams.first_team()
    if team is None:
        return
    described = json.loads((data.demo / "demo.json").read_text())
    private_key = (data.demo / "id_ed25519").read_text()
    for each in described["instances"]:
        instances.ensure_demo_instance(
            team=team,
            name=each["name"],
            host=each["host"],
            port=each["port"],
            user=described["user"],
            private_key=private_key,
            host_key=each["host_key"],
        )
