"""Networks and linear models with real targets: the presets, and plain and Adam's descent at tuned rates.

Preset "auto" is tried with targets as they are and with scaled ones; the former is what it does for linear
models, by `small-regression`, the latter for networks, by `whitened-regression` and not `deep-regression`.
Each job is a data set, a model, workers, a link and delays, on the virtual clock. Rivals have the first ¾ of
the workers' gradients, scaled inputs and targets, and averages of θ, as the preset has, and the best of their
rates in each job. A target is .02 of Friedman 1 and .236 of the diabetes network (losses of targets of
variance 1), as when the rule of `optimizer.plateau` was made; else 1.05 of the least loss that Adam's best
rate has after 0.4 of the time that all have. Times are geometric means over the seeds, in ms; "never (1/2)"
if one of two runs gets there. The step's factor √(f/f₀) was chosen on the jobs marked "seen", by a seed of
their own.

Names on the command line choose jobs, and `--quick` shows that it runs.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets as made

import pdcode
from pdcode.studies.cells import LINKS

Rows = tuple[np.ndarray, np.ndarray]
SEEDS, MEASUREMENTS, PART, ABOVE = (9601, 9602), 200, 0.4, 1.05
EXPONENTIAL = {"kind": "shifted-exponential", "mean_s": 2e-3}
NONE = {"kind": "none"}


class Job(NamedTuple):
    """A job: its rows, model, conditions, and the time in s that runs have."""

    make: Callable[[], Rows]
    hidden: list[int]  # without any, it is linear
    workers: int
    link: str
    delays: str  # "none", "exponential" or "slow": the last worker ten times slower
    seconds: float
    loss: float | None = None  # target, of targets of variance 1
    seen: bool = True


def mlxtend(name: str) -> Rows:
    """Load a table of the package mlxtend: columns of numbers."""
    import mlxtend.data

    x, y = getattr(mlxtend.data, f"{name}_data")()
    return np.asarray(x[:, :7] if name == "autompg" else x, float), y


def unequal(rows: Rows) -> Rows:
    """Scale columns over three powers of ten, in random order."""
    powers = np.random.default_rng(2).permutation(np.linspace(-1.5, 1.5, rows[0].shape[1]))
    return rows[0] * 10**powers, rows[1]


def with_outliers() -> Rows:
    """Make rows, 2 % of them 30 times as long and with the targets of others."""
    x, y = made.make_regression(600, 15, noise=5, random_state=6)
    chosen = np.random.default_rng(0).choice(600, 12, replace=False)
    x[chosen] *= 30
    y[chosen] = y[np.roll(chosen, 1)]
    return x, y


def teacher() -> Rows:
    """Make the outputs of a network of 20 units of tanh, with noise."""
    random = np.random.default_rng(5)
    x = random.standard_normal((3000, 30))
    y = np.tanh(x @ random.standard_normal((30, 20)) / 5) @ random.standard_normal(20)
    return x, y + 0.05 * random.standard_normal(3000)


def diabetes() -> Rows:
    """Load the diabetes data as they were measured."""
    x, y = made.load_diabetes(return_X_y=True, scaled=False)
    return x, y


def low_rank() -> Rows:
    """Make inputs of an effective rank of 8."""
    x, y = made.make_regression(1500, 50, effective_rank=8, tail_strength=0.2, noise=0.5, random_state=47)
    return x, y


JOBS: dict[str, Job] = {
    "friedman1": Job(
        lambda: made.make_friedman1(2000, 20, noise=0.5, random_state=0),
        [64, 32], 16, "1G", "exponential", 1.0, 0.02,
    ),
    "diabetes": Job(diabetes, [64], 8, "1G", "slow", 0.2, 0.236),
    "friedman2": Job(
        lambda: made.make_friedman2(1500, noise=20.0, random_state=0), [64], 8, "1G", "exponential", 0.6
    ),
    "friedman3": Job(
        lambda: made.make_friedman3(1500, noise=0.05, random_state=0), [64], 16, "100M", "none", 0.5
    ),
    "unequal columns": Job(
        lambda: unequal(made.make_regression(1500, 25, noise=60, random_state=33)), [32], 8, "1G", "slow", 0.3
    ),
    "sparse uncorrelated": Job(
        lambda: made.make_sparse_uncorrelated(2000, 30, random_state=18), [64], 16, "1G", "none", 0.3
    ),
    "linnerud": Job(lambda: made.load_linnerud(return_X_y=True), [64], 4, "1G", "none", 0.1),
    "boston_housing": Job(lambda: mlxtend("boston_housing"), [64], 8, "1G", "exponential", 0.5),
    "autompg": Job(lambda: mlxtend("autompg"), [64, 32], 4, "1G", "slow", 0.3),
    "5 targets": Job(
        lambda: made.make_regression(1200, 40, n_targets=5, noise=20, random_state=46),
        [64], 12, "10M", "none", 1.0,
    ),
    "swiss roll": Job(
        lambda: made.make_swiss_roll(1500, noise=0.5, random_state=0), [64], 16, "1G", "slow", 0.4
    ),
    "low rank": Job(low_rank, [100], 16, "1G", "exponential", 0.6),
    "outliers": Job(with_outliers, [64], 8, "1G", "none", 0.3, seen=False),
    "teacher": Job(teacher, [128, 64], 16, "1G", "slow", 1.0, seen=False),
    "digits as numbers": Job(
        lambda: (made.load_digits().data, made.load_digits().target.astype(float)),
        [64], 16, "100M", "exponential", 1.0, seen=False,
    ),
    "diabetes, linear": Job(diabetes, [], 8, "1G", "none", 0.1, 0.27),
    "autompg, linear": Job(lambda: mlxtend("autompg"), [], 4, "1G", "slow", 0.1),
    "low rank, linear": Job(low_rank, [], 16, "1G", "exponential", 0.3),
    "boston_housing, linear": Job(lambda: mlxtend("boston_housing"), [], 8, "1G", "exponential", 0.3),
    "unequal columns, linear": Job(
        lambda: unequal(made.make_regression(1500, 25, noise=60, random_state=33)), [], 8, "1G", "none", 0.2
    ),
}  # fmt: skip

SCALED = {"problem.standardise": "guarded", "problem.standardise_targets": True, "optimizer.average": True}
FIRST = {**SCALED, "scheme.name": "uncoded", "scheme.preset": "first"}
NESTEROV = {**FIRST, "wire.dtype": "float16", "optimizer.momentum": 0.9, "optimizer.nesterov": True}
ENTRANTS: dict[str, tuple[Mapping[str, Any], tuple[float, ...]]] = {
    "auto": ({"problem.standardise_targets": False}, ()),
    "auto, scaled": ({"problem.standardise_targets": True}, ()),
    "whitened-regression": (
        {"scheme.preset": "whitened-regression"},
        (0.5, 0.7, 1.0, 1.4, 2.0),
    ),
    "Adam, first": ({**FIRST, "optimizer.kind": "adam"}, (0.01, 0.02, 0.04, 0.08)),
    "Nesterov, first": (NESTEROV, (0.0125, 0.025, 0.05, 0.1)),
}
"""Name -> keys, and learning rates; none: the preset's rate."""


