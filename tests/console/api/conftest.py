"""Programs that hold the keys of the cast."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from commands.models import Team, User
from commands.services import access_keys
from tests.signing import Program


@pytest.fixture
def program_of(cast) -> Callable[..., Program]:
    """A program with a new key of somebody."""

    def make(user: User, team: Team | None = None) -> Program:
        key = access_keys.create_key(
            actor=user, team=team or cast.team, name="Nightly", days=None, now=timezone.now()
        )
        return Program(key, cast.region.uid)

    return make


@pytest.fixture
def bob(cast, program_of) -> Program:
    """What Bob, an operator, has run."""
    return program_of(cast.bob)
