"""Spark: the least number of linearly dependent codewords.

Fewer arrivals are never redundant, in any order. Computing the spark is NP-hard, so it is bounded: from below
by the coherence and by trying all small sets, from above by the smallest dependent set found in row
reductions of random orders of the rows, with neighbouring rows first. This is Prange's information-set
decoding (IRE Trans. Inf. Theory 1962) over the reals.
"""

from collections.abc import Iterator
from math import ceil, comb
from typing import Any, NamedTuple

import numpy as np

from .. import keyed
from .information import rows_of
from .products import product

ORDERS = 1001  # purpose of the keyed draws
ZERO = 1e-9  # magnitude below which entries of reduced unit rows are rounding errors
PARALLEL = 1e-11  # 1 - cos² below which two directions are checked more accurately
WORK = 18 * 10**7  # multiplications allowed in the search for small sets
AT_ONCE = 64  # number of rows up to which all Gram matrices are computed in one call
NEIGHBOURHOOD = 96  # maximum number of blocks, and a quarter of the number of rows, in a row reduction
TRIES = 64


class Spark(NamedTuple):
    """Bounds on the spark, and the smallest dependent set that was found."""

    lower: int
    upper: int  # n + 1 if the rows are independent
    rows: np.ndarray  # a dependent set of `upper` rows, int64; empty if there is none
    reason: str  # origin of the lower bound: "coherence" or "search"

    @property
    def exact(self) -> bool:
        """Whether the spark is known."""
        return self.lower == self.upper

    def __str__(self) -> str:
        if not len(self.rows):
            return f"all {self.upper - 1} rows are independent"
        if self.exact:
            return f"{self.upper}, exact"
        how = "coherence" if self.reason == "coherence" else "all smaller sets tried"
        return f"{self.lower} ({how}) to {self.upper} (a dependent set)"


def spark(code: Any, coherence: float, tries: int = TRIES, work: int = WORK, seed: int = 0) -> Spark:
    """Compute bounds on the spark of a code.

    Parameters
    ----------
    code : Code, or array_like of shape (n, k)
        Unit rows.
    coherence : float
        Coherence μ of the code: spark ≥ 1 + 1/μ (Donoho and Elad, PNAS 2003).
    tries : int
        Number of random orders of the rows for the upper bound.
    work : int
        Approximate number of multiplications allowed for trying all small sets.
    seed : int
        Key of the orders.
    """
    rows = rows_of(code)
    n, k = rows.shape
    lower = min(ceil(1 + 1 / coherence - 1e-9) if coherence > 0 else n + 1, n + 1)
    if lower > n or (n <= k and np.linalg.matrix_rank(rows) == n):
        return Spark(n + 1, n + 1, np.empty(0, np.int64), "coherence")
    lower, reason = min(lower, k + 1), "coherence"
    best, columns = np.arange(min(n, k + 1)), np.ascontiguousarray(rows.T != 0)
    for attempt in range(tries):
        if len(best) == lower:
            break
        best = _smaller_dependent_set(
            rows, best, _smallest_circuit(rows, _neighbourhood(columns, attempt, seed))
        )
    if len(best) > k or n <= k:
        best = _smaller_dependent_set(
            rows, best, _smallest_circuit(rows, np.arange(min(n, k + 1 + NEIGHBOURHOOD)))
        )
    while lower < len(best) and _cost(n, lower) <= work:
        reason = "search"
        candidates = map(np.array, _dependent_sets(product(rows, rows.T), lower))
        dependent = next((chosen for chosen in candidates if _is_dependent(rows[chosen])), None)
        if dependent is not None:
            best = dependent
            break
        lower += 1
    return Spark(lower, len(best), np.sort(best), reason)


def _is_dependent(rows: np.ndarray) -> bool:
    return len(rows) > rows.shape[1] or float(np.linalg.svd(rows, compute_uv=False)[-1]) < ZERO


