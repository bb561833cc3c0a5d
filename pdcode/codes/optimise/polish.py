"""From nearly the least coherence to the least coherence nearby: a sequence of linear programs.

The coherence is a maximum of smooth functions ±<x_i, x_j>. Each step minimises the maximum of their linear
models over a box of tangent steps of every point: min τ, ±(<x_i, x_j> + <d_i, x_j> + <x_i, d_j>) ≤ τ and
|d| ≤ radius (the trust region of Madsen, J. IMA 1975, for minimax problems). Where the contacts hold the
points in place, as they do in most packings, this converges quadratically. Lengths are counted in radii, so
that the tolerance of the linear solver shrinks along with the steps.
"""

from __future__ import annotations

import numpy as np

STEPS, LARGEST, SMALLEST = 40, 0.1, 1e-13
LEAST_PROMISE = 1e-13  # a gain that is not worth a step
VARIABLES = 1500  # more are left as they are: a linear program would take minutes


def coherence(points: np.ndarray) -> float:
    """Return the largest |<x_i, x_j>| over i ≠ j of unit columns, shape (k, n); 0 for a single one."""
    gram = np.abs(points.T @ points)
    np.fill_diagonal(gram, 0.0)
    return float(gram.max())


def contacts(points: np.ndarray, above: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the pairs i < j with |<x_i, x_j>| > above, and their inner products."""
    gram = points.T @ points
    i, j = np.nonzero(np.triu(np.abs(gram) > above, 1))
    return i, j, gram[i, j]


def _step(points: np.ndarray, used: np.ndarray, largest: float, radius: float) -> tuple[np.ndarray, float]:
    """Find the best step in the linear model, and the gain that it promises."""
    from scipy import optimize, sparse  # 0.6 s, and only here

    number = np.cumsum(used).reshape(used.shape) - 1  # of the variable at (coordinate, point)
    i, j, product = contacts(points, largest - 3 * radius)
    sign, pair = np.sign(product), np.arange(len(i))
    parts = []
    for moved, fixed in (i, j), (j, i):
        slope = sign * (points[:, fixed] - product * points[:, moved])  # in the tangent of the moved point
        coordinate, column = np.nonzero(used[:, moved])
        at = (pair[column], number[coordinate, moved[column]])
        shape = (len(i), int(used.sum()))
        parts.append(sparse.csr_array((slope[coordinate, column], at), shape=shape))
    matrix = sparse.hstack([parts[0] + parts[1], np.full((len(i), 1), -1.0)], format="csr")
    variables = matrix.shape[1] - 1
    answer = optimize.linprog(
        np.append(np.zeros(variables), 1.0),
        A_ub=matrix,
        b_ub=(largest - np.abs(product)) / radius,
        bounds=[(-1.0, 1.0)] * variables + [(None, None)],
        method="highs",
    )
    step = np.zeros_like(points)
    if answer.x is None:  # the solver gave up: numerical trouble, seen at radii near rounding
        return step, 0.0
    step[used] = radius * answer.x[:-1]
    return step, -radius * float(answer.x[-1])


def _pinned(points: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take from a problem the freedom that changes nothing, so that its best step is unique and small.

    Where all coordinates are used the points are rotated until the first k are triangular, which then stay
    so. Of each point the largest coordinate is not varied: its length would be.
    """
    k, n = points.shape
    if used.all():
        points = np.linalg.qr(points)[1] if n >= k else points
        used = np.tri(n, k, dtype=bool).T if n >= k else used
        points = np.ascontiguousarray(np.where(used, points, 0.0))
    varied = used.copy()
    varied[np.abs(points).argmax(axis=0), np.arange(n)] = False
    return points, varied


def polish(points: np.ndarray, used: np.ndarray, steps: int = STEPS, radius: float = 2e-3) -> np.ndarray:
    """Lower the coherence to a local minimum; it never rises.

    Parameters
    ----------
    points : ndarray of float64, shape (k, n)
        Unit columns.
    used : ndarray of bool, shape (k, n)
        Coordinates that each may use.
    steps : int
        Most linear programs.
    radius : float
        First bound on a change of a coordinate.

    Returns
    -------
    ndarray, shape (k, n)
        Unit columns. With more than `VARIABLES` numbers the points as they were.
    """
    largest = coherence(points)
    if used.sum() > VARIABLES or largest == 0:
        return points
    points, varied = _pinned(points, used)
    for _ in range(steps):
        step, promise = _step(points, varied, largest, radius)
        if promise < LEAST_PROMISE:
            break
        moved = points + step
        moved /= np.sqrt((moved**2).sum(axis=0))
        reached = coherence(moved)
        if largest - reached > 0.1 * promise:
            points, largest, radius = moved, reached, min(2 * radius, LARGEST)
        else:
            radius = min(radius, float(np.abs(step).max())) / 4
        if radius < SMALLEST:
            break
    return points
