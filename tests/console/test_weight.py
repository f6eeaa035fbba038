"""What a first visit to the form costs: counted as a browser without a cache would load it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import override_settings
from django.utils import timezone

from commands.models import Instance, Role, User
from commands.services import library, teams
from commands.services.definitions import CommandInput

MOST_BYTES = 45 * 1024
SPARE_BYTES = 3 * 1024
"""What stays free for other data: longer names, more tags, another language."""
SAVED, INSTANCES = 100, 60
LINKED = re.compile(r'<link rel="stylesheet" href="([^"]+)"|<script src="([^"]+)"')
ADDRESSES = re.compile(r'\b(?:src|href|action|srcset|hx-[a-z]+)="((?:[a-z]+:)?//[^"]*)"')


def linked(html: str) -> list[str]:
    """Addresses of the style sheets and scripts that a page links."""
    return [first or second for first, second in LINKED.findall(html)]


def weight(body: bytes) -> int:
    """Bytes of ``body`` as it travels."""
    return len(gzip.compress(body, 9))


def sizes(html: str) -> dict[str, int]:
    """Bytes of a page and of all that it links, by address; "" is the page itself."""
    found = {"": weight(html.encode())}
    for address in linked(html):
        file = finders.find(address.removeprefix("/static/"))
        assert file, address
        found[address] = weight(Path(file).read_bytes())
    return found


@pytest.fixture
def uid(cast, make_instance) -> str:
    """A team that has used its whole library; the id of one of its commands, with parameters."""
    for n in range(INSTANCES):
        made = make_instance(
            f"storefront-{n:03}.eu-central",
            host=f"10.{n}.{n * 7 % 250}.{n * 13 % 250}",
            tags={"env": ["prod", "staging"][n % 2], "role": f"role-{n % 9}"},
        )
        Instance.objects.filter(pk=made.pk).update(
            connection=["reachable", "unreachable", "unknown"][n % 3],
            connection_since=timezone.now(),
            checked_at=timezone.now(),
            system="Debian GNU/Linux 12",
        )
    for n in range(SAVED):
        kept = library.create_command(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name=f"{n * 7919 % 1000:03} Archive the logs of a service, then restart what "
                f"depends on it, in group {n * 104_729 % 10_007}",
                type="RunShellScript",
                content="tar -cf /backup/{{service}}.tar {{folder}} # {{ACS::InstanceId}}\n" * 8,
                description=f"Every night at {n % 24}:{n % 60:02}; ask team {n * 31 % 17} first.",
                use_params=True,
            ),
            now=timezone.now(),
        )
    return kept.uid


@pytest.fixture
def runner(cast) -> User:
    user = User.objects.create_user("runner")
    teams.add_member(team=cast.team, user=user, role=Role.RUNNER)
    return user


@pytest.fixture
def pages(cast, uid, runner, sign_in) -> dict[str, str]:
    """First loads of the form: a new command, a saved one, and somebody who only runs those."""
    asked = {
        "new": (cast.alice, "/run/"),
        "saved": (cast.alice, f"/run/?command={uid}"),
        "runner": (runner, "/run/"),
    }
    found = {}
    with override_settings(DEBUG=False):
        for name, (user, address) in asked.items():
            response = sign_in(user).get(address)
            assert response.status_code == 200
            found[name] = response.content.decode()
    return found


def test_a_first_load_weighs_at_most_45_kilobytes_with_room_to_spare(pages):
    for name, html in pages.items():
        found = sizes(html)
        assert {Path(address).suffix for address in found} == {"", ".css", ".js"}
        assert sum(found.values()) <= MOST_BYTES - SPARE_BYTES, (name, found)


def test_nothing_comes_from_elsewhere(pages):
    for html in pages.values():
        assert all(address.startswith("/static/") for address in linked(html))
        assert ADDRESSES.findall(html) == []
        for address in linked(html):
            if address.endswith(".css"):
                text = Path(finders.find(address.removeprefix("/static/"))).read_text()
                assert not re.search(r"@import|url\(\s*[\"']?(?:[a-z]+:)?//", text), address
