"""Top-k with error feedback (Stich, Cordonnier and Jaggi, "Sparsified SGD with memory", NeurIPS 2018).

The largest elements of a layer are one worker-selected codeword over its single elements: their values at
unit norm, rounded to one byte each, with their norm as the payload. The rounding error stays in the memory
with the elements that were not selected.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import ClassVar

import numpy as np

from ..coding.assignments import Assignment, Chosen
from ..coding.memory import CodewordSelector
from ..config.tables import Config, Fraction, Table, Tables
from ..kernels import selection, specialise
from ..problems import Problem
from ..problems.partition import Unit
from ..transport.layout import Layout, Pair
from ..util.errors import InputError
from .base import Scheme


class Largest:
    """Selector of the elements of largest absolute value; of equal ones the first.

    Parameters
    ----------
    length, count : int
        Number of elements, and of those to select.
    dtype : dtype
        float32 or float64.
    """

    def __init__(self, length: int, count: int, dtype: np.dtype) -> None:
        room = min(length, 4 * count + length // 64 + 256)  # more candidates than these are rare
        self._largest = specialise(selection.largest, dtype)
        self._scratch = np.empty(room, dtype), np.empty(room, np.int32)
        self._length, self._count = length, count

    def select(self, residual: np.ndarray) -> Pair:
        places = np.empty(self._count, np.int32)
        self._largest(residual, self._length, self._count, places, *self._scratch)
        values = residual[places]
        largest = np.abs(values).max()  # whose square may be out of range
        if largest > 0:
            values /= largest
            values /= np.linalg.norm(values)
        return places[None], values[None]


class TopK(Scheme):
    """Top-k sparsification of each layer's gradient, with error feedback."""

    name = "topk"
    summary = "the largest elements of each layer's gradient, with error feedback"
    chosen = True
    unused = ("code",)
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "worker"},
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        share: Fraction = 0.01  #: fraction of a layer's elements that a task sends, rounded up

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        if config.memory.kind == "coordinator":
            raise InputError("memory.kind: 'coordinator' estimates nothing from elements that workers choose")
        if config.decoder.kind not in ("adjoint", "summing"):
            raise InputError(
                f"decoder.kind: '{config.decoder.kind}': scheme 'topk' needs 'adjoint' or 'summing'"
            )
        if config.update.mode == "captured":
            raise InputError("update.mode: 'captured' is undefined for worker-selected elements")

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(layer.offset, layer.length, layer.length) for layer in problem.layers]

    def rows(self, units: Sequence[Unit]) -> list[int]:
        return [1] * len(units)

    def counts(self, units: Sequence[Unit]) -> list[int]:
        """Return the number of elements of each unit that a task sends."""
        return [max(1, ceil(self.options.share * unit.count - 1e-9)) for unit in units]

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        return Chosen(units, self.rows(units), np.dtype(self.config.problem.dtype), self.counts(units))

    def selectors(self, units: Sequence[Unit], worker: int) -> list[CodewordSelector | None]:
        dtype = np.dtype(self.config.problem.dtype)
        return [
            None if unit.whole else Largest(unit.count, k, dtype)
            for unit, k in zip(units, self.counts(units), strict=True)
        ]

    def flops(
        self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None
    ) -> float | np.ndarray:
        # Selection: an absolute value, a comparison and its bit, per element; little per candidate.
        return super().flops(problem, layouts, number, shard) + 5.0 * problem.size
