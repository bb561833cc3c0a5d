"""Codes that are fitted to gradients: by workers to their own, or by rank 0 to those seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from .. import codes
from ..codes.constructions.energy import BlockEnergies, energy
from ..config.tables import CodeTable, Config, Positive, Table
from ..problems.partition import Unit
from ..transport.layout import Pair
from .assignments import Assignment, Chosen, Rotating

if TYPE_CHECKING:
    from ..transport.base import Arrival


class MatchedTable(CodeTable, tag="matched"):
    """Each worker takes the directions in which what it has to send is largest."""

    chosen: ClassVar[bool] = True

    weight: Positive | list[Positive] | None = None  # largest weight; none: 32

    def make(
        self,
        config: Config,
        layers: Sequence[Unit],
        rows: Sequence[int],
        weights: Sequence[int],
        dtype: np.dtype,
    ) -> Assignment:
        return Chosen(layers, rows, dtype, weights)


class EnergyOptions(Table):
    """Options of `codes.energy`."""

    exponent: Any = 0.5  # of the energies, in the codewords' entries


class EnergyTable(CodeTable, tag="energy"):
    """One own block a codeword, and others drawn by the block energies that rank 0 has seen."""

    usual: ClassVar[int] = 4

    weight: Positive | list[Positive] | None = None  # none: 4
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9  # of what is remembered of the energies
    options: EnergyOptions = EnergyOptions()

    def make(
        self,
        config: Config,
        layers: Sequence[Unit],
        rows: Sequence[int],
        weights: Sequence[int],
        dtype: np.dtype,
    ) -> Assignment:
        each_update, exponent = config.update.mode != "async", self.options.exponent
        return Energy(layers, rows, dtype, weights, config.seed, self.decay, each_update, exponent)


class Energy(Rotating):
    """Supports drawn by decayed block energies: one own block, and w - 1 more with probability ∝ energy.

    A fresh code of k rows is drawn by the energies that are known then, each time it is used up or at every
    update; so the row number tells the codewords only together with what has arrived before.

    Parameters
    ----------
    weights : sequence of int
        w of each layer's codewords.
    seed : int
        Key of the draws.
    decay : float
        Share of the old energies that an arrival leaves.
    each_update : bool
        Whether every update begins with a fresh code.
    exponent : float
        See `codes.energy`.
    """

    def __init__(
        self,
        layers: Sequence[Unit],
        rows: Sequence[int],
        dtype: np.dtype,
        weights: Sequence[int],
        seed: int,
        decay: float,
        each_update: bool = False,
        exponent: Any = 0.5,
    ) -> None:
        coded = {layer.count: w for layer, w in zip(layers, weights, strict=True) if not layer.whole}
        self._exponent = exponent
        designs = {
            k: codes.design("energy", workers=k, blocks=k, weight=w, seed=seed, exponent=exponent)
            for k, w in coded.items()
        }
        super().__init__(layers, rows, dtype, designs, seed, each_update)
        self.energies = [None if layer.whole else BlockEnergies(layer.count, decay) for layer in self.layers]

    def _draw(self, number: int, k: int, epoch: int) -> Pair:
        known = self.energies[number]
        assert known is not None
        indices, values = energy(k, k, self.weights[number], self.seed, known.energies, self._exponent, epoch)
        return np.ascontiguousarray(indices, np.int32), np.ascontiguousarray(values, self.dtype)

    def arrived(self, arrival: Arrival) -> None:
        for known, (indices, values), payload in zip(
            self.energies, arrival.codewords, arrival.payloads, strict=True
        ):
            if known is not None:
                known.update(indices, values, payload)
