"""Standardisation of inputs: statistics of the columns in one pass over the training rows."""

from collections.abc import Iterable

import numpy as np

from .matrix import Array, Csr


@np.errstate(over="ignore", invalid="ignore")  # `samples.check_finite` reports the result
def moments(chunks: Iterable[Array], width: int) -> tuple[Array, Array]:
    """Compute mean and standard deviation of each column, float64; a constant column gets deviation 1.

    The rows come in chunks of `width` columns, which are merged as in Chan, Golub and LeVeque (1983),
    "Algorithms for computing the sample variance".
    """
    count, mean, squares = 0, np.zeros(width), np.zeros(width)
    for chunk in chunks:
        rows = len(chunk)
        if not rows:
            continue
        new = chunk.mean(axis=0, dtype=np.float64)
        squares += np.square(chunk - new).sum(axis=0) + np.square(new - mean) * (
            count * rows / (count + rows)
        )
        mean += (new - mean) * (rows / (count + rows))
        count += rows
    deviation = np.sqrt(squares / max(count, 1))
    # rounding leaves a constant column with a deviation of a few ulp
    deviation[deviation <= 1e-12 * np.abs(mean)] = 1
    return mean, deviation


def column_maxima(x: Csr) -> tuple[Array, Array]:
    """Return zero means and each column's largest absolute value: a scaling that keeps sparsity."""
    scale = np.zeros(x.width)
    with np.errstate(invalid="ignore"):  # NaN is refused once it is scaled
        np.maximum.at(scale, x.columns, np.abs(x.data))
    scale[scale == 0] = 1
    return np.zeros(x.width), scale
