"""Inviting people into a team by e-mail, and how they accept: with an account, or a new one.

Whoever has the link may join, so it is random (256 bits), kept only as a digest, good for some
days, for one person, and for as long as who sent it may still invite.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from commands import access
from commands.errors import Conflict, InvalidFields
from commands.models import Invitation, Membership, Role, Team, User
from commands.rules import limits
from commands.services import audit, mail, members
from commands.words import gettext as _

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation, its ``link``, which nobody can find out later, and whether it was mailed."""

    invitation: Invitation
    link: str
    mailed: bool


def invite(
    *,
    actor: User,
    team: Team,
    email: str,
    role: str,
    link: Callable[[str], str],
    now: datetime,
) -> Invited:
    """Invite the person behind ``email`` to join ``team`` as ``role``, and mail them the link.

    ``link`` makes the address of a token. Do not call it inside a transaction: it waits for the
    mail server. Raises Denied; InvalidFields with a sentence for every field that is wrong;
    Conflict if an invitation to that address waits, or too many were sent.
    """
    access.require(actor, access.Permission.TEAM_MANAGE, team)
    address = email.strip().lower()
    if errors := _errors(team, address, role):
        raise InvalidFields(errors)
    token = secrets.token_urlsafe(32)
    invitation = _keep(actor, team, address, role, token, now)
    where = link(token)
    subject = _("Join %(team)s on Command Console") % {"team": team.name}
    body = _body(invitation, where)
    return Invited(invitation, where, mail.send(to=address, subject=subject, body=body))


@transaction.atomic
def revoke(*, actor: User, invitation: Invitation, now: datetime) -> None:
    """Make a link worthless. Raises Denied; Conflict if it was accepted or revoked meanwhile."""
    members.hold(invitation.team, actor, access.Permission.TEAM_MANAGE)
    if not Invitation.objects.open().filter(pk=invitation.pk).update(revoked_at=now):
        raise Conflict(_("This invitation is accepted or revoked already."))
    audit.record(actor=actor, action="invitation:revoke", team=invitation.team, target=invitation)


def find(*, token: str, now: datetime) -> Invitation | None:
    """The invitation that somebody with ``token`` can accept; None for anything else."""
    found = Invitation.objects.pending(now).filter(digest=_digest(token))
    invitation = found.select_related("team", "invited_by").first()
    if invitation is None:
        return None
    by = invitation.invited_by
    return invitation if access.allows(by, access.Permission.TEAM_MANAGE, invitation.team) else None


@transaction.atomic
def accept(*, actor: User, token: str, now: datetime) -> Membership:
    """Join with the account that one has. Raises Conflict if that can't be, or not any more."""
    return members.join(user=actor, invitation=_found(token, now), now=now)


@transaction.atomic
def register(*, token: str, username: str, full_name: str, password: str, now: datetime) -> User:
    """Join with a new account, whose e-mail address is the one that was invited.

    That the password is good enough is checked by the form. Raises InvalidFields; Conflict as
    ``accept``.
    """
    invitation = _found(token, now)
    if errors := account_errors(username, full_name):
        raise InvalidFields(errors)
    name = User.normalize_username(username.strip())
    try:
        with transaction.atomic():
            user = User.objects.create_user(
                name, email=invitation.email, password=password, first_name=full_name.strip()
            )
    except IntegrityError:
        raise InvalidFields({"username": [_("This user name is taken.")]}) from None
    members.join(user=user, invitation=invitation, now=now)
    return user


def account_errors(username: str, full_name: str) -> dict[str, list[str]]:
    """What is wrong with the names of a new account: sentences for each field."""
    name, full_name = User.normalize_username(username.strip()), full_name.strip()
    errors: dict[str, list[str]] = {}
    try:
        User.username_validator(name)
    except ValidationError:
        errors["username"] = [_("Enter a user name of letters, digits and @ . + - _ only.")]
    else:
        if len(name) > 150:
            errors["username"] = [_("A user name has at most 150 characters.")]
        elif User.objects.filter(username__iexact=name).exists():
            errors["username"] = [_("This user name is taken.")]
    most = limits.FULL_NAME_CHARS
    if len(full_name) > most or (full_name and not full_name.isprintable()):
        errors["full_name"] = [
            _("Enter your full name in at most %(most)d characters, on one line.") % {"most": most}
        ]
    return errors


def _body(invitation: Invitation, link: str) -> str:
    """The message, in the language of who invites."""
    lines = (
        _('%(by)s invites you to join the team "%(team)s" on Command Console, as %(role)s.'),
        _("Accept here, until %(day)s:"),
        "%(link)s",
        _(
            "Whoever has this link can join in your place: keep it to yourself. If you did not "
            "expect it, ignore it."
        ),
    )
    return "\n\n".join(lines) % {
        "by": invitation.invited_by_name,
        "team": invitation.team.name,
        "role": invitation.get_role_display(),
        "day": f"{invitation.expires_at:%Y-%m-%d %H:%M} UTC",
        "link": link,
    }


def _errors(team: Team, address: str, role: str) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    try:
        validate_email(address)
    except ValidationError:
        errors["email"] = [_("Enter an e-mail address, such as lin@example.com.")]
    else:
        if Membership.objects.filter(team=team, user__email__iexact=address).exists():
            errors["email"] = [_("They're already a member.")]
    if role not in Role.values:
        errors["role"] = [_("Choose a role.")]
    return errors


@transaction.atomic
def _keep(
    actor: User, team: Team, address: str, role: str, token: str, now: datetime
) -> Invitation:
    members.hold(team, actor, access.Permission.TEAM_MANAGE)
    waiting = Invitation.objects.open().filter(team=team)
    waiting.filter(email=address, expires_at__lte=now).update(revoked_at=now)
    if waiting.filter(expires_at__gt=now).count() >= limits.INVITATIONS:
        raise Conflict(_("Too many invitations wait. Revoke some before you send more."))
    # Revoked ones too: else inviting and revoking in turns would send as many as one likes.
    sent = Invitation.objects.filter(team=team, created_at__gt=now - DAY)
    if sent.count() >= limits.INVITATIONS_A_DAY:
        raise Conflict(_("Your team has sent too many invitations within a day. Go on tomorrow."))
    if sent.filter(email=address).count() >= limits.INVITATIONS_TO_ONE:
        text = _("Your team has invited %(address)s %(most)s times within a day. Go on tomorrow.")
        raise Conflict(text % {"address": address, "most": limits.INVITATIONS_TO_ONE})
    try:
        with transaction.atomic():
            made = Invitation.objects.create(
                team=team,
                email=address,
                role=role,
                digest=_digest(token),
                invited_by=actor,
                invited_by_name=actor.shown_name,
                created_at=now,
                expires_at=now + timedelta(days=limits.INVITATION_DAYS),
            )
    except IntegrityError:
        raise Conflict(
            _("An invitation to %(address)s waits already. Revoke it before you send another.")
            % {"address": address}
        ) from None
    audit.record(
        actor=actor, action="member:invite", team=team, target=made, details={"role": role}
    )
    return made


def _found(token: str, now: datetime) -> Invitation:
    invitation = find(token=token, now=now)
    if invitation is None:
        raise Conflict(_("This invitation isn't valid any more. Ask for a new one."))
    return invitation


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
