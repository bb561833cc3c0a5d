"""The decoder of codes over data shards: the combination of payloads nearest to a target."""

from typing import Any

import numpy as np

from ..kernels import factor
from .linear import LinearDecoder


class TargetDecoder(LinearDecoder):
    """Target decoder: ĝ = Σ a_i y_i, with the minimum-norm a that minimises ‖Uᵀa - t‖.

    U are the received rows, and t, shape (m,), is the wanted combination of data shards. ĝ is exact as soon
    as t is in the span of the rows: gradient coding (Tandon et al., ICML 2017) has t = 1. For approximate
    gradient codes it is the optimal decoding of Charles, Papailiopoulos and Ellenberg (2017).
    """

    options = (*LinearDecoder.options, "target")

    def __init__(self, *shape: Any, target: Any = (1.0,), **common: Any) -> None:
        self._target = np.asarray(target, np.float64)
        super().__init__(*shape, **common)

    def _prepare(self, capacity: int) -> Any:
        self._factors = factor.Factorisation(len(self._target), capacity)
        return self._factors

    def coefficients(self) -> np.ndarray:
        return (np.asarray(self._factors.pseudoinverse()).T @ self._target)[:, None]

    @property
    def captured(self) -> float:
        """Captured fraction of the target: 1 minus its relative squared distance from the span."""
        if not self.count:
            return 0.0
        weights, codewords = self.coefficients()[:, 0], self._factors.codewords
        missed = self._target - weights @ codewords
        # A deviation within the rounding error of the codewords, times the weights, counts as captured:
        # payloads are rounded at least as much.
        missed[np.abs(missed) <= 2 * np.finfo(self.dtype).eps * (np.abs(weights) @ np.abs(codewords))] = 0
        return 1 - float(missed @ missed / (self._target @ self._target))

    @property
    def decodable(self) -> bool:
        return self.captured > 1 - 1e-9
