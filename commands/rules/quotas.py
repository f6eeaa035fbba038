"""Quotas: what a team may use in a region, what its day is, and the words when that is used up.

One table, ``DEFINITIONS``, says everything about each quota. What a team has used is counted by
``commands.services.quotas``; the numbers' sources are those of ``commands.rules.limits``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from commands.errors import Invalid, QuotaExceeded
from commands.rules import limits
from commands.words import gettext as _
from commands.words import gettext_noop, ngettext

_DAY = timedelta(days=1)


class Quota(StrEnum):
    """Things that a team may use up to a limit, in each region."""

    SAVED_COMMANDS = "saved_commands"
    TASKS_PER_DAY = "tasks_per_day"
    INSTANCES_PER_TASK = "instances_per_task"
    RUNS_AT_A_TIME = "runs_at_a_time"
    CONTENT_SIZE = "content_size"


class Measure(StrEnum):
    """What the number of a quota is compared with."""

    STOCK = "stock"
    """What exists now; deleting gives room."""
    FLOW = "flow"
    """What was begun since the day began; only the next day gives room."""
    SIZE = "size"
    """The size of one request; nothing is used up."""
    LARGEST = "largest"
    """The size of each thing that is kept, so of the largest; nothing is used up."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One quota. A limit is ``default`` unless overridden, from ``least`` to ``most``."""

    key: Quota
    label: str
    measure: Measure
    default: int
    least: int
    most: int
    code: str
    """Error code when it is exceeded (Cloud Assistant's)."""
    field: str
    """Form field that the error belongs to, or ``""``."""
    attribute: str = ""
    """Cloud Assistant's name of it as an account attribute, where it has one."""


