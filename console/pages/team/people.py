"""Members of a team as its pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils.translation import gettext as _

from commands.models import Command, Invocation, Membership, Restriction, SecondFactor, Team

Kind = Restriction.Kind


@dataclass(frozen=True, slots=True)
class Person:
    """One member: ``narrowed`` are sentences, ``last_active`` is the last sign-in or task."""

    membership: Membership
    name: str
    second_factor: bool
    narrowed: list[str]
    last_active: datetime | None


def members(team: Team) -> QuerySet[Membership]:
    """Who is in ``team``, by name, each with the time of their last task in it."""
    tasks = Invocation.objects.filter(team=OuterRef("team"), created_by=OuterRef("user"))
    last = Subquery(tasks.order_by("-created_at").values("created_at")[:1])
    found = Membership.objects.filter(team=team).select_related("team", "user")
    return found.annotate(last_task=last).order_by("user__username")


def people(memberships: Iterable[Membership]) -> list[Person]:
    """``memberships`` (of ``members``) as they are shown."""
    listed = list(memberships)
    users = [membership.user_id for membership in listed]
    factors = SecondFactor.objects.filter(user__in=users, confirmed_at__isnull=False)
    on = set(factors.values_list("user", flat=True))
    narrowed = _narrowed(listed)
    return [
        Person(
            membership=membership,
            name=membership.user.shown_name,
            second_factor=membership.user_id in on,
            narrowed=narrowed.get(membership.pk, []),
            last_active=_latest(membership.user.last_login, getattr(membership, "last_task", None)),
        )
        for membership in listed
    ]


def _latest(*moments: datetime | None) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return max(known, default=None)


def _narrowed(memberships: list[Membership]) -> dict[int, list[str]]:
    """Sentences about what memberships are narrowed to, by their keys."""
    found = list(Restriction.objects.filter(membership__in=memberships))
    uids = [each.value for each in found if each.kind == Kind.COMMAND]
    names = dict(Command.objects.filter(uid__in=uids).values_list("uid", "name"))
    values: dict[tuple[int, str], list[str]] = {}
    for each in found:
        shown = names.get(each.value, each.value) if each.kind == Kind.COMMAND else each.value
        values.setdefault((each.membership_id, each.kind), []).append(shown)
    sentences: dict[int, list[str]] = {}
    for (membership, kind), texts in values.items():
        sentences.setdefault(membership, []).append(_sentence(kind, ", ".join(sorted(texts))))
    return sentences


def _sentence(kind: str, values: str) -> str:
    texts = {
        Kind.INSTANCE_TAG: _("Instances with %(values)s"),
        Kind.COMMAND: _("Commands: %(values)s"),
        Kind.RUN_AS: _("Runs as %(values)s"),
        Kind.NOT_RUN_AS: _("Never as %(values)s"),
    }
    return texts[Kind(kind)] % {"values": values}
