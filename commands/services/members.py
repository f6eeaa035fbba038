"""Members of a team: inviting, joining, changing roles, leaving. All of it is in force at once.

Every change of who is in a team holds the team's row, so that of two admins who leave at the same
time one stays. What waited for a row asks once more whether its actor may (``hold``): they may have
lost the right to a change that was committed meanwhile.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from commands import access
from commands.errors import Conflict, Invalid
from commands.models import Departure, Invitation, Membership, Restriction, Role, Team, User
from commands.models.invitation import InvitationQuerySet
from commands.services import audit
from commands.words import gettext as _


@transaction.atomic
def set_role(*, actor: User, membership: Membership, role: str, now: datetime) -> Membership:
    """Give a member another role.

    Raises Denied; Invalid for a role that there is not; Conflict if the team would be left without
    an admin, or the membership is narrowed, which an admin's can't be.
    """
    access.require(actor, access.Permission.TEAM_MANAGE, membership.team)
    if role not in Role.values:
        raise Invalid(_("Choose a role."), field="role")
    member = locked(membership)
    access.require(actor, access.Permission.TEAM_MANAGE, member.team)
    if member.role == role:
        return member
    require_another_admin(member)
    if role == Role.TEAM_ADMIN and Restriction.objects.filter(membership=member).exists():
        raise Conflict(
            _(
                "This membership is narrowed, and a team admin can't be. Lift that before you give "
                "the role."
            )
        )
    before, member.role = member.role, role
    member.save(update_fields=["role"])
    revoke_of(member, now)
    audit.record(
        actor=actor,
        action="member:role",
        team=member.team,
        target_name=member.user.username,
        details={"from": before, "to": role},
    )
    return member


@transaction.atomic
def remove(*, actor: User, membership: Membership, now: datetime) -> None:
    """End a membership: the team's admins may, and everybody may leave.

    Raises Denied; Conflict if the team would be left without an admin.
    """
    leaves = membership.user_id == actor.pk and actor.is_active
    if not leaves:
        access.require(actor, access.Permission.TEAM_MANAGE, membership.team)
    member = locked(membership)
    if not leaves:
        access.require(actor, access.Permission.TEAM_MANAGE, member.team)
    require_another_admin(member)
    part(member, now)
    audit.record(
        actor=actor,
        action="member:leave" if leaves else "member:remove",
        team=member.team,
        target_name=member.user.username,
        details={"role": member.role},
    )
    member.delete()


@transaction.atomic
def join(*, user: User, invitation: Invitation, now: datetime) -> Membership:
    """Make ``user`` a member as ``invitation`` says, which is used up by that.

    Raises Conflict if they are one already, or were one since it was sent, or somebody was quicker.
    """
    lock(invitation.team)
    if Membership.objects.filter(team=invitation.team, user=user).exists():
        raise Conflict(_("You are a member of %(team)s already.") % {"team": invitation.team.name})
    left = Departure.objects.filter(team=invitation.team, user=user)
    if left.filter(at__gte=invitation.created_at).exists():
        raise Conflict(
            _("You have left %(team)s since this invitation was sent. Ask for a new one.")
            % {"team": invitation.team.name}
        )
    pending = Invitation.objects.pending(now).filter(pk=invitation.pk)
    if not pending.update(accepted_at=now, accepted_by=user):
        raise Conflict(_("This invitation isn't valid any more. Ask for a new one."))
    membership = Membership.objects.create(team=invitation.team, user=user, role=invitation.role)
    audit.record(
        actor=user,
        action="member:join",
        team=invitation.team,
        target=invitation,
        target_name=user.username,
        details={"role": invitation.role, "invited_by": invitation.invited_by_name},
    )
    return membership


def lock(team: Team) -> None:
    """Hold the team's row until the transaction ends."""
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)


def hold(team: Team, person: User, permission: access.Permission) -> None:
    """Hold the team's row for somebody who may do something in it, until the transaction ends.

    Raises Denied for who may not, at once or any more.
    """
    access.require(person, permission, team)
    lock(team)
    access.require(person, permission, team)


def locked(membership: Membership) -> Membership:
    """The membership as it is now, and stays until the transaction ends. Raises Conflict."""
    lock(membership.team)
    found = Membership.objects.select_related("team", "user").filter(pk=membership.pk).first()
    if found is None:
        raise Conflict(_("This membership has ended in the meantime."))
    return found


def require_another_admin(membership: Membership) -> None:
    """Raise Conflict if the team has no admin besides."""
    if membership.role != Role.TEAM_ADMIN:
        return
    admins = Membership.objects.filter(team=membership.team, role=Role.TEAM_ADMIN)
    if not admins.filter(user__is_active=True).exclude(pk=membership.pk).exists():
        raise Conflict(_("A team needs one team admin."))


def revoke_of(membership: Membership, now: datetime) -> None:
    """Revoke what somebody invited to who may invite no longer: they know those links."""
    if access.Permission.TEAM_MANAGE not in access.PERMISSIONS[membership.role]:
        _open(membership).filter(invited_by=membership.user).update(revoked_at=now)


def part(membership: Membership, now: datetime) -> None:
    """What goes with a membership that ends: links that they gave, and links that they have."""
    user = membership.user
    _open(membership).filter(invited_by=user).update(revoked_at=now)
    if user.email:
        _open(membership).filter(email__iexact=user.email).update(revoked_at=now)
    Departure.objects.update_or_create(team=membership.team, user=user, defaults={"at": now})


def _open(membership: Membership) -> InvitationQuerySet:
    return Invitation.objects.open().filter(team=membership.team)
