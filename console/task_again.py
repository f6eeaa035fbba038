"""What a task's page says of running it again: what may be pressed, and what came of it before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from commands import access
from commands.access import Permission
from commands.models import Invocation, User
from commands.rules.again import Again
from commands.services import repeating

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser


@dataclass(frozen=True, slots=True)
class AgainView:
    """Running a task again, as its page shows it.

    ``may`` says that what ran then may run again, ``latest`` is the number of the newer version
    that may run instead, ``may_edit`` that the form may be filled with it. ``before`` is the id of
    the task that it repeats; ``after`` that of the newest one which repeats it, of ``times``.
    """

    may: bool
    latest: int | None
    may_edit: bool
    before: str
    is_retry: bool
    after: str
    times: int

    @property
    def offered(self) -> bool:
        """Whether anything may be pressed."""
        return self.may or self.latest is not None or self.may_edit


def again_view(user: User | AnonymousUser, invocation: Invocation) -> AgainView:
    """What the page of ``invocation`` shows ``user`` of running it again."""
    newer = repeating.changed_since(invocation)
    runs_saved = access.allows(user, Permission.COMMAND_RUN, invocation.team)
    repeats = list(invocation.repeats.order_by("-pk").values_list("uid", flat=True))
    may = repeating.may_repeat(user, invocation)
    before = invocation.again_of
    return AgainView(
        may=may,
        latest=newer.number if newer is not None and runs_saved else None,
        may_edit=runs_saved and (may or newer is not None),
        before=before.uid if before is not None else "",
        is_retry=invocation.again_kind == Again.RETRY,
        after=repeats[0] if repeats else "",
        times=len(repeats),
    )
