"""Rennala SGD: a step is the mean of S gradients at the newest θ, from whichever workers are fastest.

Tyurin and Richtárik, "Optimal time complexities of parallel stochastic optimization methods under a fixed
computation model", NeurIPS 2023. A worker whose gradient is at the newest θ is sent that θ again, and
computes the gradient of another mini-batch, until rank 0 has S of them. Gradients at an older θ are dropped.
For gradients of variance σ², and a point at which the expected squared norm of the gradient is at most ε, S =
max(1, ⌈σ²/ε⌉).

σ² and ε are not known in general. This project's choices: by default S is ``update.count``; payloads may be
coded, and memories get back what is dropped.
"""

from typing import ClassVar

from ..coding.policies import Policy
from ..config import Positive, Table, Tables, UpdateTable
from ..config.requirements import Needs, one_of
from ..schemes.base import NESTEROV, UNCODED, WHITENED, Entrants, Scheme


class FreshBatch(Policy):
    """Policy that steps at `count` payloads (None: the table's) at the newest θ; no worker waits."""

    workers_wait = False

    def __init__(self, table: UpdateTable, workers: int, count: int | None) -> None:
        super().__init__(table, workers)
        if count is not None:
            self._min_payloads = count


class Rennala(Scheme):
    """Rennala SGD: steps by the mean of S gradients at the newest θ; the fastest workers send several."""

    name = "rennala"
    summary = "full gradients; a step by S of them at the newest θ; a fast worker sends several"
    entrants: ClassVar[Entrants] = {"Rennala": NESTEROV, "whitened Rennala": WHITENED}
    requires: ClassVar[Needs] = {
        "update.mode": one_of("first", why="counts gradients"),
        "update.late": one_of("waste", why="drops gradients at an older θ"),
    }
    tables: ClassVar[Tables] = {**UNCODED, "update": {"mode": "first", "late": "waste"}}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        gradients: Positive | None = None  #: S, gradients of a step; none: `update.count`

    def policy(self) -> Policy:
        return FreshBatch(self.config.update, self.workers, self.options.gradients)
