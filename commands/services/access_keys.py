"""Access keys: made and revoked by members, and asked for whatever a program signs with them.

A key acts as its owner in one team, with the role and the narrowing that the owner has there at
that moment. It stops at once, and for good, when it is revoked or has expired, and when its owner
is deactivated or leaves the team.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.crypto import salted_hmac

from commands import access
from commands.errors import Conflict, Denied, Invalid
from commands.models import AccessKey, AccessNonce, Membership, Team, User
from commands.models.ids import access_key_uid, letters_and_digits, new_access_key_uid
from commands.rules import limits
from commands.rules.content import check_line
from commands.services import audit, members, second_factor
from commands.words import gettext as _
from commands.words import gettext_noop

NOTED_EVERY = timedelta(minutes=1)
"""Time between two notes of when a key was used last: not every call shall write one."""
SKEW = timedelta(seconds=limits.API_SKEW_SECONDS)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def create_key(
    *,
    actor: User,
    team: Team,
    name: str,
    days: int | None,
    code: str = "",
    client_token: str = "",
    now: datetime,
) -> AccessKey:
    """A new key of the actor's in ``team``, with its secret, which is shown this once.

    It expires after ``days``, None for never. Who signs in with a second factor proves it with
    ``code``; everybody else's password is the page's to check, which knows from where wrong ones
    come. Do not call it inside a transaction: wrong codes are counted. Raises Denied; Invalid if
    something is wrong with what was given; Conflict if there are too many, or ``client_token`` has
    made one before.
    """
    access.require(actor, access.Permission.COMMAND_READ, team)
    name = check_line(
        name, field="name", what=gettext_noop("Name"), most=limits.ACCESS_KEY_NAME_CHARS
    )
    if days is not None and days not in limits.ACCESS_KEY_DAYS:
        raise Invalid(_("Choose when it expires."), field="expires")
    uid = _uid(actor, team, client_token)
    _require_first(uid)
    _require_room(actor, team, now)
    if second_factor.is_on(actor):
        second_factor.require_proof(user=actor, code=code, now=now)
    expires_at = None if days is None else now + timedelta(days=days)
    return _make(actor, team, uid, name, expires_at, now)


@transaction.atomic
def revoke_key(*, actor: User, key: AccessKey, now: datetime) -> None:
    """End a key for good: one's own, or any of a team that one leads.

    Raises Denied; Conflict if it is revoked already.
    """
    if key.owner_id != actor.pk:
        access.require(actor, access.Permission.TEAM_MANAGE, key.team)
    elif not actor.is_active:
        raise Denied(_("You may not do this in this team."), team=key.team)
    end(actor=actor, key=key, now=now)


@transaction.atomic
def end(*, actor: User, key: AccessKey, now: datetime) -> None:
    """Revoke a key; whether ``actor`` may is its caller's to ask. Raises Conflict as above."""
    live = AccessKey.objects.filter(pk=key.pk, revoked_at=None)
    if not live.update(revoked_at=now, revoked_by_name=actor.shown_name):
        raise Conflict(_("This access key is revoked already."))
    _record(actor, "access-key:revoke", key, {"owner": key.owner.username}, now)


@transaction.atomic
def end_all(*, actor: User, owner: User, now: datetime) -> int:
    """Revoke every key of ``owner`` that has not ended, in all teams; how many those were.

    Whether ``actor`` may is its caller's to ask.
    """
    _hold(owner)
    keys = AccessKey.objects.unended(now).filter(owner=owner)
    found = list(keys.defer("secret").select_related("owner", "team"))
    for key in found:
        end(actor=actor, key=key, now=now)
    return len(found)


def working(*, user: User, now: datetime) -> int:
    """How many keys of ``user`` work, in all teams."""
    return AccessKey.objects.live(now).filter(owner=user).count()


def find_key(*, uid: str, now: datetime) -> AccessKey | None:
    """The live key called ``uid``, with its owner, team and secret; None for anything else."""
    if not (uid.isascii() and uid.isprintable()):
        return None
    found = AccessKey.objects.live(now).filter(uid=uid)
    return found.select_related("owner", "team").first()


