"""Information between and within codewords, for jointly Gaussian blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError


def _rows(matrix: Any) -> np.ndarray:
    rows = np.asarray(getattr(matrix, "matrix", matrix), np.float64)
    if rows.ndim != 2:
        raise InputError(f"matrix: shape {rows.shape} is not (n, k)")
    return rows


def _gram(matrix: Any, covariance: Any) -> np.ndarray:
    """Covariance GΣGᵀ of the payloads, shape (n, n)."""
    rows = _rows(matrix)
    if covariance is None:
        return rows @ rows.T
    sigma = np.asarray(covariance, np.float64)
    k = rows.shape[1]
    if sigma.shape != (k, k) or not np.allclose(sigma, sigma.T):
        raise InputError(f"covariance: not a symmetric ({k}, {k}) matrix")
    return rows @ sigma @ rows.T


def information(matrix: Any, covariance: Any = None) -> np.ndarray:
    """Mutual information of the payloads of each pair of codewords.

    I(i, i') = -½ ln(1 - ρ²) with ρ the correlation g_iᵀΣg_i' / √(g_iᵀΣg_i · g_i'ᵀΣg_i'); with Σ = I and unit
    rows that is -½ ln(1 - <g_i, g_i'>²), the information metric on real projective space.

    Parameters
    ----------
    matrix : array_like of shape (n, k), or Code
        Codewords g_i.
    covariance : array_like of shape (k, k), optional
        Covariance Σ of the blocks; identity by default.

    Returns
    -------
    ndarray of float64, shape (n, n)
        In nats for each element of a block. Infinite where a payload determines the other: on the diagonal,
        and for parallel codewords. 0 for a codeword without variance, which tells nothing, also on its
        diagonal.

    Raises
    ------
    InputError
        If the shapes do not fit or Σ is not symmetric.
    """
    gram = _gram(matrix, covariance)
    variance = np.maximum(np.diagonal(gram), 0.0)
    scale = np.outer(variance, variance)
    squared = np.divide(gram * gram, scale, out=np.zeros_like(gram), where=scale > 0)
    squared[squared > 1 - 1e-14] = 1.0  # parallel but for rounding
    np.fill_diagonal(squared, variance > 0)
    with np.errstate(divide="ignore"):
        return -0.5 * np.log1p(-squared)


def joint_information(matrix: Any, covariance: Any = None, noise: float = 0.0) -> float:
    """Information contained in all payloads together: ½ ln det(2πe (GΣGᵀ + noise·I)).

    Parameters
    ----------
    matrix : array_like of shape (n, k), or Code
        Codewords.
    covariance : array_like of shape (k, k), optional
        Covariance Σ of the blocks; identity by default.
    noise : float
        Variance of independent noise on each payload (σ², not σ).

    Returns
    -------
    float
        Differential entropy in nats for each element of a block; -inf without noise if the payloads are
        linearly dependent, as they are for n > k.

    Raises
    ------
    InputError
        If the shapes do not fit, Σ is not symmetric, or the noise is negative.
    """
    if noise < 0:
        raise InputError(f"noise = {noise}: negative")
    gram = _gram(matrix, covariance)
    spectrum = np.linalg.eigvalsh(gram)
    dependent = len(gram) * np.finfo(np.float64).eps * max(spectrum[-1], 0.0)
    if spectrum[0] <= dependent:  # rounding leaves zero eigenvalues slightly off, on either side
        spectrum = np.where(spectrum <= dependent, 0.0, spectrum)
    with np.errstate(divide="ignore"):
        logarithm = np.log(spectrum + noise).sum()
    return float(0.5 * (len(gram) * np.log(2 * np.pi * np.e) + logarithm))
