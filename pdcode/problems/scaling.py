"""Scales of inputs, by statistics of the columns from one pass over the training rows."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from .matrix import Array, Csr

MOST, RARE = 4.0, 8.0  # of `_guarded`: multiples of a deviation and of a scale
WIDEST = 1024  # inputs that are decorrelated, at most
DAMPING = 1e-3  # λ of `decorrelation` over the mean eigenvalue


class Moments(NamedTuple):
    """Statistics of columns, float64, each of shape (d,)."""

    mean: Array
    deviation: Array  # standard deviation; 0 of a constant column
    farthest: Array  # largest distance from the mean


@np.errstate(over="ignore", invalid="ignore")  # `samples.check_finite` reports the result
def moments(chunks: Iterable[Array], width: int) -> Moments:
    """Compute the statistics of columns.

    The rows come in chunks of `width` columns, which are merged as in Chan, Golub and LeVeque (1983),
    "Algorithms for computing the sample variance".
    """
    count, mean, squares = 0, np.zeros(width), np.zeros(width)
    least, most = np.full(width, np.inf), np.full(width, -np.inf)
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
        np.minimum(least, chunk.min(axis=0), out=least)
        np.maximum(most, chunk.max(axis=0), out=most)
    # squares of such values overflow: the columns count as constant, so that they stay as they are
    huge = np.isfinite(least) & np.isfinite(most) & ~np.isfinite(mean + squares)
    mean[huge] = squares[huge] = most[huge] = least[huge] = 0
    deviation = np.sqrt(squares / max(count, 1))
    # rounding leaves a constant column with a deviation of a few ulp
    deviation[deviation <= 1e-12 * np.abs(mean)] = 0
    return Moments(mean, deviation, np.maximum(most - mean, mean - least))


def scales(how: bool | str, found: Moments, keep: Array | None = None) -> tuple[Array, Array]:
    """Return what is subtracted from each input, and what it is then divided by.

    Parameters
    ----------
    how : True, "guarded" or "white"
        ``problem.standardise``.
    found : Moments
    keep : ndarray of bool, shape (d,), optional
        Inputs that stay as they are: zeros and ones have a scale.
    """
    mean, scale = np.zeros_like(found.mean), np.ones_like(found.mean)
    rest = slice(None) if keep is None else ~keep
    own = Moments(*(each[rest] for each in found))
    mean[rest] = own.mean
    scale[rest] = _guarded(own) if how == "guarded" else np.where(own.deviation == 0, 1.0, own.deviation)
    return mean, scale


def of_inputs(
    how: bool | str, chunks: Callable[[], Iterable[Array]], width: int, keep: Array | None = None
) -> tuple[Array, Array, Array | None]:
    """Compute what inputs are scaled by: `scales`, and for "white" the matrix of `decorrelation`.

    Parameters
    ----------
    how : True, "guarded" or "white"
        ``problem.standardise``.
    chunks : callable
        Returns the rows, in chunks of `width` columns, as often as it is called.
    width : int
    keep : ndarray of bool, shape (d,), optional
        Inputs that stay as they are, unless they become white.
    """
    white = how == "white" and width <= WIDEST
    mean, scale = scales(how, moments(chunks(), width), None if white else keep)
    return mean, scale, decorrelation((each - mean) / scale for each in chunks()) if white else None


@np.errstate(over="ignore", invalid="ignore")  # as in `moments`
def decorrelation(chunks: Iterable[Array]) -> Array | None:
    """Return the matrix (d, d) by which scaled inputs are multiplied, so that they are white.

    It is (C + λ)^(-1/2), where C is the mean of x xᵀ and λ a small part of its mean eigenvalue, by which
    directions that hardly vary stay small. Of all such matrices the symmetric one leaves inputs nearest to
    what they were (Kessy, Lewin and Strimmer, "Optimal whitening and decorrelation", 2018). None if an input
    is not finite, which is reported later.
    """
    rows, products = 0, np.zeros(())
    for chunk in chunks:
        rows, products = rows + len(chunk), products + chunk.T @ chunk
    if not np.isfinite(products).all() or not rows:
        return None
    values, vectors = np.linalg.eigh(products / rows)
    damping = DAMPING * values.mean() or 1.0  # all are constant
    return np.asarray((vectors / np.sqrt(np.maximum(values, 0) + damping)) @ vectors.T)


def target_scales(found: Moments) -> tuple[Array, Array]:
    """Return the means that are subtracted from targets, (T,), and what all are then divided by, (1,).

    It is one number, the root of the mean variance, so that squared losses of several targets keep their
    ratios. It is 1 for constant targets, and for those whose variance is not finite, which are reported or
    fit as they are.
    """
    scale = float(np.sqrt(np.square(found.deviation).mean()))
    return found.mean, np.array([scale if 0 < scale < np.inf else 1.0])


def _guarded(found: Moments) -> Array:
    """Return the scales by which inputs are divided, if they keep part of their relative scales.

    Those say which inputs matter: where all get deviation 1, pixels at the edge of an image, which hardly
    vary, count as much as those in its middle, and test accuracy is lost. So the scale is between a column's
    deviation σ and all columns', √(mean σ²), but at most 4σ, as for a column in another unit, and at least an
    eighth of the largest distance from the mean, which a rare value may have. All are then multiplied by the
    factor that makes the mean square of all inputs 1. Constant columns are divided by 1. The rule is this
    project's.
    """
    varied = found.deviation > 0
    if not varied.any():
        return np.ones_like(found.deviation)
    square = np.square(found.deviation)
    scale = np.minimum(np.sqrt((square + square[varied].mean()) / 2), MOST * found.deviation)
    scale = np.where(varied, np.maximum(scale, found.farthest / RARE), 1.0)
    return np.where(varied, scale * np.sqrt((square[varied] / np.square(scale[varied])).mean()), 1.0)


def column_maxima(x: Csr) -> tuple[Array, Array]:
    """Return zero means and each column's largest absolute value: a scaling that keeps sparsity."""
    scale = np.zeros(x.width)
    with np.errstate(invalid="ignore"):  # NaN is refused once it is scaled
        np.maximum.at(scale, x.columns, np.abs(x.data))
    scale[scale == 0] = 1
    return np.zeros(x.width), scale
