"""A restart of the optimiser: its start, and the descent through increasingly sharp maxima.

Packings have many local minima, which are reached from different starts: random points; orbits of a random
signed permutation, or Gram matrices that a random affine group leaves as they are, as most of the best known
packings are symmetric; more points than needed, without the most crowded ones, as some packings are parts of
larger ones (such as the 28 equiangular lines of R^7); and the best found so far, with some points redrawn or
all perturbed.
"""

from typing import NamedTuple

import numpy as np

import pdcode_packings.kernel as kernel
from pdcode.codes import keyed
from pdcode.codes.constructions import partitions

from .polish import coherence

RESTART = 1 << 16  # purpose of the draws, distinct from those in `keyed`
MOST_ITERATIONS, LEAST_ITERATIONS = 3000, 30
WORK = 2.5e9  # bound on n² w × iterations of a stage
SHARP = 1e6  # last sharpness p
TOLERANCE = 1e-4  # tolerance of a stage, divided by p
MOST_AVERAGED = 256  # rows up to which Gram matrices are averaged over groups: the time is that of rows³
LEAST_SPAN = 1e-3  # smallest eigenvalue of GᵀG


class PackingProblem(NamedTuple):
    """Size, seed and supports of a search."""

    rows: int
    blocks: int
    weight: int
    seed: int
    supports: str  # "free", "random" or "net"

    @property
    def effort(self) -> int:
        """Approximate number of multiply-adds of one evaluation."""
        return self.rows**2 * self.weight


class Packing(NamedTuple):
    """Unit columns (k, n), the coordinates (n, w) that they use, and their coherence."""

    points: np.ndarray
    supports: np.ndarray
    coherence: float

    @property
    def used(self) -> np.ndarray:
        """Coordinates that each column uses, bool, shape (k, n)."""
        used = np.zeros(self.points.shape, dtype=bool)
        used[self.supports.T, np.arange(len(self.supports))] = True
        return used


class Draws:
    """Stream of random numbers of one restart, keyed by (seed, restart)."""

    def __init__(self, problem: PackingProblem, index: int) -> None:
        count = 8 * problem.blocks * (2 * problem.rows + 8) + 4 * problem.rows**2
        self._numbers, self._next = keyed.uniforms(problem.seed, RESTART, index, (count,)), 0

    def uniforms(self, *shape: int) -> np.ndarray:
        """Draw numbers in [0, 1)."""
        start, self._next = self._next, self._next + int(np.prod(shape, dtype=int))
        return self._numbers[start : self._next].reshape(shape)

    def integer(self, bound: int) -> int:
        """Draw a whole number from 0 to bound - 1."""
        return int(self.uniforms(1)[0] * bound)

    def normals(self, *shape: int) -> np.ndarray:
        """Draw nearly normal numbers, as sums of four uniform ones: identical on every machine."""
        return (self.uniforms(4, *shape).sum(axis=0) - 2) * np.sqrt(3)


def sharpnesses(first: float, ratio: float, last: float = SHARP) -> list[float]:
    """List sharpnesses in geometric progression, up to the first that is at least `last`."""
    steps = int(np.ceil(np.log(last / first) / np.log(ratio)))
    return [first * ratio**step for step in range(steps + 1)]


def measure(points: np.ndarray, supports: np.ndarray) -> Packing:
    """Measure a packing; one that does not span R^k, as may happen for low weight, counts as coherence 1."""
    k, n = points.shape
    light = supports.shape[1] < k <= n
    spans = not light or np.linalg.eigvalsh(points @ points.T)[0] > LEAST_SPAN
    return Packing(points, supports, coherence(points) if spans else 1.0)


def anneal(
    problem: PackingProblem,
    points: np.ndarray,
    supports: np.ndarray,
    stages: list[float],
    tolerance: float = TOLERANCE,
    goal: float = 1.0,
) -> Packing:
    """Minimise the smooth maximum for each sharpness in turn, in place, unless a minimum is above the goal.

    The largest of N squares is at least the smooth maximum less log N / p: no packing near a minimum whose
    bound is above the goal has its coherence.
    """
    slack = np.log(max(problem.rows * (problem.rows - 1) / 2, 1))
    iterations = min(max(int(WORK / problem.effort), LEAST_ITERATIONS), MOST_ITERATIONS)
    work = np.empty(kernel.workspace(*points.shape))
    for sharpness in stages:
        steps = np.array([iterations], np.int64)
        reached = kernel.minimise(points, supports, sharpness, tolerance / sharpness, steps, work)
        if reached - slack / sharpness > goal * goal:
            break
    return measure(points, supports)


