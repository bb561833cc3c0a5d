"""Change points of a series: circular binary segmentation, with a robust estimate of correlated noise.

Olshen, Venkatraman, Lucito and Wigler, "Circular binary segmentation for the analysis of array-based DNA copy
number data", Biostatistics 2004: of all parts of the series, that whose mean differs most from the rest is
split off, and so on. This project's: the noise, and normal probabilities with a factor of the number of
parts, where the authors permute the values.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

LEAST = 4  # values of a segment, at least
BATCHES = 16  # batches, at least, from which the noise of means is estimated
CLIP = 5.0  # values are clipped to this many deviations from the median: single ones make no segment
LEAST_NOISE = 0.005
LAGS = 8  # values of a series, at least, whose autocorrelations count
ROUNDS = 3  # of the correction of their bias
MOST_PHI = 0.96  # ratio of autocorrelations, at most
LEAST_LEFT = 0.35  # part of the variance that is left within a short series, at least
DOUBT = 1.0  # standard errors that are added to autocorrelations
STEP = 0.85  # part of a series' variance that one change of the level explains, at least, to be one
SURE = 4.0  # standard errors from which on an autocorrelation is one


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


def persistence(series: Sequence[np.ndarray]) -> float:
    """Estimate how much longer than independent values the values of several series must be averaged.

    It is the sum of their autocorrelations at all lags: 1 + 2 r₁ / (1 - φ) with φ = r₂ / r₁, as of a
    first-order autoregression that independent noise may be added to. r₁ and r₂ are medians over the series,
    so that a few changes of the level alter it little; that they are too small in short series, by as much
    as the mean varies, is corrected (Kendall, "Note on bias in the estimation of autocorrelation",
    Biometrika 1954), and they are increased by `DOUBT` standard errors.
    """
    lags = np.array([_autocorrelations(each) for each in series if len(each) > LAGS])
    if not len(lags):
        return 1.0
    found, total, sums = np.median(lags, axis=0), sum(map(len, series)), 1.0
    error = 1 / math.sqrt(total)
    for _ in range(ROUNDS):
        part = min(0.9, sums * len(series) / total)  # of the variance, by which the mean varies
        first, second = found * (1 - part) + part
        # Of independent values the ratio of both says nothing.
        weight = min(1.0, max(0.0, first / (SURE * error)) ** 2)
        ratio = weight * second / max(first, error) + (1 - weight) * first + DOUBT * error
        sums = 1 + 2 * max(0.0, first + DOUBT * error) / (1 - min(max(0.0, ratio), MOST_PHI))
    return float(sums)


def _autocorrelations(values: np.ndarray) -> list[float]:
    """Return the autocorrelations at lags 1 and 2, of values that are clipped to be robust."""
    centred = _centred(values)
    square = max(float(centred @ centred), len(values) * LEAST_NOISE**2)
    return [float(centred[lag:] @ centred[:-lag]) / square for lag in (1, 2)]


def _centred(values: np.ndarray) -> np.ndarray:
    """Return clipped values without their mean; on both sides of one change that explains nearly all of them.

    Correlated noise wanders, but hardly ever between two levels alone.
    """
    centred = values - np.median(values)
    reach = CLIP * 1.4826 * float(np.median(np.abs(centred)))
    centred = np.clip(centred, -reach, reach)
    centred -= centred.mean()
    before = np.arange(LEAST, len(centred) - LEAST + 1)
    between = np.cumsum(centred)[before - 1] ** 2 * len(centred) / (before * (len(centred) - before))
    if len(before) and between.max() >= STEP * (centred @ centred):
        change = int(before[np.argmax(between)])
        for part in (centred[:change], centred[change:]):
            part -= part.mean()
    return centred


def deviation(values: np.ndarray, sums: float) -> float:
    """Estimate √m times the standard deviation of the mean of m values whose `persistence` is `sums`."""
    centred = _centred(values)
    spread = 1.4826 * float(np.median(np.abs(centred - np.median(centred))))
    return spread * math.sqrt(sums / max(LEAST_LEFT, 1 - sums / len(values)))


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


def normal_scores(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the normal quantiles of the values' ranks among others.

    Values that are as the others have a standard normal distribution then, however heavy its tails.
    """
    ranked = np.sort(others)
    below, upto = (np.searchsorted(ranked, values, side) for side in ("left", "right"))
    return np.asarray(ndtri((below + upto + 1) / 2 / (len(ranked) + 1)))


def by_rank(scores: np.ndarray, first: int, end: int, sums: float) -> float:
    """Return the probability that a part of a usual series has so high or low a mean of `normal_scores`.

    It is of any part as long as this one; their number is taken as the square of the series' length over the
    part's; `sums` is the `persistence` of such series.
    """
    inside = end - first
    score = float(scores[first:end].mean()) / math.sqrt(min(1.0, sums / inside))
    return min(1.0, (len(scores) / inside) ** 2 * two_sided(max(0.0, score)))


def two_sided(score: float) -> float:
    """Return the probability that a standard normal variable exceeds this value in magnitude."""
    return math.erfc(score / math.sqrt(2))
