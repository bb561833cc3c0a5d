"""The finalists, ranked, with what their descents tell and how surely."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from .space import Candidate
from .trials import POINTS, Outcome

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean, geometric but for shares, with its confidence interval; nan bounds where there is none."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


def interval(values: Sequence[float]) -> Interval:
    """Geometric mean of positive numbers and its 95 % interval, by Student's t of their logarithms.

    One number has no interval; without any, or with an infinite one, there is no mean.
    """
    if not values or not all(0 < value < math.inf for value in values):
        return Interval(math.nan, math.nan, math.nan)
    logs = student(np.log(values))
    return Interval(math.exp(logs.mean), math.exp(logs.low), math.exp(logs.high))


def share_interval(values: Sequence[float]) -> Interval:
    """Mean of shares and its 95 % interval, by Student's t and within 0 … 1; one share has no interval."""
    found = student(np.array(values))
    return Interval(found.mean, *(min(max(bound, 0.0), 1.0) if found.known else bound for bound in
                                  (found.low, found.high)))  # fmt: skip


def student(values: np.ndarray) -> Interval:
    """Arithmetic mean and its 95 % interval, by Student's t."""
    centre, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(centre, math.nan, math.nan)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / math.sqrt(count))
    return Interval(centre, centre - half, centre + half)


@dataclass(frozen=True)
class Ratio:
    """Times of one over those of another, seed by seed.

    Attributes
    ----------
    interval : Interval
        Of the ratio; nan where neither reached the goal.
    sign : {"", "<", ">"}
        Whether the ratio is less, as the other did not always reach the goal, or more, as this one did not.
    """

    interval: Interval
    sign: str = ""


def paired(these: Sequence[Outcome], those: Sequence[Outcome]) -> Ratio:
    """The ratio of their times; a descent that did not reach the goal counts with its length."""
    here, there = (all(outcome.reached for outcome in some) for some in (these, those))
    if not (here or there):
        return Ratio(interval([]))
    found = interval([spent(a) / spent(b) for a, b in zip(these, those, strict=True)])
    return Ratio(found, "" if here and there else "<" if here else ">")


def spent(outcome: Outcome) -> float:
    """Time to the goal, or until the descent was broken off."""
    return outcome.seconds if outcome.reached else outcome.ended_s


@dataclass(frozen=True)
class Line:
    """A finalist.

    Attributes
    ----------
    candidate : Candidate
    outcomes : list of Outcome
        One a seed, the same seeds for all.
    time : Interval
        Time to the goal; of descents that did not reach it their length, and then there are no bounds.
    ratio : Ratio
        To the times of the user's own configuration.
    """

    candidate: Candidate
    outcomes: list[Outcome]
    time: Interval
    ratio: Ratio

    @property
    def missed(self) -> int:
        """Descents that did not reach the goal."""
        return sum(not outcome.reached for outcome in self.outcomes)

    @property
    def key(self) -> tuple[int, float, float]:
        """The less, the better: descents that missed the goal, time, and what there was at the end."""
        times = [each.seconds if each.reached else max(each.estimate, each.ended_s) for each in self.outcomes]
        mean, value = interval(times).mean, self.median("value")
        return self.missed, mean if mean > 0 else math.inf, value if math.isfinite(value) else math.inf

    def median(self, name: str) -> float:
        """Median over the seeds of an attribute of the outcomes."""
        return float(statistics.median(getattr(outcome, name) for outcome in self.outcomes))

    def between(self, name: str) -> Interval:
        """95 % interval over the seeds of updates, bytes_up or bytes_down.

        There is none if a descent did not reach the goal: what it took until it was broken off is not what it
        takes.
        """
        if self.missed:
            return interval([])
        return interval([getattr(outcome, name) for outcome in self.outcomes])

    @property
    def wasted(self) -> Interval:
        """Share of the replies that were not used."""
        return share_interval([outcome.wasted for outcome in self.outcomes])

    @property
    def genie(self) -> float:
        """Time to the goal as a multiple of the genie's."""
        return genie_multiple(self.outcomes)


def genie_multiple(outcomes: Sequence[Outcome]) -> float:
    """Time to the goal as a multiple of the genie's, median; nan if not all descents have one."""
    multiples = [outcome.seconds / outcome.genie_s for outcome in outcomes if outcome.genie_s > 0]
    whole = len(multiples) == len(outcomes) and all(map(math.isfinite, multiples))
    return statistics.median(multiples) if whole and min(multiples, default=0) > 0 else math.nan


def rank(finalists: Sequence[Candidate], outcomes: Sequence[list[Outcome]]) -> list[Line]:
    """Lines of the table, the best first; the user's own configuration is among them."""
    own = next(result for candidate, result in zip(finalists, outcomes, strict=True) if candidate.own)
    lines = []
    for candidate, result in zip(finalists, outcomes, strict=True):
        time = interval([spent(outcome) for outcome in result])
        if not all(outcome.reached for outcome in result):
            time = Interval(time.mean, math.nan, math.nan)
        lines.append(Line(candidate, result, time, paired(result, own)))
    return sorted(lines, key=lambda line: line.key)


def alike(lines: Sequence[Line]) -> list[int]:
    """Places (from 1) of the lines that these seeds do not tell from the first.

    Those are told from it of which the 95 % interval of the ratio to it, seed by seed, is above 1, by more
    than times are measured to, even if a descent that did not reach the goal counts with its length.
    """
    found = []
    for place, line in enumerate(lines[1:], 2):
        ratio = paired(line.outcomes, lines[0].outcomes)
        sure = ratio.sign in ("", ">") and ratio.interval.low > 1 + 1 / POINTS
        if not sure:
            found.append(place)
    return found
