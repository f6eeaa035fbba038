"""What a notice says, and to whom: composed when it is about to be sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from commands.models import Approval, Invocation, Notice, NoticeRule, Team
from commands.rules.status import TaskStatus, roll_up
from commands.services import approved, refusals
from commands.words import retold

_STATUSES = {
    TaskStatus.PENDING: gettext_lazy("Pending"),
    TaskStatus.RUNNING: gettext_lazy("Running"),
    TaskStatus.STOPPING: gettext_lazy("Stopping"),
    TaskStatus.SUCCESS: gettext_lazy("Succeeded"),
    TaskStatus.FAILED: gettext_lazy("Failed"),
    TaskStatus.PARTIAL_FAILED: gettext_lazy("Partly failed"),
    TaskStatus.STOPPED: gettext_lazy("Stopped"),
}

_EVENTS = {
    Notice.About.ENDED: "task.ended",
    Notice.About.ASKED: "approval.asked",
    Notice.About.DECIDED: "approval.decided",
}


class Unsendable(Exception):
    """There is nobody to tell any more; the message says why."""


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail."""

    uid: str
    to: tuple[str, ...]
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Post:
    """What a webhook gets. ``event`` is one of ``_EVENTS``, or "test"."""

    uid: str
    url: str = field(repr=False)
    secret: str = field(repr=False)
    event: str
    body: bytes


Message = Mail | Post


def of(notice: Notice) -> Message:
    """The message of a notice.

    Raises Unsendable; ImproperlyConfigured if what its rule keeps can't be decrypted.
    """
    tasks = Invocation.objects.select_related("team", "region", "created_by", "approval")
    task = tasks.defer("values", "content").filter(notices=notice).first()
    rule = NoticeRule.objects.select_related("team").filter(notices=notice).first()
    if (task is None and notice.invocation_id) or (rule is None and notice.rule_id):
        raise Unsendable(refusals.DELETED)
    if rule is not None and not rule.enabled and task is not None:
        raise Unsendable(refusals.SWITCHED_OFF)
    if rule is not None and rule.kind == NoticeRule.Kind.WEBHOOK:
        return _post(notice, rule, task)
    if task is not None and notice.about == Notice.About.ASKED:
        to = _approvers(task)
    else:
        to = _addresses(rule) if rule is not None else _creator(task)
    if task is None:
        subject, text = _test(notice.team)
    elif notice.about == Notice.About.ENDED:
        subject, text = _about(task)
    else:
        subject, text = _about_approval(task)
    return Mail(notice.uid, tuple(to), " ".join(subject.split())[:200], text)


def link(task: Invocation) -> str:
    """Where a task is to be seen: a whole address if the console knows its own."""
    return f"{settings.CONSOLE_URL}/tasks/{task.uid}/"


def _addresses(rule: NoticeRule) -> list[str]:
    if rule.target:
        return rule.target.split(",")
    members = rule.team.members.filter(is_active=True).exclude(email="").order_by("pk")
    if found := list(dict.fromkeys(members.values_list("email", flat=True))):
        return found
    raise Unsendable(refusals.NO_ADDRESSES)


def _approvers(task: Invocation) -> list[str]:
    found = approved.deciders(task)
    if addresses := list(dict.fromkeys(member.email for member in found if member.email)):
        return addresses
    raise Unsendable(refusals.NO_ADDRESSES)


def _creator(task: Invocation | None) -> list[str]:
    user = task.created_by if task else None
    if task is None or user is None or not Team.objects.of(user).filter(pk=task.team_id).exists():
        raise Unsendable(refusals.HAS_LEFT)
    if not user.email:
        raise Unsendable(refusals.NO_ADDRESS)
    return [user.email]


def _post(notice: Notice, rule: NoticeRule, task: Invocation | None) -> Post:
    event = "test" if task is None else _EVENTS[Notice.About(notice.about)]
    what: dict[str, Any] = {"task": _task(task)} if task else {}
    if task is not None and notice.about != Notice.About.ENDED:
        what["approval"] = _approval(task.approval)
    body: dict[str, Any] = {
        "id": notice.uid,
        "event": event,
        "team": {"id": notice.team.uid, "name": notice.team.name},
        **what,
    }
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Post(notice.uid, rule.target, rule.secret, event, data)


def _approval(approval: Approval) -> dict[str, Any]:
    return {
        "state": approval.state,
        "why": approval.why,
        "digest": approval.digest,
        "by": approval.decided_by_name,
        "comment": approval.comment,
        "expires": approval.expires_at.isoformat(),
    }


def _task(task: Invocation) -> dict[str, Any]:
    end = _End.of(task)
    return {
        "id": task.uid,
        "name": task.name,
        "status": end.status.value,
        "counts": end.counts,
        "url": link(task),
        "region": task.region.uid,
        "started": task.created_at.isoformat(),
        "finished": end.at.isoformat() if end.at else None,
        "who": task.created_by_name,
    }


@dataclass(frozen=True, slots=True)
class _End:
    """How a task ended, and when; ``counts`` are its runs by status."""

    status: TaskStatus
    counts: dict[str, int]
    at: datetime | None

    @classmethod
    def of(cls, task: Invocation) -> _End:
        runs: Sequence[tuple[str, datetime | None]] = list(
            task.runs.values_list("status", "finished_at")
        )
        ends = [at for _, at in runs if at]
        counts = Counter(status for status, _ in runs)
        return cls(roll_up(counts), dict(sorted(counts.items())), max(ends, default=None))


def _about(task: Invocation) -> tuple[str, str]:
    end = _End.of(task)
    status = str(_STATUSES[end.status])
    subject = _("%(status)s: %(name)s") % {"status": status, "name": task.name}
    lines = [
        (_("Task"), f"{task.name} ({task.uid})"),
        (_("Status"), status),
        (_("Instances"), ", ".join(f"{word} {count:,}" for word, count in end.counts.items())),
        (_("Team"), f"{task.team.name}, {task.region.name}"),
        (_("Created by"), task.created_by_name),
        (_("Started"), _moment(task.created_at)),
        (_("Finished"), _moment(end.at)),
        (_("Output"), link(task)),
    ]
    return subject, "".join(f"{name}: {value}\n" for name, value in lines)


def _about_approval(task: Invocation) -> tuple[str, str]:
    approval = task.approval
    state = str(approval.get_state_display())
    subject = _("%(status)s: %(name)s") % {"status": state, "name": task.name}
    lines = [
        (_("Task"), f"{task.name} ({task.uid})"),
        (_("Team"), f"{task.team.name}, {task.region.name}"),
        (_("Created by"), task.created_by_name),
        (_("Approval"), state),
        (_("Rule"), " ".join(retold(reason) for reason in approval.why)),
    ]
    if approval.waits:
        lines.append((_("Expires"), _moment(approval.expires_at)))
    if approval.decided_by_name:
        lines.append((_("Decided by"), approval.decided_by_name))
    if approval.comment:
        lines.append((_("Comment"), approval.comment))
    lines += [(_("Digest"), approval.digest), (_("Read it"), link(task))]
    return subject, "".join(f"{name}: {value}\n" for name, value in lines)


def _test(team: Team) -> tuple[str, str]:
    text = _("This is a test of the team %(team)s. What tasks end as will come like this.\n")
    return _("Test of Command Console"), text % {"team": team.name}


def _moment(moment: datetime | None) -> str:
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z") if moment else ""
