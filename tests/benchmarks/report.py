"""Numbers to sentences: ratios of the same round, their spread, and whether a goal is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """A median with quartiles and extremes."""

    count: int
    median: float
    low: float
    high: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        ordered = sorted(values)
        low, high = ordered[0], ordered[-1]
        if len(ordered) > 1:
            low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
        median = statistics.median(ordered)
        return cls(len(ordered), median, low, high, ordered[0], ordered[-1])


@dataclass(frozen=True)
class Row:
    """One line of the table. ``goal`` is an upper bound; None where it is only reported."""

    what: str
    goal: float | None
    spread: Spread | None
    unit: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the median meets the goal."""
        if self.spread is None:
            return "missing"
        if self.goal is None:
            return "reported"
        if self.spread.median <= self.goal:
            return "met"
        return f"missed by {(self.spread.median / self.goal - 1) * 100:.0f} %"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "verdict": self.verdict}


def ratios(above: Sequence[float | None], below: Sequence[float | None]) -> Spread | None:
    """``above / below``, round by round; None where there is no round with both."""
    found = [a / b for a, b in zip(above, below, strict=True) if a is not None and b is not None]
    return Spread.of(found) if found else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| what | goal | median | quartiles | min-max | n | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        goal = "-" if row.goal is None else f"<= {row.goal:g}{row.unit}"
        cells = ["-", "-", "-", "0"]
        if (one := row.spread) is not None:
            cells = [
                f"**{one.median:.2f}{row.unit}**",
                f"{one.low:.2f}-{one.high:.2f}",
                f"{one.least:.2f}-{one.most:.2f}",
                str(one.count),
            ]
        said = row.verdict + (f" ({row.note})" if row.note else "")
        lines.append(f"| {row.what} | {goal} | {' | '.join(cells)} | {said} |")
    return "\n".join(lines)
