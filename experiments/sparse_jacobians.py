"""Evaluations of sparse Jacobians: all columns, colours, and codewords of signs.

Prints the evaluations of one Jacobian for patterns of many parameters; and those of whole fits on the virtual
clock without a pattern, with it, and with one that is found, with the largest error of the parameters.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import pdcode
from pdcode.differences.patterns import Pattern


def scattered(m: int, k: int, each: int) -> np.ndarray:
    """Return a pattern with some entries a row at random."""
    rng, entries = np.random.default_rng(0), np.zeros((m, k), bool)
    for row in entries:
        row[rng.choice(k, each, replace=False)] = True
    return entries


def band(k: int, width: int) -> np.ndarray:
    """Return the pattern of a band."""
    return np.abs(np.subtract.outer(np.arange(k), np.arange(k))) <= width // 2


def stencil(n: int, species: int) -> np.ndarray:
    """Return the pattern of five points on a grid of n by n, for one species or two that are coupled."""
    near, one = band(n, 3), np.eye(n, dtype=bool)
    grid, same = np.kron(one, near) | np.kron(near, one), np.eye(n * n, dtype=bool)
    return grid if species == 1 else np.block([[grid, same], [same, grid]])


class Model:
    """Residuals of a smooth function with a pattern; at the truth they are zero."""

    def __init__(self, entries: np.ndarray, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self.weights = np.where(entries, rng.normal(size=entries.shape), 0.0)
        self.truth = rng.normal(size=entries.shape[1])
        self.start = self.truth + 0.3 * rng.normal(size=entries.shape[1])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        inner, best = self.weights @ x, self.weights @ self.truth
        return np.tanh(inner / 3) + 0.1 * inner - np.tanh(best / 3) - 0.1 * best


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small patterns, and one seed")
    quick = parser.parse_args().quick
    k, n, seeds = (60, 8, 1) if quick else (1000, 30, 5)
    patterns = {
        "random, 10 a row": scattered(k, k, 10), "random, 5 a row": scattered(k, k, 5),
        "stencil": stencil(n, 1), "stencil of two species": stencil(n, 2), "band of 11": band(k, 11),
    }  # fmt: skip
    for name, entries in patterns.items():
        pattern, free = Pattern(entries), np.ones(entries.shape[1], bool)
        colours, codewords = (pattern.seed(each).shape[1] for each in (~free, free))
        print(f"{name:24} {entries.shape}: {colours} colours, {codewords} codewords", flush=True)
    small = {"random, 10 a row": scattered(200, 100, 10), "band of 5": band(100, 5)}
    with tempfile.TemporaryDirectory() as folder:
        for name, entries in small.items():
            for way, pattern in {"none": None, "given": entries, "auto": "auto"}.items():
                counts, errors = [], []
                for seed in range(seeds):
                    model = Model(entries, seed)
                    found = pdcode.calibrate(
                        model, model.start, residuals=len(entries), pattern=pattern, workers=8,
                        output=Path(folder) / "a.h5", progress=False,
                    )  # fmt: skip
                    counts.append(found.nfev)
                    errors.append(np.abs(found.x - model.truth).max())
                print(f"{name}, pattern {way}: {np.mean(counts):.0f} evaluations, error {max(errors):.1g}")


if __name__ == "__main__":
    main()
