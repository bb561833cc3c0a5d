"""Which arrivals contradict the rest: a search over small sets, on parity checks of the payloads.

A combination of payloads with coefficients from the left null space of the codewords G is zero whatever the
gradient is. With orthonormal columns B of that space, checks Z = BᵀY hold the errors of the payloads alone:
Z = Σ_i b_i ⊗ error_i, b_i the rows of B. A set F of arrivals explains the errors if Z lies in the span of its
b_i. This is syndrome decoding over the reals (Candès and Tao, IEEE Trans. Information Theory 2005). All that
is needed of Z is its Gram matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from math import comb

import numpy as np

EXHAUSTIVE = 20_000  # sets of a size that are all tried
PARALLEL = 1e-7  # sine below which two directions are one
CANCELLED = 1e-14  # of |Z|², lost when what a set explains is subtracted from it


def null_space(basis: np.ndarray, most: int) -> np.ndarray:
    """Orthonormal checks B, shape (q, c): random combinations of the null space, c the least of both.

    Parameters
    ----------
    basis : ndarray, shape (rank, q)
        Orthonormal rows that span the column space of the codewords.
    most : int
        Most checks. Random ones tell apart whatever all can tell apart, as long as there are enough.
    """
    rank, count = basis.shape
    width = min(count - rank, most)
    random = np.random.Generator(np.random.Philox(key=[count, rank])).normal(size=(count, width))
    for _ in range(2):  # twice is enough
        random -= basis.T @ (basis @ random)
        random = np.linalg.qr(random)[0]
    return random


class Search:
    """Sets of arrivals that explain what the checks find.

    Parameters
    ----------
    directions : ndarray, shape (arrivals, r, c)
        Rows of B of each arrival, padded with zeros.
    gram : ndarray, shape (c, c)
        Z Zᵀ.
    honest, rounding : ndarray, shape (arrivals,)
        What an arrival may add to |Z|² if it is honest, and by rounding if it is left out.
    """

    def __init__(
        self, directions: np.ndarray, gram: np.ndarray, honest: np.ndarray, rounding: np.ndarray
    ) -> None:
        self.directions, self.gram, self.honest, self.rounding = directions, gram, honest, rounding

    @property
    def consistent(self) -> bool:
        """Whether no arrival has to be left out."""
        return bool(np.trace(self.gram) <= self.honest.sum())

    def unexplained(self, sets: np.ndarray) -> np.ndarray:
        """Share of what is allowed that sets (n, f) leave of |Z|²; 0 where a set leaves no check."""
        count, checks = len(sets), self.gram.shape[0]
        span = self.directions[sets].reshape(count, -1, checks)
        _, sizes, right = np.linalg.svd(span, full_matrices=False)
        mask = sizes > PARALLEL * np.maximum(sizes[:, :1], PARALLEL)
        parts = np.einsum("nic,cd,nid->ni", right, self.gram, right)
        left = np.maximum(np.trace(self.gram) - (parts * mask).sum(axis=1), 0)
        allowed = self.honest.sum() - self.honest[sets].sum(axis=1) + self.rounding[sets].sum(axis=1)
        allowed += CANCELLED * np.trace(self.gram)
        ratio = left / np.maximum(allowed, np.finfo(float).tiny)
        return np.where(mask.sum(axis=1) >= checks, 0.0, ratio)

    def smallest(self, faults: int) -> list[tuple[int, ...]]:
        """All sets of the smallest size, up to `faults`, that explain the checks; none if there is none.

        Sizes of which there are too many sets are searched greedily: the best arrival is added to the best
        set of the size before, then members are exchanged one by one.
        """
        arrivals = len(self.directions)
        best: tuple[int, ...] = ()
        for size in range(1, min(faults, arrivals - 1) + 1):
            if comb(arrivals, size) <= EXHAUSTIVE:
                found, best = self._accepted(combinations(range(arrivals), size))
            else:
                _, best = self._accepted(self._grown(best))
                found, best = self._accepted([best, *self._exchanged(best)])
            if found:
                return found
        return []

    def _accepted(self, sets: Iterable[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """The sets that explain the checks, and the one that does it best."""
        table = np.array(sorted({tuple(sorted(one)) for one in sets}))
        ratio = self.unexplained(table)
        chosen = [tuple(int(i) for i in one) for one in table[ratio <= 1]]
        return chosen, tuple(int(i) for i in table[np.argmin(ratio)])

    def _grown(self, members: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [(*members, i) for i in range(len(self.directions)) if i not in members]

    def _exchanged(self, members: tuple[int, ...]) -> list[tuple[int, ...]]:
        rest = [tuple(i for i in members if i != left) for left in members]
        return [one for kept in rest for one in self._grown(kept)]
