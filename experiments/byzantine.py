"""Robustness and cost of the code of scheme `byzantine`: 15 workers, up to t = 1 … 7 of them Byzantine.

Least squares on 600 rows of 60 features, float64. For t ≤ 3 every set of at most t workers attacks in every
way of `ATTACKS`; for larger t, 500 random sets attack in these ways by turns. Are exactly these workers
found, and what is the error of the gradient compared with that without a code? In float32: how many of 500
gradients without an attack raise an alarm, and how many of 500 with t Byzantine workers are decoded without
exactly these? Then 200 steps of proximal descent with t workers that send Gaussian errors, σ = 100, against
the same without. Finally, the time of a worker and of rank 0 for growing data.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
from descents import CLOCK, merged
from rich.console import Console
from rich.table import Table

from pdcode.config import load
from pdcode.encoded.coded_data import DataEncoder
from pdcode.encoded.product_state import COMBINATIONS
from pdcode.encoded.real_code import RealCode, barycentric_weights, chebyshev_points
from pdcode.session.setup import prepare
from pdcode.virtual.simulation import Simulation

WORKERS = 15
Attack = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
ATTACKS: dict[str, Attack] = {  # functions of the attackers' results, all results, and a generator
    "Gaussian, σ = 100": lambda own, everyone, random: own + 100 * random.standard_normal(own.shape),
    "the same error": lambda own, everyone, random: own + 100 * random.standard_normal(own.shape[1]),
    "sign flipped": lambda own, everyone, random: -own,
    "10⁶ times": lambda own, everyone, random: 1e6 * own,
    "constant": lambda own, everyone, random: np.full_like(own, 1e6),
    "ALIE": lambda own, everyone, random: np.tile(everyone.mean(0) - 1.5 * everyone.std(0), (len(own), 1)),
    "-0.5 μ": lambda own, everyone, random: np.tile(-0.5 * everyone.mean(0), (len(own), 1)),
}


class Products:
    """The two products of a gradient, with some wrong results; `liars` is t."""

    def __init__(self, liars: int, dtype: str, rows: int = 600, features: int = 60) -> None:
        self.random, self.liars, self.dtype = np.random.default_rng(liars), liars, np.dtype(dtype)
        points = chebyshev_points(WORKERS)
        self.code = RealCode(points, WORKERS - 2 * liars, barycentric_weights(points))
        self.words = self.code.generator()
        x = self.random.standard_normal((rows, features)).astype(dtype)
        self.y = self.random.standard_normal(rows)
        self.x, data = x.astype(np.float64), DataEncoder(x, self.code.dimension)
        groups = -(-rows // self.code.dimension)
        encoded = [data.encode(word, 0, groups) for word in self.words]
        self.encoded = [np.stack([each[0] for each in encoded]), np.stack([each[1].T for each in encoded])]
        self.norm = np.linalg.norm(x)

    def product(
        self, number: int, vector: np.ndarray, wrong: list[int], how: Attack
    ) -> tuple[bool, np.ndarray, float]:
        """Return whether the Byzantine workers of a product are found, the product, and the condition."""
        vector = vector.astype(self.dtype)
        results = self.encoded[number] @ vector
        if wrong:
            results[wrong] = how(results[wrong], results, self.random)
        mixed = results @ self.random.uniform(-1, 1, (results.shape[1], COMBINATIONS))
        noise = (
            np.finfo(self.dtype).eps * self.norm * np.linalg.norm(vector) * np.linalg.norm(self.words, axis=1)
        )
        found = self.code.locate(range(WORKERS), mixed.astype(np.float64), self.liars, noise)
        kept = np.setdiff1d(np.arange(WORKERS), found or [])
        words = self.words[kept]
        return found == wrong, (np.linalg.pinv(words) @ results[kept]).T.ravel(), float(np.linalg.cond(words))

    def gradient(self, wrong: list[int], how: Attack) -> tuple[bool, float, float]:
        """Return whether they are found in both products, the gradient's relative error, the condition."""
        theta = self.random.standard_normal(self.x.shape[1])
        first, scores, condition = self.product(0, theta, wrong, how)
        residual = np.zeros(self.encoded[1].shape[2])
        residual[: len(self.y)] = scores[: len(self.y)] - self.y
        second, gradient, _ = self.product(1, residual, wrong, how)
        exact = self.x.T @ (self.x @ theta - self.y)
        error = np.linalg.norm(gradient[: len(exact)] - exact) / np.linalg.norm(exact)
        return first and second, float(error), condition


def liar_sets(liars: int, random: np.random.Generator, quick: bool) -> Iterator[list[int]]:
    """Yield sets of Byzantine workers: all of at most 3, or some."""
    if liars <= 3 and not quick:
        for few in range(1, liars + 1):
            yield from map(list, combinations(range(WORKERS), few))
        return
    for _ in range(5 if quick else 500):
        yield sorted(random.choice(WORKERS, random.integers(1, liars + 1), replace=False).tolist())