def take_call(*, key: AccessKey, nonce: str, address: str, now: datetime) -> None:
    """Let one call through whose signature was checked.

    Raises Conflict, with its code, for too many calls in a minute and for a ``nonce`` that was
    used before; Denied if the team requires a second factor that the owner has not set up.
    """
    recent = AccessNonce.objects.filter(key=key, used_at__gt=now - MINUTE)
    if recent.count() >= limits.API_CALLS_PER_MINUTE:
        raise Conflict(
            _("An access key takes %(most)s calls a minute. Wait, then go on more slowly.")
            % {"most": limits.API_CALLS_PER_MINUTE},
            code="Throttling.User",
        )
    digest = hashlib.sha256(nonce.encode(errors="replace")).hexdigest()
    try:
        with transaction.atomic():
            AccessNonce.objects.create(key=key, digest=digest, used_at=now)
    except IntegrityError:
        raise Conflict(
            _("The signature nonce was used before. Give each call another one."),
            code="SignatureNonceUsed",
        ) from None
    _note_use(key, address, now)
    if key.team.second_factor_required and not second_factor.is_on(key.owner):
        raise Denied(
            _("%(team)s requires a second factor of its members. Set it up in the console first.")
            % {"team": key.team.name},
            team=key.team,
        )


def forget_nonces(*, now: datetime) -> int:
    """Forget nonces that no request can come with any more; how many those were.

    The time of a request may be ahead as far as it may be behind.
    """
    deleted, _rows = AccessNonce.objects.filter(used_at__lt=now - 2 * SKEW - MINUTE).delete()
    return deleted


def forget_ended(*, now: datetime) -> int:
    """Delete keys that ended long ago; how many those were. The audit trail keeps what it has."""
    old = AccessKey.objects.ended_before(now - timedelta(days=limits.ACCESS_KEY_KEEP_DAYS))
    _all, deleted = old.defer("secret").delete()
    return deleted.get(AccessKey._meta.label, 0)


def _note_use(key: AccessKey, address: str, now: datetime) -> None:
    stale = Q(last_used_at=None) | Q(last_used_at__lte=now - NOTED_EVERY)
    AccessKey.objects.filter(stale, pk=key.pk).update(last_used_at=now, last_used_from=address[:64])


def _require_room(actor: User, team: Team, now: datetime) -> None:
    live = AccessKey.objects.live(now).filter(owner=actor, team=team)
    if live.count() >= limits.ACCESS_KEYS:
        raise Conflict(
            _("You have %(most)s access keys in this team. Revoke one first.")
            % {"most": limits.ACCESS_KEYS}
        )
    # Ended ones too: else revoking one after the other would make the limit of calls none.
    made = AccessKey.objects.filter(owner=actor, team=team, created_at__gt=now - DAY)
    if made.count() >= limits.ACCESS_KEYS_A_DAY:
        raise Conflict(
            _(
                "You have created %(most)s access keys in this team within a day. "
                "Try again tomorrow."
            )
            % {"most": limits.ACCESS_KEYS_A_DAY}
        )


def _uid(actor: User, team: Team, client_token: str) -> str:
    """The id of a new key: of one form always the same, so that there is one key of it."""
    if not client_token:
        return new_access_key_uid()
    asked = json.dumps([actor.pk, team.uid, client_token])
    return access_key_uid(salted_hmac("access-key", asked, algorithm="sha256").digest())


def _require_first(uid: str) -> None:
    """Raise Conflict if there is a key called ``uid``: its form was sent before."""
    made = AccessKey.objects.filter(uid=uid).defer("secret").first()
    if made is not None:
        raise Conflict(
            _(
                "The access key %(name)s was created already, and its secret is not shown again. "
                "If you have not copied it, revoke that key and create another one."
            )
            % {"name": made.name}
        )


def _hold(user: User) -> bool:
    """Hold somebody's row until the transaction ends; whether they are active.

    So a key is either made before somebody's keys are ended, and ends with them, or not at all.
    """
    held = User.objects.select_for_update(no_key=True).only("is_active").get(pk=user.pk)
    return held.is_active


@transaction.atomic
def _make(
    actor: User,
    team: Team,
    uid: str,
    name: str,
    expires_at: datetime | None,
    now: datetime,
) -> AccessKey:
    # Of two that are made at the same time the second one sees the first.
    members.lock(team)
    membership = Membership.objects.filter(team=team, user=actor).first()
    if not _hold(actor) or membership is None:
        raise Denied(_("You may not do this in this team."), team=team)
    _require_first(uid)
    _require_room(actor, team, now)
    made = AccessKey.objects.create(
        uid=uid,
        secret=letters_and_digits(limits.ACCESS_KEY_SECRET_CHARS),
        owner=actor,
        team=team,
        membership=membership,
        name=name,
        created_at=now,
        expires_at=expires_at,
    )
    expires = f"{expires_at:%Y-%m-%d}" if expires_at else ""
    _record(actor, "access-key:create", made, {"expires": expires}, now)
    return made


def _record(
    actor: User, action: str, key: AccessKey, details: dict[str, str], now: datetime
) -> None:
    audit.record(
        actor=actor,
        action=action,
        team=key.team,
        target=key,
        target_name=key.name,
        details=details,
        now=now,
    )
