"""Schedule-free descent: gradients between the iterate and the mean of all iterates, which is the result.

Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, "The road less scheduled", NeurIPS 2024. With the base
z and its mean x, gradients are taken at θ = (1 - β)z + βx; then z ← z - η ĝ, and x moves towards z by the
share η²/Σ η² of the steps so far. There is neither a momentum nor an end at which rates have to fall. θ and x
are kept, which tell z.

This project's: lengths of layers' steps can be bounded (`longest`). Whitened gradients have one length, their
mean over workers between 1/√n and 1 of it: the more workers agree, the longer. They agree where the descent
follows a narrow valley, as with many matrices, and there the longest steps are too long. Where shards differ,
gradients are not whitened, and the same bound holds for their lengths (docs/results/whitening.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..config import OptimizerTable, Real
from ..kernels import optimize
from ..transport.units import Blocks
from .optimizers import Optimizer

if TYPE_CHECKING:
    from ..decoders import Decoder
    from ..transport.units import Unit


class ScheduleFree(Optimizer):
    """Steps of a base, whose mean is the average of θ; θ, where gradients are taken, is between both."""

    table: ScheduleFreeTable
    moments = ("mean",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.state["weight"] = np.zeros(1)  # Σ η²; 0: the mean is not set yet
        # Parts of each layer, with decoder, gradient, θ and mean; and the layer's largest length.
        self._groups: list[tuple[list[tuple[Any, ...]], float]] = []

    def step(
        self,
        theta: np.ndarray,
        units: Sequence[Unit],
        decoders: Sequence[Decoder],
        damping: float = 1.0,
        fraction: float = 1.0,
    ) -> float:
        if not self.state["weight"][0]:
            np.copyto(self.state["mean"], theta)
        return super().step(theta, units, decoders, damping, fraction)

    def average(self, average: np.ndarray, theta: np.ndarray, update: int) -> None:
        """Set the average to the mean of the base."""
        np.copyto(average, self.state["mean"])

    def _decay(self, theta: np.ndarray, step: float) -> None:
        part = self.state["mean"] * self.dtype.type(self.table.inner)
        theta -= part  # what is left is the base's
        super()._decay(theta, step)
        theta += part

    def _bind(self, theta: np.ndarray, units: Sequence[Unit], decoders: Sequence[Decoder]) -> None:
        super()._bind(theta, units, decoders)
        self._groups = []
        layers: Sequence[Unit] = self._layers or units
        for layer in layers:  # owners have a part of a layer each
            parts = []
            for unit, (decoder, _, gradient, *_) in zip(units, self._plan, strict=True):
                start = max(unit.offset, layer.offset)
                place = slice(start, min(unit.offset + unit.length, layer.offset + layer.length))
                if place.start < place.stop:
                    held = gradient[start - unit.offset :][: place.stop - place.start]
                    parts.append((decoder, held, theta[place], self.state["mean"][place]))
            self._groups.append((parts, self._longest(layer)))

    def _longest(self, layer: Unit) -> float:
        """Return the largest length of a layer's gradient."""
        if self.table.longest is None or not (isinstance(layer, Blocks) and layer.inputs):
            return inf
        return self.table.longest * sqrt(max(1.0, layer.outputs / (layer.inputs + layer.bias)))

    def _advance(self, rate: float) -> float:
        self.state["weight"] += rate**2
        share, total = rate**2 / self.state["weight"][0], 0.0
        for decoder, *_ in self._plan:
            decoder.solve()
        for parts, longest in self._groups:
            factor = self._shrinkage
            if longest < inf:
                squares = (each.scale**2 * float(np.vdot(held, held)) for each, held, *_ in parts)
                length = factor * sqrt(sum(squares))
                factor *= longest / max(longest, length)
            for decoder, gradient, *points in parts:
                step = rate * factor * decoder.scale
                total += optimize.schedule_free_step(*points, gradient, step, share, self.table.inner)
        return total


class ScheduleFreeTable(OptimizerTable, tag="schedule-free"):
    """Schedule-free descent: gradients are taken near the mean of all steps, which is the average of θ."""

    makes: ClassVar[type[Optimizer]] = ScheduleFree
    touches: ClassVar[float] = 6.0
    gives_way: ClassVar[bool] = True

    average: bool = True  #: as for the other kinds; without it the run returns θ, not the mean
    inner: Annotated[float, Meta(ge=0, lt=1)] = 0.9  #: β, the mean's part of the point of the gradients
    #: largest length of a matrix' decoded gradient, in lengths of a worker's whitened gradient, or as it is
    #: if gradients are not whitened, to which longer ones are scaled; none: no limit
    longest: Real | None = None

    @property
    def bounded(self) -> bool:
        return self.longest is not None

    @property
    def reach(self) -> float:
        return 0.5  # the mean of equal steps' points is half-way
