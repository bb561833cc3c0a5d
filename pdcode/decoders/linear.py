"""Base of decoders whose estimate is linear in the payloads, with coefficients from the codewords."""

from abc import abstractmethod
from math import sqrt

import numpy as np

from ..kernels import factor
from .deferred import DeferredDecoder, Structure

TILE = 1 << 14  # payload elements per pass when residuals are computed


class LinearDecoder(DeferredDecoder):
    """Linear decoder: ĝ = W y, with W from a factorisation of the codewords.

    The algebra runs on the codewords, O(k·q) per arrival, in float64. Payloads stay where they were received
    and are read once, when the gradient is needed.
    """

    state_names = (*DeferredDecoder.state_names, "_solved")
    _solved = 0  # number of codewords that the accumulator accounts for; -1: unknown

    def _prepare(self, capacity: int) -> Structure:
        self._factors = factor.Factorisation(self.blocks, capacity)
        return self._factors

    @abstractmethod
    def coefficients(self) -> np.ndarray:
        """Return Wᵀ, shape (q, k): the weight of each payload in each block."""

    def _used_rows(self) -> np.ndarray | slice:
        """Return the payload rows to which the coefficients apply."""
        return slice(None)

    def _write_estimate(self, out: np.ndarray) -> None:
        """Write the estimate into `out`, shape (k, e)."""
        if self.count:
            self._received.combine(self.coefficients(), out, rows=self._used_rows())
        else:
            out.fill(0)

    def solve(self) -> None:
        if self._solved != self.count:
            self._write_estimate(self.accumulator.reshape(self.blocks, self.elements))
            self._solved = self.count

    def gradient(self, out: np.ndarray | None = None) -> np.ndarray:
        if self._solved == self.count:
            return super().gradient(out)
        result = self._result(out)
        self._write_estimate(result.reshape(self.blocks, self.elements))  # directly, without the accumulator
        result.reshape(-1)[self.length :] = 0
        return result

    @property
    def captured(self) -> float:
        """Captured fraction rank/k."""
        return self._factors.rank / self.blocks

    @property
    def decodable(self) -> bool:
        """Whether the codewords have rank k, so that they determine the gradient."""
        return self._factors.rank == self.blocks

    def residuals(self) -> np.ndarray:
        """Return ‖y_i - g_iᵀ ĝ‖ for each codeword that has arrived, float64, shape (q,): a check on faults.

        For least squares it is zero up to rounding until arrivals are redundant, and then large only if
        payloads contradict each other. It takes one more pass over the payloads, q/k of the gradient's cost.
        """
        squares = np.zeros(self.count)
        if not self.count:
            return squares
        combined = (self._factors.codewords @ self.coefficients().T).T  # G W, transposed
        matrix = np.eye(self.count)
        matrix[self._used_rows()] -= combined
        for start in range(0, self.elements, TILE):
            tile = np.empty((self.count, min(TILE, self.elements - start)), self.dtype)
            self._received.combine(matrix, tile, start)
            squares += np.einsum("ij,ij->i", tile, tile)
        return np.sqrt(squares)

    @property
    def residual(self) -> float:
        """Norm of y - Gĝ over all arrivals; computed on request, by one pass."""
        return sqrt(float(np.square(self.residuals()).sum()))

    def reset(self) -> None:
        super().reset()
        self._solved = -1
