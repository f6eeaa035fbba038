"""The second factor: setting it up, proving it, and doing without it again.

Codes are those of RFC 6238 (six digits, 30 seconds), as every authenticator app makes them; one
step of clock difference either way is forgiven, and no code is accepted twice. Recovery codes have
80 random bits, so a plain digest of them can't be turned back.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

import pyotp
from django.db import transaction
from django.db.models import F

from commands import access
from commands.errors import Conflict, Denied, Invalid
from commands.models import Membership, RecoveryCode, SecondFactor, Team, User
from commands.services import audit
from commands.words import gettext as _

STEP_S = 30
TRIES = 10
"""Wrong codes in a row, from anywhere, after which none is right for PAUSE."""
PAUSE = timedelta(minutes=5)
SKEW = 1
"""Steps that a clock may be ahead or behind."""
RECOVERY_CODES = 10
ISSUER = "Command Console"


def is_on(user: User) -> bool:
    """Whether ``user`` signs in with a second factor."""
    return SecondFactor.objects.filter(user=user, confirmed_at__isnull=False).exists()


def is_missing(user: User) -> bool:
    """Whether a team of ``user`` requires a second factor that is not set up."""
    required = Membership.objects.filter(user=user, team__second_factor_required=True)
    return required.exists() and not is_on(user)


def missing_for(user_ids: Collection[int]) -> set[int]:
    """As ``is_missing`` for many: those of ``user_ids`` for whom it says yes."""
    required = Membership.objects.filter(user__in=user_ids, team__second_factor_required=True)
    without = required.exclude(user__second_factor__confirmed_at__isnull=False)
    return set(without.values_list("user_id", flat=True))


def begin(*, actor: User, anew: bool = False) -> SecondFactor:
    """A secret for a new authenticator app; the same one until it is confirmed.

    ``anew`` takes another one: who saw that of an earlier attempt would know every code of the
    app. Raises Conflict if one is in force.
    """
    factor, _made = SecondFactor.objects.get_or_create(
        user=actor, defaults={"secret": pyotp.random_base32()}
    )
    if factor.confirmed_at is not None:
        raise Conflict(_("A second factor is set up already. Remove it before you set up another."))
    if anew:
        factor.secret = pyotp.random_base32()
        SecondFactor.objects.filter(pk=factor.pk, confirmed_at=None).update(secret=factor.secret)
    return factor


def address(factor: SecondFactor) -> str:
    """The ``otpauth://`` address of a new app, which a QR code shows."""
    made = pyotp.TOTP(factor.secret, interval=STEP_S)
    return made.provisioning_uri(name=factor.user.username, issuer_name=ISSUER)


@transaction.atomic
def confirm(*, actor: User, code: str, now: datetime) -> list[str]:
    """Put the app in force once it shows the right code; recovery codes, shown this once.

    Raises Invalid for a wrong code, Conflict if there is nothing to confirm.
    """
    factor = SecondFactor.objects.select_for_update().filter(user=actor).first()
    if factor is None or factor.confirmed_at is not None:
        raise Conflict(_("There is no authenticator app to confirm. Begin again."))
    if not _accept(factor, code, now):
        raise Invalid(
            _(
                "That code doesn't match. Enter the one that your app shows now, and check that "
                "your phone's clock is right."
            ),
            field="code",
        )
    factor.confirmed_at = now
    factor.save(update_fields=["confirmed_at"])
    audit.record(actor=actor, action="second-factor:confirm", target_name=actor.username)
    return _renew_codes(actor)


@transaction.atomic
def prove(*, user: User, code: str, now: datetime) -> bool:
    """Whether ``code`` is one of the app's, or a recovery code, that was not used before."""
    factor = SecondFactor.objects.select_for_update().filter(user=user).first()
    if factor is None or factor.confirmed_at is None:
        return False
    if factor.failed_at is None or now - factor.failed_at > PAUSE:
        factor.failures = 0
    if factor.failures >= TRIES:
        return False
    right = _accept(factor, code, now) or _use(user, code, now)
    factor.failures = 0 if right else factor.failures + 1
    factor.failed_at = None if right else now
    factor.save(update_fields=["failures", "failed_at"])
    return right


