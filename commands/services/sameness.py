"""Which instances of a task printed the same: digests of their output, and groups made of them.

A run's digests are stored once it has ended, by the worker's comparer (``services.comparer``);
whoever looks at groups computes what is missing, so much at a time (``compare``). They depend on
stored output alone, which changes no more then: it does not matter who computes them, or twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256

from django.db import transaction
from django.db.models import Exists, OuterRef

from commands.models import Invocation, Run
from commands.outputs import store
from commands.outputs.store import Chunk
from commands.rules import limits
from commands.rules.sameness import STREAMS, Keys, Lines, Names, Sameness, is_key, normalised
from commands.rules.status import FAILURES, STOPS, RunStatus, is_final

RUNS_AT_ONCE = 300
"""Most runs that are compared at once."""
BYTES_AT_ONCE = 4 * 1024 * 1024
"""So much output at once is enough; the last run compared may bring more."""
LITTLE_BYTES = 16 * 1024
"""Up to this much, the output of many runs is read in one query."""

NOTHING = Sameness(Names([])).keys()
"""The keys of a run that printed nothing."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of a task that ended alike and printed the same. ``key`` names them in addresses."""

    key: str
    runs: Sequence[Run]

    @property
    def first(self) -> Run:
        """The run that stands for all of them."""
        return self.runs[0]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.runs)


@dataclass(frozen=True, slots=True)
class Text:
    """The beginning of an output as it is compared, by stream; ``cut`` if there is more."""

    streams: Mapping[str, str]
    cut: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """How far the instances of a task agree.

    ``same`` are the largest group of those that succeeded, ``differ`` the others of those;
    ``groups`` counts the groups.
    """

    groups: int
    same: int
    differ: int
    failed: int
    stopped: int

    @property
    def compared(self) -> int:
        """How many runs are in a group."""
        return self.same + self.differ + self.failed + self.stopped


