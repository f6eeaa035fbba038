"""What an approval binds, and what is asked of it before a run begins.

Its digest covers all that would happen: on each instance, in order, the script with its values, run
as whom, where, for how long, and how that instance is reached: address, sign-in and pinned host
key, of its jump host too. It is computed when the task is created, when somebody decides, and again
before anything is sent; stored with it is one for each instance. All are keyed as the digests of
runs are, so that hidden values can't be guessed from them, and nobody without the console's secret
can make one up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from django.utils.crypto import constant_time_compare, salted_hmac

from commands import access
from commands.access import Permission
from commands.errors import Invalid
from commands.models import Approval, Instance, Invocation, Run, User
from commands.models.invocation import RunQuerySet
from commands.rules.status import NOT_BEGUN, ErrorCode
from commands.services import audit, scripts
from commands.services.scripts import Binding, Script
from commands.words import gettext_noop

State = Approval.State
Parts = list[list[str]]
"""For each instance its id, and a digest of what happens there and how it is reached."""
OUTDATED = "approval:outdated"
"""What the audit trail calls it that something differs."""
CHANGED = gettext_noop(
    "What would run is no longer what was put up for approval: an instance, the way to it, the "
    "task, or what its creator may run has changed since. Nothing ran; create the task again."
)
NOT_APPROVED = gettext_noop("No other member of the team has approved the task. Nothing ran.")
APPROVER_LEFT = gettext_noop(
    "Whoever approved the task may no longer approve it, or run it themselves. Nothing ran."
)


def parts_of(invocation: Invocation) -> Parts:
    """What would happen on each of its instances, as digests; none where that can't be said.

    Raises ImproperlyConfigured if values can't be decrypted.
    """
    script = Script.of(invocation)
    try:
        return [[run.instance_uid, _part(run, script)] for run in _runs(invocation)]
    except Invalid:
        return []


def together(invocation: Invocation, parts: Parts) -> str:
    """One digest over ``parts``, in 64 hexadecimal digits; "" for none."""
    if not parts:
        return ""
    text = json.dumps([invocation.uid, parts])
    return salted_hmac("approval", text, algorithm="sha256").hexdigest()


def digest_of(invocation: Invocation, claimed: Sequence[Run] = ()) -> str:
    """What would run as it stands now, in 64 hexadecimal digits; "" where that can't be said.

    What has begun or ended counts as it was asked for: it may have changed its own host since.
    ``claimed`` are runs that are about to begin, with the very rows that are used for that. Raises
    ImproperlyConfigured if values can't be decrypted.
    """
    script, rows = Script.of(invocation), {run.pk: run for run in _not_begun(invocation)}
    rows.update({run.pk: run for run in claimed})
    try:
        now = {run.instance_uid: _part(run, script) for _, run in sorted(rows.items())}
    except Invalid:
        return ""
    parts = [[uid, now.pop(uid, part)] for uid, part in invocation.approval.parts]
    return together(invocation, [*parts, *([uid, part] for uid, part in now.items())])


def is_as_asked(run: Run) -> bool:
    """Whether one run, and the way to its instance, is still what somebody has approved.

    Raises ImproperlyConfigured if values can't be decrypted.
    """
    approval: Approval | None = getattr(run.invocation, "approval", None)
    if approval is None:
        return True
    if approval.state not in (State.APPROVED, State.OUTDATED):
        return False
    asked = dict(approval.parts).get(run.instance_uid, "")
    try:
        return constant_time_compare(asked, _part(run, Script.of(run.invocation)))
    except Invalid:
        return False


def way_to(instance: Instance | None) -> str:
    """A digest of where the console signs in to reach ``instance``, in 64 hexadecimal digits.

    Another credential leads to the same place. It holds nothing that nobody may see, and so it
    needs no key: with another secret of the console it is the same.
    """
    places = [[host, port, user, key] for host, port, user, _, key in _way(instance)]
    return hashlib.sha256(json.dumps(places).encode()).hexdigest()


def leads_elsewhere(run: Run) -> bool:
    """Whether the way to a run's instance is another one than when a worker first took it."""
    return run.way not in ("", way_to(run.instance))


