"""Curvature of linear models: bounds on the Hessian of the mean loss, without forming it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log
from typing import NamedTuple

import numpy as np

from .matrix import Array, Csr, Matrix

STEPS, DESCENT = 40, 60  # of the power iteration, and of the descent


class Curvature(NamedTuple):
    """Upper bounds on the eigenvalues of the Hessian of the loss with respect to θ, at any θ."""

    mean: float  # of the mean loss of all rows; estimated, may be some per cent too small
    row: float  # of the loss of any row


def of_linear(x: Matrix, factor: float, l2: float) -> Curvature:
    """Return the curvature of losses whose second derivatives along outputs x·W are at most `factor`.

    The power iteration starts at a random vector. After q steps its estimate is too small by a part of at
    most .871 ln d/(q - 1) in the mean (Kuczyński and Woźniakowski, SIAM J. Matrix Anal. Appl. 1992), which is
    added: the result may still be some per cent too small, and steps have a factor of two to the edge of
    stability. The mean of the rows' squared lengths is a bound, too. θ with more than one output has the same
    eigenvalues once for each.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares, estimate = _squares(x), 0.0
        vector: Array = np.asarray(np.random.default_rng(0).standard_normal(x.shape[1]))
        for _ in range(STEPS):
            vector = _times(vector / max(float(np.linalg.norm(vector)), 1e-300), x)
            estimate = float(np.linalg.norm(vector)) / len(x)
    missing = 0.871 * log(x.shape[1]) / (STEPS - 1)
    largest = min(float(squares.mean()), estimate / (1 - missing) if missing < 1 else inf)
    return Curvature(factor * largest + l2, factor * float(squares.max()) + l2)


def descend(
    gradient: Callable[[Array], Array], loss: Callable[[Array], float], size: int, rate: float
) -> float:
    """Return a convex loss after DESCENT steps of Nesterov's method from θ = 0."""
    theta = before = np.zeros(size)
    for step in range(DESCENT):
        ahead = theta + step / (step + 3) * (theta - before)
        before, theta = theta, ahead - rate * gradient(ahead)
    return loss(theta)


def _squares(x: Matrix) -> Array:
    """Return the squared length of each row."""
    if isinstance(x, Csr):
        return np.bincount(x.row_numbers(), np.square(x.data.astype(np.float64)), len(x))
    return np.einsum("ij,ij->i", x, x, dtype=np.float64)


def _times(vector: Array, x: Matrix) -> Array:
    """Return Xᵀ X v."""
    if isinstance(x, Csr):
        rows = x.row_numbers()
        outputs = np.bincount(rows, x.data * vector[x.columns], len(x))
        return np.bincount(x.columns, x.data * outputs[rows], x.width)
    return np.asarray((x @ vector) @ x)
