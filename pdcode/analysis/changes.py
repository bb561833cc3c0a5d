"""Change points of a series: circular binary segmentation, with a robust estimate of correlated noise.

Olshen, Venkatraman, Lucito and Wigler, "Circular binary segmentation for the analysis of array-based DNA copy
number data", Biostatistics 2004: of all parts of the series, that whose mean differs most from the rest is
split off, and so on. This project's: the noise, and normal probabilities with a factor of the number of
parts, where the authors permute the values.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

LEAST = 4  # values of a segment, at least
BATCHES = 16  # batches, at least, from which the noise of means is estimated
CLIP = 5.0  # values are clipped to this many deviations from the median: single ones make no segment
LEAST_NOISE = 0.005


@dataclass(frozen=True)
class Segment:
    """A part of a series without a change of its level."""

    first: int
    end: int  # one after its last value
    level: float  # median
    mean: float  # without outliers
    error: float  # standard error of the mean
    chance: float  # probability that noise alone makes such a change at its beginning; 1 of the first


def noise(values: np.ndarray) -> float:
    """Estimate √m times the standard deviation of the mean of m values, for large m.

    It is the largest estimate by differences of means of consecutive values, of 1, 2, 4, … values, so that
    correlated values are taken into account; a few changes of the level alter it little.
    """
    most, length = LEAST_NOISE, 1
    sums = np.concatenate(([0.0], np.cumsum(values)))
    while len(values) > 1 and (length == 1 or len(values) // length >= BATCHES):
        means = (sums[length:] - sums[:-length]) / length
        jumps = np.abs(means[length:] - means[:-length])
        reach = CLIP * 1.4826 * float(np.median(jumps))
        spread = math.sqrt(float(np.mean(np.minimum(jumps, reach) ** 2)) / 2)
        most = max(most, spread * math.sqrt(length))
        length *= 2
    return most


def segments(values: np.ndarray, chance: float, sigma: float | None = None) -> list[Segment]:
    """Divide a series where its level changes.

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
    chance : float
        Largest probability of a change by noise alone, for each change that is accepted.
    sigma : float, optional
        The noise, by default `noise` of the values.

    Returns
    -------
    list of Segment
        One if there is no change; none for an empty series.
    """
    if not len(values):
        return []
    sigma, middle = sigma or noise(values), float(np.median(values))
    reach = CLIP * max(sigma, 1.4826 * float(np.median(np.abs(values - middle))))
    sums = np.concatenate(([0.0], np.cumsum(np.clip(values, middle - reach, middle + reach))))
    found = sorted(_splits(sums, 0, len(values), sigma, chance))
    ends = [place for place, _ in found] + [len(values)]
    begins = [(0, 1.0), *found]
    return [
        Segment(
            first, end, float(np.median(values[first:end])), float(sums[end] - sums[first]) / (end - first),
            sigma / math.sqrt(end - first), by_chance,
        )
        for (first, by_chance), end in zip(begins, ends, strict=True)
    ]  # fmt: skip


def _splits(sums: np.ndarray, first: int, end: int, sigma: float, chance: float) -> list[tuple[int, float]]:
    """Return the places of changes between `first` and `end`, with their probabilities under noise alone."""
    whole = sums[first : end + 1] - sums[first]
    size = len(whole) - 1
    begin, until = np.triu_indices(size + 1, LEAST)
    inside = until - begin
    rest = [begin, size - until]  # before and behind the part
    possible = (inside < size) & np.all([(part == 0) | (part >= LEAST) for part in rest], axis=0)
    if not possible.any():
        return []
    begin, until, inside = begin[possible], until[possible], inside[possible]
    total = whole[until] - whole[begin]
    jump = total / inside - (whole[-1] - total) / (size - inside)
    scores = np.abs(jump) / (sigma * np.sqrt(1 / inside + 1 / (size - inside)))
    best = int(np.argmax(scores))
    by_chance = min(1.0, len(scores) * two_sided(float(scores[best])))
    if by_chance > chance:
        return []
    bounds = [first, first + int(begin[best]), first + int(until[best]), end]
    found = [(place, by_chance) for place in bounds[1:3] if first < place < end]
    for part in itertools.pairwise(bounds):
        found += _splits(sums, *part, sigma, chance) if part[1] - part[0] < size else []
    return found


def two_sided(score: float) -> float:
    """Return the probability that a standard normal variable exceeds this value in magnitude."""
    return math.erfc(score / math.sqrt(2))
