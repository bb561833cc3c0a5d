"""Products of codewords, by sparse matrices where that is faster."""

import numpy as np

DENSE = 1 << 30  # multiplications up to which a product is a dense one
SPARSE_COST = 30  # cost of a multiplication in a sparse product, relative to a dense one


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Multiply two matrices, float64 (m, d) and (d, n)."""
    multiplications = left.size * right.shape[1]
    if multiplications > DENSE:
        from scipy.sparse import csr_array  # takes 0.2 s; only for large codes

        per_column, per_row = np.count_nonzero(left, axis=0), np.count_nonzero(right, axis=1)
        if SPARSE_COST * float(per_column @ per_row) < multiplications:
            sparse: np.ndarray = (csr_array(left) @ csr_array(right)).toarray()
            return sparse
    dense: np.ndarray = left @ right
    return dense


def times_covariance(rows: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Multiply rows (n, k) by a covariance Σ of shape (k, k), which usually is diagonal."""
    diagonal = np.diagonal(sigma)
    if np.count_nonzero(sigma) == np.count_nonzero(diagonal):
        scaled: np.ndarray = rows * diagonal
        return scaled
    return product(rows, sigma)


def is_diagonal(gram: np.ndarray, tolerance: float) -> bool:
    """Return whether a Gram matrix is diagonal, up to a fraction of its largest entry on the diagonal."""
    apart = np.abs(gram)
    largest = np.diagonal(apart).max()
    np.fill_diagonal(apart, 0.0)
    return bool(apart.max() <= tolerance * largest)
