"""What administrators of the console do with teams, people and regions, on the admin site.

They belong to no team by that: with what a team owns they do no more than any of its members,
but they may put themselves, or anybody, into it. All of it is in the audit trail.
"""

from __future__ import annotations

from datetime import datetime

from django.core.validators import slug_re
from django.db import IntegrityError, transaction
from django.db.models import F

from commands import access
from commands.errors import Conflict, Denied, Invalid
from commands.models import AccessKey, Membership, Region, Restriction, Role, Team, User
from commands.services import access_keys, audit, members, second_factor, teams
from commands.words import gettext as _

NAME_CHARS = 100
UID_CHARS = 40


def create_team(*, actor: User, name: str, admin: User) -> Team:
    """Make a team whose team admin is ``admin``.

    Raises Denied unless ``actor`` is staff; Invalid if the name can't be, or is taken.
    """
    access.require_staff(actor)
    words = _name(name)
    try:
        with transaction.atomic():
            return teams.create_team(name=words, admin=admin, actor=actor)
    except IntegrityError:
        raise Invalid(_("Another team is called that."), field="name") from None


@transaction.atomic
def set_member(*, actor: User, team: Team, user: User, role: str, now: datetime) -> Membership:
    """Make somebody a member of any team, or change their role there.

    Raises Denied unless ``actor`` is staff; Invalid for a role that there is not; Conflict if the
    team would be left without an admin, or the membership is narrowed, which an admin's can't be.
    """
    access.require_staff(actor)
    if role not in Role.values:
        raise Invalid(_("Choose a role."), field="role")
    members.lock(team)
    present = Membership.objects.filter(team=team, user=user).first()
    if present is not None and present.role == role:
        return present
    if present is not None:
        members.require_another_admin(present)
    if role == Role.TEAM_ADMIN and Restriction.objects.filter(membership=present).exists():
        raise Conflict(
            _(
                "This membership is narrowed, and a team admin can't be. Lift that before you give "
                "the role."
            )
        )
    membership = teams.add_member(team=team, user=user, role=Role(role), actor=actor)
    members.revoke_of(membership, now)
    return membership


@transaction.atomic
def remove_member(*, actor: User, membership: Membership, now: datetime) -> None:
    """End a membership in any team.

    Raises Denied unless ``actor`` is staff; Conflict if the team would be left without an admin.
    """
    access.require_staff(actor)
    present = members.locked(membership)
    members.require_another_admin(present)
    members.part(present, now)
    audit.record(
        actor=actor,
        action="member:remove",
        team=present.team,
        target_name=present.user.username,
        details={"role": present.role},
    )
    present.delete()


@transaction.atomic
def set_active(*, actor: User, user: User, active: bool, now: datetime) -> User:
    """Let somebody sign in, or no longer, which ends their sessions at once.

    Their access keys are revoked either way: none that they had comes back with them. Raises Denied
    unless ``actor`` is staff, and a superuser where ``user`` is an administrator; Conflict for
    oneself.
    """
    _require_power(actor, user)
    if user.pk == actor.pk and not active:
        raise Conflict(_("You can't deactivate yourself."))
    changed = User.objects.filter(pk=user.pk).exclude(is_active=active)
    generation = F("session_generation") + int(not active)
    if changed.update(is_active=active, session_generation=generation):
        action = "user:activate" if active else "user:deactivate"
        audit.record(actor=actor, action=action, target_name=user.username, now=now)
        access_keys.end_all(actor=actor, owner=user, now=now)
    user.refresh_from_db()
    return user


@transaction.atomic
def reset_second_factor(*, actor: User, user: User, now: datetime) -> None:
    """Take the second factor off somebody who lost it, and revoke their access keys.

    Those were made with it, by whoever had it. Raises Denied as ``set_active``; Conflict for
    oneself, who has to give a code.
    """
    _require_power(actor, user)
    if user.pk == actor.pk:
        raise Conflict(_("Take your own second factor off in your account: that asks for a code."))
    second_factor.reset(actor=actor, user=user)
    access_keys.end_all(actor=actor, owner=user, now=now)


@transaction.atomic
def password_replaced(*, actor: User, user: User, now: datetime) -> int:
    """Revoke the access keys of somebody whose password an administrator has just replaced.

    They were made by whoever had the old one. Says how many those were. Raises Denied as
    ``set_active``.
    """
    _require_power(actor, user)
    return access_keys.end_all(actor=actor, owner=user, now=now)


@transaction.atomic
def revoke_key(*, actor: User, key: AccessKey, now: datetime) -> None:
    """End an access key of any team for good.

    Raises Denied unless ``actor`` is staff; Conflict if it is revoked already.
    """
    access.require_staff(actor)
    access_keys.end(actor=actor, key=key, now=now)


@transaction.atomic
def create_region(*, actor: User, uid: str, name: str) -> Region:
    """Make a region. Raises Denied unless ``actor`` is staff; Invalid; Conflict if there is it."""
    access.require_staff(actor)
    if not slug_re.match(uid) or len(uid) > UID_CHARS:
        raise Invalid(
            _("An id is 1 to %(most)s letters, digits, hyphens and underscores.")
            % {"most": UID_CHARS},
            field="uid",
        )
    words = _name(name)
    if Region.objects.filter(uid=uid).exists():
        raise Conflict(_("There is a region %(uid)s already.") % {"uid": uid})
    region = Region.objects.create(uid=uid, name=words)
    audit.record(actor=actor, action="region:create", target=region, target_name=words)
    return region


@transaction.atomic
def rename_region(*, actor: User, region: Region, name: str) -> Region:
    """Call a region something else; its id stays. Raises Denied unless ``actor`` is staff."""
    access.require_staff(actor)
    words = _name(name)
    before = Region.objects.values_list("name", flat=True).get(pk=region.pk)
    if words != before:
        region.name = words
        region.save(update_fields=["name"])
        audit.record(
            actor=actor,
            action="region:rename",
            target=region,
            target_name=words,
            details={"from": before},
        )
    return region


def _require_power(actor: User, user: User) -> None:
    """Raise Denied unless ``actor`` is staff, and above ``user`` if that is somebody else."""
    access.require_staff(actor)
    powerful = user.is_superuser or user.is_staff
    if powerful and user.pk != actor.pk and not actor.is_superuser:
        raise Denied(_("Only a superuser may do this with an administrator."))


def _name(name: str) -> str:
    words = name.strip()
    if not words or len(words) > NAME_CHARS or not words.isprintable():
        raise Invalid(
            _("Enter a name of 1 to %(most)s characters, on one line.") % {"most": NAME_CHARS},
            field="name",
        )
    return words
