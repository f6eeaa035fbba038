"""What pages about instances show of them: plain objects made from rows, for templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from commands import access
from commands.access import Permission
from commands.models import Instance, Run, Team
from commands.models.instance import ConnectionState, InstanceQuerySet
from commands.rules.status import Phase
from console.pages.picker import Look, connection_look
from console.presentation import state_word


class LastTask(NamedTuple):
    """The newest task on an instance, and how it went there."""

    name: str
    url: str
    status: str
    word: str
    """Its state there in words (``presentation.state_word``)."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """An instance in the list; ``lent`` says by whom, "" for one of the team's own.

    ``through`` is the name of its jump host, if the reader may see that.

    ``told`` is what a check found that somebody asked for just now.
    """

    instance: Instance
    look: Look
    key: Look
    last: LastTask | None
    runnable: bool
    manageable: bool
    lent: str
    through: str
    told: str = ""


def with_last_task(instances: InstanceQuerySet, request: HttpRequest) -> InstanceQuerySet:
    """The same, each with the newest run on it that the person may see."""
    return instances.annotate(last_run=Subquery(visible_runs(request).values("pk")[:1]))


def visible_runs(request: HttpRequest) -> QuerySet[Run]:
    """Runs on the instance of an outer query in tasks of the person's teams, newest first."""
    teams = Team.objects.of(request.user).values("pk")
    runs = Run.objects.filter(instance=OuterRef("pk"), invocation__team__in=teams)
    return runs.order_by("-pk")


def rows(
    request: HttpRequest,
    instances: Iterable[Instance],
    team: Team,
    now: datetime,
    told: Mapping[str, str] | None = None,
) -> list[Row]:
    """Rows of the list as ``team`` sees it, for instances that come ``with_last_task``."""
    found = list(instances)
    keys = [key for one in found if (key := getattr(one, "last_run", None))]
    runs = {run.pk: run for run in Run.objects.filter(pk__in=keys).select_related("invocation")}
    last = {key: last_task(run) for key, run in runs.items()}
    owners = {one.team_id: one.team for one in found}
    manages = Permission.INSTANCE_MANAGE
    managed = {key for key, owner in owners.items() if access.allows(request.user, manages, owner)}
    may_run = access.allows(request.user, Permission.COMMAND_RUN, team)
    jump_hosts = Instance.objects.visible_to(request.user).filter(behind__in=found)
    through = dict(jump_hosts.values_list("pk", "name"))
    return [
        Row(
            instance=one,
            look=connection_look(one, now),
            key=key_look(one),
            last=last.get(getattr(one, "last_run", None) or 0),
            runnable=may_run and one.enabled,
            manageable=one.team_id in managed,
            lent="" if one.team_id == team.pk else one.team.name,
            through=through.get(one.jump_host_id or 0, ""),
            told=(told or {}).get(one.uid, ""),
        )
        for one in found
    ]


def key_look(instance: Instance) -> Look:
    """How the state of a host key is shown."""
    if instance.connection == ConnectionState.HOST_KEY_CHANGED:
        return Look(_("Changed"), "bad", "bad")
    return Look(_("Pinned"), "ok", "ok")


def last_task(run: Run) -> LastTask:
    """A task, and how it went on one instance."""
    task = run.invocation
    query = urlencode({"instance": run.instance_uid})
    url = f"{reverse('task', args=[task.uid])}?{query}"
    word = state_word(run.status, unapproved=run.phase == Phase.UNAPPROVED)
    return LastTask(task.name, url, run.status, word, task.created_at)