def groups_of(runs: Iterable[Run], *, loose: bool = False) -> list[Group]:
    """Groups of those of ``runs`` that were compared: problems first, then the largest."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if is_compared(run) and is_final(run.status):
            found[_key(run, loose=loose)].append(run)
    groups = [Group(key, members) for key, members in found.items()]
    return sorted(groups, key=lambda each: (_rank(each.first), -each.count, each.first.pk))


def runs_of_group(invocation: Invocation, key: str, *, loose: bool = False) -> list[Run]:
    """The runs of a task that are in the group called ``key``; [] if there is none."""
    groups = groups_of(invocation.runs.all(), loose=loose)
    return next((list(each.runs) for each in groups if each.key == key), [])


def summary(groups: Sequence[Group]) -> Summary:
    """What ``groups``, all those of a task, say in numbers."""
    successes = [each.count for each in groups if each.first.status == RunStatus.SUCCESS]
    return Summary(
        groups=len(groups),
        same=max(successes, default=0),
        differ=sum(successes) - max(successes, default=0),
        failed=sum(each.count for each in groups if each.first.status in FAILURES),
        stopped=sum(each.count for each in groups if each.first.status in STOPS),
    )


def compare(invocation: Invocation) -> int:
    """Store digests of some runs of a task that have none; how many are left."""
    missing = invocation.runs.uncompared()
    # All columns of those that printed nothing are the same: they take one statement.
    silent = missing.filter(next_sequence=0, lost_bytes=0, dropped_bytes=0)
    _store(dict.fromkeys(silent.values_list("pk", flat=True), NOTHING))
    return missing.count() if _compare(missing.order_by("pk")[:RUNS_AT_ONCE]) else 0


def compare_runs(run_ids: Set[int]) -> tuple[set[int], set[int]]:
    """Store digests of some of ``run_ids``; the tasks with news, and the ids that are left.

    A run that is alone in its task is compared with nothing.
    """
    others = Run.objects.filter(invocation=OuterRef("invocation")).exclude(pk=OuterRef("pk"))
    missing = Run.objects.uncompared().filter(Exists(others), pk__in=run_ids).order_by("pk")
    found = _compare(missing[:RUNS_AT_ONCE])
    left = set(missing.values_list("pk", flat=True)) if found else set()
    return {run.invocation_id for run in found}, left


def _compare(runs: Iterable[Run]) -> list[Run]:
    """Store digests of the first of ``runs``, until so much output is read; which those were."""
    taken = list(_until_enough(runs))
    little = store.read_all([run.pk for run in taken if _kept(run) <= LITTLE_BYTES])
    _store({run.pk: keys_of(run, little.get(run.pk)) for run in taken})
    return taken


def _until_enough(runs: Iterable[Run]) -> Iterator[Run]:
    read = 0
    for run in runs:
        if read >= BYTES_AT_ONCE:
            break
        read += _kept(run)
        yield run


def _kept(run: Run) -> int:
    """Bytes of output that are stored of ``run``."""
    return run.stdout_size + run.stderr_size - run.dropped_bytes


def _store(found: Mapping[int, Keys]) -> None:
    """Store keys by the ids of their runs. Most are the same, and take one statement."""
    alike: dict[Keys, list[int]] = defaultdict(list)
    with transaction.atomic():
        for run_id in Run.objects.uncompared().filter(pk__in=found).locked():
            alike[found[run_id]].append(run_id)
        for keys, run_ids in alike.items():
            Run.objects.filter(pk__in=run_ids).update(
                same_exactly=keys.exact, same_loosely=keys.loose
            )


def keys_of(run: Run, chunks: Iterable[Chunk] | None = None) -> Keys:
    """The keys of what ``run``, which has ended, printed; ``chunks`` if that was read already."""
    same = Sameness(names_of(run))
    shown = False
    for chunk in store.stream(run.pk) if chunks is None else chunks:
        if chunk.gap is not None:
            same.gap(chunk.gap.dropped)
            shown = True
        same.feed(chunk.stream, chunk.data)
    if run.dropped_bytes and not shown:
        same.gap(run.dropped_bytes)
    if run.lost_bytes != 0:
        same.gap(run.lost_bytes or 0)
    return same.keys()


def text_of(run: Run) -> Text:
    """The beginning of what ``run`` printed, as lines that differ only where it matters."""
    names = names_of(run)
    cutters = {stream: Lines() for stream in STREAMS}
    found: dict[str, list[bytes]] = {stream: [] for stream in STREAMS}
    size, cut = 0, False
    for chunk in store.stream(run.pk):
        if chunk.gap is not None or size >= limits.COMPARED_BYTES:
            cut = True
            break
        room = chunk.data[: limits.COMPARED_BYTES - size]
        cut = cut or len(room) < len(chunk.data)
        size += len(room)
        for block in cutters[chunk.stream].feed(room):
            found[chunk.stream] += normalised(block, names).split(b"\n")
    texts = {}
    for stream, lines in found.items():
        lines += [normalised(rest, names) for rest in cutters[stream].finish()]
        cut = cut or len(lines) > limits.COMPARED_LINES
        kept = b"".join(line + b"\n" for line in lines[: limits.COMPARED_LINES])
        body = kept.rstrip(b"\n")
        texts[stream] = (body + b"\n" if body else b"").decode(errors="backslashreplace")
    return Text(texts, cut)


def names_of(run: Run) -> Names:
    """The words by which the instance of ``run`` calls itself."""
    return Names([run.instance_name, run.instance_uid, run.address, run.hostname])


def _key(run: Run, *, loose: bool) -> str:
    output = run.same_loosely if loose else run.same_exactly
    words = (run.status, str(run.exit_code), run.error_code, output)
    return sha256("\0".join(words).encode()).hexdigest()[:20]


def _rank(run: Run) -> int:
    if run.status in FAILURES:
        return 0
    return 2 if run.status in STOPS else 1


def is_compared(run: Run) -> bool:
    """Whether a digest of what ``run`` printed is stored, by the rules of now."""
    return is_key(run.same_exactly)


def uncompared(runs: Iterable[Run]) -> int:
    """How many of ``runs`` have ended and were not compared yet."""
    return sum(is_final(run.status) and not is_compared(run) for run in runs)
