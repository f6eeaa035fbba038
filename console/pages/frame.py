"""What every page's frame shows: where we are, whose team, what else there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from commands.models import Invocation, Region, Team
from console import resolve


@dataclass(frozen=True, slots=True)
class Frame:
    """Team, region and navigation of a page; ``scopes`` are (team, region, is current).

    ``may_create`` is False for roles that look on: they are not led to what they can't do.
    """

    team: Team | None
    region: Region | None
    scopes: list[tuple[Team, Region, bool]]
    running: int
    nav: str
    may_create: bool


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context processor: ``frame`` for people who are signed in."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"frame": Frame(None, None, [], 0, "", True)}
    chosen = resolve.scope(request)
    if chosen is None:
        return {"frame": Frame(None, None, [], 0, _nav(request), True)}
    regions = list(Region.objects.all())
    scopes = [
        (team, region, (team, region) == (chosen.team, chosen.region))
        for team in Team.objects.of(user)
        for region in regions
    ]
    running = Invocation.objects.filter(team=chosen.team, region=chosen.region).active().count()
    may_create = resolve.may_create(request, chosen)
    return {"frame": Frame(chosen.team, chosen.region, scopes, running, _nav(request), may_create)}


def _nav(request: HttpRequest) -> str:
    match = request.resolver_match
    name = match.url_name if match else ""
    if (name or "").startswith("command"):
        return "commands"
    return {"run": "run", "tasks": "tasks", "task": "tasks"}.get(name or "", "")