def _smaller_dependent_set(rows: np.ndarray, best: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return `found` if it is dependent and smaller than `best`, otherwise `best`."""
    return found if 0 < len(found) < len(best) and _is_dependent(rows[found]) else best


def _neighbourhood(columns: np.ndarray, attempt: int, seed: int) -> np.ndarray:
    """Draw a random order of the rows in a neighbourhood that grows block by block around a random row.

    `columns` are the supports, bool (k, n).
    """
    k, n = columns.shape
    draw = keyed.uniforms(seed, ORDERS, attempt, (n + 1,))
    if attempt % 2 and n <= 4 * NEIGHBOURHOOD:  # half of the tries use a plain random order
        return np.argsort(draw[:n])
    inside, start = np.zeros(k, bool), int(draw[n] * n)
    weights = columns.sum(axis=0)
    outside, fresh = weights.copy(), columns[:, start]
    while True:
        inside |= fresh
        outside -= columns[fresh].sum(axis=0)
        touched = (outside > 0) & (outside < weights)
        spare = np.count_nonzero(outside == 0) - inside.sum()  # more rows than blocks are dependent
        if spare > attempt // 8 or inside.sum() >= min(k, NEIGHBOURHOOD) or not touched.any():
            break
        nearest = int(np.where(touched, outside + draw[:n], np.inf).argmin())  # adds the fewest blocks
        fresh = columns[:, nearest] & ~inside
    chosen = np.flatnonzero(outside == 0)
    return chosen[np.argsort(draw[chosen])][: 4 * NEIGHBOURHOOD]


def _smallest_circuit(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the smallest fundamental circuit with respect to the first basis in an order of the rows."""
    table = rows[order].T  # (k, m): its columns are the rows
    table = table[(table != 0).any(axis=1)]
    pivots: list[int] = []
    for column in range(table.shape[1]):
        if len(pivots) == len(table):
            break
        free = table[len(pivots) :, column]
        place = len(pivots) + int(np.abs(free).argmax())
        if abs(table[place, column]) <= ZERO:
            continue
        here = len(pivots)
        table[[here, place]] = table[[place, here]]
        table[here] /= table[here, column]
        factors = table[:, column].copy()
        factors[here] = 0
        table -= np.outer(factors, table[here])
        pivots.append(column)
    others = np.setdiff1d(np.arange(table.shape[1]), pivots)
    if not len(others):
        return np.empty(0, np.int64)
    used = np.abs(table[: len(pivots), others]) > ZERO
    smallest = int(used.sum(axis=0).argmin())
    return order[[*np.array(pivots)[used[:, smallest]], others[smallest]]]


def _cost(n: int, size: int) -> float:
    """Count the multiplications for trying all sets of a size: a Gram matrix for all but two rows of each."""
    return float(comb(n, size - 2) * n * n)


def _dependent_sets(gram: np.ndarray, size: int, first: int = 0) -> Iterator[list[int]]:
    """Yield sets of a size that the Gram matrix shows as dependent, if all smaller sets are independent.

    Rows are projected off one by one (Schur complements), in ascending order, until two of the later rows are
    parallel.
    """
    m, diagonal = len(gram), np.diagonal(gram)
    if size == 2:
        close = np.square(gram) > (1 - PARALLEL) * np.outer(diagonal, diagonal)
        yield from (first + np.argwhere(np.triu(close, 1))).tolist()
    elif size == 3 and m <= AT_ONCE:  # this level takes most of the time
        rest = gram - gram[:, :, None] * gram[:, None, :] / diagonal[:, None, None]
        own = np.einsum("tii->ti", rest)
        close = np.square(rest) > (1 - PARALLEL) * own[:, :, None] * own[:, None, :]
        t, i, j = np.ogrid[:m, :m, :m]
        yield from (first + np.argwhere(close & (t < i) & (i < j))).tolist()
    else:
        for one in range(m - size + 1):
            row = gram[one, one + 1 :]
            left = gram[one + 1 :, one + 1 :] - np.outer(row, row) / gram[one, one]
            yield from ([first + one, *others] for others in _dependent_sets(left, size - 1, first + one + 1))
