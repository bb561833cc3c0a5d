"""Ringmaster ASGD: asynchronous SGD without the gradients whose delay is R or more.

Maranjyan, Tyurin and Richtárik, "Ringmaster ASGD: the first asynchronous SGD with optimal time complexity",
ICML 2025. The delay of a gradient is the number of updates since its θ. Rank 0 steps by every gradient of a
delay less than R and drops the others; either way it sends the worker the newest θ. This is algorithm 4,
without calculation stops: workers finish gradients that will be dropped, while algorithm 5 stops them as soon
as their delay is R. For gradients of variance σ², and a point at which the expected squared norm of the
gradient is at most ε, R = max(1, ⌈σ²/ε⌉).

σ² and ε are not known in general. This project's choices: by default R is the number of workers n, because
workers of equal speed have delays of n - 1, so that none of their gradients is dropped; payloads may be
coded, and memories get back what is dropped.
"""

from math import ceil
from typing import ClassVar

from ..coding.policies import Policy
from ..config import Candidates, NonNegative, Positive, Real, Table, Tables, UpdateTable
from ..config.requirements import KeyNeeds, none_of, one_of
from ..schemes.base import UNCODED, Scheme


class DelayThreshold(Policy):
    """Policy that drops payloads whose delay is at least a threshold, R."""

    def __init__(self, table: UpdateTable, workers: int, threshold: int) -> None:
        super().__init__(table, workers)
        self._threshold = threshold

    def usable(self, staleness: int) -> bool:
        return staleness < self._threshold


class Ringmaster(Scheme):
    """Ringmaster ASGD: asynchronous SGD that drops gradients of delay R and more."""

    name = "ringmaster"
    summary = "full gradients, a step each; gradients of delay R and more are dropped"
    unused = ("update",)
    tables: ClassVar[Tables] = {**UNCODED, "update": {"mode": "async"}}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        threshold: Positive | None = None  #: R; none: from `sigma2` and `epsilon`, or the number of workers
        sigma2: NonNegative | None = None  #: σ², the variance of a worker's gradient
        epsilon: Real | None = None  #: ε, the squared norm of the gradient to reach

        candidates: ClassVar[Candidates] = {"threshold": lambda n: (max(1, n // 2), n, 2 * n)}
        effective: ClassVar[KeyNeeds] = {
            "sigma2": {
                "scheme.options.threshold": one_of(None),
                "scheme.options.epsilon": none_of(None, needed="a value"),
            },
            "epsilon": {
                "scheme.options.threshold": one_of(None),
                "scheme.options.sigma2": none_of(None, needed="a value"),
            },
        }

    @property
    def threshold(self) -> int:
        """R, the smallest delay to drop."""
        options = self.options
        if options.sigma2 is not None:
            return max(1, ceil(options.sigma2 / options.epsilon))
        return int(options.threshold or self.workers)

    def policy(self) -> Policy:
        return DelayThreshold(self.config.update, self.workers, self.threshold)
