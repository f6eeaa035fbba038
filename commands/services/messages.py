"""What a notice says, and to whom: composed when it is about to be sent.

An e-mail speaks the language and tells the time of the account that has the address, else the
site's. What a webhook gets is the same in all languages.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models.functions import Lower
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from commands.models import Approval, Invocation, Notice, NoticeRule, Team, User
from commands.rules.status import RunStatus, TaskStatus, roll_up
from commands.services import accounts, approved, refusals
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

_STOPPED = gettext_lazy("Stopped")
_NOT_DELIVERED = gettext_lazy("Couldn't be delivered")

_RUNS = {
    RunStatus.PENDING: gettext_lazy("Pending"),
    RunStatus.RUNNING: gettext_lazy("Running"),
    RunStatus.STOPPING: gettext_lazy("Stopping"),
    RunStatus.SUCCESS: gettext_lazy("Succeeded"),
    RunStatus.FAILED: gettext_lazy("Failed"),
    RunStatus.TIMEOUT: gettext_lazy("Timed out"),
    RunStatus.ERROR: gettext_lazy("Error"),
    RunStatus.CANCELLED: _STOPPED,
    RunStatus.TERMINATED: _STOPPED,
    RunStatus.INVALID: _NOT_DELIVERED,
    RunStatus.ABORTED: _NOT_DELIVERED,
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
    """An e-mail. ``others`` say the same to those who read another language or live elsewhere."""

    uid: str
    to: tuple[str, ...]
    subject: str
    text: str
    others: tuple[Mail, ...] = ()


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
    first, *others = [_mail(notice, task, voice, some) for voice, some in _by_voice(to).items()]
    return replace(first, others=tuple(others))


def _mail(
    notice: Notice, task: Invocation | None, voice: tuple[str, str], to: Sequence[str]
) -> Mail:
    language, zone = voice
    with translation.override(language), timezone.override(accounts.zone(zone)):
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


Recipients = Mapping[str, User | None]
"""Addresses, and whose they are."""


def _addresses(rule: NoticeRule) -> Recipients:
    if not rule.target:
        return _of(rule.team.members.filter(is_active=True).order_by("pk"))
    given = rule.target.split(",")
    wanted = {address.lower() for address in given}
    users = User.objects.alias(address=Lower("email")).filter(is_active=True, address__in=wanted)
    owners = {user.email.lower(): user for user in users.order_by("-pk")}
    return {address: owners.get(address.lower()) for address in given}


def _approvers(task: Invocation) -> Recipients:
    return _of(approved.deciders(task))


def _of(people: Iterable[User]) -> Recipients:
    found: dict[str, User | None] = {}
    for person in people:
        if person.email:
            found.setdefault(person.email, person)
    if not found:
        raise Unsendable(refusals.NO_ADDRESSES)
    return found


def _by_voice(to: Recipients) -> dict[tuple[str, str], list[str]]:
    """Addresses by the language and the time zone that are spoken to them; "" is the site's."""
    found: dict[tuple[str, str], list[str]] = {}
    for address, user in to.items():
        known = user is not None and user.language in dict(settings.LANGUAGES)
        language = user.language if user and known else settings.LANGUAGE_CODE
        found.setdefault((language, user.time_zone if user else ""), []).append(address)
    return found


def _creator(task: Invocation | None) -> Recipients:
    user = task.created_by if task else None
    if task is None or user is None or not Team.objects.of(user).filter(pk=task.team_id).exists():
        raise Unsendable(refusals.HAS_LEFT)
    if not user.email:
        raise Unsendable(refusals.NO_ADDRESS)
    return {user.email: user}


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
        (_("Instances"), _told(end.counts)),
        (_("Team"), f"{task.team.name}, {task.region.name}"),
        (_("Created by"), task.created_by_name),
        (_("Started"), _moment(task.created_at)),
        (_("Finished"), _moment(end.at)),
        (_("Output"), link(task)),
    ]
    return subject, _joined(lines)


def _told(counts: Mapping[str, int]) -> str:
    """How many runs are in which state, in the words that pages have for states."""
    found: Counter[str] = Counter()
    for status, count in counts.items():
        found[str(_RUNS[RunStatus(status)])] += count
    return ", ".join(f"{label} {count:,}" for label, count in found.items())


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
    return subject, _joined(lines)


def _joined(lines: Iterable[tuple[str, str]]) -> str:
    line = _("%(name)s: %(value)s")
    return "".join(f"{line % {'name': name, 'value': value}}\n" for name, value in lines)


def _test(team: Team) -> tuple[str, str]:
    text = _("This is a test of the team %(team)s. What tasks end as will come like this.\n")
    return _("Test of Command Console"), text % {"team": team.name}


def _moment(moment: datetime | None) -> str:
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S %Z") if moment else ""
