"""Information between and within codewords, for jointly Gaussian blocks."""

from typing import Any

import numpy as np

from ...decoders.covariances import covariance_of, root_of, variance_of
from ...util.errors import InputError
from . import projection
from .products import product, times_covariance

STEADY = 1e-9  # noise, relative to a payload's variance, from which the Gram matrix is safely regular


def rows_of(matrix: Any) -> np.ndarray:
    """Return codewords as a float64 array (n, k), from a `Code` or an array-like matrix."""
    rows = np.asarray(getattr(matrix, "matrix", matrix), np.float64)
    if rows.ndim != 2:
        raise InputError(f"matrix: shape {rows.shape} is not (n, k)")
    return rows


def _gram(matrix: Any, covariance: Any) -> np.ndarray:
    """Compute the covariance GΣGᵀ of the payloads, shape (n, n)."""
    rows = rows_of(matrix)
    spread = rows if covariance is None else times_covariance(rows, covariance_of(covariance, rows.shape[1]))
    return product(spread, rows.T)


def information(matrix: Any, covariance: Any = None) -> np.ndarray:
    """Compute the mutual information of the payloads of each pair of codewords.

    I(i, i') = -½ ln(1 - ρ²) with ρ the correlation g_iᵀΣg_i' / √(g_iᵀΣg_i · g_i'ᵀΣg_i'); with Σ = I and unit
    rows that is -½ ln(1 - <g_i, g_i'>²), the information metric on real projective space.

    Parameters
    ----------
    matrix : array_like of shape (n, k), or Code
        Codewords g_i.
    covariance : array_like of shape (k, k) or (k,), optional
        Covariance Σ of the blocks, or its diagonal; identity by default.

    Returns
    -------
    ndarray of float64, shape (n, n)
        Nats per element of a block. Infinite if one payload determines the other: on the diagonal, and for
        parallel codewords. 0 for a codeword without variance, also on the diagonal.

    Raises
    ------
    InputError
        If the shapes do not fit or Σ is not symmetric and positive semidefinite.
    """
    gram = _gram(matrix, covariance)
    variance = np.maximum(np.diagonal(gram), 0.0)
    scale = np.outer(variance, variance)
    squared = np.divide(gram * gram, scale, out=np.zeros_like(gram), where=scale > 0)
    squared[squared > 1 - 1e-14] = 1.0  # parallel up to rounding
    np.fill_diagonal(squared, variance > 0)
    with np.errstate(divide="ignore"):
        return -0.5 * np.log1p(-squared)


def joint_information(matrix: Any, covariance: Any = None, noise: float = 0.0) -> float:
    """Compute the information in all payloads together: ½ ln det(2πe (GΣGᵀ + noise·I)).

    Parameters
    ----------
    matrix : array_like of shape (n, k), or Code
        Codewords.
    covariance : array_like of shape (k, k) or (k,), optional
        Covariance Σ of the blocks, or its diagonal; identity by default.
    noise : float
        Variance of independent noise on each payload (σ², not σ).

    Returns
    -------
    float
        Differential entropy in nats per element of a block; -inf without noise if the payloads are linearly
        dependent, as for n > k.

    Raises
    ------
    InputError
        If the shapes do not fit, Σ is not symmetric and positive semidefinite, or the noise is negative.
    """
    noise = variance_of(noise)
    gram = _gram(matrix, covariance)
    spectrum = np.linalg.eigvalsh(gram)
    dependent = len(gram) * np.finfo(np.float64).eps * max(spectrum[-1], 0.0)
    if spectrum[0] <= dependent:  # zero eigenvalues have rounding errors of either sign
        spectrum = np.where(spectrum <= dependent, 0.0, spectrum)
    with np.errstate(divide="ignore"):
        logarithm = np.log(spectrum + noise).sum()
    return float(0.5 * (len(gram) * np.log(2 * np.pi * np.e) + logarithm))


def arrival_information(matrix: Any, covariance: Any = None, noise: float = 0.0) -> np.ndarray:
    """Compute the joint information of the first q payloads for every q, in the order of the rows.

    Parameters
    ----------
    matrix, covariance, noise
        As for `joint_information`; permute the rows for another order.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        Joint information of the first q rows, nats per element of a block; 0 for q = 0, and -inf from the
        first payload that is determined by earlier ones.

    Raises
    ------
    InputError
        As for `joint_information`.
    """
    rows, noise = rows_of(matrix), variance_of(noise)
    gram = _gram(rows, covariance)
    if noise > STEADY * float(np.diagonal(gram).max(initial=0.0)):
        deviations = np.diagonal(np.linalg.cholesky(gram + noise * np.eye(len(gram))))
        variances = np.square(deviations)  # conditional variance of each payload, given the earlier ones
    else:
        root = None if covariance is None else root_of(covariance_of(covariance, rows.shape[1]))
        vectors = rows if root is None else rows @ root
        variances = projection.orthogonalise(vectors[None].copy()).innovation[0] + noise
    with np.errstate(divide="ignore"):
        entropies = 0.5 * np.log(2 * np.pi * np.e * variances)
    return np.concatenate([[0.0], np.cumsum(entropies)])