def matches(approval: Approval, digest: str) -> bool:
    """Whether ``digest`` is what was put up for approval."""
    return bool(digest) and constant_time_compare(approval.digest, digest)


def instances_of(invocation: Invocation) -> list[Instance]:
    """The instances on which something of a task has not ended, as far as they are still there."""
    unfinished = invocation.runs.unfinished().select_related("instance").order_by("pk")
    return [run.instance for run in unfinished if run.instance is not None]


def deciders(invocation: Invocation) -> list[User]:
    """Members who may approve a task: by their role, and not narrowed to less than it takes."""
    team, on = invocation.team, instances_of(invocation)
    return [
        member
        for member in access.approvers(team, invocation.created_by)
        if access.covers(
            member,
            team,
            command_uid=invocation.command_uid if invocation.saved else "",
            run_as=invocation.run_as,
            instances=on,
        )
    ]


def is_covered(invocation: Invocation, approval: Approval) -> bool:
    """Whether who approved may still do so, and is not narrowed to less than that."""
    team, person = invocation.team, approval.decided_by
    if person is None or person.pk == invocation.created_by_id:
        return False
    return access.allows(person, Permission.INVOCATION_APPROVE, team) and access.covers(
        person,
        team,
        command_uid=invocation.command_uid if invocation.saved else "",
        run_as=invocation.run_as,
        instances=instances_of(invocation),
    )


def obstacle(
    invocation: Invocation, claimed: Sequence[Run], now: datetime
) -> tuple[ErrorCode, str] | None:
    """Why no run of a task may begin as far as approval goes; None if nothing is in the way.

    ``claimed`` are those that are about to, with the rows that are used for it. If something
    differs, that is noted, and from then on nothing of the task begins. Raises ImproperlyConfigured
    if values can't be decrypted.
    """
    approval: Approval | None = getattr(invocation, "approval", None)
    if approval is None:
        return None
    if approval.state == State.OUTDATED:
        return ErrorCode.APPROVAL_OUTDATED, CHANGED
    if approval.state != State.APPROVED:
        return ErrorCode.NO_LONGER_ALLOWED, NOT_APPROVED
    if not is_covered(invocation, approval):
        return ErrorCode.NO_LONGER_ALLOWED, APPROVER_LEFT
    if not matches(approval, digest_of(invocation, claimed)):
        outdate(invocation, now)
        return ErrorCode.APPROVAL_OUTDATED, CHANGED
    return None


def outdate(invocation: Invocation, now: datetime) -> None:
    """Note that a task is no longer what was approved; once, and who approved it stays known."""
    approved = Approval.objects.filter(invocation=invocation, state=State.APPROVED)
    if not approved.update(state=State.OUTDATED):
        return
    approval = invocation.approval
    approval.state = State.OUTDATED
    audit.record(
        actor=None,
        action=OUTDATED,
        team=invocation.team,
        target=invocation,
        target_name=invocation.name,
        details={"digest": approval.digest, "approved_by": approval.decided_by_name},
        now=now,
    )


def _runs(invocation: Invocation) -> Sequence[Run]:
    return _with(invocation, invocation.runs.all())


def _not_begun(invocation: Invocation) -> Sequence[Run]:
    return _with(invocation, invocation.runs.filter(phase__in=[each.value for each in NOT_BEGUN]))


def _with(invocation: Invocation, runs: RunQuerySet) -> Sequence[Run]:
    found = list(runs.select_related("instance__jump_host").order_by("pk"))
    for run in found:
        run.invocation = invocation
    return found


def _part(run: Run, script: Script) -> str:
    """What happens on one instance, and how it is reached. Raises Invalid."""
    there = Binding.of(run, script.data(scripts.place_of(run))).digest()
    text = json.dumps([run.instance_uid, there, run.digest, _way(run.instance)])
    return salted_hmac("approval of a run", text, algorithm="sha256").hexdigest()


def _way(instance: Instance | None) -> list[tuple[str, int, str, int, str]]:
    """How an instance is reached: itself, and then its jump host."""
    way = []
    while instance is not None:
        at = instance
        way.append((at.host, at.port, at.user, at.credential_id, at.host_key))
        instance = at.jump_host
    return way
