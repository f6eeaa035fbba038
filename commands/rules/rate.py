"""How fast a task spreads over its instances, and when it goes no further.

A ``Rate`` is what its creator asked for, ``Standing`` is where the task is, and ``step`` says
what comes next. The task's runs are *held* until they are *released*; released ones that have
not ended are *active*. Without a rate all are released at once.

Batches exist where there is a pause, or a first batch: the *canary*. Runs of the next batch
are released when all of the one before have ended, and the pause is over or a person says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from commands.rules import limits
from commands.rules.problems import Problems
from commands.words import gettext as _
from commands.words import gettext_noop, kept

CONFIRM = "confirm"
"""What is typed in place of a pause where each next batch waits for a person."""

_NAMES = {
    "concurrency": gettext_noop("The number at a time"),
    "canary": gettext_noop("The first batch"),
}
_LIMIT_REACHED = kept(
    "%(failed)s of %(total)s failed, the limit of this task. It was not started here."
)


@dataclass(frozen=True, slots=True)
class RateInput:
    """The fields as they were typed; "" for what is not asked for."""

    concurrency: str = ""
    max_failures: str = ""
    batch_pause: str = ""
    canary: str = ""

    @property
    def asked(self) -> bool:
        """Whether anything is asked for."""
        return any((self.concurrency, self.max_failures, self.batch_pause, self.canary))


@dataclass(frozen=True, slots=True)
class Rate:
    """What was asked for, checked.

    ``concurrency`` runs at most at a time (0: all); ``canary`` is the size of the first batch
    (0: as the others); ``pause_s`` seconds lie between batches, and with ``confirm`` a person's
    word; ``max_failures`` is a number, or a part of all runs (``"10%"``), or "".
    """

    concurrency: int = 0
    max_failures: str = ""
    pause_s: int = 0
    confirm: bool = False
    canary: int = 0

    @property
    def paced(self) -> bool:
        """Whether some runs may have to wait for others."""
        return bool(self.concurrency or self.canary)

    @property
    def limited(self) -> bool:
        """Whether the end of a run may decide about others."""
        return self.paced or bool(self.max_failures)

    def first_batch(self, total: int) -> int:
        """Runs of the first batch, of ``total``."""
        later = self.concurrency if self._pauses and self.concurrency else total
        return min(self.canary or later, total)

    def failure_limit(self, total: int) -> int:
        """How many failures of ``total`` runs are the limit; 0 for none.

        A part is rounded up: 10 % of 3 is the first failure, 10 % of 50 the fifth.
        """
        if self.max_failures.endswith("%"):
            return max(1, -(-total * int(self.max_failures[:-1]) // 100))
        return int(self.max_failures or 0)

    def batch_after(self, released: int, total: int) -> int:
        """Where the next batch ends, counted from the first run."""
        if self._pauses and self.concurrency:
            return min(released + self.concurrency, total)
        return total

    @property
    def _pauses(self) -> bool:
        return bool(self.pause_s) or self.confirm


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a task is: of ``total`` runs, some held, some active, some of the ended failed.

    ``batch_end`` is where the present batch ends, counted from the first run; ``last_end`` when
    the last run so far ended.
    """

    total: int
    held: int
    active: int
    failed: int
    batch_end: int
    last_end: datetime | None = None

    @property
    def released(self) -> int:
        """Runs that were released, or need not be any more."""
        return self.total - self.held


