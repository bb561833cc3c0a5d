"""Defaults on data that nobody tuned: what scikit-learn ships, and 40 variants of what its generators make.

Each set is trained from a configuration that has the kind of problem and the data, nothing else but the
number of workers, the end, and that all rows are training rows: so by preset "auto". Workers 2, 8 and 16,
three seeds. A run has diverged if it fails or its last loss is above its first. Beside the least R² or
accuracy of the runs is the value of exact least squares, or of the most frequent class.

The sets marked "seen" were looked at while the rates of `automatic.rates` were chosen, others not; `--seen`
trains on them alone, with one seed; `--regression` on sets with real targets alone.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets as made
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

import pdcode
from pdcode import Failure
from pdcode.util.errors import InputError

Rows = tuple[Any, np.ndarray]
WORKERS, SEEDS = (2, 8, 16), (1, 2, 3)
UPDATES_LINEAR, UPDATES_NETWORK = 2000, 500


class Variant(NamedTuple):
    """A data set, whether it was looked at, and how it is made."""

    name: str
    seen: bool
    make: Callable[[], Rows]

    @property
    def kinds(self) -> tuple[str, str]:
        """Kinds of problem: linear, and a network."""
        y = self.make()[1]
        if y.dtype.kind == "f":
            return "least-squares", "mlp"
        return ("logistic" if len(np.unique(y)) == 2 else "softmax"), "mlp"


def scaled(rows: Rows, x: Any = 1.0, y: float = 1.0, offset: float = 0.0) -> Rows:
    """Multiply inputs, or each column, and targets; add an offset to the inputs."""
    return rows[0] * x + offset, rows[1] * y if y != 1 else rows[1]


def columns(width: int) -> np.ndarray:
    """Return scales from 1e-3 to 1e3."""
    return np.logspace(-3, 3, width)


def with_outliers(rows: Rows, factor: float, part: float = 0.02) -> Rows:
    """Multiply some rows of inputs, and shuffle their targets."""
    x, y = rows[0].copy(), rows[1].copy()
    chosen = np.random.default_rng(0).choice(len(x), max(1, int(part * len(x))), replace=False)
    x[chosen] *= factor
    y[chosen] = y[np.roll(chosen, 1)]
    return x, y


def of_inputs(x: Any, noise: float, seed: int) -> Rows:
    """Make targets of a random linear model of inputs."""
    random = np.random.default_rng(seed)
    y = x @ random.standard_normal(x.shape[1])
    return x, y + noise * y.std() * random.standard_normal(len(y))


def twice(rows: Rows) -> Rows:
    """Repeat each column."""
    return np.repeat(rows[0], 2, axis=1), rows[1]


def _sparse(seed: int) -> Rows:
    from scipy.sparse import random as sparse

    return of_inputs(sparse(1000, 200, 0.05, "csr", random_state=seed), 0.3, seed)


def shipped() -> Iterator[Variant]:
    """Yield the tables of scikit-learn that need no download."""
    for name in "diabetes", "linnerud", "iris", "wine", "breast_cancer", "digits":
        yield Variant(f"load_{name}", True, lambda name=name: _loaded(name))
    yield Variant(
        "load_diabetes(scaled=False)", True, lambda: made.load_diabetes(return_X_y=True, scaled=False)
    )


def _loaded(name: str) -> Rows:
    x, y = getattr(made, f"load_{name}")(return_X_y=True)
    return x, y


def generated() -> Iterator[Variant]:
    """Yield 40 variants of generated data."""
    regression, classes = made.make_regression, made.make_classification
    real: dict[str, Callable[[], Rows]] = {
        "+regression 100×10": lambda: regression(100, 10, noise=5, random_state=0),
        "+regression 1000×100": lambda: regression(1000, 100, noise=10, random_state=0),
        "+regression 200×400, more columns than rows": lambda: regression(200, 400, noise=5, random_state=2),
        "+regression, 5 targets": lambda: regression(800, 30, n_targets=5, noise=5, random_state=3),
        "+regression, effective rank 5": lambda: regression(
            500, 20, effective_rank=5, tail_strength=0.3, noise=1, random_state=1
        ),
        "+regression, columns 1e-3 … 1e3": lambda: scaled(
            regression(1000, 13, noise=9, random_state=4), columns(13)
        ),
        "+regression × 1e3": lambda: scaled(regression(1000, 20, noise=9, random_state=5), 1e3),
        "+regression, 2 % outliers × 30": lambda: with_outliers(
            regression(600, 15, noise=5, random_state=6), 30
        ),
        "+friedman1": lambda: made.make_friedman1(1000, noise=1.0, random_state=0),
        "+friedman2": lambda: made.make_friedman2(500, noise=50.0, random_state=0),
        "+swiss roll": lambda: made.make_swiss_roll(800, noise=0.5, random_state=0),
        "regression 20×5": lambda: regression(20, 5, noise=5, random_state=10),
        "regression 5000×50 × 1e-3, targets × 1e3": lambda: scaled(
            regression(5000, 50, noise=99, random_state=11), 1e-3, 1e3
        ),
        "regression, offset 100, 3 targets": lambda: scaled(
            regression(300, 8, n_targets=3, bias=50, noise=9, random_state=12), offset=100.0
        ),
        "regression, columns twice": lambda: twice(regression(400, 12, noise=9, random_state=13)),
        "low rank 500×60": lambda: of_inputs(
            made.make_low_rank_matrix(500, 60, effective_rank=6, random_state=14), 0.3, 14
        ),
        "low rank 100×100, columns 1e-3 … 1e3": lambda: scaled(
            of_inputs(made.make_low_rank_matrix(100, 100, effective_rank=20, random_state=15), 0.1, 15),
            columns(100),
        ),
        "t-distributed inputs": lambda: of_inputs(
            np.random.default_rng(16).standard_t(2, (1000, 20)), 0.5, 16
        ),
        "sparse CSR 1000×200": lambda: _sparse(17),
        "sparse uncorrelated": lambda: made.make_sparse_uncorrelated(2000, 30, random_state=18),
        "friedman3, targets × 1e-3": lambda: scaled(
            made.make_friedman3(300, noise=0.1, random_state=19), y=1e-3
        ),
        "s curve × 1e3": lambda: scaled(made.make_s_curve(150, noise=0.1, random_state=20), 1e3),
    }
    labels: dict[str, Callable[[], Rows]] = {
        "+classification 1000×20": lambda: classes(1000, random_state=0),
        "+classification × 1e3": lambda: scaled(classes(600, random_state=1), 1e3),
        "+classification, 3 % of one class": lambda: classes(2000, weights=[0.97], random_state=2),
        "+classification, 5 classes, columns 1e-3 … 1e3": lambda: scaled(
            classes(800, 25, n_informative=10, n_classes=5, random_state=3), columns(25)
        ),
        "+blobs": lambda: made.make_blobs(300, centers=4, random_state=0),
        "+moons": lambda: made.make_moons(100, noise=0.3, random_state=0),
        "+circles × 1e-3": lambda: scaled(
            made.make_circles(200, noise=0.2, factor=0.5, random_state=1), 1e-3
        ),
        "+hastie": lambda: _hastie(1000, 0),
        "+gaussian quantiles": lambda: made.make_gaussian_quantiles(n_samples=500, random_state=0),
        "classification 20×4": lambda: classes(20, 4, random_state=10),
        "classification 5000×40, 30 % noise, 12 redundant": lambda: classes(
            5000, 40, n_informative=8, n_redundant=12, flip_y=0.3, random_state=11
        ),
        "classification, 2 % outliers × 30": lambda: with_outliers(classes(500, random_state=12), 30),
        "classification, offset 100": lambda: scaled(classes(400, random_state=13), offset=100.0),
        "blobs × 1e3, 10 of deviation 3": lambda: scaled(
            made.make_blobs(1000, 5, centers=10, cluster_std=3, random_state=14), 1e3
        ),
        "blobs 60, imbalanced": lambda: made.make_blobs([50, 6, 4], 3, random_state=15),
        "moons × 1e3": lambda: scaled(made.make_moons(500, noise=0.2, random_state=16), 1e3),
        "hastie × 1e-3": lambda: scaled(_hastie(3000, 17), 1e-3),
        "gaussian quantiles, covariance 1e4": lambda: made.make_gaussian_quantiles(
            cov=1e4, n_samples=400, n_features=6, n_classes=4, random_state=18
        ),
    }
    for name, make in (real | labels).items():
        yield Variant(name.removeprefix("+"), name.startswith("+"), make)


def _hastie(rows: int, seed: int) -> Rows:
    x, y = made.make_hastie_10_2(rows, random_state=seed)
    return x, (y > 0).astype(int)


class Outcome(NamedTuple):
    """The end of a run."""

    loss: float  # over the first
    score: float  # R², or accuracy


def trained(rows: Rows, kind: str, workers: int, seed: int, updates: int) -> Outcome:
    """Train by preset "auto"."""
    problem: dict[str, Any] = {"kind": kind, "test_fraction": 0.0}
    if kind == "mlp":
        problem["task"] = "regression" if rows[1].dtype.kind == "f" else "classification"
    with tempfile.TemporaryDirectory() as folder:
        try:
            trace = pdcode.simulate(
                {"seed": seed, "problem": problem, "stop": {"updates": updates}},
                data=rows,
                workers=workers,
                output=Path(folder) / "run.h5",
                progress=False,
            )
        except (Failure, InputError) as error:
            print(f"{kind}, {workers} workers, seed {seed}: {error}")
            return Outcome(np.inf, -np.inf)
        losses, scores = trace.progress["loss"], trace.progress["accuracy"]
        return Outcome(float(losses[-1] / losses[0]), float(scores[-1]))


def constant_or_exact(rows: Rows, kind: str) -> float:
    """Return R² of least squares, or the accuracy of the most frequent class."""
    x, y = rows
    if y.dtype.kind == "f":
        x = x.toarray() if hasattr(x, "toarray") else x
        fitted = (
            LinearRegression()
            .fit(StandardScaler().fit_transform(x), y)
            .predict(StandardScaler().fit_transform(x))
        )
        return float(1 - np.square(y - fitted).sum() / np.square(y - y.mean(axis=0)).sum())
    return float(np.unique(y, return_counts=True)[1].max() / len(y))


def main(quick: bool, only_seen: bool, only_real: bool) -> None:
    """Print the table."""
    variants = [*shipped(), *generated()]
    workers, seeds, most = WORKERS, SEEDS, UPDATES_LINEAR
    if quick:
        variants, workers, seeds, most = variants[1:3], (2,), (1,), 20
    if only_seen:
        variants, seeds = [each for each in variants if each.seen], (1,)
    if only_real:
        variants = [each for each in variants if each.kinds[0] == "least-squares"]
    worse = runs = 0
    print(
        "| data | seen | rows × inputs | model | diverged | last loss / first | score | exact or constant |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for variant in variants:
        rows = variant.make()
        for kind in variant.kinds:
            updates = min(most, UPDATES_NETWORK if kind == "mlp" else most)
            ends = [trained(rows, kind, n, seed, updates) for n in workers for seed in seeds]
            above = sum(not end.loss <= 1 for end in ends)
            worst, score = max(end.loss for end in ends), min(end.score for end in ends)
            runs, worse = runs + len(ends), worse + above
            sizes = " × ".join(map(str, rows[0].shape))
            cells = (
                f"{above} of {len(ends)}",
                f"{worst:.3g}",
                f"{score:.3f}",
                f"{constant_or_exact(rows, kind):.3f}",
            )
            print("|", " | ".join([variant.name, "yes" * variant.seen, sizes, kind, *cells]), "|", flush=True)
    print(f"\n{worse} of {runs} runs diverged")


if __name__ == "__main__":
    main("--quick" in sys.argv, "--seen" in sys.argv, "--regression" in sys.argv)