def descent_error(liars: int, quick: bool) -> float:
    """Return the relative difference of θ after proximal descent with attacks from that without."""
    thetas = []
    for wrong in ((), range(0, 2 * liars, 2)):
        events = [
            {"kind": "lie", "how": "gaussian", "value": 100.0, "worker": worker, "task": 0}
            for worker in wrong
        ]
        tables = {
            "problem": {
                "kind": "least-squares",
                "data": "diabetes",
                "standardise": True,
                "batch": 0,
                "dtype": "float64",
            },
            "scheme": {"name": "byzantine", "options": {"liars": liars}},
            "optimizer": {"rate": 0.1, "proximal": {"kind": "l1", "weight": 2.0}},
            "workers": {"count": WORKERS},
            "stop": {"updates": 5 if quick else 200},
            "faults": {"events": events},
        }
        simulation = Simulation(prepare(load.resolve(merged(CLOCK, tables))))
        simulation.run()
        thetas.append(simulation.components.state.theta.copy())
    return float(np.linalg.norm(thetas[1] - thetas[0]) / np.linalg.norm(thetas[0]))


def median_s(work: Callable[[], object]) -> float:
    """Return the median time of a call in s."""
    times = []
    for _ in range(15):
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


def decode_costs(rows: int, features: int) -> tuple[float, float, float]:
    """Return the times in s of a worker, and of rank 0 without attacks and with three Byzantine workers."""
    made = Products(3, "float64", rows, features)
    vectors = np.ones(features), np.ones(made.encoded[1].shape[2])
    own = [each[0].copy() for each in made.encoded]
    results = [each @ vector for each, vector in zip(made.encoded, vectors, strict=True)]
    mixing = [made.random.uniform(-1, 1, (each.shape[1], COMBINATIONS)) for each in results]
    inverse = np.linalg.pinv(made.words)

    def decode() -> None:
        for each, matrix in zip(results, mixing, strict=True):
            made.code.locate(range(WORKERS), each @ matrix, 3, 1e-12)
            np.matmul(inverse, each)

    def multiply() -> None:
        for each, vector in zip(own, vectors, strict=True):
            np.matmul(each, vector)

    honest_s = median_s(decode)
    for each in results:
        each[:3] += 100 * made.random.standard_normal(each[:3].shape)
    return median_s(multiply), honest_s, median_s(decode)


def main(quick: bool) -> None:
    """Print the tables."""
    table = Table(
        "t",
        "blocks",
        "data held",
        "gradients",
        "found",
        "gradient off by",
        "condition",
        "float32: alarms",
        "found",
        "off by",
        "200 steps off by",
    )
    for liars in (1, 7) if quick else range(1, 8):
        made, single = Products(liars, "float64"), Products(liars, "float32")
        ways, numbers = list(ATTACKS.values()), []
        for count, wrong in enumerate(liar_sets(liars, made.random, quick)):
            some = ways if liars <= 3 else [ways[count % len(ways)]]
            numbers += [made.gradient(wrong, how) for how in some]
        calm = [single.gradient([], ways[0]) for _ in range(5 if quick else 500)]
        rough = []
        for count in range(5 if quick else 500):
            wrong = sorted(single.random.choice(WORKERS, liars, replace=False).tolist())
            rough.append(single.gradient(wrong, ways[count % len(ways)]))
        blocks = WORKERS - 2 * liars
        table.add_row(
            f"{liars}", f"{blocks}", f"2 × {WORKERS / blocks:.2f}", f"{len(numbers)}",
            f"{100 * np.mean([each[0] for each in numbers]):.4g} %",
            f"{max(each[1] for each in numbers):.0e}",
            f"{max(each[2] for each in numbers):.0f}", f"{sum(not each[0] for each in calm)} of {len(calm)}",
            f"{100 * np.mean([each[0] for each in rough]):.4g} %", f"{max(each[1] for each in rough):.0e}",
            f"{descent_error(liars, quick):.0e}",
        )  # fmt: skip
    Console(width=130).print(table)
    head = "rows × features", "worker: two products", "rank 0: decode", "… with 3 liars"
    table = Table(*head, title="t = 3, float64")
    large = [(20_000, 500), (40_000, 500), (80_000, 500), (20_000, 1000), (20_000, 2000)]
    for rows, features in [(2000, 100)] if quick else large:
        times = (f"{1e3 * spent_s:.2f} ms" for spent_s in decode_costs(rows, features))
        table.add_row(f"{rows} × {features}", *times)
    Console(width=130).print(table)


if __name__ == "__main__":
    main("--quick" in sys.argv)
