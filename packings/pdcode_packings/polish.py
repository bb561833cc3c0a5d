"""Local minimisation of the coherence by a sequence of linear programs.

The coherence is a maximum of smooth functions ±<x_i, x_j>. Each step minimises the maximum of their linear
models over a box of tangent steps of every point: min τ, ±(<x_i, x_j> + <d_i, x_j> + <x_i, d_j>) ≤ τ and |d|
≤ radius (the trust region of Madsen, J. IMA 1975, for minimax problems). If the contacts fix the points, as
in most packings, convergence is quadratic. Lengths are in units of the radius, so that the tolerance of the
linear solver shrinks with the steps.
"""

import numpy as np

STEPS, LARGEST, SMALLEST = 40, 0.1, 1e-13
LEAST_PROMISE = 1e-13  # predicted gain at which to stop
VARIABLES = 1500  # maximum number of variables; a larger linear program would take minutes


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
    """Find the best step in the linear model, and its predicted gain."""
    from scipy import optimize, sparse  # takes 0.6 s; only used here

    number = np.cumsum(used).reshape(used.shape) - 1  # of the variable at (coordinate, point)
    i, j, product = contacts(points, largest - 3 * radius)
    sign, pair = np.sign(product), np.arange(len(i))
    slopes = []
    for moved, fixed in (i, j), (j, i):
        slope = sign * (points[:, fixed] - product * points[:, moved])  # in the moved point's tangent space
        coordinate, column = np.nonzero(used[:, moved])
        at = (pair[column], number[coordinate, moved[column]])
        shape = (len(i), int(used.sum()))
        slopes.append(sparse.csr_array((slope[coordinate, column], at), shape=shape))
    matrix = sparse.hstack([slopes[0] + slopes[1], np.full((len(i), 1), -1.0)], format="csr")
    variables = matrix.shape[1] - 1
    answer = optimize.linprog(
        np.append(np.zeros(variables), 1.0),
        A_ub=matrix,
        b_ub=(largest - np.abs(product)) / radius,
        bounds=[(-1.0, 1.0)] * variables + [(None, None)],
        method="highs",
    )
    step = np.zeros_like(points)
    if answer.x is None:  # the solver failed numerically, as happens at radii near rounding
        return step, 0.0
    step[used] = radius * answer.x[:-1]
    return step, -radius * float(answer.x[-1])


def _pinned(points: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove the rotational and radial freedom, so that the best step is unique and small.

    If all coordinates are used, the points are rotated such that the first k are triangular, and stay so.
    Each point's largest coordinate is fixed, as varying it would mainly change its length.
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
    """Lower the coherence of unit columns (k, n) to a local minimum; it never rises.

    Only the coordinates in `used`, bool (k, n), change, by at most `radius` in the first step. The result is
    the input if more than `VARIABLES` coordinates are used.
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
