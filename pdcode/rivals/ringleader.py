"""Ringleader ASGD: asynchronous steps by the mean over a table of every worker's gradients.

Maranjyan and Richtárik, "Ringleader ASGD: the first asynchronous SGD with optimal time complexity under data
heterogeneity", ICLR 2026. For each worker, rank 0 keeps the sum and the number of its gradients, and steps by
the mean over workers of each worker's mean. Shards thus have equal weight, however fast their workers are. A
round of n steps has two phases. In the first, rank 0 collects gradients until every worker has one, and no
worker waits; the last of these gradients makes the first step. In the second phase, the next gradient of each
other worker is added to its entry and makes a step, after which only that worker is sent the new θ. The
gradients of a worker that has made its step are collected in the table of the next round. No gradient is
dropped, and none is used at a delay above 2n - 2.

Source: descriptions of the paper and its authors' code, not the paper itself. As in that code a worker is
always sent the newest θ, so that the gradients of an entry may be of several θ; in the paper they are of one.
The step size for gradients of variance σ² is proportional to the harmonic mean over workers of the numbers of
gradients in the table. Collecting until that mean is large enough, option ``gradients``, is after Malenia SGD
(Tyurin and Richtárik, "Optimal time complexities of parallel stochastic optimization methods under a fixed
computation model", NeurIPS 2023). Continuing without a worker whose gradient is not finite is our addition.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..codes import Code
from ..coding.policies import Policy, Progress
from ..config import Factor, Table, Tables, UpdateTable
from ..config.requirements import Needs, one_of
from ..decoders import Decoder
from ..problems import Problem
from ..schemes.base import NOT_SUMMED, UNCODED, WHITENING, Scheme
from ..schemes.common.assignments import Assignment, DataRows
from ..transport.units import Unit
from ..util.memory import ensure_fits


class GradientTable(Decoder):
    """Decoder that averages each worker's gradients, and then over workers; a codeword is a worker's number.

    The table is complete if the harmonic mean over workers of the numbers of gradients is at least
    `gradients`.
    """

    options = (*Decoder.options, "workers", "gradients")
    state_names = (*Decoder.state_names, "_means", "_next", "_counts", "_stepped", "_last")

    def __init__(self, *shape: Any, workers: int = 1, gradients: float = 1.0, **common: Any) -> None:
        super().__init__(*shape, **common)
        self._needed, size = gradients, len(self.accumulator)
        # Mean of each worker's gradients in the table that has its last gradient.
        self._means = np.zeros((workers, size), self.dtype)
        # Tables of this round and the next: sum of the means, and number of gradients by worker.
        self._next = np.zeros(size, self.dtype)
        self._sums = self.accumulator, self._next
        self._counts = np.zeros((2, workers), np.int64)
        self._stepped = np.zeros(workers, bool)  # workers that have made their step of this round
        self._last = 0, 0  # table and worker of the last gradient
        self._change = np.empty(size, self.dtype)

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        worker = int(indices[0, 0])
        self._last = table, _ = int(self._stepped[worker]), worker
        number = self._counts[table, worker] = self._counts[table, worker] + 1
        mean = self._means[worker]
        if number == 1:
            mean.fill(0)  # the mean was of an earlier table
        np.subtract(payload[0], mean, out=self._change)
        self._change /= number
        mean += self._change
        self._sums[table][:] += self._change
        self.count += 1

    @property
    def captured(self) -> float:
        """Fraction of the workers in the table of the last gradient; 1 if it is complete."""
        counts = self._counts[self._last[0]]
        found = counts[counts > 0]
        if not len(found):
            return 0.0
        mean = float(np.reciprocal(found, dtype=np.float64).mean())
        return len(found) / len(counts) * min(1.0, 1 / (self._needed * mean))

    @property
    def scale(self) -> float:
        return 1 / max(1, int(np.count_nonzero(self._counts[0])))

    def solve(self) -> None:
        """Begin the next round if the last gradient belongs to it: this one gets no other finite one."""
        table, worker = self._last
        if table:
            self._begin_round()
            self._last = 0, worker

    def reset(self) -> None:
        _, worker = self._last
        self._stepped[worker] = True
        if self._stepped.all():
            self._begin_round()
        self.count = 0

    def _begin_round(self) -> None:
        """Begin the next round with the gradients collected for it."""
        for kept in self._sums, self._counts:
            kept[0][:], kept[1][:] = kept[1], 0
        self._stepped.fill(False)


class CompleteTable(Policy):
    """Policy that steps when the table is complete, counting only workers with a task; no worker waits."""

    workers_wait, waits_for_overdue = False, True

    def __init__(self, table: UpdateTable, workers: int) -> None:
        super().__init__(table, workers)
        self._workers = workers

    def ready(self, progress: Progress, expected: int) -> bool:
        return progress.captured * self._workers >= expected - 1e-6


class Ringleader(Scheme):
    """Ringleader ASGD: a step is the mean over workers of each worker's mean gradient.

    It is for fixed, different shards, where asynchronous SGD favours the shards of fast workers. Rank 0 keeps
    a vector of θ's size for each worker.
    """

    name = "ringleader"
    summary = "full gradients; rank 0 steps by a table of every worker's"
    requires: ClassVar[Needs] = {"reduce.kind": one_of("star", why=NOT_SUMMED)}
    unused = ("code", "memory", "decoder", "update", "downlink", *WHITENING)
    tables: ClassVar[Tables] = {**UNCODED, "update": {"mode": "captured", "fraction": 1.0}}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        #: harmonic mean, over workers, of the numbers of gradients from which on a round's steps begin
        gradients: Factor = 1.0

    def policy(self) -> Policy:
        return CompleteTable(self.config.update, self.workers)

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(0, problem.size, 1)]

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        return DataRows(units, np.dtype(self.config.problem.dtype), np.eye(self.workers, dtype=np.int8))

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        (unit,), dtype = units, np.dtype(self.config.problem.dtype)
        size = self.workers * unit.length * dtype.itemsize
        ensure_fits("workers.count", f"a gradient of each of {self.workers} workers", size)
        return [GradientTable(1, unit.shape, dtype, workers=self.workers, gradients=self.options.gradients)]
