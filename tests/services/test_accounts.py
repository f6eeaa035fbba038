"""What people choose for themselves, and what of it is refused."""

from __future__ import annotations

import pytest
from django.utils import timezone

from commands.errors import Invalid
from commands.models import User
from commands.services import accounts
from commands.services.accounts import Preferences

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


def test_what_is_chosen_is_kept_and_the_rest_stays(cast):
    chosen = Preferences(language="zh-hans", theme="dark", time_zone="Asia/Shanghai", compact=True)
    accounts.set_preferences(actor=cast.alice, preferences=chosen)
    accounts.set_preferences(actor=cast.alice, preferences=Preferences(theme=""))
    kept = User.objects.get(pk=cast.alice.pk)
    assert (kept.language, kept.theme, kept.time_zone) == ("zh-hans", "", "Asia/Shanghai")
    assert kept.compact
    assert kept.shortcuts
    assert User.objects.get(pk=cast.bob.pk).language == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [("language", "tlh"), ("theme", "pink"), ("time_zone", "Mars/Olympus"), ("time_zone", "Etc")],
)
def test_what_is_not_offered_is_refused(cast, field, value):
    with pytest.raises(Invalid) as raised:
        accounts.set_preferences(actor=cast.alice, preferences=Preferences(**{field: value}))
    assert raised.value.field == field
    assert getattr(User.objects.get(pk=cast.alice.pk), field) == ""


def test_failures_are_marked_as_looked_at_for_one_person(cast):
    now = timezone.now()
    accounts.mark_looked_at(actor=cast.alice, now=now)
    assert User.objects.get(pk=cast.alice.pk).looked_at == now
    assert User.objects.get(pk=cast.bob.pk).looked_at is None