def dense_supports(blocks: int, rows: int) -> np.ndarray:
    """Return the supports of dense rows, int32, shape (n, k)."""
    return np.tile(np.arange(blocks, dtype=np.int32), (rows, 1))


def balanced_supports(problem: PackingProblem, draws: Draws) -> np.ndarray:
    """Draw supports, shape (n, w): each row takes the least used blocks, with random ties."""
    taken = np.zeros(problem.blocks)
    supports = np.empty((problem.rows, problem.weight), np.int32)
    for support, ties in zip(supports, draws.uniforms(problem.rows, problem.blocks), strict=True):
        support[:] = np.argsort(taken + ties, kind="stable")[: problem.weight]
        taken[support] += 1
    return np.sort(supports, axis=1)


def net_supports(problem: PackingProblem) -> np.ndarray:
    """Return the sets of a net, each for w rows, in the order of `net`; shape (n, w)."""
    n, k, w = problem.rows, problem.blocks, problem.weight
    sets = np.asarray(partitions.partitions(k, w, -(-n // k)), np.int32)[:, None]
    return np.ascontiguousarray(np.broadcast_to(sets, (len(sets), w, k // w, w)).reshape(-1, w)[:n])


def permutation(blocks: int, order: int, draws: Draws) -> np.ndarray:
    """Draw a signed permutation of the coordinates whose cycle lengths divide m."""
    permuted, start = np.zeros((blocks, blocks)), 0
    while start < blocks:
        lengths = [length for length in range(1, blocks - start + 1) if order % length == 0]
        cycle = start + np.arange(lengths[draws.integer(len(lengths))])
        permuted[np.roll(cycle, -1), cycle] = 1.0
        permuted[cycle[0], cycle[-1]] *= draws.integer(2) * 2 - 1
        start += len(cycle)
    return permuted


def orbits(rows: int, blocks: int, draws: Draws) -> np.ndarray:
    """Draw orbits of random points under a signed permutation, of random length m, and at most two others."""
    order = _order(rows, 2, draws)
    turn, points = permutation(blocks, order, draws), draws.normals(blocks, rows)
    for i in range(rows // order * order):
        if i % order:
            points[:, i] = turn @ points[:, i - 1]
    return points


def _order(rows: int, least: int, draws: Draws) -> int:
    orders = [order for order in range(least, rows + 1) if rows % order <= 2]
    return orders[draws.integer(len(orders))]


def average(gram: np.ndarray, places: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return the mean of a symmetric matrix over the powers of a signed permutation, up to a factor."""
    total, at, sign = gram.copy(), places, signs
    while not ((at == np.arange(len(at))).all() and np.ptp(sign) == 0):
        total += sign[:, None] * sign * gram[np.ix_(at, at)]
        at, sign = places[at], signs[at] * sign
    return total


def invariant(rows: int, blocks: int, draws: Draws) -> np.ndarray:
    """Draw points whose Gram matrix is a projection that a random group of permutations leaves as it is.

    On orbits of m = ab points it is Z_a × Z_b, whose translations along Z_b may change signs as they wrap
    around, and multiplication by a unit, which may turn orbits into each other and change the signs of
    orbits. It leaves at most two points as they are. The projection is onto the leading eigenvectors of the
    group's average of a random matrix.
    """
    order = _order(rows, min(3, rows), draws)
    factors = [each for each in range(1, order + 1) if order % each == 0]
    a = factors[draws.integer(len(factors))] if draws.integer(2) else 1
    b, wraps, several = order // a, draws.integer(2), rows // order
    points = np.arange(several * order)
    orbit, (u, v) = points // order, np.divmod(points % order, b)

    def moved(orbit: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        places = orbit % several * order + u % a * b + v % b
        return np.append(places, np.arange(len(points), rows))

    def signed(negative: np.ndarray) -> np.ndarray:
        return np.append(np.where(negative, -1.0, 1.0), np.ones(rows - len(points)))

    units = [1] if wraps else [each for each in range(1, order + 1) if np.gcd(each, order) == 1]
    unit, turned = units[draws.integer(len(units))], draws.integer(3) // 2
    flipped = draws.uniforms(several) < 0.5 * (draws.integer(3) // 2)
    gram = draws.normals(rows, rows)
    gram = average(gram + gram.T, moved(orbit + turned, unit * u, unit * v), signed(flipped[orbit]))
    gram = average(gram, moved(orbit, u + 1, v), signed(v < 0))
    gram = average(gram, moved(orbit, u, v + 1), signed((v == b - 1) & bool(wraps)))
    columns = np.ascontiguousarray(np.linalg.eigh(gram)[1][:, -blocks:].T)
    missed = np.square(columns).sum(axis=0) < LEAST_SPAN**2
    columns[:, missed] = draws.normals(blocks, rows)[:, missed]
    return columns


def drop_crowded(points: np.ndarray, rows: int) -> np.ndarray:
    """Drop the point that is nearest to the others, by a soft measure, until n points remain."""
    while points.shape[1] > rows:
        squares = (points.T @ points) ** 2
        np.fill_diagonal(squares, 0.0)
        crowding = np.exp(200 * (squares - squares.max())).sum(axis=0)
        points = np.delete(points, crowding.argmax(), axis=1)
    return np.ascontiguousarray(points)


def keep_largest(points: np.ndarray, weight: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut each column to its w largest entries; return the columns and their supports (n, w).

    A block that no column then contains replaces, in the column where it is largest, the smallest entry whose
    block other columns contain too.
    """
    sizes = np.abs(points)
    used = np.argsort(np.argsort(-sizes, axis=0, kind="stable"), axis=0) < weight
    for block in np.flatnonzero(~used.any(axis=1)):
        for column in np.argsort(-sizes[block], kind="stable"):
            spare = np.flatnonzero(used[:, column] & (used.sum(axis=1) > 1))
            if len(spare):
                used[spare[sizes[spare, column].argmin()], column] = False
                used[block, column] = True
                break
    supports = np.nonzero(used.T)[1].reshape(-1, weight)
    return np.where(used, points, 0.0), supports.astype(np.int32)


def _from_scratch(problem: PackingProblem, draws: Draws, ratio: float, goal: float) -> Packing:
    n, k, w = problem.rows, problem.blocks, problem.weight
    if problem.supports == "free":
        dense, choice, first = dense_supports(k, n), draws.integer(8), (4.0, 64.0)[draws.integer(2)]
        if choice < 1:
            points = draws.normals(k, n)
        elif choice < 7:
            points = (orbits if choice < 3 or n > MOST_AVERAGED else invariant)(n, k, draws)
        else:
            more, first = n + 1 + draws.integer(max(2, n // 3)), 64.0
            points = draws.normals(k, more)
            larger = problem._replace(rows=more)
            points = drop_crowded(
                anneal(larger, points, dense_supports(k, more), [4.0, 64.0, 1024.0]).points, n
            )
        if w == k:
            return anneal(problem, points, dense, sharpnesses(first, ratio), goal=goal)
        points, supports = keep_largest(
            anneal(problem, points, dense, sharpnesses(first, ratio, 1e3)).points, w
        )
        return anneal(problem, points, supports, sharpnesses(4.0, ratio))
    supports = balanced_supports(problem, draws) if problem.supports == "random" else net_supports(problem)
    points = np.zeros((k, n))
    points[supports.T, np.arange(n)] = draws.normals(w, n)
    return anneal(problem, points, supports, sharpnesses(4.0, ratio))


def _perturbed(problem: PackingProblem, draws: Draws, ratio: float, start: Packing) -> Packing:
    n, w = problem.rows, problem.weight
    points, supports = start.points.copy(), start.supports.copy()
    size = 1.0
    moved = np.arange(n)
    if draws.integer(2):
        moved = np.unique([draws.integer(n) for _ in range(1 + draws.integer(2))])
        points[:, moved] = 0
    else:
        size = 10 ** (-1.5 + 1.2 * draws.uniforms(1)[0]) / np.sqrt(w)
    points[supports[moved].T, moved] += size * draws.normals(w, len(moved))
    return anneal(problem, points, supports, sharpnesses(64.0, ratio), goal=start.coherence)


def restart(problem: PackingProblem, index: int, pool: list[Packing]) -> Packing:
    """Make one restart: three from new starts, and then one from a perturbed packing of the pool.

    The problem has n ≥ 2 and w ≥ 2. `index` and the seed are the key of the randomness; the best packing
    comes first in `pool`.
    """
    draws = Draws(problem, index)
    ratio = (4.0, 16.0, 64.0)[draws.integer(3)]
    if pool and index % 4 == 3:
        near = draws.uniforms(1)[0]
        return _perturbed(problem, draws, ratio, pool[int(near * near * len(pool))])
    return _from_scratch(problem, draws, ratio, pool[0].coherence if pool else 1.0)
