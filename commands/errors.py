"""Everything that can go wrong in the domain, as one tree of exceptions.

    CommandConsoleError
    ├── Denied                 the actor may not do this (or may not know that it exists)
    ├── Invalid                the input breaks a rule; knows the field it belongs to
    │   ├── InvalidFields      several of them at once
    │   └── QuotaExceeded      a team has used up, or asks for more than, what it may use
    ├── Conflict               the request contradicts the state of things
    │   ├── Forgotten          what it is about was done or given up meanwhile
    │   ├── Outdated           what was chosen means something else than what was shown
    │   ├── IdempotencyMismatch  a client token came again with another request
    │   └── EditConflict         somebody else saved a newer version in the meantime
    └── ExecutionError         an instance could not be made to do something
        ├── ConnectFailed      nothing was started: no usable SSH connection
        ├── StartRefused       nothing was started: the instance said why
        ├── ConnectionLost     the connection broke; what runs there goes on
        └── RunLost            the instance no longer knows how the run ended

``code`` is stable: it is stored with runs, shown to people and matched by programs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


class CommandConsoleError(Exception):
    """Root of the tree. ``code`` names the case, ``message`` is a sentence for a person."""

    code = "InternalError"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code


class Denied(CommandConsoleError):
    """The actor may not do this. Pages answer 404, so that nothing is given away.

    ``permission`` is the one that was missing, and ``team`` where, as far as that is known: for
    the audit trail.
    """

    code = "Forbidden"

    def __init__(self, message: str, *, permission: str = "", team: Any = None) -> None:
        super().__init__(message)
        self.permission = permission
        self.team = team


class Invalid(CommandConsoleError):
    """One value breaks a rule. ``field`` is the form field it belongs to, or ``""``."""

    code = "InvalidParameter"

    def __init__(self, message: str, *, field: str = "", code: str = "") -> None:
        super().__init__(message, code=code)
        self.field = field


class InvalidFields(Invalid):
    """Several values break rules. ``errors`` maps a field to the sentences about it.

    ``field`` and ``code`` are those of the first, where it is known.
    """

    def __init__(self, errors: Mapping[str, list[str]], *, field: str = "", code: str = "") -> None:
        sentences = (text for texts in errors.values() for text in texts)
        super().__init__(" ".join(sentences), field=field, code=code)
        self.errors = dict(errors)


class QuotaExceeded(Invalid):
    """A team would use more than its limit. ``key`` is the quota's, see ``rules.quotas``."""

    code = "QuotaExceeded"

    def __init__(
        self, message: str, *, key: str, limit: int, used: int, field: str = "", code: str = ""
    ) -> None:
        super().__init__(message, field=field, code=code)
        self.key = key
        self.limit = limit
        self.used = used


class Conflict(CommandConsoleError):
    """The request contradicts the present state."""

    code = "OperationConflict"


class Forgotten(Conflict):
    """What the request is about was done, or given up, in the meantime."""


class Outdated(Conflict):
    """Things that were chosen mean something else by now than what was shown of them.

    ``ids`` are theirs.
    """

    def __init__(self, message: str, *, ids: Collection[int]) -> None:
        super().__init__(message)
        self.ids = frozenset(ids)


class IdempotencyMismatch(Conflict):
    """A client token was used before, with a different request."""

    code = "IdempotentParameterMismatch"


class EditConflict(Conflict):
    """An edit began with a version that is no longer the newest.

    ``number`` is the newest version's, ``by`` the name of who saved it (``""`` if unknown).
    """

    def __init__(self, message: str, *, number: int, by: str) -> None:
        super().__init__(message)
        self.number = number
        self.by = by


class ExecutionError(CommandConsoleError):
    """An instance could not be made to do something."""

    code = "ExecutionException"


class ConnectFailed(ExecutionError):
    """No usable connection, so nothing was started. Codes: see ``rules.status``."""


class StartRefused(ExecutionError):
    """The instance was reached and did not start the script. Codes: see ``rules.status``."""


class ConnectionLost(ExecutionError):
    """The connection broke. What runs on the instance goes on; attach again by offset."""

    code = "ConnectionLost"


class RunLost(ExecutionError):
    """The instance cannot say how the run ended; it may have run, and is not run again."""

    code = "OutcomeUnknown"
