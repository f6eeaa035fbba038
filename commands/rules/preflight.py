"""What an instance is looked at for before a run, and which error belongs to which step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from commands.rules.status import ErrorCode


class Step(StrEnum):
    """What is looked at, in this order. Who fails at one of ``WAY`` is not asked for the rest."""

    REACH = "reach"
    HOST_KEY = "host-key"
    SIGN_IN = "sign-in"
    USER = "user"
    PATH = "path"
    INTERPRETER = "interpreter"
    SPACE = "space"


class Mark(StrEnum):
    """What came of a step."""

    OK = "ok"
    BAD = "bad"
    SKIPPED = "skipped"
    """Nobody looked: an earlier step failed, or there is nothing to look with."""


WAY = (Step.REACH, Step.HOST_KEY, Step.SIGN_IN, Step.USER)
"""The steps that lead onto the instance, as the user of the run."""

_CODE = ErrorCode
_STEPS: Mapping[str, Step] = {
    _CODE.HOST_KEY_CHANGED: Step.HOST_KEY,
    _CODE.HOST_KEY_UNKNOWN: Step.HOST_KEY,
    _CODE.SIGN_IN_REFUSED: Step.SIGN_IN,
    _CODE.CREDENTIAL_UNUSABLE: Step.SIGN_IN,
    _CODE.NO_FREE_SESSION: Step.SIGN_IN,
    _CODE.PROTOCOL_ERROR: Step.SIGN_IN,
    _CODE.ACCOUNT_NOT_EXISTS: Step.USER,
    _CODE.RUN_AS_REFUSED: Step.USER,
    _CODE.DIRECTORY_NOT_EXISTS: Step.PATH,
    _CODE.INTERPRETER_NOT_FOUND: Step.INTERPRETER,
    _CODE.LAUNCHER_NOT_FOUND: Step.INTERPRETER,
    _CODE.EXECUTION_EXCEPTION: Step.INTERPRETER,
    _CODE.STATE_DIRECTORY_UNUSABLE: Step.SPACE,
    _CODE.DISK_FULL: Step.SPACE,
}


def step_of(code: str) -> Step:
    """The step at which an error with this code is met; all others are on the way there."""
    return _STEPS.get(code, Step.REACH)


def marks(
    codes: Iterable[str], *, whole: bool = True, interpreter: bool = True
) -> dict[Step, Mark]:
    """What came of each step, for the errors that were met.

    ``whole`` is False where only the way onto the instance was looked at, and ``interpreter``
    where nobody could say which one the script asks for.
    """
    failed = {step_of(code) for code in codes}
    stopped = next((step for step in WAY if step in failed), None)
    looked_at = set(Step) if whole else set(WAY)
    if not interpreter:
        looked_at.discard(Step.INTERPRETER)
    if stopped is not None:
        looked_at = set(WAY[: WAY.index(stopped)])
    found = {step: Mark.OK if step in looked_at else Mark.SKIPPED for step in Step}
    return found | dict.fromkeys(failed, Mark.BAD)
