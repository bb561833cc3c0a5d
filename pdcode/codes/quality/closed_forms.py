"""Expected captured energy in closed form: the adjoint, rows of weight 1, uncorrelated payloads.

All are for q rows drawn uniformly without replacement and a gradient of block covariance Σ. The energy that
an estimate ĝ captures is 1 - E‖ĝ - d‖² / E‖d‖².
"""

from __future__ import annotations

import numpy as np

from .products import orthogonal, product, times

UNCORRELATED = 1e-12  # fraction of the largest variance below which a covariance is rounding error


def adjoint(rows: np.ndarray, sigma: np.ndarray, arrivals: int) -> np.ndarray:
    """Compute the captured energy of the adjoint ĝ = c Gᵀy of any code, with the best c for each q.

    E‖cGᵀy - d‖² is a quadratic polynomial in c. Its coefficients are sums over pairs of rows, whose means
    over all sets of q rows follow from two traces. For a unit-norm tight frame and Σ = I the result is
    q / (k + (q-1)(n-k)/(n-1)).

    Parameters
    ----------
    rows : ndarray, shape (n, k)
        Code matrix.
    sigma : ndarray, shape (k, k)
        Covariance Σ of the blocks.
    arrivals : int
        Largest q, at most n.

    Returns
    -------
    ndarray of float64, shape (arrivals + 1,)
    """
    n, q = len(rows), np.arange(arrivals + 1)
    frame, spread = product(rows.T, rows), times(rows, sigma)
    first = np.einsum("ik,ik->i", spread, rows)  # g_iᵀΣg_i
    sizes = np.einsum("ik,ik->i", rows, rows)
    both = np.einsum("ij,ji->", times(frame, sigma), frame)  # sum over i, i' of <g_i, g_i'> g_iᵀΣg_i'
    own = float(sizes @ first)
    pair = (both - own) / (n * (n - 1)) if n > 1 else 0.0
    square = q * own / n + q * (q - 1) * pair
    straight = np.square(q * first.mean())
    return np.divide(straight, square, out=np.zeros(len(q)), where=square > 0) / np.trace(sigma)


def single_blocks(rows: np.ndarray, sigma: np.ndarray, arrivals: int, mmse: bool) -> np.ndarray | None:
    """Compute the captured energy of rows of one block, for least squares and mmse, by hypergeometric laws.

    Parameters
    ----------
    rows, sigma, arrivals
        As for `adjoint`, with unit rows.
    mmse : bool
        Whether the decoder is mmse, not least squares.

    Returns
    -------
    ndarray of float64, shape (arrivals + 1,), or None
        None if a row contains several blocks, or, for mmse, if blocks are correlated.
    """
    if (np.count_nonzero(rows, axis=1) > 1).any():
        return None
    if mmse and (sigma - np.diag(np.diagonal(sigma))).any():
        return None
    n, q = len(rows), np.arange(arrivals + 1)
    counts, energies = np.count_nonzero(rows, axis=0), np.diagonal(sigma)
    logarithm = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # of factorials

    def choose(a: int, b: np.ndarray) -> np.ndarray:
        inside = (b >= 0) & (b <= a)
        part = np.where(inside, b, 0)
        return np.where(inside, logarithm[a] - logarithm[part] - logarithm[a - part], -np.inf)

    captured = np.zeros(len(q))
    for c in np.unique(counts[counts > 0]):
        captured += energies[counts == c].sum() * -np.expm1(choose(n - c, q) - choose(n, q))
    return captured / energies.sum()


def uncorrelated(rows: np.ndarray, sigma: np.ndarray, arrivals: int, mmse: bool) -> np.ndarray | None:
    """Compute the captured energy of orthonormal rows (least squares) or uncorrelated payloads (mmse).

    Parameters and result as for `single_blocks`; None if the condition does not hold.
    """
    n, k = rows.shape
    if n > k:
        return None
    spread = times(rows, sigma)
    payloads = product(spread, rows.T)
    variances = np.diagonal(payloads)
    if not orthogonal(payloads if mmse else product(rows, rows.T), UNCORRELATED):
        return None
    if mmse:
        heard = np.einsum("ik,ik->i", spread, spread)
        shares = np.divide(heard, variances, out=np.zeros(n), where=variances > 0)
    else:
        shares = variances
    return np.arange(arrivals + 1) * shares.mean() / np.trace(sigma)
