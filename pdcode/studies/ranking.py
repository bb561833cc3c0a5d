"""Ranking of candidates by their runs, with confidence intervals over the seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.special import stdtrit

from ..util.formats import ratio
from .goal import Goal
from .measurement import Measured

CONFIDENCE = 0.95
RESOLUTION = 1 / 128  # of times to a target

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval; nan where undefined."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


def student_interval(values: Sequence[float]) -> Interval:
    """Return the arithmetic mean and its interval by Student's t; a single value has no interval."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Interval(mean)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def geometric_interval(values: Sequence[float]) -> Interval:
    """Return the geometric mean and its interval; undefined without values, or if any is ≤ 0 or infinite."""
    if not values or not all(0 < value < math.inf for value in values):
        return Interval()
    logs = student_interval(np.log(values).tolist())
    return Interval(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high))


@dataclass(frozen=True)
class Speedup:
    """Ratio of one candidate's time to another's, seed by seed."""

    ratio: Interval = field(default_factory=Interval)  # geometric; nan if both missed the target
    # "<": an upper bound, because the other missed the target; ">": a lower bound, because this one did.
    bound: str = ""

    @property
    def text(self) -> str:
        """The mean, with the bound that it is."""
        return f"{self.bound} {ratio(self.ratio.mean)}".strip()


def compare_times(these: Sequence[Measured], those: Sequence[Measured]) -> Speedup:
    """Compare the times of two candidates; for a run that missed the target, its length is taken."""
    here, there = (all(run.reached for run in runs) for runs in (these, those))
    if not (here or there):
        return Speedup()
    pairs = [(a.spent_s, b.spent_s) for a, b in zip(these, those, strict=True)]
    ratio = geometric_interval([a / b if b > 0 else math.inf for a, b in pairs])
    return Speedup(ratio, "" if here and there else "<" if here else ">")


@dataclass(frozen=True)
class Row(Generic[T]):
    """A candidate and its runs."""

    candidate: T
    runs: list[Measured]  # one for each seed; the seeds are the same for all rows
    goal: Goal | None = None  # target of the runs
    # Time over the time of the first candidate, or of the user's own configuration.
    speedup: Speedup = field(default_factory=Speedup)

    @property
    def missed(self) -> int:
        """Number of runs that did not reach the target."""
        return sum(not run.reached for run in self.runs)

    @property
    def reached(self) -> str:
        """Text on how many of the runs reached the target."""
        return f"{len(self.runs) - self.missed} of {len(self.runs)}"

    @property
    def time(self) -> Interval:
        """Time to the target in s; if runs missed it, the mean of their lengths without an interval."""
        time = geometric_interval([run.spent_s for run in self.runs])
        return Interval(time.mean) if self.missed else time

    @property
    def value(self) -> float:
        """Median of the last losses, or of 1 - accuracy."""
        return float(statistics.median(run.value(self.goal) for run in self.runs))

    @property
    def key(self) -> tuple[int, int, float, float]:
        """Sort key: runs that missed the target, that failed, time, value at the end."""
        mean, value = self.time.mean, self.value
        return (
            self.missed,
            sum(run.failed for run in self.runs),  # because a diverged run may end early
            mean if mean > 0 else math.inf,
            value if math.isfinite(value) else math.inf,
        )

    def median(self, name: str) -> float:
        """Return the median of a figure over the seeds."""
        return float(np.median([getattr(run, name) for run in self.runs]))

    def interval(self, name: str) -> Interval:
        """Return the interval of updates, bytes_up or bytes_down; undefined if any run missed the target."""
        return Interval() if self.missed else geometric_interval([getattr(run, name) for run in self.runs])

    @property
    def wasted(self) -> Interval:
        """Fraction of the payloads that were not used."""
        mean = student_interval([run.wasted for run in self.runs])
        return Interval(mean.mean, max(mean.low, 0.0), min(mean.high, 1.0)) if mean.known else mean

    @property
    def oracle(self) -> float:
        """Median ratio of the runs' lengths to the oracle's time for the same work; nan unless all are known.

        A length ends at the measurement at which the target was found to be reached, as does the oracle's
        work.
        """
        ratios = [run.stop_s / run.oracle_s if run.reached and run.oracle_s > 0 else 0.0 for run in self.runs]
        return statistics.median(ratios) if min(ratios, default=0.0) > 0 else math.nan


def rank(
    candidates: Sequence[T], runs: Sequence[list[Measured]], goal: Goal | None, base: int | None = None
) -> list[Row[T]]:
    """Sort candidates by their runs, best first.

    The order is by runs that missed the target, then by the geometric mean of the times, then by the loss.
    Times are compared with the times of candidate number `base`, by default of the best.
    """
    rows = [Row(candidate, own, goal) for candidate, own in zip(candidates, runs, strict=True)]
    rows.sort(key=lambda row: row.key)
    reference = rows[0].runs if base is None else runs[base]
    return [replace(row, speedup=compare_times(row.runs, reference)) for row in rows]


def tied(rows: Sequence[Row[Any]]) -> list[int]:
    """List the places, from 2, of rows that are not significantly slower than the first.

    A row is significantly slower if the interval of its time over the first's exceeds 1 by more than the
    resolution of the times.
    """
    compared = [compare_times(row.runs, rows[0].runs) for row in rows[1:]]
    return [
        place
        for place, speedup in enumerate(compared, 2)
        if speedup.bound == "<" or not speedup.ratio.low > 1 + RESOLUTION
    ]
