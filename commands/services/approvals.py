"""Approvals: what fits a team's rule waits until another member says yes to exactly that.

Whoever decides, withdraws or stops locks the approval's row first, so of two at once one wins and
the other is told. The decision and what follows from it are one transaction: an approved task is
queued with it, and the reconciler starts what a lost message does not. Before each run begins
``approved.obstacle`` asks once more.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from commands import access, queue
from commands.access import Permission
from commands.errors import Conflict, Denied, Invalid
from commands.models import Approval, Instance, Invocation, Run, Team, User
from commands.models.approval import ApprovalState as State
from commands.rules import limits
from commands.rules.status import ErrorCode, Phase, RunStatus
from commands.services import approval_notices, approval_rules, approved, audit, pacing, quotas
from commands.words import gettext as _
from commands.words import gettext_noop, kept

log = logging.getLogger(__name__)

_DECLINED = kept("Declined by %(by)s before it started. Nothing ran.")
_WITHDRAWN = kept("Withdrawn by %(by)s before it was approved. Nothing ran.")
_EXPIRED = gettext_noop("Nobody approved it in time. Nothing ran; create the task again.")
_ENDS = {
    State.DECLINED: (RunStatus.CANCELLED, ErrorCode.APPROVAL_DECLINED, _DECLINED),
    State.WITHDRAWN: (RunStatus.CANCELLED, ErrorCode.APPROVAL_WITHDRAWN, _WITHDRAWN),
    State.EXPIRED: (RunStatus.CANCELLED, ErrorCode.APPROVAL_EXPIRED, _EXPIRED),
    State.OUTDATED: (RunStatus.ABORTED, ErrorCode.APPROVAL_OUTDATED, approved.CHANGED),
}
"""How the runs of a task end that is not approved."""
UNREADABLE = gettext_noop(
    "The values of this task can't be decrypted: the console lacks the encryption key they were "
    "stored with. An admin must add that key."
)
_ACTIONS = {
    State.APPROVED: "approval:approve",
    State.DECLINED: "approval:decline",
    State.WITHDRAWN: "approval:withdraw",
    State.STOPPED: "approval:stop",
    State.EXPIRED: "approval:expire",
    State.OUTDATED: approved.OUTDATED,
}


class What(Enum):
    """How what would run compares with what was asked for."""

    SAME = "same"
    CHANGED = "changed"
    CREATOR = "creator"
    """Its creator may no longer run it."""
    UNREADABLE = "unreadable"
    """Its values can't be decrypted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A task that waits as it is now; ``digest`` is "" where that can't be said."""

    what: What
    digest: str


def require_somebody(
    *, creator: User, team: Team, command_uid: str, run_as: str, instances: Sequence[Instance]
) -> None:
    """Raise Conflict if nobody else could approve what ``creator`` wants to run."""
    for member in access.approvers(team, creator):
        if access.covers(member, team, command_uid=command_uid, run_as=run_as, instances=instances):
            return
    raise Conflict(
        _(
            "This task needs the approval of another member, and nobody else in %(team)s may give "
            "it. Ask a team admin to invite somebody, or to change the rule."
        )
        % {"team": team.name},
        code="NobodyMayApprove",
    )


def ask(*, invocation: Invocation, why: Sequence[str], now: datetime) -> Approval:
    """Have a new task, whose runs are there and unapproved, wait for another member."""
    rule = approval_rules.of(invocation.team)
    parts = approved.parts_of(invocation)
    made = Approval.objects.create(
        invocation=invocation,
        why=list(why),
        parts=parts,
        digest=approved.together(invocation, parts),
        asked_at=now,
        expires_at=now + timedelta(hours=rule.hours),
    )
    _record(invocation.created_by, "approval:ask", made, now, {"why": list(why)})
    approval_notices.asked(made, now)
    return made


@transaction.atomic
def approve(
    *, actor: User, invocation: Invocation, digest: str, comment: str = "", now: datetime
) -> Approval:
    """Let a task run as it was put up for approval; its approval, decided.

    ``digest`` is what the person has read. Where something has changed since, or it is too late,
    the task ends instead, which the state of the approval says. Raises Denied for who may not
    approve anything; Conflict for one's own task, for who could not run it themselves, for another
    digest, and where somebody else was faster; QuotaExceeded if too many runs go on already: it
    waits on.
    """
    access.require(actor, Permission.INVOCATION_APPROVE, invocation.team)
    approval = _waiting(invocation)
    # Somebody may have taken the right away while this waited for the row.
    access.require(actor, Permission.INVOCATION_APPROVE, invocation.team)
    if reason := refusal(actor, invocation):
        raise Conflict(reason)
    if approval.expires_at <= now:
        return _close(approval, State.EXPIRED, None, now)
    found = standing(approval, approval.invocation).what
    if found is What.UNREADABLE:
        raise Conflict(_(UNREADABLE))
    if found is not What.SAME:
        return _close(approval, State.OUTDATED, None, now)
    if not approved.matches(approval, digest):
        raise Conflict(_("The page showed something else than what waits. Read it again."))
    # While they waited they were no runs at a time; from here on they are.
    waiting = invocation.runs.unapproved().count()
    quotas.require_runs(team=invocation.team, region=invocation.region, runs=waiting)
    _settle(approval, State.APPROVED, actor, now, _words(comment))
    invocation.runs.unapproved().locked()
    invocation.runs.unapproved().update(phase=Phase.HELD.value)
    pacing.advance(invocation_id=invocation.pk, now=now)
    return approval


@transaction.atomic
def decline(*, actor: User, invocation: Invocation, comment: str, now: datetime) -> Approval:
    """Have a task never run, and say why. Raises Denied, Conflict as ``approve``; Invalid."""
    access.require(actor, Permission.INVOCATION_APPROVE, invocation.team)
    words = _words(comment)
    if not words:
        raise Invalid(_("Say why you decline it: who created the task reads it."), field="comment")
    approval = _waiting(invocation)
    # Somebody may have taken the right away while this waited for the row.
    access.require(actor, Permission.INVOCATION_APPROVE, invocation.team)
    if reason := refusal(actor, invocation):
        raise Conflict(reason)
    return _close(approval, State.DECLINED, actor, now, words)


@transaction.atomic
def withdraw(*, actor: User, invocation: Invocation, now: datetime) -> Approval:
    """Take one's own task back that waits. Raises Denied; Conflict if somebody has decided."""
    _require_own(actor, invocation)
    approval = _waiting(invocation)
    _require_own(actor, invocation)  # which may have changed while this waited for the row
    return _close(approval, State.WITHDRAWN, actor, now)