def curve(job: Job, rows: Rows, keys: Mapping[str, Any], seed: int) -> np.ndarray:
    """Return times in s and losses of targets of variance 1, shape (measurements, 2)."""
    delays = {"none": NONE, "exponential": EXPONENTIAL}.get(job.delays)
    slow = {"kind": "slow-set", "slow": [job.workers - 1], "slowdown": 10.0}
    problem: dict[str, Any] = {"kind": "least-squares", "test_fraction": 0.0}
    if job.hidden:
        problem |= {"kind": "mlp", "hidden": job.hidden, "task": "regression"}
    config = {
        "seed": seed,
        "problem": problem,
        "link": {"bandwidth": LINKS[job.link], "broadcast": "tree"},
        "machine": {"flops_per_s": 2e9},
        "stragglers": delays or slow,
        "stop": {"seconds": job.seconds},
        "trace": {"progress_s": job.seconds / MEASUREMENTS},
    }
    variance = np.square(rows[1] - rows[1].mean(axis=0)).mean(axis=0).sum()
    with tempfile.TemporaryDirectory() as folder:
        how = {"output": Path(folder) / "run.h5", "progress": False, "set": dict(keys)}
        try:
            trace = pdcode.simulate(config, data=rows, workers=job.workers, **how)
        except pdcode.Failure as error:
            if (trace := error.trace) is None:
                raise
        return np.column_stack([1e-9 * trace.progress["t_ns"], trace.progress["loss"] / variance])


def reached_s(found: np.ndarray, loss: float) -> float:
    """Return when a curve first has this loss; infinite: never."""
    there = np.flatnonzero(found[:, 1] <= loss)
    return float(found[there[0], 0]) if len(there) else math.inf


def shown(curves: list[np.ndarray], loss: float) -> tuple[float, str]:
    """Return the geometric mean of the times, and it as text."""
    times = [reached_s(each, loss) for each in curves]
    mean = math.exp(np.mean(np.log(times)))
    count = sum(map(math.isfinite, times))
    return mean, f"{1e3 * mean:.3g}" if math.isfinite(mean) else f"never ({count}/{len(times)})"


def lines(name: str, seeds: tuple[int, ...], quick: bool) -> Iterator[str]:
    """Yield the cells of a job's line: of each entrant all rates, the best marked."""
    job = JOBS[name]
    if quick:
        job = job._replace(seconds=0.01)
    rows = job.make()
    found = {
        entrant: {
            rate: [
                curve(job, rows, {**keys, **({"optimizer.rate": rate} if rate else {})}, seed)
                for seed in seeds
            ]
            for rate in (rates[:1] if quick else rates) or (0.0,)
        }
        for entrant, (keys, rates) in ENTRANTS.items()
    }
    loss = job.loss
    if loss is None:
        early = [
            each[each[:, 0] <= PART * job.seconds, 1].min()
            for curves in found["Adam, first"].values()
            for each in curves
        ]
        loss = ABOVE * min(early)
    yield from (name, "yes" * job.seen, f"{loss:.3g}")
    for of_rates in found.values():
        times = {rate: shown(curves, loss) for rate, curves in of_rates.items()}
        best = min(times, key=lambda rate: times[rate][0])
        yield ", ".join(
            f"{'**' * (rate == best and rate > 0)}{text}{'**' * (rate == best and rate > 0)}"
            for rate, (_, text) in times.items()
        )


def main(names: list[str], quick: bool) -> None:
    """Print the table."""
    chosen, seeds = names or [*JOBS], SEEDS[:1] if quick else SEEDS
    heads = [
        f"{name}{': ' * bool(rates)}{', '.join(f'{rate:g}' for rate in rates)}"
        for name, (_, rates) in ENTRANTS.items()
    ]
    print("| data | seen | loss |", " | ".join(heads), "|")
    print("|---|---|---|" + "---|" * len(heads))
    for name in chosen[:1] if quick else chosen:
        print("|", " | ".join(lines(name, seeds, quick)), "|", flush=True)


if __name__ == "__main__":
    main([each for each in sys.argv[1:] if not each.startswith("--")], "--quick" in sys.argv)
