"""Cyclic gradient code: worker i holds the shards i … i + s, modulo n.

Tandon, Lei, Dimakis and Karampatziakis, "Gradient coding: avoiding stragglers in distributed learning", ICML
2017, algorithm 2: the decoded gradient is exact for any s stragglers among the n workers. Choosing the best
of several random codes is our addition.
"""

from functools import cached_property
from typing import ClassVar

import numpy as np

from ..config.requirements import Needs
from .data_code import NO_ROUNDING, GradientCode

DRAWS = 64  # random codes to choose from; fewer for very many workers


def cyclic_code(n: int, s: int, seed: int) -> np.ndarray:
    """Draw U, shape (n, n), with support i … i + s in row i: all rows but any s span the vector of ones.

    It is the draw whose entries are most alike, because unequal entries mean large decoding weights.
    """
    rng = np.random.default_rng(seed)
    draws = max(1, min(DRAWS, 4096 // n))
    return min((_draw(n, s, rng) for _ in range(draws)), key=_spread)


def _draw(n: int, s: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows that are orthogonal to the rows of a random H, shape (s, n), with H·1 = 0."""
    H = rng.standard_normal((s, n))
    H -= H.mean(axis=1, keepdims=True)
    U = np.eye(n)
    for i in range(n):
        rest = [(i + j) % n for j in range(1, s + 1)]
        U[i, rest] = np.linalg.solve(H[:, rest], -H[:, i])
    return U


def _spread(U: np.ndarray) -> float:
    """Return the ratio of the largest to the smallest absolute value of a code's entries."""
    entries = np.abs(U[U != 0])
    return float(entries.max() / entries.min())


class Cyclic(GradientCode):
    """A cyclic gradient code: exact for every pattern of s stragglers, at s + 1 times the work."""

    name = "cyclic"
    summary = "one combination of s + 1 shards' gradients; exact for any s stragglers"
    requires: ClassVar[Needs] = {**GradientCode.requires, **NO_ROUNDING}

    @cached_property
    def matrix(self) -> np.ndarray:
        return cyclic_code(self.workers, self.options.stragglers, self.config.seed)
