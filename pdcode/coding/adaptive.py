"""Codes that rank 0 fits to the gradients that it has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import codes
from ..codes.eigenbasis import Eigenbasis, random_directions
from ..codes.energy import BlockEnergies, energy
from ..problems.partition import Unit
from ..transport.layout import Codewords, Pair
from .assignments import Assignment, Rotating

if TYPE_CHECKING:
    from ..decoders import Decoder
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


class SharedBasis(Assignment):
    """One basis for all workers: leading eigenvectors of the decayed covariance of the decoded blocks.

    For comparison with codewords that differ from worker to worker; see `codes.eigenbasis`. The last codeword
    is a random direction orthogonal to the others, at every second update if r = 1, as decoded gradients show
    nothing of what no codeword asks for.

    Parameters
    ----------
    seed : int
        Key of its random directions.
    decay : float
        Share of the old covariance that an update leaves.
    """

    def __init__(
        self, layers: Sequence[Unit], rows: Sequence[int], dtype: np.dtype, seed: int, decay: float
    ) -> None:
        super().__init__(layers, rows, dtype)
        self.weights = [layer.count for layer in self.layers]
        self.bases = [
            None if layer.whole else Eigenbasis(layer.count, r, decay, dtype=self.dtype, seed=seed + number)
            for number, (layer, r) in enumerate(zip(self.layers, self.rows, strict=True))
        ]
        self._seed, self._steps = seed, 0
        self.stepped()

    def codewords(self, row: int) -> Codewords:
        return self._words

    def stepping(self, decoders: Sequence[Decoder]) -> None:
        for basis, decoder in zip(self.bases, decoders, strict=True):
            if basis is not None:
                decoder.solve()
                basis.update(decoder.accumulator.reshape(decoder.blocks, decoder.elements))

    def stepped(self) -> None:
        self._words = [
            self.whole if basis is None else self._explore(basis, number)
            for number, basis in enumerate(self.bases)
        ]
        self._steps += 1

    def _explore(self, basis: Eigenbasis, number: int) -> Pair:
        """A copy of a basis, as tasks that are out still refer to the old one, with a random last row."""
        indices, leading = basis.codewords()
        values = leading.copy()
        if len(values) > 1 or self._steps % 2:
            kept = values[:-1].astype(np.float64)
            last = random_directions(1, values.shape[1], self._seed + number, self._steps)[0]
            for _ in range(2):  # once more, as little may be left of it
                last = last - kept.T @ (kept @ last)
                last /= np.linalg.norm(last)
            values[-1] = last
        return indices, values
