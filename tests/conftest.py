"""The cast and the stage of the tests.

Alice leads the team "Storefront", Bob operates it, Vera only looks; Charlie leads another team
and sees nothing of it. ``fleet`` are three instances of the first team.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import hypothesis
import pytest
from django.test import Client

from commands import queue
from commands.models import Credential, Instance, Region, Role, Team, User
from commands.services import instances, teams
from tests import emptying, static_files

# A slow machine must not fail a test.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

# Playwright's synchronous API runs an event loop in the main thread, which Django takes for
# an asynchronous caller; tests use the ORM beside it on purpose.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

emptying.install()
static_files.install()

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEeXkLhFIdeCw7DIM1HYpGxcO2J4zVSGjVLEZG8fGvp1"


def missing(program: str) -> NoReturn:
    """Skip a test for want of ``program``; in CI that is a failure."""
    text = f"{program} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


# Files are handed out in this order, so that no process is left with a long one at the end.
# The browser's stand beside each other: each process starts one console for all of its own.
LONGEST_FIRST = (
    "tests/postgresql/",
    "tests/browser/",
    "tests/execution/test_ssh.py",
    "tests/console/test_up.py",
    "tests/services/test_black_holes.py",
)
# What they run is in other processes, or runs in other tests too: measuring which lines of the
# console they reach would double their time and tell nothing.
UNMEASURED = (
    "tests/browser/",
    "tests/postgresql/",
    "tests/test_matrix",
    "tests/console/api/test_matrix",
)
SHORTEST_LAST = ("tests/outputs/", "tests/rules/", "tests/test_architecture.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        for number, start in enumerate(LONGEST_FIRST):
            if item.nodeid.startswith(start):
                return number - len(LONGEST_FIRST)
        return int(item.nodeid.startswith(SHORTEST_LAST))

    items.sort(key=place)
    for item in items:
        if item.nodeid.startswith(UNMEASURED):
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def sent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Jobs that were asked for; they reach a broker only in tests marked ``broker``."""
    messages: list[tuple] = []
    if request.node.get_closest_marker("broker") is None:
        monkeypatch.setattr(queue, "_send", lambda job, ids: messages.append((job, ids)))
    return messages


@dataclass(frozen=True)
class Cast:
    """Who is on stage."""

    team: Team
    other_team: Team
    region: Region
    alice: User
    bob: User
    vera: User
    charlie: User


@pytest.fixture
def cast(db: None) -> Cast:
    alice, bob, vera, charlie = (
        User.objects.create_user(name, password=f"{name}-secret")
        for name in ("alice", "bob", "vera", "charlie")
    )
    team = teams.create_team(name="Storefront", admin=alice)
    other_team = teams.create_team(name="Warehouse", admin=charlie)
    teams.add_member(team=team, user=bob, role=Role.OPERATOR)
    teams.add_member(team=team, user=vera, role=Role.VIEWER)
    return Cast(team, other_team, teams.default_region(), alice, bob, vera, charlie)


@pytest.fixture
def credential(cast: Cast) -> Credential:
    return instances.add_credential(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        name="key",
        private_key="-----BEGIN OPENSSH PRIVATE KEY-----\n…",
    )


@pytest.fixture
def make_instance(cast: Cast, credential: Credential) -> Callable[..., Instance]:
    def make(name: str, **columns: object) -> Instance:
        given = {"host": "127.0.0.1", "port": 22, "user": "root", "host_key": HOST_KEY, **columns}
        return instances.add_instance(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            name=name,
            credential=credential,
            **given,
        )

    return make


@pytest.fixture
def fleet(make_instance: Callable[..., Instance]) -> list[Instance]:
    return [make_instance(name) for name in ("web-01", "web-02", "web-03")]


@pytest.fixture
def sign_in() -> Callable[[User], Client]:
    def go(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return go