def renew_codes(*, actor: User, code: str, now: datetime) -> list[str]:
    """New recovery codes in place of all old ones. Raises Invalid for a wrong ``code``."""
    require_proof(user=actor, code=code, now=now)
    with transaction.atomic():
        audit.record(actor=actor, action="second-factor:renew-codes", target_name=actor.username)
        return _renew_codes(actor)


def remove(*, actor: User, code: str, now: datetime) -> None:
    """Sign in with the password alone from now on, and everywhere anew.

    Raises Invalid for a wrong ``code``; Conflict where a team requires a second factor.
    """
    team = Team.objects.of(actor).filter(second_factor_required=True).first()
    if team is not None:
        sentence = _("%(team)s requires a second factor of its members.")
        raise Conflict(sentence % {"team": team.name})
    require_proof(user=actor, code=code, now=now)
    with transaction.atomic():
        _forget(actor)
        audit.record(actor=actor, action="second-factor:remove", target_name=actor.username)


@transaction.atomic
def reset(*, actor: User, user: User) -> None:
    """Take the second factor off somebody who lost it, which ends their sessions.

    Raises Denied unless ``actor`` is staff.
    """
    if not (actor.is_active and actor.is_staff):
        raise Denied(_("Only administrators of the console may reset a second factor."))
    _forget(user)
    audit.record(actor=actor, action="second-factor:reset", target_name=user.username)


@transaction.atomic
def set_required(*, actor: User, team: Team, required: bool) -> Team:
    """Require a second factor of every member of ``team``, or no longer. Raises Denied."""
    access.require(actor, access.Permission.TEAM_MANAGE, team)
    team.second_factor_required = required
    team.save(update_fields=["second_factor_required"])
    audit.record(
        actor=actor,
        action="team:second-factor",
        team=team,
        target=team,
        details={"required": required},
    )
    return team


def codes_left(user: User) -> int:
    """How many recovery codes of ``user`` were not used."""
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


def require_proof(*, user: User, code: str, now: datetime) -> None:
    """Raise Invalid for a wrong code. Outside of transactions, so that it is counted."""
    right = prove(user=user, code=code, now=now)
    if not right and _must_wait(user, now):
        raise Invalid(_("Too many wrong codes. Try again in 5 minutes."), field="code")
    if not right:
        raise Invalid(
            _("That code doesn't match. Enter the one that your app shows now."), field="code"
        )


def _must_wait(user: User, now: datetime) -> bool:
    factor = SecondFactor.objects.filter(user=user, failures__gte=TRIES).first()
    return factor is not None and factor.failed_at is not None and now - factor.failed_at <= PAUSE


def _accept(factor: SecondFactor, code: str, now: datetime) -> bool:
    """Whether ``code`` is of a step around ``now`` that is newer than the last one accepted."""
    digits = "".join(code.split())
    if not (digits.isascii() and digits.isdigit() and len(digits) == 6):
        return False
    totp = pyotp.TOTP(factor.secret, interval=STEP_S)
    present = int(now.timestamp()) // STEP_S
    for step in range(present - SKEW, present + SKEW + 1):
        expected = totp.at(step * STEP_S)
        if secrets.compare_digest(expected, digits) and step > factor.last_step:
            factor.last_step = step
            factor.save(update_fields=["last_step"])
            return True
    return False


def _use(user: User, code: str, now: datetime) -> bool:
    unused = RecoveryCode.objects.filter(user=user, digest=_digest(code), used_at=None)
    return bool(unused.update(used_at=now))


def _renew_codes(user: User) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    codes = [_new_code() for _each in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(
        RecoveryCode(user=user, digest=_digest(code)) for code in codes
    )
    return codes


def _new_code() -> str:
    """80 random bits as ``abcd-efgh-ijkl-mnop``."""
    text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return "-".join(text[start : start + 4] for start in range(0, 16, 4))


def _digest(code: str) -> str:
    plain = "".join(each for each in code.lower() if each.isalnum())
    return hashlib.sha256(plain.encode()).hexdigest()


def _forget(user: User) -> None:
    SecondFactor.objects.filter(user=user).delete()
    RecoveryCode.objects.filter(user=user).delete()
    # Sessions that began with a code stand for one that nobody could give any more.
    User.objects.filter(pk=user.pk).update(session_generation=F("session_generation") + 1)
    user.refresh_from_db(fields=["session_generation"])
