"""Codes over data shards, and what rank 0 decodes from the payloads of some of the workers."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.decoders.target import TargetDecoder
from pdcode.rivals.data_code import DataCode
from pdcode.schemes import make_scheme

JOB = ["problem.batch=0", "problem.dtype=float64", "optimizer.rate=0.3", "stop.updates=12"]


def resolve(scheme: str, *overrides: str) -> Config:
    return configfile.resolve({"problem": {"hidden": [8]}}, [f"scheme.name={scheme}", *overrides])


def make(scheme: str, workers: int, *overrides: str) -> DataCode:
    made = make_scheme(resolve(scheme, f"workers.count={workers}", *overrides))
    assert isinstance(made, DataCode)
    return made


def subsets(workers: int, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield all sets of workers of these sizes."""
    for size in sizes:
        yield from combinations(range(workers), size)


class Rank0:
    """Rank 0's decoder of a code U (n, m), rounded to `dtype`, and the payloads of all workers.

    Gradients of the shards are (m, e); by default unit vectors, so that Uᵀa is decoded.
    """

    def __init__(self, matrix: np.ndarray, gradients: np.ndarray | None = None, dtype: str = "f8") -> None:
        self.matrix = matrix.astype(dtype)
        shards = matrix.shape[1]
        gradients = np.eye(shards, dtype=dtype) if gradients is None else gradients
        self.payloads = (self.matrix @ gradients).astype(dtype)
        self.target = TargetDecoder(1, gradients.shape[1:], dtype, target=np.ones(shards))

    def decode(self, workers: Sequence[int]) -> np.ndarray:
        """Return what is decoded from the payloads of these workers, in this order."""
        self.target.reset()
        for worker in workers:
            places = np.flatnonzero(self.matrix[worker]).astype(np.int32)[None]
            values = self.matrix[worker, places[0]][None]
            self.target.add_sparse(places, values, self.payloads[worker][None])
        return self.target.gradient()[0]

    def amplification(self, workers: Sequence[int]) -> float:
        """Return Σ_i |a_i| Σ_s |u_is| over Σ_is a_i u_is: how much rounding errors of payloads may grow."""
        sums = self.decode(workers).sum()
        weights = np.abs(self.target.coefficients()[:, 0])
        return float(weights @ np.abs(self.matrix[list(workers)]).sum(axis=1) / sums)
