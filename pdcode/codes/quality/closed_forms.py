"""Expected captured energy where a formula gives it: the adjoint, rows of weight 1, uncorrelated payloads.

All are for q rows drawn evenly without replacement and a gradient of block covariance Σ. The energy that an
estimate ĝ captures is 1 - E‖ĝ - d‖² / E‖d‖².
"""

from __future__ import annotations

import numpy as np

UNCORRELATED = 1e-12  # share of the largest variance below which a covariance is rounding


def adjoint(rows: np.ndarray, sigma: np.ndarray, arrivals: int) -> np.ndarray:
    """Compute it for the adjoint ĝ = c Gᵀy of any code, with the best c for each number of arrivals.

    E‖cGᵀy - d‖² is a square polynomial in c with coefficients that are sums over pairs of rows, so two traces
    give their means over all sets of q rows. For a unit-norm tight frame, Σ = I it comes to
    q / (k + (q-1)(n-k)/(n-1)).

    Parameters
    ----------
    rows : ndarray, shape (n, k)
    sigma : ndarray, shape (k, k)
    arrivals : int
        Largest q, at most n.

    Returns
    -------
    ndarray of float64, shape (arrivals + 1,)
    """
    n, q = len(rows), np.arange(arrivals + 1)
    frame, spread = rows.T @ rows, rows @ sigma
    first = np.einsum("ik,ik->i", spread, rows)  # g_iᵀΣg_i
    sizes = np.einsum("ik,ik->i", rows, rows)
    both = np.einsum("ij,ji->", frame @ sigma, frame)  # sum over i, i' of <g_i, g_i'> g_iᵀΣg_i'
    own = float(sizes @ first)
    pair = (both - own) / (n * (n - 1)) if n > 1 else 0.0
    square = q * own / n + q * (q - 1) * pair
    straight = np.square(q * first.mean())
    return np.divide(straight, square, out=np.zeros(len(q)), where=square > 0) / np.trace(sigma)


def single_blocks(rows: np.ndarray, sigma: np.ndarray, arrivals: int, mmse: bool) -> np.ndarray | None:
    """Compute it where each row holds one block, for least squares and mmse: arrivals are hypergeometric.

    Parameters
    ----------
    rows, sigma, arrivals
        As for `adjoint`; unit rows.
    mmse : bool
        Whether the estimate is that of least mean square error, and not least squares.

    Returns
    -------
    ndarray of float64, shape (arrivals + 1,), or None
        None if a row holds more, or, for mmse, if blocks are correlated.
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
    """Compute it for orthonormal rows (least squares) or uncorrelated payloads (mmse): each adds its share.

    Parameters and result as for `single_blocks`; None if the rows or payloads are not so.
    """
    n, k = rows.shape
    if n > k:
        return None
    spread = rows @ sigma
    payloads = spread @ rows.T
    variances = np.diagonal(payloads)
    gram = payloads if mmse else rows @ rows.T
    if np.abs(gram - np.diag(np.diagonal(gram))).max() > UNCORRELATED * np.diagonal(gram).max():
        return None
    if mmse:
        heard = np.einsum("ik,ik->i", spread, spread)
        shares = np.divide(heard, variances, out=np.zeros(n), where=variances > 0)
    else:
        shares = variances
    return np.arange(arrivals + 1) * shares.mean() / np.trace(sigma)