def _require_own(actor: User, invocation: Invocation) -> None:
    own = invocation.created_by_id == actor.pk
    if not own or not access.allows(actor, Permission.COMMAND_RUN, invocation.team):
        raise Denied(_("Only who created the task may withdraw it."), team=invocation.team)


def refusal(actor: User, invocation: Invocation) -> str:
    """Why ``actor``, whose role lets them approve, may not decide on this task; "" if they may."""
    if invocation.created_by_id == actor.pk:
        return _("You created this task: another member has to decide on it.")
    if not access.covers(
        actor,
        invocation.team,
        command_uid=invocation.command_uid if invocation.saved else "",
        run_as=invocation.run_as,
        instances=approved.instances_of(invocation),
    ):
        return _("Your membership is narrowed: you could not run this, so you can't approve it.")
    return ""


def expire(*, now: datetime, limit: int = 200) -> int:
    """End tasks that nobody has decided on in time; how many."""
    late = Approval.objects.waiting().filter(expires_at__lte=now).order_by("expires_at")
    ended = 0
    for key in list(late.values_list("invocation", flat=True)[:limit]):
        try:
            ended += _expire(key, now)
        except Exception:  # whatever is wrong with one task, the others and who calls go on
            log.exception("The approval of task %s can't be ended", key)
    return ended


@transaction.atomic
def _expire(invocation_id: int, now: datetime) -> bool:
    approval = _locked(invocation_id)
    if approval is None or not approval.waits:
        return False
    _close(approval, State.EXPIRED, None, now)
    return True


def lock(invocation: Invocation) -> Approval | None:
    """The approval of a task that waits, locked for the present transaction; None if none does.

    Of what is decided no row is locked: workers hold those of runs before they want it.
    """
    return _locked(invocation.pk, state=State.WAITING)


