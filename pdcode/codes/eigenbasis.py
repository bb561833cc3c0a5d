"""The coordinator's shared eigenbasis: codewords that all workers have in common, for comparison.

Rank 0 keeps the decayed covariance of the blocks of decoded gradients D (k, e), Σ ← decay · Σ + D Dᵀ / e, and
makes its leading eigenvectors the codewords of everyone, as PowerSGD (Vogels, Karimireddy and Jaggi, NeurIPS
2019) shares the basis of its low-rank gradients. A decoded gradient lies in the span of the codewords that it
was made of, so whoever uses this sends some other direction along, or nothing new would
ever be learnt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..util.errors import InputError
from . import keyed


def random_directions(rows: int, blocks: int, seed: int, epoch: int) -> np.ndarray:
    """Keyed random orthonormal rows, float64, shape (r, k), r ≤ k."""
    draws = keyed.uniforms(seed, keyed.SUPPORTS, epoch, (blocks, rows)) - 0.5
    return np.linalg.qr(draws)[0].T


class Eigenbasis:
    """Shared dense codewords from the covariance of the blocks.

    Parameters
    ----------
    blocks, rows : int
        k and r ≤ k.
    decay : float
        In [0, 1): what an update leaves of the old covariance.
    period : int
        Updates from one basis to the next; the eigenvectors cost O(k³).
    dtype : dtype-like
        float32 or float64, of the codewords' values.
    seed : int
        Key of the first codewords, which are random.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    def __init__(
        self,
        blocks: int,
        rows: int,
        decay: float = 0.9,
        period: int = 1,
        dtype: npt.DTypeLike = np.float32,
        seed: int = 0,
    ) -> None:
        if not 1 <= rows <= blocks:
            raise InputError(
                f"rows = {rows}: not from 1 to the {blocks} blocks; nearest: {blocks if rows > 1 else 1}"
            )
        if not 0 <= decay < 1:
            raise InputError(f"decay = {decay}: must be at least 0 and less than 1; nearest: 0 or 0.99")
        if period < 1:
            raise InputError(f"period = {period}: not a positive whole number; nearest: 1")
        self.decay, self.period = decay, period
        self._updates = 0
        self._covariance = np.zeros((blocks, blocks))
        self._product = np.empty((blocks, blocks), dtype)
        self._indices = np.tile(np.arange(blocks, dtype=np.int32), (rows, 1))
        self._values = random_directions(rows, blocks, seed, 0).astype(dtype)

    def update(self, gradient: np.ndarray) -> None:
        """Fold in a decoded gradient, shape (k, …); one that is not finite is ignored.

        O(k²e) flops; every `period` times the codewords change.
        """
        flat = gradient.reshape(len(self._covariance), -1)
        if self._product.dtype != flat.dtype:
            self._product = np.empty_like(self._product, flat.dtype)
        np.matmul(flat, flat.T, out=self._product)
        if np.isfinite(self._product).all():
            self._covariance *= self.decay
            self._covariance += self._product / max(1, flat.shape[1])
        self._updates += 1
        if self._updates % self.period == 0 and self._covariance.any():
            leading = np.linalg.eigh(self._covariance)[1][:, ::-1]
            self._values[:] = leading[:, : len(self._values)].T

    def codewords(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices (r, k), int32, and values (r, k), orthonormal rows; overwritten by `update`."""
        return self._indices, self._values
