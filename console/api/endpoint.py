"""The way in for programs: verify who calls, pick the action, answer in JSON.

Calls come to ``/``, where unmodified SDKs send them, and never get as far as sessions, cookies
and the CSRF check: what is signed with an access key needs none, and nothing else is believed.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone, translation

from commands.errors import CommandConsoleError, Conflict, Denied
from commands.models import AccessKey, AccessNonce, AuditEvent
from commands.rules import limits
from commands.services import access_keys, audit
from console.api import wire
from console.api.actions import ACTIONS, VERSION
from console.api.caller import Caller
from console.api.errors import ApiError, told
from console.api.signature import Signed

logger = logging.getLogger(__name__)

OUTLINE_CHARS: Final = 2_048
"""Most of what an answer repeats of a call whose signature is wrong."""
DENIED: Final = "api:denied"
NOTED_EVERY: Final = timedelta(minutes=1)
"""Time between two notes of what one key was refused: a program may ask again and again."""
LOOKED_AT: Final = 1_000
"""So many of the team's newest events are looked at for such a note."""


class ApiMiddleware:
    """Answers calls of programs; passes everything else on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer."""
        return answer(request) if wire.is_call(request) else self._get_response(request)


def answer(request: HttpRequest) -> HttpResponseBase:
    """The answer to a call, in English and in JSON whatever happens."""
    request_id = str(uuid.uuid4()).upper()
    host = request.META.get("HTTP_HOST", "")
    try:
        with translation.override("en"):
            return wire.answer(_do(request), request_id)
    except ApiError as error:
        refused = error
    except CommandConsoleError as error:
        refused = told(error)
    except DisallowedHost:
        refused = ApiError("InvalidParameter", "The console is not called by this name.")
    except Exception:
        logger.exception("A call of the API failed: %s", request_id)
        refused = ApiError("InternalError", "An error occurred. The console's log has it.")
    return wire.refusal(refused, request_id, host)


def _do(request: HttpRequest) -> Mapping[str, Any]:
    request.get_host()  # raises for a name that is not the console's
    call, now = wire.read(request), timezone.now()
    address = request.META.get("REMOTE_ADDR") or ""
    key = _verified(call.signed, now)
    with audit.origin(address), audit.through(key.uid):
        try:
            access_keys.take_call(key=key, nonce=call.signed.nonce, address=address, now=now)
            action = ACTIONS.get(call.signed.action)
            if action is None:
                raise ApiError(
                    "InvalidAction.NotFound", "Specified api is not found, or not one of these."
                )
            return action(Caller.of(key, call.parameters, now), call.parameters)
        except Denied as error:
            _note(key, call.signed.action, error, now)
            raise
        except Conflict as error:
            if error.code != "Throttling.User":
                raise
            raise ApiError(error.code, error.message, wait=_wait(key, now)) from None


def _verified(signed: Signed, now: datetime) -> AccessKey:
    """The live key that a call was signed with. Raises ApiError."""
    if signed.version != VERSION:
        raise ApiError("InvalidVersion", f"The only version is {VERSION}.")
    signed.require_fresh(now)
    key = access_keys.find_key(uid=signed.key, now=now)
    if key is None:
        raise ApiError(
            "InvalidAccessKeyId.NotFound",
            "Specified access key is not found or invalid: there is none of this id, or it was "
            "revoked, has expired, or its owner has left the team.",
        )
    if not signed.matches(key.secret):
        # The older SDK takes it apart at a colon.
        raise ApiError(
            "SignatureDoesNotMatch",
            "Specified signature is not matched with our calculation. "
            + signed.outline()[:OUTLINE_CHARS],
        )
    return key


def _wait(key: AccessKey, now: datetime) -> int:
    """For how many milliseconds from ``now`` a key has no call left."""
    recent = AccessNonce.objects.filter(key=key, used_at__gt=now - access_keys.MINUTE)
    used = recent.order_by("-used_at").values_list("used_at", flat=True)
    first = used[limits.API_CALLS_PER_MINUTE - 1]
    return (first + access_keys.MINUTE - now) // timedelta(milliseconds=1) + 1


def _note(key: AccessKey, action: str, error: Denied, now: datetime) -> None:
    """Note what somebody was refused, as pages do, but not each of many calls."""
    name = action if action in ACTIONS else ""  # others can be called anything
    newest = AuditEvent.objects.filter(team_uid=key.team.uid)[:LOOKED_AT]
    noted = AuditEvent.objects.filter(
        pk__in=newest.values("pk"),
        at__gt=now - NOTED_EVERY,
        action=DENIED,
        target_name=name,
        details__through=key.uid,
    )
    if noted.exists():
        return
    audit.record(
        actor=key.owner,
        action=DENIED,
        team=key.team,
        target_name=name,
        now=now,
        outcome=AuditEvent.Outcome.REFUSED,
        details={"permission": error.permission},
    )