def stopped(approval: Approval, *, actor: User, now: datetime) -> None:
    """Note that a task was stopped which waited, if nothing of it is left that could run.

    The caller has locked the approval, and stopped runs. Stopping one's own is withdrawing it.
    """
    if not approval.invocation.runs.unapproved().exists():
        own = approval.invocation.created_by_id == actor.pk
        _settle(approval, State.WITHDRAWN if own else State.STOPPED, actor, now)


def standing(approval: Approval, invocation: Invocation) -> Standing:
    """How what would run now compares with what was asked for, and whether it still may."""
    try:
        digest = approved.digest_of(invocation)
    except ImproperlyConfigured:
        return Standing(What.UNREADABLE, "")
    if not may_creator(invocation):
        return Standing(What.CREATOR, digest)
    same = approved.matches(approval, digest)
    return Standing(What.SAME if same else What.CHANGED, digest)


def may_creator(invocation: Invocation) -> bool:
    """Whether who created a task may still run it, as far as it has not ended."""
    creator, team = invocation.created_by, invocation.team
    return access.allows(creator, invocation.permission, team) and access.covers(
        creator,
        team,
        command_uid=invocation.command_uid if invocation.saved else "",
        run_as=invocation.run_as,
        instances=approved.instances_of(invocation),
    )


def _locked(invocation_id: int, **only: State) -> Approval | None:
    rows = Approval.objects.select_for_update(of=("self",), no_key=True)
    rows = rows.select_related("invocation__team", "invocation__region", "invocation__created_by")
    # Without the key of its values a task can't be approved, but declined, withdrawn and ended.
    rows = rows.defer("invocation__values", "invocation__content")
    return rows.filter(invocation=invocation_id, **only).first()


def _waiting(invocation: Invocation) -> Approval:
    approval = _locked(invocation.pk)
    if approval is None:
        raise Conflict(_("This task does not wait for approval."))
    if approval.waits:
        return approval
    said = {
        State.APPROVED: _("%(by)s has approved it meanwhile."),
        State.DECLINED: _("%(by)s has declined it meanwhile."),
        State.WITHDRAWN: _("%(by)s has withdrawn it meanwhile."),
        State.STOPPED: _("%(by)s has stopped it meanwhile."),
        State.EXPIRED: _("It has expired meanwhile: nobody decided in time."),
        State.OUTDATED: _("It has ended meanwhile: what would run has changed since it was asked."),
    }
    raise Conflict(said[State(approval.state)] % {"by": approval.decided_by_name})


def _settle(
    approval: Approval, state: State, actor: User | None, now: datetime, comment: str = ""
) -> None:
    approval.state, approval.decided_at, approval.comment = state, now, comment
    approval.decided_by, approval.decided_by_name = actor, actor.shown_name if actor else ""
    approval.save(update_fields=["state", "decided_at", "decided_by", "decided_by_name", "comment"])
    _record(actor, _ACTIONS[state], approval, now, {"comment": comment} if comment else {})
    approval_notices.decided(approval, now)


def _close(
    approval: Approval, state: State, actor: User | None, now: datetime, comment: str = ""
) -> Approval:
    """Settle it otherwise than approved, and end the runs that waited for it."""
    _settle(approval, state, actor, now, comment)
    status, code, sentence = _ENDS[state]
    waiting = approval.invocation.runs.unapproved().locked()
    Run.objects.filter(pk__in=waiting).update(
        status=status.value,
        phase=Phase.FINISHED.value,
        error_code=code.value,
        error_info=sentence % {"by": approval.decided_by_name} if actor else sentence,
        finished_at=now,
    )
    queue.enqueue(queue.Job.SEND_NOTICES)
    return approval


def _words(comment: str) -> str:
    words = comment.replace("\0", "").strip()
    if len(words) > limits.APPROVAL_COMMENT_CHARS:
        text = _("Use %(most)s characters or fewer.") % {"most": limits.APPROVAL_COMMENT_CHARS}
        raise Invalid(text, field="comment")
    return words


def _record(
    actor: User | None, action: str, approval: Approval, now: datetime, more: dict[str, Any]
) -> None:
    invocation = approval.invocation
    audit.record(
        actor=actor,
        action=action,
        team=invocation.team,
        target=invocation,
        target_name=invocation.name,
        details={"digest": approval.digest, **more},
        now=now,
    )
