"""Top-k with error feedback (Stich, Cordonnier and Jaggi, "Sparsified SGD with memory", NeurIPS 2018).

With `chunk`, the payload has the largest elements of every chunk of a layer and their indices in the chunk,
12 bits each for chunks of 4,096, as in SparseLoCo (Sarfi et al., "Communication efficient LLM pre-training
with SparseLoCo", 2025).
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import ClassVar

import numpy as np

from ..coding import flops
from ..coding.memory import CodewordSelector
from ..config import Positive, Tables
from ..config.requirements import Needs, none_of
from ..fitted import LONGEST_SPARSE_STEP
from ..kernels import selection
from ..problems import Problem
from ..transport.codewords import Chunks
from ..transport.layout import Layout, Pair
from ..transport.units import Unit
from ..util.stateful import Stateful
from .base import EQUAL, EXCHANGE, FIRST, NESTEROV, TWO_BITS, WHITENED, CodewordRule, Entrants, Work
from .common.assignments import Assignment, WorkerSelected
from .elements import SingleElements


class LargestElements(Stateful):
    """Selector of the elements of largest absolute value in each chunk; among equal ones, the first."""

    def __init__(self, length: int, chunks: Chunks, dtype: np.dtype) -> None:
        # The kernel is slower, but still exact, in the rare case of more candidates than this.
        room = min(chunks.size, 4 * chunks.selected + chunks.size // 64 + 256)
        self._scratch = np.empty(room, dtype), np.empty(room, np.int32)
        self._chunks = chunks
        rows = chunks.rows(length)
        self._codewords: Pair = np.empty((rows, 1), np.int32), np.ones((rows, 1), dtype)

    def select(self, residual: np.ndarray) -> Pair:
        selection.largest(residual, *self._chunks, self._codewords[0].reshape(-1), *self._scratch)
        return self._codewords


class TopK(SingleElements):
    """Top-k sparsification of each layer's gradient, with error feedback."""

    name = "topk"
    summary = "the largest elements of each layer's gradient, with error feedback"
    entrants: ClassVar[Entrants] = {
        "top-k": EXCHANGE,
        "top-k first-q": f"{FIRST}{TWO_BITS}{EXCHANGE}{NESTEROV}",
        "whitened top-k": ":whitened",
        "whitened top-k first-q": f"{FIRST}{TWO_BITS}{EXCHANGE}{WHITENED}",
    }
    requires: ClassVar[Needs] = {
        "memory.kind": none_of(
            "coordinator",
            needed="'worker'",
            why="sends the largest elements, from which it estimates nothing",
        ),
        **SingleElements.requires,
    }
    longest_step: ClassVar[float] = LONGEST_SPARSE_STEP
    presets: ClassVar[Mapping[str, Tables]] = {
        # Very slow links: few elements of gradients of equal length, to rank 0 and to the other workers.
        "whitened": {
            "scheme": {"options": {"share": 0.004}},
            "code": {**SingleElements.tables["code"], **EQUAL},
            "memory": {"kind": "worker", "lookahead": "auto"},
            "wire": {"dtype": "int2"},
            "downlink": {"kind": "exchange"},
            "update": {"mode": "async"},
            "optimizer": {"rate": 1.0, "average": True},
        }
    }

    class Options(SingleElements.Options):
        """Keys of ``[scheme] options``."""

        #: elements of a chunk; the fraction `share` of each chunk is sent; none: a chunk is a layer
        chunk: Positive | None = None

    def chunks(self, units: Sequence[Unit]) -> list[Chunks]:
        """Return the chunks of each unit."""
        sizes = [min(self.options.chunk or unit.count, unit.count) for unit in units]
        return [Chunks(size, max(1, ceil(self.options.share * size - 1e-9))) for size in sizes]

    def codewords(self, units: Sequence[Unit]) -> CodewordRule:
        chunks, dtype = self.chunks(units), np.dtype(self.config.problem.dtype)
        pairs = list(zip(units, chunks, strict=True))

        def select(worker: int) -> list[CodewordSelector | None]:
            return [None if unit.uncoded else LargestElements(unit.length, own, dtype) for unit, own in pairs]

        return CodewordRule([own.rows(unit.count) for unit, own in pairs], select, chunks=chunks)

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        rows, dtype = self.codewords(units).rows, np.dtype(self.config.problem.dtype)
        return WorkerSelected(units, rows, dtype, [1] * len(units))

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        selection = flops.touched(problem, 3.0)
        return super().work(problem, layouts, number, shard).plus(selection)
