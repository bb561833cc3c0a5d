"""Majority vote on the signs of payloads."""

from typing import Any

import numpy as np

from ..kernels import decode
from .base import Decoder


class MajorityDecoder(Decoder):
    """Majority vote: ĝ = sign(Σ g_i ⊗ sign(y_i)), 0 for equal numbers of votes for both signs.

    The result is a direction for a step, not an estimate of the gradient's length (Bernstein, Wang,
    Azizzadenesheli and Anandkumar, "signSGD: compressed optimisation for non-convex problems", ICML 2018).
    Until the step the accumulator holds the sum of the votes.
    """

    def __init__(self, *shape: Any, **common: Any) -> None:
        super().__init__(*shape, **common)

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        decode.adjoint_decode(self.accumulator[: self.length], indices, values, np.sign(payload), 1.0)
        self.count += len(payload)

    def solve(self) -> None:
        np.sign(self.accumulator, out=self.accumulator)

    def gradient(self, out: np.ndarray | None = None) -> np.ndarray:
        votes = self.accumulator.copy()
        result = super().gradient(out)
        self.accumulator[:] = votes
        return result

    def reset(self) -> None:
        self.accumulator.fill(0)
        self.count = 0
