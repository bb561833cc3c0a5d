"""Number of random arrivals that least squares needs for 90 %, 99 % and all of the gradient.

It also checks the law of tight codes under the adjoint, and tries codes for blocks of unequal energy.

Draws are keyed: the output is the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pdcode import codes
from pdcode.codes.quality import captured

K, N, ORDERS = 64, 128, 800  # blocks, rows, and total orders of arrival for each kind of code
TIGHT = (
    ("net", 8, 4, 2), ("dk", 12, 4, 2), ("steiner", 16, 6, 3), ("tremain", 36, 15, 8),
    ("repetition", 128, 64, 1), ("net", 128, 64, 8), ("steiner", 256, 120, 15),
)  # fmt: skip
UNEQUAL, ENERGIES = 32, 1 / np.arange(1.0, 33.0) ** 2

Make = Callable[[int], Any]


def measure(
    make: Make, count: int, draws: int, decoder: str = "least_squares", covariance: Any = None
) -> str:
    """Return arrivals in units of k, ± standard error, over several codes (seed → code) and orders."""
    given = captured.check_arguments(make(0), None, decoder, covariance, draws)
    curves = [
        captured.sample_curves(captured.check_arguments(make(seed), None, decoder, covariance), draws, seed)
        for seed in range(count)
    ]
    means = np.stack([one.mean(axis=0) for one in curves]) if count > 1 else curves[0]
    exact = captured.closed_form(given)
    pairs = captured.arrivals_from_curves(exact or captured.average(means), means, (0.9, 0.99))
    pairs += captured.arrivals_from_curves(captured.average(means), np.concatenate(curves), (1.0,))
    return "".join(f"{f'{a:.3f} ± {e:.3f}':>16}" for a, e in np.array(pairs) / given.rows.shape[1])


def ring(seed: int) -> np.ndarray:
    """Return the code matrix of pairs of blocks a, a + 1 and a, a + 3 on a ring, with random signs."""
    a, matrix = np.arange(K), np.zeros((N, K))
    sets = np.concatenate([np.stack([a, (a + step) % K], axis=1) for step in (1, 3)])
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=sets.shape)
    matrix[np.arange(N)[:, None], sets] = signs / np.sqrt(2)
    return matrix


def designed(family: str, weight: int | None = None, **options: Any) -> Make:
    """Return the function seed → code of a family, n = 2k."""
    return lambda seed: codes.design(family, N, K, weight, seed, **options)


KINDS: tuple[tuple[str, Make, int, str], ...] = (
    ("repetition", designed("repetition"), 1, "1.38 1.80 1.80"),
    ("ring of pairs, steps 1 and 3", ring, 40, "1.00 1.40 1.41"),
    ("random w=3, balanced", designed("random", 3, balanced=True), 80, ".900 1.04 1.08"),
    ("random w=4, balanced", designed("random", 4, balanced=True), 80, ".900 .992 1.03"),
    ("net w=8", designed("net", 8), 20, ".900 .997 1.016"),
    ("random w=64, Gaussian", designed("random", K, entries="gaussian"), 4, ".900 .990 1.000"),
    ("pairs", designed("pairs"), 20, ""),
    ("graph", designed("graph"), 20, ""),
    ("random w=3", designed("random", 3), 40, ""),
    ("random w=4", designed("random", 4), 40, ""),
    ("net w=4", designed("net", 4), 20, ""),
)


def main(quick: bool) -> None:
    """Print the tables."""
    orders = 80 if quick else ORDERS
    print(f"Least squares, isotropic blocks, k = {K}, n = {N}; last column: an independent program's")
    print(f"{'in units of k':30}{'90 %':>16}{'99 %':>16}{'all':>16}")
    for name, make, count, independent in KINDS[: 3 if quick else None]:
        print(f"{name:30}{measure(make, count, orders // count)}   {independent}", flush=True)

    print("\nThe adjoint on tight codes: largest difference from q / (k + (q-1)(n-k)/(n-1)) over all q")
    for family, n, k, w in TIGHT:
        q = np.arange(n + 1)
        mean = codes.captured_energy(codes.design(family, n, k, w), decoder="adjoint").mean
        off = np.abs(mean - q / (k + (q - 1) * (n - k) / (n - 1))).max()
        print(f"{family + f' ({n}, {k}, {w})':30}{off:16.1e}", flush=True)

    n, k = 2 * UNEQUAL, UNEQUAL
    print(f"\nBlock energies i^-2, k = {k}, n = {n}, decoded by mmse, in units of k")
    unequal: list[tuple[str, Make, int]] = [
        ("repetition", lambda seed: codes.design("repetition", n, k), 1),
        ("net w=4", lambda seed: codes.design("net", n, k, 4, seed), 20),
    ]
    for exponent in (0.25, 0.5, 0.75, 1.0, 1.25):
        options = {"energies": ENERGIES, "exponent": exponent}
        make = partial(codes.design, "energy", n, k, 4, **options)
        unequal.append((f"energy w=4, exponent {exponent:g}", make, 40))
    for name, make, count in unequal[: 3 if quick else None]:
        print(f"{name:30}{measure(make, count, orders // count, 'mmse', ENERGIES)}", flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv)
