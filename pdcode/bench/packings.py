"""The optimiser beside the best known packings of lines, and at limited weight beside the designs.

The table of known packings is no part of the package: the environment variable PDCODE_PACKINGS is the path
of a CSV file with columns k, n and coherence. What is below its coherence is checked in decimal arithmetic of
50 digits.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Sequence
from decimal import Decimal, localcontext
from itertools import combinations
from pathlib import Path

import numpy as np

from .. import codes
from ..codes import bounds
from ..util.errors import InputError

OTHERS = ((7, 16), (7, 19), (7, 21), (7, 28), (8, 12), (8, 16), (8, 20), (8, 24), (8, 28), (8, 32))
UNLISTED = ((10, 16), (10, 20), (10, 30), (12, 36), (16, 48))  # no known value: beside the lower bound
DESIGNS = (
    ("steiner", 6, 16, 3), ("steiner", 7, 28, 3), ("simplex-lines", 9, 48, 3),
    ("net", 16, 32, 4), ("net", 16, 64, 4),
)  # fmt: skip
LIGHT_RESTARTS = 128  # a kind of supports
BETTER = 1e-7  # relative; the table has nine digits


def table() -> dict[tuple[int, int], float]:
    """Best known coherence of each (k, n)."""
    name = os.environ.get("PDCODE_PACKINGS", "")
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"PDCODE_PACKINGS = {name!r}: not the path of a CSV file of known packings, with columns k, n "
            "and coherence"
        )
    with path.open(newline="") as file:
        return {(int(row["k"]), int(row["n"])): float(row["coherence"]) for row in csv.DictReader(file)}


def exact_coherence(matrix: np.ndarray) -> Decimal:
    """Largest |<g, g'>| / (|g| |g'|) of the rows as they are stored, to 50 digits."""
    with localcontext() as context:
        context.prec = 50
        rows = [[Decimal(float(entry)) for entry in row] for row in matrix]
        lengths = [sum((entry * entry for entry in row), Decimal(0)).sqrt() for row in rows]
        largest = Decimal(0)
        for (row, length), (other, its) in combinations(zip(rows, lengths, strict=True), 2):
            product = sum((a * b for a, b in zip(row, other, strict=True)), Decimal(0))
            largest = max(largest, abs(product) / (length * its))
        return +largest


def compare(cases: Sequence[tuple[int, int]], known: dict[tuple[int, int], float]) -> None:
    """Print a line a case (k, n), and how many are within 0.1 % and 2 % of what is known."""
    print(f"{'k':>3} {'n':>3} {'table':>12} {'ours':>14} {'gap':>9} {'seconds':>8}")
    gaps, slowest = [], 0.0
    for k, n in cases:
        began = time.perf_counter()
        code = codes.design("optimized", workers=n, blocks=k)
        took = time.perf_counter() - began
        gap, slowest = code.coherence / known[k, n] - 1, max(slowest, took)
        gaps.append(gap)
        line = f"{k:3} {n:3} {known[k, n]:12.9f} {code.coherence:14.11f} {gap:9.1e} {took:8.1f}"
        better = f"  better: {exact_coherence(code.matrix):.20f}" if gap < -BETTER else ""
        print(line + better, flush=True)
    near, far = (sum(gap <= limit for gap in gaps) for limit in (1e-3, 2e-2))
    counts = f"{near} within 0.1 % of the table, {len(gaps) - far} more than 2 % off"
    print(f"{len(gaps)} cases: {counts}, largest gap {max(gaps):.1e}, at most {slowest:.1f} s a case")


def bound(cases: Sequence[tuple[int, int]]) -> None:
    """Print a line a case (k, n) for which no value is known."""
    print(f"{'k':>3} {'n':>3} {'bound':>12} {'ours':>14} {'ratio':>9} {'seconds':>8}")
    for k, n in cases:
        began = time.perf_counter()
        code = codes.design("optimized", workers=n, blocks=k)
        took = time.perf_counter() - began
        least = max(bounds.bounds(n, k, k, False, False).values())
        ratio = code.coherence / least
        print(f"{k:3} {n:3} {least:12.9f} {code.coherence:14.11f} {ratio:9.4f} {took:8.1f}", flush=True)


def light(cases: Sequence[tuple[str, int, int, int]]) -> None:
    """Print a line a design (family, k, n, w): its coherence and what is found on supports of each kind."""
    print(f"{'design':>14} {'k':>3} {'n':>3} {'w':>2} {'its':>8} {'free':>8} {'random':>8} {'net':>8}  best")
    for family, k, n, w in cases:
        its = codes.design(family, workers=n, blocks=k, weight=w).coherence
        found = {}
        for supports in "free", "random", "net":
            try:
                code = codes.design("optimized", n, k, w, supports=supports, restarts=LIGHT_RESTARTS)
                found[supports] = code.coherence
            except InputError:  # there is no net of this size
                found[supports] = np.nan
        least = min(value for value in found.values() if value == value)
        best = "the design" if its < least - 1e-9 else "found" if least < its - 1e-9 else "both"
        values = " ".join(f"{value:8.5f}" for value in found.values())
        print(f"{family:>14} {k:3} {n:3} {w:2} {its:8.5f} {values}  {best}", flush=True)


def run(limit: int | None = None) -> int:
    """Print the tables.

    Parameters
    ----------
    limit : int, optional
        Most cases of each table. Default: all.
    """
    known = table()
    asked = [(k, n) for k, n in sorted(known) if k <= 6 and n <= 3 * k]
    print("Best known packings of n lines in R^k, k ≤ 6 and n ≤ 3k, and the optimiser at its defaults")
    compare(asked[:limit], known)
    print("\nSome of k = 7 and 8, n ≤ 4k")
    compare(OTHERS[:limit], known)
    print("\nOthers, beside the best lower bound (Welch, orthoplex, Levenshtein, Bukh-Cox), which few reach")
    bound(UNLISTED[:limit])
    print(f"\nWeight w: designs, and the optimiser with {LIGHT_RESTARTS} restarts on supports of each kind")
    light(DESIGNS[:limit])
    return 0
