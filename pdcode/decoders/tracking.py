"""The tracking decoder: a gradient estimate that persists between updates."""

from math import sqrt
from typing import Any, ClassVar

import numpy as np

from ..config import DecoderTable, Fraction
from ..kernels import decode
from ..util.errors import InputError
from .base import Decoder, finite_float


class TrackingDecoder(Decoder):
    """Tracking decoder: z ← z + α·g_i ⊗ (y_i - g_iᵀ z)/‖g_i‖², Kaczmarz's method; z survives `reset`.

    The SEGA/JacSketch family (Hanzely, Mishchenko, Richtárik, NeurIPS 2018). Directions that were not sampled
    keep their last value, so the projection noise vanishes as the descent converges. Codewords may have any
    norm; zero codewords change nothing. `step` is α in (0, 2): 1 makes z consistent with the newest payload,
    smaller values damp sampling noise. O(w·e) for each codeword.
    """

    options = (*Decoder.options, "step")
    state_names = (*Decoder.state_names, "_squared")

    def __init__(self, *shape: Any, step: float = 1.0, **common: Any) -> None:
        super().__init__(*shape, **common)
        self.step = finite_float("decoder.step", step)
        if not 0 < self.step < 2:
            raise InputError(f"decoder.step = {step}: not between 0 and 2, where tracking converges")
        self._squared = float("nan")

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        self._squared = decode.tracking_decode(self.accumulator, indices, values, payload, self.step)
        self.count += len(payload)

    @property
    def residual(self) -> float:
        """Norm of y - Gz of the last arrival, before its update of z; nan before the first."""
        return sqrt(self._squared)

    def reset(self) -> None:
        """Begin a new update and keep z."""
        self.count = 0


class TrackingTable(DecoderTable, tag="tracking"):
    """A gradient estimate that persists between updates."""

    makes: ClassVar[type[Decoder]] = TrackingDecoder
    relays: ClassVar[bool] = True

    step: Fraction = 1.0  #: step size α of the projections
