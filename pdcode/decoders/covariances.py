"""Covariances of blocks and variances of noise, as users give them."""

from typing import Any

import numpy as np

from ..util.errors import InputError


def covariance_of(covariance: Any, blocks: int) -> np.ndarray:
    """Return the covariance Σ of the blocks, float64 (k, k), from None (identity), k energies, or Σ."""
    if covariance is None:
        return np.eye(blocks)
    try:
        sigma = np.asarray(covariance, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"covariance: not a ({blocks}, {blocks}) matrix of numbers") from None
    if sigma.shape == (blocks,):
        sigma = np.diag(sigma)
    if sigma.shape != (blocks, blocks) or not np.isfinite(sigma).all() or not np.allclose(sigma, sigma.T):
        raise InputError(f"covariance: not a symmetric ({blocks}, {blocks}) matrix, nor {blocks} energies")
    spectrum = np.linalg.eigvalsh(sigma) if blocks else np.zeros(1)
    if spectrum[0] < -1e-9 * max(spectrum[-1], 0.0) or spectrum[-1] < 0:
        raise InputError(f"covariance: not positive semidefinite; its least eigenvalue is {spectrum[0]:.3g}")
    return sigma


def root_of(sigma: np.ndarray) -> np.ndarray:
    """Return a square matrix L with LLᵀ = Σ, for a positive semidefinite Σ."""
    if not (sigma - np.diag(np.diagonal(sigma))).any():
        return np.diag(np.sqrt(np.maximum(np.diagonal(sigma), 0.0)))
    values, vectors = np.linalg.eigh(sigma)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def variance_of(noise: float) -> float:
    """Return a noise variance as a float; raise InputError if it is negative or not a finite number."""
    if not isinstance(noise, int | float | np.number):
        raise InputError(f"noise = {noise!r}: not a number")
    if not 0 <= noise < np.inf:
        raise InputError(f"noise = {noise}: {'negative' if noise < 0 else 'not a finite number'}")
    return float(noise)
