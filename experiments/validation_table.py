"""The tables of `validate.py`: what was predicted and measured, worst first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pdcode.analysis import printing
from pdcode.util.formats import DASH, duration, number, percent, span

from .validation import GRID, HALF, PARTS, SEEDS, Key, Predictions, Times, Validation


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the bounds within which a further value lies with a probability of 80 %.

    They are order statistics: of m values, the values of ranks 0.1 (m + 1) and 0.9 (m + 1).
    """
    ordered, rank = sorted(values), max(1, round((len(values) + 1) / 10))
    return ordered[rank - 1], ordered[-rank]


def covered(bounds: tuple[float, float], values: Sequence[float]) -> int:
    """Return how many of the values are within the bounds."""
    return sum(bounds[0] <= each <= bounds[1] for each in values)


def error(predicted: float, measured: float) -> float:
    """Return predicted / measured - 1; nan if both are infinite."""
    if math.isinf(measured):
        return math.nan if math.isinf(predicted) else -1.0
    return predicted / measured - 1


def magnitude(value: float) -> float:
    """Return |log(predicted / measured)| of an error, by which errors are ranked; -1 for nan."""
    return -1.0 if math.isnan(value) else abs(math.log1p(value)) if value > -1 else math.inf


@dataclass(frozen=True)
class Judged:
    """A cell with an MPI, predicted and measured."""

    key: Key
    predicted: Times
    measured: Times

    @property
    def errors(self) -> tuple[float, float]:
        """Errors of the median time between updates, and of the time to the target (of calibrations: nan)."""
        one, other = self.predicted, self.measured
        target = math.nan if self.key[1].startswith(HALF) else error(one.mean_target_s, other.mean_target_s)
        return error(one.step_s, other.step_s), target

    @property
    def magnitude(self) -> float:
        """That of the larger error."""
        return max(map(magnitude, self.errors))

    @property
    def steps_within(self) -> float:
        """Fraction of the measured times between updates in the 80 % interval of the predicted ones."""
        low, high = (self.predicted.steps_s[place] for place in (len(GRID) // 10, -1 - len(GRID) // 10))
        return covered((low, high), self.measured.steps_s) / len(GRID)

    @property
    def runs_within(self) -> int:
        """Number of runs whose time to the target is in the 80 % interval."""
        return covered(interval(self.predicted.target_s), self.measured.target_s)

    @property
    def distance(self) -> float:
        """Kolmogorov-Smirnov distance of predicted and measured times between updates."""
        from scipy.stats import ks_2samp

        return float(ks_2samp(self.predicted.steps_s, self.measured.steps_s).statistic)

    def part_error(self, name: str) -> float:
        """Return the error of a part, as a fraction of the measured mean time of an update."""
        one, other = self.predicted.parts_s, self.measured.parts_s
        return (one[name] - other[name]) / sum(other.values())

    def row(self) -> list[str]:
        """Return the row of the table."""
        one, other, (step, target) = self.predicted, self.measured, self.errors
        texts = [*self.key, _time(one.step_s), _time(other.step_s), _signed(step)]
        texts += [f"{100 * self.steps_within:.0f} %", number(self.distance, 2)]
        if self.key[1].startswith(HALF):
            return [*texts, *4 * [DASH]]
        bounds = span(*map(_time, interval(one.target_s)))
        texts += [f"{_time(one.mean_target_s)} ({bounds})", _time(other.mean_target_s), _signed(target)]
        return [*texts, f"{self.runs_within} of {len(other.target_s)}"]


def judge(made: Predictions, found: Mapping[Key, Sequence[Times]]) -> list[Judged]:
    """Pair what was predicted and measured, the second halves of the calibrations too, worst first."""
    pairs = [(key, Times.pooled(runs)) for key, runs in found.items()]
    for label, library in made.libraries.items():
        pairs += [((label, name), times) for name, times in library.judged.items()]
    judged = [Judged(key, made.times[key[0]][key[1]], times) for key, times in pairs]
    return sorted(judged, key=lambda each: each.magnitude, reverse=True)


def order(cells: Sequence[Judged]) -> tuple[float, str, str]:
    """Return Kendall's τ-b of the predicted and the measured order of entrants, and both as text."""
    from scipy.stats import kendalltau

    names = [each.key[1].rpartition("-")[2] for each in cells]
    sides = (
        [one.predicted.mean_target_s for one in cells],
        [one.measured.mean_target_s for one in cells],
    )
    texts = [" < ".join(name for _, name in sorted(zip(side, names, strict=True))) for side in sides]
    return float(kendalltau(*sides).statistic), texts[0], texts[1]


def show(bench: Validation, made: Predictions, found: Mapping[Key, Sequence[Times]]) -> float:
    """Print what was predicted and measured, worst first; return the `magnitude` of the largest error."""
    judged, level = judge(made, found), str(bench.goal).removeprefix("training ")
    cells = [each for each in judged if not each.key[1].startswith(HALF)]
    table = printing.make_table(
        "MPI", "cell", "update: predicted", "measured", "error", "within", "KS",
        f"{level}: predicted", "measured", "error", "within", left=("MPI", "cell"), fold=False,
    )  # fmt: skip
    for each in judged:
        table.add_row(*each.row())
    parts = printing.make_table(
        "part", "median error", "largest", "predicted", "measured", "MPI", "cell",
        left=("part", "MPI", "cell"), fold=False,
    )  # fmt: skip
    worst = {name: max(judged, key=lambda each: abs(each.part_error(name))) for name in PARTS}
    for name, each in sorted(worst.items(), key=lambda item: -abs(item[1].part_error(item[0]))):
        median = float(np.median([abs(other.part_error(name)) for other in judged]))
        times = (_time(side.parts_s[name]) for side in (each.predicted, each.measured))
        parts.add_row(name, f"{percent(median, 1)} %", _signed(each.part_error(name)), *times, *each.key)
    orders = printing.make_table(
        "MPI", "cells", "τ", "predicted order", "measured order",
        left=("MPI", "cells", "predicted order", "measured order"), fold=False,
    )  # fmt: skip
    groups: dict[Key, list[Judged]] = {}
    for each in cells:
        groups.setdefault((each.key[0], each.key[1].rpartition("-")[0]), []).append(each)
    ranked = sorted((*order(mine), key) for key, mine in groups.items() if len(mine) > 1)
    for tau, one, other, key in ranked:
        orders.add_row(*key, number(tau, 2), one, other)
    printing.show(
        [
            ("Predicted and measured, worst first", [table]),
            ("Parts of an update, worst first", [parts]),
            *[("Order of entrants by time to the target, worst first", [orders])] * bool(ranked),
            ("", [printing.note(LEGEND)]),
        ]
    )
    for place, what in enumerate(("time of an update", f"time to {level}")):
        known = [each for each in judged if not math.isnan(each.errors[place])]
        if known:
            middle = percent(float(np.median([abs(each.errors[place]) for each in known])), 1)
            most = max(known, key=lambda each: magnitude(each.errors[place]))
            where = f"{_signed(most.errors[place])} ({', '.join(most.key)})"
            print(f"{what}: error {middle} % in the median, at most {where}")
    steps = 100 * float(np.mean([each.steps_within for each in judged]))
    runs = sum(len(each.measured.target_s) for each in cells)
    within = f"{sum(each.runs_within for each in cells)} of {runs} times to {level}"
    print(f"80 % intervals: {steps:.0f} % of the times of an update, {within}")
    far = [each.distance for each in judged]
    print(f"Kolmogorov-Smirnov distance: {np.median(far):.2g} in the median, at most {max(far):.2g}")
    if ranked:
        print(f"Kendall's τ: {np.mean([each[0] for each in ranked]):.2g} in the mean of {len(ranked)} orders")
    busy = max(each.measured.load for each in judged)
    print(f"{made.machine}; load when a run started: at most {busy:.1f}")
    print(f"predictions: {bench.path}, SHA-256 {bench.digest}")
    return judged[0].magnitude


LEGEND = (
    "error: predicted over measured, less 1; of a part, the difference as a fraction of the measured mean "
    "time of an update. update: median time between updates. within: what was measured in the predicted "
    "80 % interval. KS: Kolmogorov-Smirnov distance. Times to the target are geometric means, with the "
    f"interval of a single run. A prediction has {SEEDS} other seeds than the runs, and so other delays. "
    f"{HALF}: the half of a run that did not calibrate, with and without delays. Parts are the means over "
    "the workers: computing, injected delay, the link both ways, rank 0's work on its payload, and "
    "waiting for rank 0 and others."
)


def _time(seconds: float) -> str:
    return duration(1e9 * seconds)


def _signed(value: float) -> str:
    return DASH if math.isnan(value) else f"{100 * value:+.1f} %" if -1 < value < math.inf else "never"
