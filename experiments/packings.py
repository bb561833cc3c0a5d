"""Comparison of the numerical search for least coherence with known packings and with designs.

PDCODE_PACKINGS names a CSV file of known packings of n lines in R^k, with columns k, n and coherence; without
it that comparison is skipped. Results below a known coherence are recomputed with 50 digits.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from decimal import Decimal, localcontext
from itertools import combinations

import numpy as np

from pdcode import codes
from pdcode.codes.quality.bounds import bounds
from pdcode.util.errors import InputError

OTHERS = [(7, 16), (7, 19), (7, 21), (7, 28), (8, 12), (8, 16), (8, 20), (8, 24), (8, 28), (8, 32)]
UNLISTED = [
    (10, 16), (10, 20), (10, 30), (12, 36), (16, 48), (13, 26), (15, 30), (12, 25), (16, 25), (15, 27),
    (14, 33), (16, 29), (15, 20), (9, 21), (11, 20),
]  # fmt: skip
DESIGNS = [
    ("steiner", 6, 16, 3), ("steiner", 7, 28, 3), ("simplex-lines", 9, 48, 3),
    ("net", 16, 32, 4), ("net", 16, 64, 4),
]  # fmt: skip


def exact_coherence(matrix: np.ndarray) -> Decimal:
    """Compute the largest |<g, g'>| / (|g| |g'|) of the stored rows, to 50 digits."""
    with localcontext() as context:
        context.prec = 50
        rows = [[Decimal(float(entry)) for entry in row] for row in matrix]
        lengths = [sum((entry * entry for entry in row), Decimal(0)).sqrt() for row in rows]
        pairs = combinations(zip(rows, lengths, strict=True), 2)
        return max(
            abs(sum((a * b for a, b in zip(row, other, strict=True)), Decimal(0))) / (length * its)
            for (row, length), (other, its) in pairs
        )


def compare(cases: list[tuple[int, int]], known: dict[tuple[int, int], float]) -> None:
    """Print a line per case (k, n): the known coherence, or the best lower bound, and the search's result."""
    print(f"{'k':>3} {'n':>3} {'known':>12} {'found':>14} {'above':>9} {'seconds':>8}")
    for k, n in cases:
        began = time.perf_counter()
        code = codes.design("optimized", workers=n, blocks=k)
        goal = known.get((k, n)) or max(bounds(n, k, k, False, False).values())
        above, took = code.coherence / goal - 1, time.perf_counter() - began
        better = f"  better: {exact_coherence(code.matrix):.20f}" if above < -1e-7 else ""  # rounded
        print(
            f"{k:3} {n:3} {goal:12.9f} {code.coherence:14.11f} {above:9.1e} {took:8.1f}{better}", flush=True
        )


def compare_weights(cases: list[tuple[str, int, int, int]], restarts: int) -> None:
    """Print a line per design (family, k, n, w): its coherence, and the search's on each kind of support."""
    print(f"{'design':>14} {'k':>3} {'n':>3} {'w':>2} {'its':>8} {'free':>8} {'random':>8} {'net':>8}")
    for family, k, n, w in cases:
        line = f"{family:>14} {k:3} {n:3} {w:2} {codes.design(family, n, k, w).coherence:8.5f}"
        for supports in "free", "random", "net":
            try:
                code = codes.design("optimized", n, k, w, supports=supports, restarts=restarts)
                line += f" {code.coherence:8.5f}"
            except InputError:  # there is no net of this size
                line += f" {'-':>8}"
        print(line, flush=True)


def main(quick: bool) -> None:
    """Print the tables."""
    coherences: dict[tuple[int, int], float] = {}
    if path := os.environ.get("PDCODE_PACKINGS"):
        with open(path, newline="", encoding="utf-8") as file:
            coherences = {
                (int(row["k"]), int(row["n"])): float(row["coherence"]) for row in csv.DictReader(file)
            }
        print("Known packings of n lines in R^k, k ≤ 6 and n ≤ 3k, and some of k = 7 and 8")
        cases = [(k, n) for k, n in sorted(coherences) if k <= 6 and n <= 3 * k] + OTHERS
        compare(cases[: 1 if quick else None], coherences)
    print("\nBeside the best lower bound (Welch, orthoplex, Levenshtein, Bukh-Cox), which few reach")
    compare([(3, 4)] if quick else UNLISTED, coherences)
    print("\nWeight w: designs, and the search on supports of each kind")
    compare_weights(DESIGNS[: 1 if quick else None], 1 if quick else 128)


if __name__ == "__main__":
    main("--quick" in sys.argv)
