"""Ranking of the finalists, with confidence intervals over the seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.special import stdtrit

from .search_space import Candidate
from .trial import POINTS, Outcome

CONFIDENCE = 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval; nan if undefined."""

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
    """Ratio of one configuration's time to another's, seed by seed."""

    ratio: Interval  # geometric mean; nan if neither always reached the target
    bound: str = ""  # "<": upper bound, as the other missed the target; ">": lower bound, as this one did


def compare(these: Sequence[Outcome], those: Sequence[Outcome]) -> Speedup:
    """Compare the times of two configurations; a descent that missed the target counts with its length."""
    here, there = (all(outcome.reached for outcome in outcomes) for outcomes in (these, those))
    if not (here or there):
        return Speedup(Interval())
    pairs = [(a.spent_s, b.spent_s) for a, b in zip(these, those, strict=True)]
    ratio = geometric_interval([a / b if b > 0 else math.inf for a, b in pairs])
    return Speedup(ratio, "" if here and there else "<" if here else ">")


@dataclass(frozen=True)
class Row(Generic[T]):
    """A finalist and its results."""

    candidate: T
    outcomes: list[Outcome]  # one for each seed; the seeds are the same for all rows
    speedup: Speedup  # its time over that of the user's own configuration, or of another

    @property
    def missed(self) -> int:
        """Number of descents that did not reach the target."""
        return sum(not outcome.reached for outcome in self.outcomes)

    @property
    def reached(self) -> str:
        """Text on how many of the descents reached the target."""
        return f"{len(self.outcomes) - self.missed} of {len(self.outcomes)}"

    @property
    def time(self) -> Interval:
        """Time to the target in s; if descents missed it, their length without an interval."""
        time = geometric_interval([outcome.spent_s for outcome in self.outcomes])
        return Interval(time.mean) if self.missed else time

    @property
    def key(self) -> tuple[int, int, float, float]:
        """Sort key: descents that missed the target, that diverged, time, value at the end."""
        mean, value = self.time.mean, self.median("value")
        return (
            self.missed,
            sum(outcome.diverged for outcome in self.outcomes),  # early, and not to their credit
            mean if mean > 0 else math.inf,
            value if math.isfinite(value) else math.inf,
        )

    def median(self, name: str) -> float:
        """Return the median over the seeds of an attribute of the outcomes."""
        return float(statistics.median(getattr(outcome, name) for outcome in self.outcomes))

    def interval(self, name: str) -> Interval:
        """Return the interval of updates, bytes_up or bytes_down; undefined if any missed the target."""
        return (
            Interval() if self.missed else geometric_interval([getattr(each, name) for each in self.outcomes])
        )

    @property
    def wasted(self) -> Interval:
        """Fraction of the replies that were not used."""
        share = student_interval([outcome.wasted for outcome in self.outcomes])
        return Interval(share.mean, max(share.low, 0.0), min(share.high, 1.0)) if share.known else share

    @property
    def oracle(self) -> float:
        """Time to the target over the oracle's."""
        return oracle_multiple(self.outcomes)


def oracle_multiple(outcomes: Sequence[Outcome]) -> float:
    """Return the median ratio of lengths to the oracle's time for the same work; nan unless all are known.

    A length ends at the measurement that found the target reached, as does the oracle's work.
    """
    multiples = [each.ended_s / each.oracle_s if each.reached and each.oracle_s else 0.0 for each in outcomes]
    return statistics.median(multiples) if multiples and min(multiples) > 0 else math.nan


def rank(finalists: Sequence[Candidate], outcomes: Sequence[list[Outcome]]) -> list[Row[Candidate]]:
    """Sort the finalists, including the user's own configuration, best first."""
    own = next(result for candidate, result in zip(finalists, outcomes, strict=True) if candidate.own)
    rows = [Row(each, result, compare(result, own)) for each, result in zip(finalists, outcomes, strict=True)]
    return sorted(rows, key=lambda row: row.key)


def tied(rows: Sequence[Row[Any]]) -> list[int]:
    """List the places, from 2, of rows that are not significantly slower than the first.

    A row is significantly slower if the interval of its time over the first's exceeds 1 by more than the
    resolution of the times.
    """
    compared = [compare(row.outcomes, rows[0].outcomes) for row in rows[1:]]
    return [
        place
        for place, speedup in enumerate(compared, 2)
        if speedup.bound == "<" or not speedup.ratio.low > 1 + 1 / POINTS
    ]
