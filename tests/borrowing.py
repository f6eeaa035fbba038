"""Instances that are lent, and accepted."""

from __future__ import annotations

from django.utils import timezone

from commands.models import Grant, Instance, Team, User
from commands.services import lending


def borrow(instance: Instance, team: Team, *, by: User, to: User) -> Grant:
    """``by`` lends it to ``team``, whose admin ``to`` accepts."""
    offer = lending.lend_instance(actor=by, instance=instance, team=team)
    return lending.accept(actor=to, grant=offer, now=timezone.now())
