"""Cyclic gradient code: worker i holds the shards i … i + s, modulo n.

Tandon, Lei, Dimakis and Karampatziakis, "Gradient coding: avoiding stragglers in distributed learning", ICML
2017, algorithm 2: the decoded gradient is exact for any s stragglers among the n workers.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..config.tables import Config, Count, Table
from ..util.errors import InputError
from .data_code import DataCode

DRAWS = 64  # of the code, fewer for very many workers


def _spread(U: np.ndarray) -> float:
    """Largest over smallest absolute value of the entries of a code."""
    entries = np.abs(U[U != 0])
    return float(entries.max() / entries.min())


class Cyclic(DataCode):
    """A cyclic gradient code: exact for every pattern of s stragglers, at s + 1 times the work."""

    name = "cyclic"
    summary = "one combination of s + 1 shards' gradients; exact for any s stragglers"

    class Options(Table):
        """Keys of ``[scheme] options``."""

        stragglers: Count = 1  #: number of stragglers tolerated, s

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        late = config.scheme.options.stragglers
        if late >= config.workers.count:
            raise InputError(
                f"scheme.options.stragglers: {late} must be less than the {config.workers.count} workers"
            )

    @cached_property
    def _matrix(self) -> np.ndarray:
        """The draw whose entries are most alike: the further apart they are, the larger decoding weights."""
        rng = np.random.default_rng(self.config.seed)
        draws = max(1, min(DRAWS, 4096 // self.workers))
        return min((self._draw(rng) for _ in range(draws)), key=_spread)

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw rows with support i … i + s, orthogonal to those of a random H, shape (s, n), with H·1 = 0."""
        n, s = self.workers, self.options.stragglers
        H = rng.standard_normal((s, n))
        H -= H.mean(axis=1, keepdims=True)
        U = np.eye(n)
        for i in range(n):
            rest = [(i + j) % n for j in range(1, s + 1)]
            U[i, rest] = np.linalg.solve(H[:, rest], -H[:, i])
        return U

    def matrix(self) -> np.ndarray:
        return self._matrix
