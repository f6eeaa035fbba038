"""What a task's page says of its approval: why it waits, exactly what would run, who decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from commands import access
from commands.access import Permission
from commands.errors import Invalid
from commands.models import Approval, Instance, Invocation, Run, User
from commands.rules.content import Termination
from commands.rules.text import marked
from commands.services import approvals, scripts
from commands.services.approvals import What
from commands.words import retold

State = Approval.State
_PROBLEMS = {
    What.CHANGED: gettext_noop(
        "What would run now is not what was put up for approval: an instance, the way to it, or "
        "the task has changed. Approving ends the task, and nothing runs."
    ),
    What.CREATOR: gettext_noop(
        "Who created the task may no longer run it. Approving ends the task, and nothing runs."
    ),
    What.UNREADABLE: approvals.UNREADABLE,
}
"""Why a task that waits would not run, by how it stands."""


@dataclass(frozen=True, slots=True)
class ScriptView:
    """A script as it would run, and the instances on which it is that.

    Hidden values are marked, and characters that nobody sees.
    """

    text: str
    names: list[str]


@dataclass(frozen=True, slots=True)
class ViaView:
    """The jump host of an instance; empty but for ``lender`` for who may not know which it is."""

    name: str = ""
    address: str = ""
    fingerprint: str = ""
    lender: str = ""


@dataclass(frozen=True, slots=True)
class TargetView:
    """An instance, and how it is reached, through ``via`` if not directly.

    ``user`` is whom the script would run as, ``sign_in`` as whom the console signs in for that, ""
    where it is the same.
    """

    name: str
    user: str
    address: str
    fingerprint: str
    sign_in: str = ""
    via: ViaView | None = None


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """An approval as pages show it.

    ``only_process`` says that a stop leaves alone what the script started.
    ``digest`` is of what the page shows, computed now, "" where that can't be said. ``problem`` is
    why it would not run if it were approved, and ``may_approve`` whether that can be tried even so:
    it ends the task. ``refusal`` is why the person, whose role lets them, may not decide.
    """

    row: Approval
    why: list[str]
    scripts: list[ScriptView]
    targets: list[TargetView]
    only_process: bool
    digest: str
    problem: str
    may_decide: bool
    may_approve: bool
    may_withdraw: bool
    refusal: str
    own: bool

    @property
    def started(self) -> bool:
        """Whether the task was let go: somebody approved it."""
        state = self.row.state
        approved_once = state == State.OUTDATED and bool(self.row.decided_by_name)
        return state == State.APPROVED or approved_once


def approval_view(person: User, invocation: Invocation) -> ApprovalView | None:
    """What the page of ``invocation`` says of its approval to ``person``; None if it needs none."""
    row = Approval.objects.filter(invocation=invocation).first()
    if row is None:
        return None
    why = [retold(sentence) for sentence in row.why]
    own = invocation.created_by_id == person.pk
    if not row.waits:
        return ApprovalView(row, why, [], [], False, row.digest, "", False, False, False, "", own)
    runs = list(
        invocation.runs.unapproved()
        .select_related("instance__jump_host", "instance__team")
        .order_by("pk")
    )
    for run in runs:
        run.invocation = invocation
    now = approvals.standing(row, invocation)
    may = access.allows(person, Permission.INVOCATION_APPROVE, invocation.team)
    refusal = approvals.refusal(person, invocation) if may else ""
    return ApprovalView(
        row=row,
        why=why,
        scripts=_scripts(runs),
        targets=[_target(person, run) for run in runs],
        only_process=invocation.termination == Termination.PROCESS,
        digest=now.digest,
        problem=_(_PROBLEMS[now.what]) if now.what in _PROBLEMS else "",
        may_decide=may and not refusal,
        may_approve=may and not refusal and now.what is not What.UNREADABLE,
        may_withdraw=own and access.allows(person, Permission.COMMAND_RUN, invocation.team),
        refusal="" if own else refusal,
        own=own,
    )


def _scripts(runs: Sequence[Run]) -> list[ScriptView]:
    """The scripts of ``runs``, each once."""
    found: dict[str, list[str]] = {}
    for run in runs:
        try:
            text = scripts.shown(run)
        except (ImproperlyConfigured, Invalid):
            text = run.invocation.content
        found.setdefault(marked(text), []).append(run.instance_name)
    return [ScriptView(text, names) for text, names in found.items()]


def _target(person: User, run: Run) -> TargetView:
    instance = run.instance
    if instance is None:
        return TargetView(run.instance_name, run.invocation.run_as, run.address, "")
    user = run.invocation.run_as or instance.user
    return TargetView(
        name=run.instance_name,
        user=marked(user),
        address=instance.address,
        fingerprint=instance.fingerprint,
        sign_in=marked(instance.user) if instance.user != user else "",
        via=_via(person, instance),
    )


def _via(person: User, instance: Instance) -> ViaView | None:
    jump_host = instance.jump_host
    if jump_host is None:
        return None
    if not access.may_see(person, jump_host):
        return ViaView(lender=instance.team.name)
    return ViaView(jump_host.name, jump_host.address, jump_host.fingerprint)
