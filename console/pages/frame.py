"""What every page's frame shows: where we are, whose team, what else there is, how it looks."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from commands.access import Permission
from commands.models import Instance, Invocation, QuotaRequest, Region, Team, User
from commands.rules.quotas import Quota, Usage
from commands.services import quota_requests, quotas
from console import preferences, resolve
from console.resolve import Scope

_NAV = {"home": "home", "run": "run", "run-check": "run", "tasks": "tasks", "task": "tasks"}

TEAM_SECTIONS = (
    "team-members",
    "team-why",
    "team-quotas",
    "team-lending",
    "team-keys",
    "team-approvals",
    "team-audit",
    "team-settings",
)
"""Pages of the team portal, as the names of their addresses begin."""


class Frame:
    """Team, region, navigation and look of a page; what costs a query is asked where it shows."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        user = getattr(request, "user", None)
        self.person = user if isinstance(user, User) else None
        self.theme = preferences.theme(request)
        self.languages = settings.LANGUAGES

    @cached_property
    def _scope(self) -> Scope | None:
        return resolve.scope(self._request) if self.person else None

    @property
    def team(self) -> Team | None:
        """The chosen team."""
        return self._scope.team if self._scope else None

    @property
    def region(self) -> Region | None:
        """The chosen region."""
        return self._scope.region if self._scope else None

    @cached_property
    def scopes(self) -> list[tuple[Team, Region, bool]]:
        """What else can be chosen: (team, region, is current)."""
        regions = list(Region.objects.all())
        return [
            (team, region, Scope(team, region) == self._scope)
            for team in (Team.objects.of(self.person) if self.person else ())
            for region in regions
        ]

    @cached_property
    def running(self) -> int:
        """How many tasks are under way."""
        found = Invocation.objects.filter(team=self.team, region=self.region)
        return found.under_way().count()

    @cached_property
    def unapproved(self) -> int:
        """How many tasks wait for another member's approval."""
        found = Invocation.objects.filter(team=self.team, region=self.region)
        return found.unapproved().count()

    @cached_property
    def instances(self) -> int:
        """How many instances the team can use."""
        if self._scope is None:
            return 0
        usable = Instance.objects.usable_by(self._scope.team)
        return usable.filter(region=self._scope.region).count()

    @cached_property
    def meters(self) -> list[Usage]:
        """The quotas that fill up."""
        if self._scope is None:
            return []
        team, region, now = self._scope.team, self._scope.region, timezone.now()
        return [
            quotas.usage(team=team, region=region, key=key, now=now)
            for key in (Quota.SAVED_COMMANDS, Quota.TASKS_PER_DAY)
        ]

    @cached_property
    def may_create(self) -> bool:
        """False for roles that look on: they are not led to what they can't do."""
        return self._scope is None or resolve.may_create(self._request, self._scope)

    @cached_property
    def manages(self) -> bool:
        """Whether the person manages the team, and is led to its trail and settings."""
        return self._scope is not None and resolve.may(
            self._request, Permission.TEAM_MANAGE, self._scope
        )

    @cached_property
    def news(self) -> list[QuotaRequest]:
        """Decisions on the person's requests that they have not read."""
        return quota_requests.news_for(self.person) if self.person else []

    @property
    def nav(self) -> str:
        """The entry of the navigation that the page belongs to."""
        match = self._request.resolver_match
        name = (match.url_name if match else "") or ""
        if name.startswith("team-notice"):
            return "team-notices"
        for section in TEAM_SECTIONS:
            if name.startswith(section):
                return section
        for section in ("command", "instance"):
            if name.startswith(section):
                return f"{section}s"
        return _NAV.get(name, "")


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context processor: ``frame``."""
    return {"frame": Frame(request)}
