"""Expected captured energy in closed form: the adjoint, rows of weight 1, uncorrelated payloads.

All are for q rows drawn uniformly without replacement and a gradient of block covariance Σ. The energy that
an estimate ĝ captures is 1 - E‖ĝ - d‖² / E‖d‖².
"""

import numpy as np

from .products import is_diagonal, product, times_covariance

UNCORRELATED = 1e-12  # fraction of the largest variance below which a covariance is rounding error


def adjoint(rows: np.ndarray, sigma: np.ndarray, arrivals: int) -> np.ndarray:
    """Compute the captured energy of the adjoint ĝ = c Gᵀy for q = 0 … arrivals, with the best c for each q.

    E‖cGᵀy - d‖² is a quadratic polynomial in c. Its coefficients are sums over pairs of rows, whose means
    over all sets of q rows follow from two traces. For a unit-norm tight frame and Σ = I the result is q / (k
    + (q-1)(n-k)/(n-1)).
    """
    n, q = len(rows), np.arange(arrivals + 1)
    frame, spread = product(rows.T, rows), times_covariance(rows, sigma)
    first = np.einsum("ik,ik->i", spread, rows)  # g_iᵀΣg_i
    sizes = np.einsum("ik,ik->i", rows, rows)
    # Sum over i, i' of <g_i, g_i'> g_iᵀΣg_i'.
    both = np.einsum("ij,ji->", times_covariance(frame, sigma), frame)
    own = float(sizes @ first)
    pair = (both - own) / (n * (n - 1)) if n > 1 else 0.0
    square = q * own / n + q * (q - 1) * pair
    straight = np.square(q * first.mean())
    return np.divide(straight, square, out=np.zeros(len(q)), where=square > 0) / np.trace(sigma)


def single_blocks(rows: np.ndarray, sigma: np.ndarray, arrivals: int, mmse: bool) -> np.ndarray | None:
    """Compute the captured energy of unit rows of one block by hypergeometric laws.

    The result is None if a row contains several blocks, or, for mmse, if blocks are correlated.
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
        b = np.where(inside, b, 0)
        return np.where(inside, logarithm[a] - logarithm[b] - logarithm[a - b], -np.inf)

    captured = np.zeros(len(q))
    for c in np.unique(counts[counts > 0]):
        captured += energies[counts == c].sum() * -np.expm1(choose(n - c, q) - choose(n, q))
    return captured / energies.sum()


def uncorrelated(rows: np.ndarray, sigma: np.ndarray, arrivals: int, mmse: bool) -> np.ndarray | None:
    """Compute the captured energy of orthonormal rows (or for mmse of uncorrelated payloads), or None."""
    n, k = rows.shape
    if n > k:
        return None
    spread = times_covariance(rows, sigma)
    payloads = product(spread, rows.T)
    variances = np.diagonal(payloads)
    if not is_diagonal(payloads if mmse else product(rows, rows.T), UNCORRELATED):
        return None
    gains = variances
    if mmse:
        squares = np.einsum("ik,ik->i", spread, spread)
        gains = np.divide(squares, variances, out=np.zeros(n), where=variances > 0)
    return np.arange(arrivals + 1) * gains.mean() / np.trace(sigma)
