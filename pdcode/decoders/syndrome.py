"""Search for the arrivals that contradict the rest, on parity checks of the payloads.

A combination of payloads with coefficients from the left null space of the codewords G is zero whatever the
gradient is. With orthonormal columns B of that space, checks Z = BᵀY depend on the payloads' errors alone:
Z = Σ_i b_i ⊗ error_i, b_i the rows of B. A set F of arrivals explains the errors if Z lies in the span of its
b_i. This is syndrome decoding over the reals (Candès and Tao, IEEE Trans. Information Theory 2005). Only the
Gram matrix of Z is needed.
"""

from collections.abc import Iterable
from itertools import combinations
from math import comb

import numpy as np

EXHAUSTIVE = 20_000  # number of sets of one size up to which all are tried
PARALLEL = 1e-7  # sine below which two directions are one
CANCELLED = 1e-14  # fraction of |Z|² lost to cancellation when the part that a set explains is subtracted


def null_space(basis: np.ndarray, most: int) -> np.ndarray:
    """Return orthonormal checks B, shape (q, c), c = min(`most`, q - rank), drawn from the null space.

    `basis`, shape (rank, q), are orthonormal rows that span the column space of the codewords. Enough random
    checks distinguish the same sets of arrivals as all checks.
    """
    rank, count = basis.shape
    width = min(count - rank, most)
    random = np.random.Generator(np.random.Philox(key=[count, rank])).normal(size=(count, width))
    for _ in range(2):  # twice is enough
        random -= basis.T @ (basis @ random)
        random = np.linalg.qr(random)[0]
    return random


class FaultSearch:
    """Search for the sets of arrivals whose errors explain the checks.

    `directions`, (arrivals, r, c), are the rows of B that belong to each arrival, padded with zeros; `gram`
    is Z Zᵀ. `honest` and `rounding`, (arrivals,), are bounds on the contribution of an arrival to |Z|²: of an
    honest one, and by rounding of an excluded one.
    """

    def __init__(
        self, directions: np.ndarray, gram: np.ndarray, honest: np.ndarray, rounding: np.ndarray
    ) -> None:
        self.directions, self.gram, self.honest, self.rounding = directions, gram, honest, rounding

    @property
    def consistent(self) -> bool:
        """Whether the checks hold with all arrivals."""
        return bool(np.trace(self.gram) <= self.honest.sum())

    def unexplained(self, sets: np.ndarray) -> np.ndarray:
        """Return the unexplained part of |Z|² over its bound, for sets (n, f); 0 if a set leaves no check."""
        count, checks = len(sets), self.gram.shape[0]
        span = self.directions[sets].reshape(count, -1, checks)
        _, sizes, right = np.linalg.svd(span, full_matrices=False)
        mask = sizes > PARALLEL * np.maximum(sizes[:, :1], PARALLEL)
        explained = np.einsum("nic,cd,nid->ni", right, self.gram, right)
        remaining = np.maximum(np.trace(self.gram) - (explained * mask).sum(axis=1), 0)
        allowed = self.honest.sum() - self.honest[sets].sum(axis=1) + self.rounding[sets].sum(axis=1)
        allowed += CANCELLED * np.trace(self.gram)
        ratio = remaining / np.maximum(allowed, np.finfo(float).tiny)
        return np.where(mask.sum(axis=1) >= checks, 0.0, ratio)

    def smallest_sets(self, faults: int) -> list[tuple[int, ...]]:
        """Return all sets of the smallest size, at most `faults`, that explain the checks; empty if none do.

        If there are too many sets of a size, the search is greedy: the best arrival is added to the best set
        of the size before, then members are exchanged one by one.
        """
        arrivals = len(self.directions)
        best: tuple[int, ...] = ()
        for size in range(1, min(faults, arrivals - 1) + 1):
            if comb(arrivals, size) <= EXHAUSTIVE:
                sets, best = self._accepted(combinations(range(arrivals), size))
            else:
                _, best = self._accepted(self._extended(best))
                sets, best = self._accepted([best, *self._exchanged(best)])
            if sets:
                return sets
        return []

    def _accepted(self, sets: Iterable[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """Return the sets that explain the checks, and the set that explains them best."""
        table = np.array(sorted({tuple(sorted(one)) for one in sets}))
        ratio = self.unexplained(table)
        chosen = [tuple(int(i) for i in one) for one in table[ratio <= 1]]
        return chosen, tuple(int(i) for i in table[np.argmin(ratio)])

    def _extended(self, members: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [(*members, i) for i in range(len(self.directions)) if i not in members]

    def _exchanged(self, members: tuple[int, ...]) -> list[tuple[int, ...]]:
        rest = [tuple(i for i in members if i != removed) for removed in members]
        return [one for remaining in rest for one in self._extended(remaining)]
