"""Bernoulli gradient code: a worker holds each shard with the same probability, and sends their sum.

Charles, Papailiopoulos and Ellenberg, "Approximate gradient coding via sparse random graphs", arXiv
1711.06771, 2017: the entries of U are independent, 1 with probability s/n and else 0, not normalised; optimal
decoding. A shard that no worker holds is never used. The paper also allows for workers without a shard; here
such a worker's row is drawn again. The paper's regularised code, which thins out the heaviest workers, is not
included.
"""

from functools import cached_property
from typing import ClassVar

import numpy as np

from ..config import Candidates, Config, Factor, Table
from ..util.errors import InputError
from .data_code import DataCode


class Bernoulli(DataCode):
    """A Bernoulli gradient code: approximate, better the more workers arrive."""

    name = "bernoulli"
    summary = "the sum of a random set of shards' gradients; rank 0 decodes the whole sum approximately"

    class Options(Table):
        """Keys of ``[scheme] options``."""

        shards: Factor = 3.0  #: expected number of shards of a worker, s, at most the number of workers

        candidates: ClassVar[Candidates] = {"shards": (1.5, 2.0, 3.0)}

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        shards, workers = config.scheme.options.shards, config.workers.count
        if shards > workers:
            raise InputError(f"scheme.options.shards: {shards:g} are more than the {workers} shards")

    @cached_property
    def matrix(self) -> np.ndarray:
        n, rng = self.workers, np.random.default_rng(self.config.seed)
        U = np.zeros((n, n))
        while len(empty := np.flatnonzero(~U.any(axis=1))):
            U[empty] = rng.random((len(empty), n)) < self.options.shards / n
        return U
