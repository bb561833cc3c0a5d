"""Random-k: random elements of the gradient, with error feedback or unbiased.

With error feedback (Stich, Cordonnier and Jaggi, "Sparsified SGD with memory", NeurIPS 2018) rank 0 adds the
payloads. Without a memory it scales them by d/k, which is unbiased (Wangni, Wang, Liu and Zhang, "Gradient
sparsification for communication-efficient distributed optimization", NeurIPS 2018; here all elements are
equally likely). Rank 0 and the worker draw the elements, keyed by (seed, worker, task); no index is sent.
"""

from collections.abc import Sequence
from math import ceil
from typing import ClassVar

import numpy as np

from ..config.requirements import Needs, one_of
from ..kernels import selection
from ..problems import Problem
from ..schemes.base import CodewordRule, Work
from ..schemes.common.assignments import Assignment
from ..schemes.elements import NO_SQUARE_MATRIX, SingleElements
from ..transport.layout import Codewords, Layout, Pair
from ..transport.units import Unit
from ..util.rng import ELEMENTS

DRAW_FLOPS = 8.0  # operations per drawn element


class RandomElements(Assignment):
    """Random elements of each unit, keyed by (seed, worker, task): `draws` sets of as many as in `sizes`.

    The elements of a set are distinct, and all sets are equally likely.
    """

    state_names = ("_tasks",)

    def __init__(
        self,
        units: Sequence[Unit],
        sizes: Sequence[int],
        dtype: np.dtype,
        seed: int,
        workers: int,
        draws: int,
    ) -> None:
        rows = [size if unit.uncoded else draws * size for unit, size in zip(units, sizes, strict=True)]
        super().__init__(units, rows, dtype)
        self._seed, self._tasks, self._draws = seed, [0] * workers, draws
        self._marks = np.zeros(max(unit.count for unit in units) // 64 + 1, np.uint64)

    def row(self, worker: int) -> int:
        task = self._tasks[worker]
        self._tasks[worker] += 1
        return task * len(self._tasks) + worker

    def codewords(self, row: int) -> Codewords:
        key = self._seed, ELEMENTS, *reversed(divmod(row, len(self._tasks)))
        return [
            self.uncoded if unit.uncoded else self._draw(unit.count, r, *key, number)
            for number, (unit, r) in enumerate(zip(self.layers, self.rows, strict=True))
        ]

    def _draw(self, count: int, r: int, *key: int) -> Pair:
        indices = np.empty((self._draws, r // self._draws), np.int32)
        *keys, number = key
        for draw, places in enumerate(indices):
            selection.sample(count, places, *keys, number + draw * len(self.layers), self._marks)
        return indices.reshape(r, 1), np.ones((r, 1), self.dtype)


class RandomK(SingleElements):
    """Random-k sparsification of each layer's gradient, with error feedback or unbiased."""

    name = "randomk"
    summary = "random elements of each layer's gradient, drawn by worker and rank 0, with error feedback"
    requires: ClassVar[Needs] = {
        **SingleElements.requires,
        "decoder.kind": one_of("adjoint", "summing", "tracking", why=NO_SQUARE_MATRIX),
    }

    @property
    def draws(self) -> int:
        """Number of sets of elements that a task draws."""
        return 1

    def codewords(self, units: Sequence[Unit]) -> CodewordRule:
        drawn = self.assignment(units)
        return CodewordRule(drawn.rows, keyed=drawn.codewords)

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        sizes = [max(1, ceil(self.options.share * unit.count - 1e-9)) for unit in units]
        dtype = np.dtype(self.config.problem.dtype)
        return RandomElements(units, sizes, dtype, self.config.seed, self.workers, self.draws)

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        return super().work(problem, layouts, number, shard).plus(DRAW_FLOPS * sum(layouts[number].rows))
