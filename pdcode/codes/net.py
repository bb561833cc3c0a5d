"""Nets, the default static code: orthogonal rows on the sets of partitions of the blocks.

Two sets of different partitions meet in one block at the most (`partitions`). On each set of c blocks stand
the c rows of an orthogonal weighing matrix W(c, w) over √w (`weighing`): a Hadamard matrix where one of order
w is known, and then c = w; else, say, a conference matrix of order c = w + 1. A random sign a column (dither)
repairs the rank of subsets of rows and changes neither coherence nor tightness. So rows of different
partitions have inner product 0 or ±1/w, and those of one partition are an orthonormal basis of R^k: coherence
1/w (0 for a single partition), and GᵀG = (n/k) I.
"""

from __future__ import annotations

import numpy as np

from ..util.errors import InputError
from . import keyed
from .partitions import most, partitions, plain_most
from .sizes import Shape, nearest
from .weighing import order, weighing, weights

HEAVIEST = 128  # of the weights that are proposed to one who does not name a weight


def most_partitions(blocks: int, weight: int) -> float:
    """Most partitions that the construction has; infinity for weight 1, where all partitions are the same."""
    return most(blocks, order(weight)) if blocks % order(weight) == 0 else 0


def default_weight(rows: int, blocks: int) -> int:
    """Return 4, or 2 where that is the heaviest net that exists; else a weight for `check` to refuse."""
    for limit in (plain_most, most):  # the plain construction decides where it can
        for weight in (4, 2):
            if blocks % weight == 0 and rows <= limit(blocks, weight) * blocks:
                return weight
    return min(4, 1 << blocks.bit_length() - 1)


def shapes(blocks: int) -> list[Shape]:
    """Sizes of the nets over k blocks, of weights up to `HEAVIEST`."""
    sizes = [c for c in range(1, min(blocks, HEAVIEST) + 1) if blocks % c == 0]
    return [Shape(most(blocks, c) * blocks, w, exact=False) for c in sizes for w in weights(c)]


def _possible(rows: int, blocks: int, weight: int) -> bool:
    return rows <= most_partitions(blocks, weight) * blocks


def check(rows: int, blocks: int, weight: int) -> None:
    """Raise InputError, with the nearest possible parameters, unless the construction exists."""
    if _possible(rows, blocks, weight):
        return
    size, limit = order(weight), int(min(most_partitions(blocks, weight) * blocks, rows))
    larger = -(-(blocks + 1) // size) * size
    while not _possible(rows, larger, weight):
        larger += size
    smaller = (blocks - 1) // size * size
    while smaller > 0 and not _possible(rows, smaller, weight) and blocks - smaller <= larger - blocks:
        smaller -= size
    lighter = next(w for w in range(min(weight, blocks + 1) - 1, 0, -1) if _possible(rows, blocks, w))
    heavier = (w for w in range(weight + 1, min(2 * weight, blocks) + 1) if _possible(rows, blocks, w))
    near = [
        *([(limit, blocks, weight)] if limit else []),
        *([(rows, smaller, weight)] if smaller > 0 and _possible(rows, smaller, weight) else []),
        (rows, larger, weight),
        (rows, blocks, lighter),
        *((rows, blocks, w) for w in list(heavier)[:1]),
    ]
    if limit:
        refusal = (
            f"workers = {rows}: a net of weight {weight} over {blocks} blocks has at most {limit} rows; "
        )
    else:
        sets = f" (sets of {size} blocks)" if size != weight else ""
        refusal = f"blocks = {blocks}: not a multiple of {size}, as a net of weight {weight}{sets} needs; "
    raise InputError(refusal + nearest(*near))


def coherence(rows: int, blocks: int, weight: int) -> float:
    """1/w, or 0 for a single partition."""
    return 1 / weight if rows > blocks else 0.0


def net(rows: int, blocks: int, weight: int, seed: int, dither: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Make the sparse rows of a net.

    Within a partition the first row of every set comes first, then the second of every set, and so on: with
    c = w, k/w consecutive rows touch each block once, and k consecutive ones, from a multiple of k, are an
    orthonormal basis. The design is of this project; its parts are cited in `partitions` and `weighing`.

    Parameters
    ----------
    rows, blocks, weight : int
        n, k, w. If n is not a multiple of k, the last partition is not complete.
    seed : int
        Key of the dither.
    dither : bool
        Whether each set has random column signs.

    Returns
    -------
    indices : ndarray of int64, shape (n, w)
    values : ndarray of float64, shape (n, w)

    Raises
    ------
    InputError
        If the size c of the sets does not divide k, n is too large, or `dither` is not a truth value.
    """
    if not isinstance(dither, bool):
        raise InputError(f"dither = {dither!r}: not true or false")
    check(rows, blocks, weight)
    matrix = weighing(weight)
    size = len(matrix)
    columns = np.nonzero(matrix)[1].reshape(size, 1, weight)  # of the nonzeros of each row of the matrix
    sets = partitions(blocks, size, -(-rows // blocks))[:, None]  # (t, 1, k/c, c)
    shape = (sets.shape[0], size, blocks // size, weight)  # partition, row of the matrix, set, nonzero
    values = np.take_along_axis(matrix[:, None], columns, axis=2) / np.sqrt(weight)
    if dither:
        signs = keyed.signs(seed, keyed.SIGNS, 0, sets.shape)
        values = values * (signs if size == weight else np.take_along_axis(signs, columns[None], axis=3))
    if size != weight:
        sets = np.take_along_axis(sets, columns[None], axis=3)
    indices = np.broadcast_to(sets, shape).reshape(-1, weight)[:rows]
    return indices, np.broadcast_to(values, shape).reshape(-1, weight)[:rows]
