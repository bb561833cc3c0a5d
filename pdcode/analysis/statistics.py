"""Statistics of a run: staleness, loss and bytes; `timing` has statistics of times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..trace.schema import DRAINED

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Staleness:
    """Distribution of the staleness of arrivals, in versions; all 0 without arrivals."""

    count: int
    median: int  # least observed value that at least 50 % of the arrivals do not exceed
    tail: int  # the same for 90 %
    most: int

    @classmethod
    def of(cls, values: np.ndarray) -> Staleness:
        """Summarise an array of staleness."""
        if not len(values):
            return cls(0, 0, 0, 0)
        median, tail = np.quantile(values, [0.5, 0.9], method="inverted_cdf")
        return cls(len(values), int(median), int(tail), int(values.max()))


@dataclass(frozen=True)
class Traffic:
    """Messages and bytes of a run."""

    arrivals: int  # number of payloads that reached rank 0
    up: int  # bytes of their messages
    down: int  # bytes of the tasks that they answer
    full_up: int  # bytes of the same number of full gradients
    setup_up: int  # bytes sent before the first task
    setup_down: int
    exact: bool  # whether all arrivals were counted; otherwise estimated from a sample


def in_time(arrivals: Columns) -> np.ndarray:
    """Return a mask of the arrivals before the stop, used or not."""
    return arrivals["status"] != DRAINED


def messages(arrivals: Columns) -> int:
    """Return the number of messages with which a worker's gradient comes: of all rounds and parts."""
    return max(1, len(np.unique((arrivals["round"], arrivals["part"]), axis=1).T))


def histogram(values: np.ndarray, bins: int = 10) -> list[tuple[int, int, int]]:
    """Return a histogram of integers ≥ 0, with bins (first, last, count).

    There is one bin per value or, if these are more than `bins`, doubling bins 0, 1, 2-3, 4-7, …;
    the lowest bins are merged if necessary.
    """
    most = int(values.max()) if len(values) else 0
    if most < bins:
        edges = np.arange(most + 2)
    else:
        powers = range(max(0, most.bit_length() + 1 - bins), most.bit_length() + 1)
        edges = np.array([0] + [1 << power for power in powers])
    counts = np.histogram(values, edges - 0.5)[0]
    return [(int(a), int(b) - 1, int(c)) for (a, b), c in zip(pairwise(edges), counts, strict=True)]


def levels(loss: np.ndarray, most: int = 5) -> list[float]:
    """Return at most `most` round losses (1, 2, 5 times a power of ten) that a run reached, evenly spaced."""
    finite = loss[np.isfinite(loss) & (loss > 0)]
    if not len(finite) or finite.min() >= finite[0]:
        return []
    first, best = float(finite[0]), float(finite.min())
    tens = range(int(np.floor(np.log10(first))), int(np.floor(np.log10(best))) - 1, -1)
    candidates = [float(f"{digit}e{ten}") for ten in tens for digit in (5, 2, 1)]
    passed = [level for level in candidates if best <= level < first]
    chosen = np.linspace(0, len(passed) - 1, min(most, len(passed))).round().astype(int)
    return [passed[place] for place in chosen]


def milestones(progress: Columns, target: float | None = None) -> list[tuple[float, tuple[float, float]]]:
    """Return losses with the times between which the run first reached each, in ns.

    If one measurement was the first to reach several, only the target or else the lowest is listed.
    """
    loss = progress["loss"]
    wanted = sorted({*levels(loss), *([] if target is None else [target])}, reverse=True)
    found: dict[tuple[float, float], float] = {}  # times -> level
    for level in wanted:
        times = reached_ns(progress, loss, level)
        if math.isfinite(times[1]) and (times not in found or found[times] != target):
            found[times] = level
    return [(level, times) for times, level in found.items()]


def reached_ns(progress: Columns, values: np.ndarray, level: float) -> tuple[float, float]:
    """Return the times, in ns, between which measured values first fell to a level; infinite: they did not.

    They are equal if the version before was measured, too.
    """
    found = np.flatnonzero(values <= level)
    if not len(found):
        return math.inf, math.inf
    at, times, versions = int(found[0]), progress["t_ns"], progress["version"]
    known = not at or versions[at] <= versions[at - 1] + 1
    return float(times[at if known else at - 1]), float(times[at])


def crossing(
    times: Sequence[float] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    level: float,
    versions: np.ndarray | None = None,
) -> float:
    """Return when a curve first fell to a level, interpolated between measurements; infinity if it did not.

    Interpolation is linear in the logarithm if the level and both values are positive. Between successive
    `versions` there is nothing to interpolate: the later version has the level.
    """
    reached = np.flatnonzero(np.asarray(values) <= level)
    if not len(reached):
        return math.inf
    at = int(reached[0])
    if not at or (versions is not None and versions[at] <= versions[at - 1] + 1):
        return float(times[at])
    above, below, bound = float(values[at - 1]), float(values[at]), level
    if min(bound, above, below) > 0:
        above, below, bound = math.log(above), math.log(below), math.log(bound)
    fraction = (above - bound) / (above - below) if above > below else 1.0
    return float(times[at - 1] + min(1.0, max(0.0, fraction)) * (times[at] - times[at - 1]))


def traffic(arrivals: Columns, attributes: Mapping[str, Any], counters: Mapping[str, Any]) -> Traffic:
    """Sum the bytes of a run, from its arrivals or, if not all were recorded, from its counters."""
    setup = {way: int(attributes.get(f"setup_bytes_{way}", 0)) for way in ("up", "down")}
    whole = attributes.get("arrivals", "all") == "all"
    counted = not whole and all(key in counters for key in ("arrivals", "bytes_up", "bytes_down"))
    if counted:
        count = int(counters["arrivals"])
        sent = {way: int(counters[f"bytes_{way}"]) - setup[way] for way in setup}
    else:
        sample = int(attributes.get("sample", 1))
        count = sample * len(arrivals["worker"])
        sent = {way: sample * int(arrivals[f"bytes_{way}"].sum()) for way in setup}
    message = int(attributes.get("gradient_bytes", 0)) + int(attributes.get("header_bytes", 0))
    exact = whole or counted
    return Traffic(count, sent["up"], sent["down"], count * message, setup["up"], setup["down"], exact)
