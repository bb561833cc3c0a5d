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


class Cyclic(DataCode):
    """A cyclic gradient code: exact for every pattern of s stragglers, at s + 1 times the work."""

    name = "cyclic"
    summary = "one combination of s + 1 shards' gradients; exact for any s stragglers"

    class Options(Table):
        """Keys of ``[scheme] options``."""

        stragglers: Count = 1  # s, the number of stragglers tolerated

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
        """Rows with support i … i + s, orthogonal to the rows of a random H, shape (s, n), with H·1 = 0."""
        n, s = self.workers, self.options.stragglers
        H = np.random.default_rng(self.config.seed).standard_normal((s, n))
        H[:, -1] = -H[:, :-1].sum(axis=1)
        U = np.eye(n)
        for i in range(n):
            rest = [(i + j) % n for j in range(1, s + 1)]
            U[i, rest] = np.linalg.solve(H[:, rest], -H[:, i])
        return U

    def matrix(self) -> np.ndarray:
        return self._matrix
