"""What pages and streams show of a task: plain objects made from rows, for templates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache

from django.http import QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from commands.models import Invocation, Run
from commands.outputs.store import Gap
from commands.rules import names
from commands.rules.rate import Rate, Wait, step
from commands.rules.status import Phase, RunStatus, is_final, roll_up
from commands.services import pacing
from commands.words import retold
from console import lines, seen
from console.templatetags.console_ui import SQUARES, status_label, status_state

PROBLEMS_FIRST = ["bad", "warn", "run", "idle", "ok", "stop"]
"""Order of states in lists and counts."""


FEW = 50
"""Up to so many instances, all of them are in a task's page."""


class Size(Enum):
    """How many instances a task has, as far as its page is another one for it."""

    ONE = "one"
    FEW = "few"
    MANY = "many"

    @classmethod
    def of(cls, total: int) -> Size:
        """The size of a task with ``total`` runs."""
        if total <= 1:
            return cls.ONE
        return cls.FEW if total <= FEW else cls.MANY


@dataclass(frozen=True, slots=True)
class Count:
    """How many runs are in one state; ``key`` names its icon and colour."""

    key: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is."""

    total: int
    finished: int
    counts: list[Count]


@dataclass(frozen=True, slots=True)
class Held:
    """How many runs of a task wait for their turn, and what for (``rules.rate.Wait``)."""

    count: int = 0
    released: int = 0
    wait: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as pages show it. Times are aware datetimes, durations seconds."""

    uid: str
    url: str
    name: str
    status: str
    word: str
    """Its state in words (``state_word``)."""
    type_label: str
    by: str
    created_at: datetime
    finished_at: datetime | None
    active: bool
    timeout: int
    timeout_asked: int | None
    workdir: str
    elapsed_seconds: float
    progress: Progress
    pace: str
    """How it spreads over its instances, as part of a sentence; "" for all at once."""
    held: Held

    @property
    def took_seconds(self) -> float | None:
        """How long it took in all, once it has ended."""
        return None if self.active else self.elapsed_seconds

    @property
    def counts(self) -> list[Count]:
        """Runs by state."""
        return self.progress.counts

    @property
    def failed(self) -> int:
        """Number of runs that failed, timed out, or were never delivered."""
        return sum(part.count for part in self.counts if part.key in ("bad", "warn"))

    @property
    def stopped(self) -> int:
        """Number of runs that somebody stopped."""
        return sum(part.count for part in self.counts if part.key == "stop")

    @property
    def total(self) -> int:
        """Number of runs."""
        return self.progress.total

    @property
    def finished(self) -> int:
        """Number of runs that have ended."""
        return self.progress.finished

    @property
    def size(self) -> Size:
        """Which kind of page it gets."""
        return Size.of(self.total)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as pages show it."""

    pk: int
    uid: str
    name: str
    address: str
    status: str
    state: str
    word: str
    """Its state in words (``state_word``)."""
    label: str
    """What its line says of it: its exit code, else ``word``."""
    phase: str
    exit_code: int | None
    error_code: str
    error_info: str
    started_at: datetime | None
    finished_at: datetime | None
    elapsed_seconds: float
    active: bool
    last_line: str
    left: str
    """How many processes a timeout or a stop left, as a sentence; "" for runs that ended else."""
    url: str
    gap: str
    """What is said of output that was dropped; "" if all is kept."""
    gap_exactly: str
    lost: str
    """What is said of output that found no room on the instance; "" if all did."""
    hostname: str
    machine_id: str
    host_key_fingerprint: str
    stall: str
    """The process that waits for input from a terminal; "" if none was seen."""
    row: Run = field(repr=False)
    current: bool = False

    @property
    def differs(self) -> list[str]:
        """In what its machine is not the one of the run before, as sentences; it is looked up."""
        return seen.differs(self.row)

    @property
    def is_known(self) -> bool:
        """Whether it was seen on which machine the script runs."""
        return bool(self.hostname or self.machine_id or self.host_key_fingerprint)


def state_word(status: str, *, unapproved: bool) -> str:
    """The state of a run or a task in words; what nobody has approved yet is no common Pending."""
    return _("Waiting for approval") if unapproved else status_label(status)


def task_view(invocation: Invocation, runs: Sequence[Run], now: datetime) -> TaskView:
    """``invocation`` as pages show it, with the state of its ``runs``."""
    active = any(not is_final(run.status) for run in runs)
    ends = [run.finished_at for run in runs if run.finished_at]
    finished_at = max(ends) if ends and not active else None
    clamped = invocation.timeout_asked != invocation.timeout
    status = roll_up(run.status for run in runs).value
    unapproved = any(run.phase == Phase.UNAPPROVED for run in runs)
    return TaskView(
        uid=invocation.uid,
        url=reverse("task", args=[invocation.uid]),
        name=invocation.name,
        status=status,
        word=state_word(status, unapproved=unapproved),
        type_label=invocation.get_type_display(),
        by=invocation.created_by_name,
        created_at=invocation.created_at,
        finished_at=finished_at,
        active=active,
        timeout=invocation.timeout,
        timeout_asked=invocation.timeout_asked if clamped else None,
        workdir=invocation.workdir,
        elapsed_seconds=((finished_at or now) - invocation.created_at).total_seconds(),
        progress=progress(run.status for run in runs),
        pace=", ".join(_pace(invocation.rate)),
        held=held(invocation, runs, now),
    )


def held(invocation: Invocation, runs: Sequence[Run], now: datetime) -> Held:
    """What the held ones among the ``runs`` of a task wait for."""
    if not any(run.phase == Phase.HELD for run in runs):
        return Held()
    standing = pacing.standing(invocation, runs)
    what = step(invocation.rate, standing, now)
    return Held(standing.held, standing.released, what.wait.value or Wait.TURN.value, what.until)


def _pace(rate: Rate) -> Iterator[str]:
    if rate.concurrency:
        yield _("at most %(n)d at a time") % {"n": rate.concurrency}
    if rate.canary:
        yield _("first batch %(n)d") % {"n": rate.canary}
    if rate.confirm:
        yield _("somebody continues after each batch")
    if rate.pause_s:
        yield _("pauses of %(n)d s") % {"n": rate.pause_s}
    if rate.max_failures:
        yield _("no more after %(n)s failures") % {"n": rate.max_failures}


def progress(statuses: Iterable[str]) -> Progress:
    """How far runs with ``statuses`` are."""
    states: Counter[str] = Counter()
    finished = 0
    for status in statuses:
        states[status_state(status)] += 1
        finished += is_final(status)
    labels = {
        "bad": _("Failed"),
        "warn": _("Timed out"),
        "run": _("Running"),
        "idle": _("Pending"),
        "ok": _("Succeeded"),
        "stop": pgettext("state", "Stopped"),
    }
    counts = [Count(key, labels[key], states[key]) for key in PROBLEMS_FIRST]
    return Progress(total=states.total(), finished=finished, counts=counts)


def run_views(
    invocation: Invocation,
    runs: Iterable[Run],
    now: datetime,
    *,
    current: int | None = None,
    query: QueryDict | None = None,
) -> list[RunView]:
    """``runs`` as pages show them, problems first; ``current`` is the one whose output shows.

    ``query`` is what their links keep of an address.
    """
    url = reverse("task", args=[invocation.uid])
    kept = f"{query.urlencode()}&" if query else ""
    return [
        _run_view(run, f"{url}?{kept}instance={run.instance_uid}", now, current)
        for run in sorted(runs, key=problems_first)
    ]


def live_runs(changed: Sequence[Run], total: int) -> Sequence[Run]:
    """The runs of which a stream sends rows: of many, none. Pages ask for what they list then.

    Of a single one neither: its page lists nothing.
    """
    return changed if Size.of(total) is Size.FEW else []


def squares(runs: Iterable[Run]) -> str:
    """A letter for the state of each of ``runs``, in the order of the grid."""
    return "".join(SQUARES[status_state(run.status)] for run in in_grid(runs))


def in_grid(runs: Iterable[Run]) -> list[Run]:
    """``runs`` in the order of the grid: by name, as people count."""
    return sorted(runs, key=lambda run: (_natural(run.instance_name), run.pk))


_natural = lru_cache(maxsize=4_096)(names.natural)
"""The same names are put in order with every event."""


def problems_first(run: Run) -> tuple[int, int]:
    """A key to sort runs by."""
    return PROBLEMS_FIRST.index(status_state(run.status)), run.pk


def _run_view(run: Run, url: str, now: datetime, current: int | None) -> RunView:
    began = run.started_at
    elapsed = ((run.finished_at or now) - began).total_seconds() if began else 0.0
    gap = Gap.of(run)
    word = state_word(run.status, unapproved=run.phase == Phase.UNAPPROVED)
    return RunView(
        pk=run.pk,
        uid=run.instance_uid,
        name=run.instance_name,
        address=run.address,
        status=run.status,
        state=status_state(run.status),
        word=word,
        label=_exit_code(run) or word,
        phase=run.phase,
        exit_code=run.exit_code,
        error_code=run.error_code,
        error_info=retold(run.error_info),
        started_at=began,
        finished_at=run.finished_at,
        elapsed_seconds=max(elapsed, 0.0),
        active=not is_final(run.status),
        last_line=run.last_line,
        left=_left(run),
        url=url,
        gap=lines.sentence(gap) if gap else "",
        gap_exactly=lines.exactly(gap) if gap else "",
        lost=lines.lost_sentence(run.lost_bytes),
        hostname=run.hostname,
        machine_id=run.machine_id,
        host_key_fingerprint=run.host_key_fingerprint,
        stall=run.stall_info if run.status == RunStatus.RUNNING else "",
        row=run,
        current=run.pk == current,
    )


def _left(run: Run) -> str:
    if run.status not in (RunStatus.TIMEOUT, RunStatus.TERMINATED):
        return ""
    left = run.processes_left
    if left is None:
        return _("That no process is left was not verified.")
    text = ngettext("%(n)d process is still running.", "%(n)d processes are still running.", left)
    told = text % {"n": left} if left else _("0 processes left.")
    return f"{told} ({run.survivors})" if run.survivors else told


def _exit_code(run: Run) -> str:
    exited = run.status in (RunStatus.SUCCESS, RunStatus.FAILED)
    return _("exit %(code)s") % {"code": run.exit_code} if exited else ""


def most_telling(runs: Sequence[Run]) -> Run | None:
    """The run whose output a page opens with: the first failure, else the first running."""
    return min(runs, key=problems_first, default=None)