DEFINITIONS: Mapping[Quota, Definition] = {
    definition.key: definition
    for definition in (
        Definition(
            key=Quota.SAVED_COMMANDS,
            label=gettext_noop("Saved commands"),
            measure=Measure.STOCK,
            default=limits.SAVED_COMMANDS,
            least=limits.SAVED_COMMANDS_MIN,
            most=limits.SAVED_COMMANDS_MAX,
            code="CmdCount.ExceedQuota",
            field="save",
            attribute="max-axt-command-count",
        ),
        Definition(
            key=Quota.TASKS_PER_DAY,
            label=gettext_noop("Tasks per day"),
            measure=Measure.FLOW,
            default=limits.TASKS_PER_DAY,
            least=1,
            most=200_000,
            code="Invocation.ExceedQuota",
            field="",
            attribute="max-axt-invocation-daily",
        ),
        Definition(
            key=Quota.INSTANCES_PER_TASK,
            label=gettext_noop("Instances per task"),
            measure=Measure.SIZE,
            default=limits.INSTANCES_PER_TASK,
            least=1,
            most=1_000,
            code="InstanceIds.ExceedLimit",
            field="instances",
        ),
        Definition(
            key=Quota.RUNS_AT_A_TIME,
            label=gettext_noop("Runs at a time"),
            measure=Measure.STOCK,
            default=limits.RUNS_AT_A_TIME,
            least=1,
            most=100_000,
            code="OperationConflict.ExceedQuota",
            field="instances",
        ),
        Definition(
            key=Quota.CONTENT_SIZE,
            label=gettext_noop("Content size of a command"),
            measure=Measure.LARGEST,
            default=limits.CONTENT_BYTES,
            least=limits.CONTENT_BYTES_MIN,
            most=limits.CONTENT_BYTES_MAX,
            code="CmdContent.ExceedLimit",
            field="content",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a quota is used; ``used`` is the largest one where each has a size."""

    key: Quota
    label: str
    used: int
    limit: int
    resets_at: datetime | None = None
    """When ``used`` falls to 0 by itself, in the site's time zone; None if it never does."""

    @property
    def metered(self) -> bool:
        """Whether there is anything to compare the limit with: of one request there is not."""
        return DEFINITIONS[self.key].measure is not Measure.SIZE

    @property
    def used_up(self) -> bool:
        """Whether what is used leaves less room: sizes don't."""
        return DEFINITIONS[self.key].measure in {Measure.STOCK, Measure.FLOW}

    @property
    def left(self) -> int:
        """How many more there is room for."""
        return max(0, self.limit - self.used)

    @property
    def next(self) -> int:
        """How much is used after one more."""
        return self.used + 1

    @property
    def share(self) -> float:
        """The used part, from 0 to 1; use above a limit that was lowered is 1 too."""
        return min(1.0, self.used / self.limit)

    @property
    def near(self) -> bool:
        """Whether 80 % or more is used up: time to warn."""
        return self.used_up and self.used * 5 >= self.limit * 4

    @property
    def full(self) -> bool:
        """Whether there is no room left."""
        return self.used_up and self.used >= self.limit


def check_limit(key: Quota, limit: int) -> int:
    """A limit that ``key`` may be given. Raises Invalid if it is out of range."""
    definition = DEFINITIONS[key]
    if not definition.least <= limit <= definition.most:
        raise Invalid(
            _("%(label)s: the limit must be between %(least)s and %(most)s.")
            % {
                "label": _(definition.label),
                "least": f"{definition.least:,}",
                "most": f"{definition.most:,}",
            },
            field="limit",
        )
    return limit


def day_of(now: datetime, zone: tzinfo) -> date:
    """The day that ``now`` belongs to, in the site's time zone."""
    return now.astimezone(zone).date()


def counting_day(counted: date | None, today: date) -> date:
    """The day to count on, when ``counted`` is the one that was counted last.

    One day ahead is a request that waited over midnight behind a later one, or a server whose
    clock is a little slow: going back would forget a count. Further ahead, a clock was wrong.
    """
    return counted if counted is not None and counted - today == _DAY else today


def end_of(day: date, zone: tzinfo) -> datetime:
    """The first moment after ``day``, in ``zone``; not 00:00 where clocks skip that hour."""
    midnight = datetime.combine(day + _DAY, time(), zone)
    return midnight.astimezone(UTC).astimezone(zone)


def exceeded(usage: Usage, *, asked: int = 1) -> QuotaExceeded:
    """The error for ``asked`` more where ``usage`` has less room: what to say and to whom."""
    return _error(usage, _SENTENCES[usage.key](usage, asked))


def too_large(usage: Usage, *, size: int, what: str) -> QuotaExceeded:
    """The error for ``what`` of ``size`` bytes after Base64, where ``usage`` allows fewer."""
    text = _("%(what)s has %(size)s bytes after Base64; the limit is %(limit)s.")
    way = _("Shorten it, or request more.")
    if size > DEFINITIONS[usage.key].most:
        way = _("Shorten it.")
    said = text % {"what": _(what), "size": f"{size:,}", "limit": f"{usage.limit:,}"}
    return _error(usage, f"{said} {way}")


def _error(usage: Usage, text: str) -> QuotaExceeded:
    definition = DEFINITIONS[usage.key]
    return QuotaExceeded(
        text,
        key=usage.key.value,
        limit=usage.limit,
        used=usage.used,
        field=definition.field,
        code=definition.code,
    )


def _no_saved_commands(usage: Usage, _asked: int) -> str:
    excess = usage.used - usage.limit + 1
    used = ngettext(
        "Your team has used its only saved command.",
        "Your team has used all %(limit)s saved commands.",
        usage.limit,
    )
    ways = ngettext(
        "Turn off Save command, delete one, or request more.",
        "Turn off Save command, delete %(excess)s, or request more.",
        excess,
    )
    return f"{used % {'limit': f'{usage.limit:,}'}} {ways % {'excess': f'{excess:,}'}}"


def _no_tasks(usage: Usage, _asked: int) -> str:
    text = ngettext(
        "Your team has used its only task today.",
        "Your team has used all %(limit)s tasks today.",
        usage.limit,
    )
    used = text % {"limit": f"{usage.limit:,}"}
    if usage.resets_at is None:
        return used
    reset = _("The count resets at %(clock)s.") % {"clock": clock(usage.resets_at)}
    return f"{used} {reset}"


def _too_many_runs(usage: Usage, asked: int) -> str:
    text = _(
        "Your team has %(used)s runs that have not ended, of %(limit)s at a time: %(asked)s more "
        "are too many. Wait until some have ended, select fewer instances, or request more."
    )
    numbers = {"used": usage.used, "limit": usage.limit, "asked": asked}
    return text % {name: f"{number:,}" for name, number in numbers.items()}


def _too_many_instances(usage: Usage, asked: int) -> str:
    text = ngettext(
        "Select %(limit)s instance. You have %(asked)s.",
        "Select %(limit)s instances or fewer. You have %(asked)s.",
        usage.limit,
    )
    return text % {"limit": f"{usage.limit:,}", "asked": f"{asked:,}"}


_SENTENCES = {
    Quota.SAVED_COMMANDS: _no_saved_commands,
    Quota.TASKS_PER_DAY: _no_tasks,
    Quota.INSTANCES_PER_TASK: _too_many_instances,
    Quota.RUNS_AT_A_TIME: _too_many_runs,
}


def clock(moment: datetime, *, seconds: bool = False) -> str:
    """The wall clock of an aware moment with its distance from UTC, ``00:00 UTC+8``."""
    minutes = round((moment.utcoffset() or timedelta()) / timedelta(minutes=1))
    hours, rest = divmod(abs(minutes), 60)
    sign = "-" if minutes < 0 else "+"
    distance = f"{sign}{hours}{f':{rest:02}' if rest else ''}" if minutes else ""
    return f"{moment:{'%H:%M:%S' if seconds else '%H:%M'}} UTC{distance}"