class Wait(StrEnum):
    """What the held runs of a task wait for."""

    NOTHING = ""
    TURN = "turn"
    """Others that run."""
    PAUSE = "pause"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do: release so many held runs, or cancel all of them; else what they wait for.

    ``until`` is when a pause is over.
    """

    release: int = 0
    cancel: bool = False
    batch_end: int = 0
    wait: Wait = Wait.NOTHING
    until: datetime | None = None


def step(rate: Rate, at: Standing, now: datetime, *, confirmed: bool = False) -> Step:
    """What comes next. ``confirmed``: a person wants the next batch now."""
    end = at.batch_end
    limit = rate.failure_limit(at.total)
    if limit and at.failed >= limit:
        return Step(cancel=True, batch_end=end)
    if not at.held:
        return Step(batch_end=end)
    if at.released >= end and at.active:
        return Step(batch_end=end, wait=Wait.TURN)
    if at.released >= end:
        if not confirmed and (waiting := _between_batches(rate, at, now)):
            return waiting
        end = rate.batch_after(at.released, at.total)
    room = max(0, rate.concurrency - at.active) if rate.concurrency else at.held
    release = min(end - at.released, room, at.held)
    return Step(release, batch_end=end, wait=Wait.NOTHING if release else Wait.TURN)


def _between_batches(rate: Rate, at: Standing, now: datetime) -> Step | None:
    if rate.confirm:
        return Step(batch_end=at.batch_end, wait=Wait.CONFIRM)
    over = at.last_end + timedelta(seconds=rate.pause_s) if at.last_end else now
    if over <= now:
        return None
    return Step(batch_end=at.batch_end, wait=Wait.PAUSE, until=over)


def limit_sentence(failed: int, total: int) -> str:
    """Why a run was not started any more."""
    return _LIMIT_REACHED % {"failed": f"{failed:,}", "total": f"{total:,}"}


def check(given: RateInput, problems: Problems) -> Rate:
    """``given`` as a Rate, with a sentence in ``problems`` for each field that is wrong."""
    concurrency = _number(given.concurrency, "concurrency", limits.CONCURRENCY_MAX, problems)
    canary = _number(given.canary, "canary", limits.CONCURRENCY_MAX, problems)
    typed = given.batch_pause.strip()
    confirm = typed.lower() == CONFIRM
    pause_s = 0 if confirm else _pause(typed, problems)
    if (pause_s or confirm) and not (given.concurrency.strip() or given.canary.strip()):
        problems.add(
            "batch_pause",
            _(
                "There is nothing to pause between: say how many run at a time, or how large the "
                "first batch is."
            ),
        )
    return Rate(concurrency, _failures(given.max_failures, problems), pause_s, confirm, canary)


def _number(text: str, field: str, most: int, problems: Problems) -> int:
    typed = text.strip()
    if not typed:
        return 0
    if not re.fullmatch(r"[0-9]{1,9}", typed) or not 1 <= int(typed) <= most:
        problems.add(
            field,
            _("%(what)s must be a whole number from 1 to %(most)s, or empty.")
            % {"what": _(_NAMES[field]), "most": f"{most:,}"},
        )
        return 0
    return int(typed)


def _pause(typed: str, problems: Problems) -> int:
    if not typed:
        return 0
    if not re.fullmatch(r"[0-9]{1,9}", typed) or int(typed) > limits.BATCH_PAUSE_MAX:
        problems.add(
            "batch_pause",
            _(
                "The pause between batches must be a whole number of seconds up to "
                "%(most)s, or %(word)s: then each next batch waits until somebody "
                "continues."
            )
            % {"most": f"{limits.BATCH_PAUSE_MAX:,}", "word": CONFIRM},
        )
        return 0
    return int(typed)


def _failures(text: str, problems: Problems) -> str:
    typed = text.strip().replace(" ", "")
    if not typed:
        return ""
    found = re.fullmatch(r"([0-9]{1,9})(%?)", typed)
    most = 100 if typed.endswith("%") else limits.CONCURRENCY_MAX
    if not found or not 1 <= int(found[1]) <= most:
        problems.add(
            "max_failures",
            _(
                "The limit of failures must be a number of instances from 1 to "
                "%(most)s, such as 3, or a part of them from 1%% to 100%%, such as "
                "10%%."
            )
            % {"most": f"{limits.CONCURRENCY_MAX:,}"},
        )
        return ""
    return f"{int(found[1])}{found[2]}"
