"""Adaptive codes: fitted to gradients by each worker, or by rank 0 to the payloads it has received."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ... import codes
from ...codes.constructions.energy import BlockEnergies, energy
from ...config import CodeTable, Positive, Table
from ...config.requirements import KeyNeeds, lacking
from ...transport.layout import Pair
from ...transport.units import Unit
from .assignments import Assignment, Rotating, WorkerSelected

if TYPE_CHECKING:
    from ...transport.base import Arrival


UNKNOWN = "has worker-selected codewords, whose number does not determine the fraction they capture"


class MatchedTable(CodeTable, tag="matched"):
    """Worker-selected codewords, along the directions in which the vector to send is largest."""

    worker_selected: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {
        **CodeTable.requires,
        "family": {"update.mode": lacking("by_fraction", "a mode that counts, such as 'first'", UNKNOWN)},
    }

    #: largest number of blocks that a codeword combines, of all layers or of each; none: 32
    weight: Positive | list[Positive] | None = None

    def make(self, config: Any, layers: Any, rows: Any, weights: Any, dtype: Any) -> Assignment:
        return WorkerSelected(layers, rows, dtype, weights)


class EnergyOptions(Table):
    """Options of `codes.constructions.energy`."""

    exponent: Any = 0.5  #: exponent of the blocks' energies, to which a codeword's entries are proportional


class EnergyTable(CodeTable, tag="energy"):
    """Codewords of one fixed block each and random others, drawn by the block energies seen at rank 0."""

    default_weight: ClassVar[int] = 4

    #: blocks combined by a codeword, of all layers or of each; none: 4
    weight: Positive | list[Positive] | None = None
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9  #: factor on the blocks' running energies at each arrival
    options: EnergyOptions = EnergyOptions()  #: options of the family

    def make(self, config: Any, layers: Any, rows: Any, weights: Any, dtype: Any) -> Assignment:
        each_update, exponent = not config.update.asynchronous, self.options.exponent
        return Energy(layers, rows, dtype, weights, config.seed, self.decay, each_update, exponent)


class Energy(Rotating):
    """Codewords of one fixed block and w - 1 others, drawn with probability ∝ decayed block energy.

    A new code of k rows is drawn from the current energies when the rows run out, and at every update if
    `each_update`. Reproducing a task's codewords therefore takes its row number and all earlier arrivals.
    `decay` is a factor on running energies at each arrival; for `exponent` see `codes.constructions.energy`.
    """

    state_names = (*Rotating.state_names, "energies", "_drawn")  # codewords suit earlier energies

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
        coded = {layer.count: w for layer, w in zip(layers, weights, strict=True) if not layer.uncoded}
        self._exponent = exponent
        designs = {
            k: codes.design("energy", workers=k, blocks=k, weight=w, seed=seed, exponent=exponent)
            for k, w in coded.items()
        }
        super().__init__(layers, rows, dtype, designs, seed, each_update)
        self.energies = [
            None if layer.uncoded else BlockEnergies(layer.count, decay) for layer in self.layers
        ]

    def _draw(self, number: int, k: int, epoch: int) -> Pair:
        tracker = self.energies[number]
        assert tracker is not None
        weight = self.weights[number]
        indices, values = energy(k, k, weight, self.seed, tracker.energies, self._exponent, epoch)
        return np.ascontiguousarray(indices, np.int32), np.ascontiguousarray(values, self.dtype)

    def arrived(self, arrival: Arrival) -> None:
        for tracker, (indices, values), payload in zip(
            self.energies, arrival.codewords, arrival.payloads, strict=True
        ):
            if tracker is not None:
                tracker.update(indices, values, payload)
