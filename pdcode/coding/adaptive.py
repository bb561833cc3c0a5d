"""Codes that rank 0 fits to the gradients that it has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import codes
from ..codes.energy import BlockEnergies, energy
from ..problems.partition import Blocks
from ..transport.layout import Pair
from .assignments import Rotating

if TYPE_CHECKING:
    from ..transport.base import Arrival


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
        layers: Sequence[Blocks],
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
